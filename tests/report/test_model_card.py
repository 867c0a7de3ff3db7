import pytest

from selftrain.report.model_card import model_card

CARD = {
    "recipe": "noisy_student",
    "data": "street",
    "classes": ["road", "größe"],
    "model": {"arch": {"slim_dpt": {"width": 64}}, "encoder": "tu-resnet18", "params": 1234567},
    "network": "one network",
    "generation": 1,
    "selftrain": "1.0",
    "onnx": {"opset": 20},
    "metrics": {"val": {"miou": 0.51, "pixel_accuracy": 0.9}, "test": {"miou": 0.4, "pixel_accuracy": None}},
}


def test_hugging_face_reads_its_fields(tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    (tmp_path / "README.md").write_text(model_card(CARD))
    read = hub.ModelCard.load(tmp_path / "README.md").data
    assert read.license == "unknown" and read.library_name == "selftrain"
    assert read.pipeline_tag == "image-segmentation" and read.datasets == ["street"]
    assert {"slim_dpt", "onnx", "semantic-segmentation"} <= set(read.tags)
    found = {(one.dataset_split, one.metric_type): one.metric_value for one in read.eval_results}
    assert found == {("val", "mean_iou"): 0.51, ("val", "accuracy"): 0.9, ("test", "mean_iou"): 0.4}
    assert read.model_name == "street noisy_student"


def test_a_reader_finds_classes_scores_and_use():
    text = model_card(CARD)
    assert "road, größe" in text and "1,234,567 parameters" in text and "slim_dpt width=64" in text
    assert "| val mIoU | 0.5100 |" in text and "use.py" in text and "Variants" not in text
    assert "There are no test scores" in model_card({**CARD, "metrics": {"val": {"miou": 0.5}}})


def test_variants_have_a_row_each():
    compared = {"images": 9, "threads": 2, "mb": 57.0, "miou": 0.5, "images_per_second": 8.0}
    one = {"file": "int8.onnx", "mb": 14.5, "miou_lost": 0.0123, "same_ids": 0.987, "images_per_second": 20.0}
    text = model_card({**CARD, "compared": compared, "variants": {"int8": one, "pt2": {"reason": "no"}}})
    assert "| int8.onnx | 14.5 | +0.0123 | 98.700% | 20.0 |" in text and "pt2" not in text
