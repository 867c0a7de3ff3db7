"""Variants of an export, of a network of one convolution."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from graphs import card, one_by_one
from prediction.predicting import exported, noise

from selftrain import variants
from selftrain.config import ExportConfig
from selftrain.errors import ConfigError
from selftrain.inference.exported import load_export
from selftrain.stages.export import ONNX
from selftrain.variants import VARIANTS, Material, compared

pytest.importorskip("onnxruntime")
torch.set_num_threads(1)


@dataclass
class Picture:
    image: np.ndarray
    mask: np.ndarray | None = None

    def at_own_size(self):
        return self

    def read_image(self):
        return self.image

    def read_mask(self):
        return self.mask


PICTURES = [
    Picture(noise(*size, seed=seed), np.full(size, seed % 4, np.uint8))
    for seed, size in enumerate(((40, 72), (64, 64), (90, 70)))
]


@pytest.fixture(scope="module")
def made():
    """An export whose images are seen at 64 x 96."""
    network, content = one_by_one()
    described = card(size=[64, 96]) | {"onnx": {"opset": 17}, "views": "plain"}
    asked = ExportConfig(variants=list(VARIANTS), opset=17)
    return Material(network, described, {ONNX: content}, asked, PICTURES)


@pytest.fixture(scope="module")
def each(made):
    return {name: build(made) for name, build in VARIANTS.items()}


@pytest.mark.parametrize(
    ("name", "least"), [("complete", 0.99), ("static", 1), ("fp16", 0.98), ("int8", 0.9), ("pt2", 1)]
)
def test_a_variant_gives_the_ids_of_torch(made, each, name, least):
    variant, expected = each[name], made.answer(made.network)
    for picture in PICTURES:
        found, right = variant.answer(picture.image), expected(picture.image)
        assert found.shape == right.shape and (found == right).mean() >= least
    assert len(variant.content) > 300 and not any(word in variant.content for word in (b".py", b"/work"))


def test_each_variant_is_what_its_name_says(each):
    import onnx

    def graph(name):
        return onnx.load_from_string(each[name].content)

    static = graph("static")
    sides = [row.dim_value for row in static.graph.input[0].type.tensor_type.shape.dim]
    assert sides == [1, 3, 64, 96] and static.opset_import[0].version == 17
    assert "QuantizeLinear" in {node.op_type for node in graph("int8").graph.node}
    stored = [*graph("fp16").graph.initializer, *(a.t for n in graph("fp16").graph.node for a in n.attribute)]
    assert any(one.data_type == onnx.TensorProto.FLOAT16 for one in stored)


def test_comparison_by_hand():
    """Two images of two pixels: the second answer is wrong in one pixel of a and leaves one without a class."""
    pictures = [Picture(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)) for _ in range(2)]
    first, turns = np.array([[0, 1]], np.uint8), iter([[[1, 1]], [[0, 255]]])
    answers = {"": lambda _: first, "other": lambda _: np.array(next(turns), np.uint8)}
    found = compared(answers, pictures, ["a", "b"])
    assert found[""]["miou"] == 1 and found[""]["same_ids"] == 1
    assert found["other"]["miou"] == pytest.approx((1 / 2 + 1 / 3) / 2) and found["other"]["same_ids"] == 0.5
    assert found["other"]["images_per_second"] > 0


def test_variants_are_added_to_an_export_and_one_that_is_impossible_says_why(tmp_path, capsys, monkeypatch):
    directory = exported(tmp_path / "export")
    quick = VARIANTS["static"]
    monkeypatch.setitem(VARIANTS, "static", lambda made: quick(replace(made, network=one_by_one()[0])))
    before = json.loads((directory / "card.json").read_text())
    asked = ExportConfig(variants=["static", "int8"], size=[40, 40])
    written = variants.add(directory, asked, PICTURES)
    _, read = load_export(directory)
    assert read == written and {**read, **before} == read
    static = read["variants"]["static"]
    assert static["size"] == [40, 40] and static["input"]["shape"] == [1, 3, 64, 64]
    assert static["file"] == "static.onnx" and (directory / "static.onnx").is_file()
    assert "mIoU lost" in capsys.readouterr().out and read["compared"]["images"] == 3
    assert read["variants"]["int8"] == {"reason": "there is no model.onnx: not asked for"}
    readme = (directory / "README.md").read_text()
    assert "| static.onnx |" in readme and "int8.onnx" not in readme
    assert variants.add(directory, ExportConfig(), []) == read


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (ExportConfig(variants=["fp16"], onnx=False), "fp16 is made from model.onnx"),
        (ExportConfig(size=[32, 32]), "acts only with export.variants"),
    ],
)
def test_impossible_settings_are_refused(asked, said):
    with pytest.raises(ConfigError, match=said):
        variants.check(asked)


def test_the_settings_name_the_variants():
    from selftrain.config import VARIANTS as NAMES

    assert set(NAMES) == set(VARIANTS)
