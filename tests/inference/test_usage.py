import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from graphs import CARDS, card, one_by_one
from PIL import Image
from prediction.predicting import noise

from selftrain.inference.exported import predictor_of
from selftrain.inference.labeller import Labeller
from selftrain.inference.usage import left_out, usage

pytest.importorskip("onnxruntime")
torch.set_num_threads(1)


def written(folder, described):
    network, content = one_by_one()
    (folder / "model.onnx").write_bytes(content)
    (folder / "use.py").write_text(usage(described, "1.0"))
    return Labeller(predictor_of(network, described), described)


@pytest.mark.parametrize("described", CARDS)
def test_use_py_gives_the_ids_of_predict(tmp_path, described):
    labeller = written(tmp_path, described)
    predict = runpy.run_path(str(tmp_path / "use.py"))["predict"]
    for size in ((64, 96), (37, 201), (20, 33), (5, 70)):
        image = noise(*size, seed=size[0])
        assert np.array_equal(predict(image), labeller.label([image])[0])


def test_use_py_labels_a_file_without_selftrain(tmp_path):
    labeller, image = written(tmp_path, card()), noise(40, 56)
    Image.fromarray(image).save(tmp_path / "photo.png")
    words = [sys.executable, "-I", "use.py", "photo.png", "labels.png"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60)
    with Image.open(tmp_path / "labels.png") as labels:
        assert np.array_equal(np.asarray(labels), labeller.label([image])[0])
    assert "selftrain" not in (tmp_path / "use.py").read_text().split('"""', 2)[2]


def test_what_use_py_leaves_out_is_said():
    described = card() | {"views": "d4", "refine": {"crf": {}}}
    described["input"] = {**described["input"], "window": 64}
    assert [words.split()[0] for words in left_out(described)] == ["windows", "views", "a"]
    assert "It leaves out: windows of 64 pixels" in usage(described, "1.0")
    assert not left_out(card()) and "leaves out" not in usage(card(), "1.0")
