from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from selftrain.report.palette import KEPT_FREE, MAX_CLASSES, palette, save_palette_png


def test_every_class_has_a_colour_of_its_own() -> None:
    colours = palette(255)
    assert colours.shape == (256, 3) and colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == 256  # 255 classes, and black for what is ignored
    assert tuple(colours[255]) == KEPT_FREE[0]


def test_a_class_keeps_its_colour_when_others_follow() -> None:
    few, many = palette(3), palette(40)
    assert (few[:3] == many[:3]).all()
    assert not few[3:].any()


def test_colours_of_the_first_classes_differ_clearly_also_in_grey() -> None:
    grey = palette(7)[:7].astype(float) @ [0.299, 0.587, 0.114]
    differences = np.abs(grey[:, None] - grey[None])[np.triu_indices(7, 1)]
    assert (differences > 10).mean() > 0.8


def test_more_classes_than_a_byte_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="256 classes"):
        palette(256)


def test_palette_png_keeps_ids_and_shows_colours(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2], [11, 254, 255]], np.uint8)
    save_palette_png(tmp_path / "deep" / "a.png", mask)
    with Image.open(tmp_path / "deep" / "a.png") as picture:
        assert picture.mode == "P"
        assert (np.asarray(picture) == mask).all()
        assert (np.asarray(picture.convert("RGB")) == palette(MAX_CLASSES)[mask]).all()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]
