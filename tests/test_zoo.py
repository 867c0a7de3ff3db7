"""init understands data as public data sets and tools lay them out: verify finds no fault, masks are pixel-exact."""

from pathlib import Path

import numpy as np
import pytest
import zoo

from runs import ROOT
from selftrain.data.load import load
from selftrain.data.verify import divide
from selftrain.datasets import spec_of
from selftrain.inspection.init import init
from selftrain.settings import compose


@pytest.mark.parametrize("build", [*zoo.MASKS, *zoo.SHAPES], ids=lambda build: build.__name__)
def test_init_reads_a_layout_as_it_comes(build, tmp_path):
    root, file = tmp_path / build.__name__, tmp_path / "mine.yaml"
    built = build(root)
    init(root, file, first=True)
    spec = spec_of(compose([f"data={file}"]).data)
    data, report = divide(load(spec, strict=False), spec, workers=2)
    assert [str(fault) for fault in report.faults] == []
    assert data.classes == built.classes
    named = {"train": data.labelled, "val": data.val, "test": data.test}
    masks = {
        str(Path(sample.image.name).relative_to(root)): sample.mask.read()
        for part in named.values()
        for sample in part
    }
    assert masks.keys() == built.truth.keys()
    for name, ids in built.truth.items():
        assert np.array_equal(masks[name], ids), name
    for split in set(built.split.values()):
        found = {str(Path(sample.image.name).relative_to(root)) for sample in named[split]}
        wanted = {name for name, own in built.split.items() if own == split}
        # a split that the data set does not name is made from its training images
        assert found <= wanted if split == "train" else found == wanted
    unlabelled = {str(Path(sample.image.name).relative_to(root)) for sample in data.unlabelled}
    assert unlabelled == built.unlabelled


def test_the_page_on_data_lists_the_zoo():
    page = (ROOT / "docs" / "data.md").read_text()
    for build in [*zoo.MASKS, *zoo.SHAPES]:
        files, _, source = " ".join(build.__doc__.split("\n\n")[0].split()).removesuffix(".").rpartition(": ")
        assert f"| `{files}` | {source} |" in page
