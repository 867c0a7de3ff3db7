"""The pictures of the documentation, made by scripts/screenshots.py."""

import sys

import pytest
from pages import CHROMIUM
from PIL import Image

from runs import ROOT, SMOKE

sys.path.insert(0, str(ROOT / "scripts"))
import screenshots

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")


@pytest.mark.slow
def test_every_picture_is_made_from_two_runs(tmp_path, monkeypatch):
    short = {name: "generations=[{}, {init: teacher}]" for name in screenshots.RUNS}
    monkeypatch.setattr(screenshots, "SETTINGS", [*SMOKE, "train.steps=2"])
    monkeypatch.setattr(screenshots, "RUNS", short)
    screenshots.main([*screenshots.PAGES, "-o", str(tmp_path)])
    for name in screenshots.PAGES:
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width == screenshots.SIZES[name][0] and len(picture.getcolors()) > 8
