import numpy as np
import pytest
import torch
from graphs import CARDS, CLASSES, MEAN, STD, one_by_one
from prediction.predicting import noise

from selftrain.inference.exported import predictor_of, seen_size
from selftrain.inference.labeller import Labeller
from selftrain.models.complete import Around, complete
from selftrain.models.onnx import session_of

pytest.importorskip("onnxruntime")
torch.set_num_threads(1)
# larger and smaller than the padding, in both directions
IMAGES = [noise(*size, seed=size[0]) for size in ((64, 96), (37, 201), (20, 33), (300, 210), (5, 70))]


@pytest.fixture(scope="module")
def pair():
    return one_by_one()


@pytest.mark.parametrize("card", CARDS)
def test_the_graph_takes_stored_pixels_and_gives_the_ids_of_predict(pair, card):
    network, content = pair
    labeller = Labeller(predictor_of(network, card), card)
    given, chosen = card["input"], card["decision"]
    thresholds = chosen["thresholds"]["each"] if chosen != "argmax" else ()
    around = Around(MEAN, STD, len(CLASSES), 32, given["size"], given["predicted"], thresholds)
    session = session_of(complete(content, around))
    seen = set()
    for image in IMAGES:
        (found,) = session.run(["ids"], {"image": image})
        expected = labeller.label([image])[0]
        assert found.dtype == np.uint8 and found.shape == image.shape[:2]
        height, width = seen_size(card, image.shape[:2])
        grows = height > image.shape[0] or width > image.shape[1]  # OpenCV then rounds in 11 bits
        assert (found != expected).mean() <= (0.02 if grows else 1e-4)
        seen |= set(expected.ravel().tolist())
    assert len(seen) > 2


def test_the_output_of_an_image_level_head_is_left_out():
    import onnx

    text = """
    <ir_version: 8, opset_import: ["" : 17]>
    network (float[batch, 3, height, width] image)
        => (float[batch, 3, height, width] logits, float[batch, 3, 1, 1] image_logits) {
      logits = Identity (image)
      image_logits = GlobalAveragePool (image)
    }
    """
    content = onnx.parser.parse_model(text).SerializeToString()
    session = session_of(complete(content, Around([0.0] * 3, [1.0] * 3, 3, 32, None, None)))
    assert [row.name for row in session.get_outputs()] == ["ids"]
    assert np.array_equal(session.run(None, {"image": IMAGES[0]})[0], IMAGES[0].argmax(axis=2))
