"""JPEG and antialiased masks: refused with two ways out, data.threshold and data.nearest."""

from pathlib import Path

import numpy as np
import pytest
from drawn_folders import fault, pairs, picture, spec
from PIL import Image, ImageDraw

from selftrain.data.coding import mask_code
from selftrain.data.load import load, mask_coding
from selftrain.data.masks import MaskCode, read_mask
from selftrain.data.verify import verify
from selftrain.errors import ConfigError, DataError

DISC = np.hypot(*(np.indices((32, 32)) - 15.5)) < 10  # (32, 32) bool
ALL = {"test_fraction": 0.0}


def save(path: Path, pixels: np.ndarray, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def lossy(root: Path, pixels: np.ndarray, suffix: str = "jpg") -> None:
    for name in "abc":
        picture(root / "images" / f"{name}.png", 80 + ord(name), pixels.shape[:2])
        save(root / "masks" / f"{name}.{suffix}", pixels, quality=80)


def test_jpeg_masks_are_refused_and_both_settings_are_offered(tmp_path: Path):
    lossy(tmp_path, (DISC * 255).astype(np.uint8))
    said = fault(tmp_path)
    assert "masks/a.jpg: is a JPEG, whose compression invents mask values" in said
    assert "data.threshold=128" in said and "data.nearest=true" in said


def test_a_threshold_reads_grey_jpeg_and_lossy_webp_masks_exactly(tmp_path: Path):
    for suffix in ("jpg", "webp"):
        grey = (DISC * 255).astype(np.uint8)
        lossy(tmp_path / suffix, grey if suffix == "jpg" else np.repeat(grey[..., None], 3, axis=2), suffix)
        found = load(spec(tmp_path / suffix, threshold=128, splits=ALL))
        assert np.array_equal(found.labelled[0].read_mask(), DISC), suffix
        assert mask_coding(found) == {"values": [0, 255]}


def test_the_nearest_value_or_colour_reads_jpeg_masks(tmp_path: Path):
    lossy(tmp_path / "grey", np.where(DISC, 255, 90).astype(np.uint8))
    found = load(spec(tmp_path / "grey", values=[90, 255], nearest=True, splits=ALL))
    assert np.array_equal(found.labelled[0].read_mask(), DISC)
    colours = [[200, 30, 30], [20, 20, 220]]
    large = np.kron(DISC, np.ones((4, 4), bool))  # JPEG stores colour at half the resolution
    lossy(tmp_path / "rgb", np.array(colours, np.uint8)[large.astype(int)])
    found = load(spec(tmp_path / "rgb", colours=colours, nearest=True, splits=ALL))
    assert (found.labelled[0].read_mask() != large).mean() < 0.01


def test_nearest_values_by_hand(tmp_path: Path):
    grey = save(tmp_path / "a.png", np.array([[0, 4, 5, 6, 9, 10, 14, 15, 255]], np.uint8))
    assert read_mask(grey, MaskCode((10, 0), (20,), nearest=True)).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 255]]
    assert read_mask(grey, MaskCode((10, 0), (), nearest=True)).tolist() == [[1, 1, 1, 0, 0, 0, 0, 0, 0]]
    colour = save(tmp_path / "b.png", np.array([[[9, 0, 0], [0, 8, 1], [250, 250, 250]]], np.uint8))
    code = MaskCode((), (), ((10, 0, 0), (0, 10, 0)), ((255, 255, 255),), nearest=True)
    assert read_mask(colour, code).tolist() == [[0, 1, 255]]


def test_antialiased_masks_are_refused_with_the_settings_and_read_by_them(tmp_path: Path):
    large = Image.new("L", (128, 128))
    ImageDraw.Draw(large).ellipse((20, 20, 100, 100), fill=255)
    soft = np.asarray(large.resize((32, 32), Image.Resampling.LANCZOS))
    assert len(np.unique(soft)) > 12
    lossy(tmp_path, soft, "png")
    one = spec(tmp_path, splits=ALL, ignore=[])
    faults = verify(load(one), one, workers=1).faults
    assert "data.threshold=128" in faults[0].remedy and "data.nearest=true" in faults[0].remedy
    for settings in ({"threshold": 128}, {"nearest": True, "values": [0, 255]}):
        assert np.array_equal(
            load(spec(tmp_path, splits=ALL, **settings)).labelled[0].read_mask(), soft >= 128
        )


def test_verify_tells_the_share_of_repaired_pixels_also_when_it_remembers(tmp_path: Path):
    pixels = np.zeros((10, 10), np.uint8)
    pixels[0, :5], pixels[5:] = 250, 255
    lossy(tmp_path, pixels, "png")
    one = spec(tmp_path, splits=ALL, values=[0, 255], nearest=True, duplicates="group")
    for _ in range(2):
        report = verify(load(one), one, workers=1)
        told = [line for line in report.warnings if "data.nearest" in line]
        assert told == [
            "data.nearest gives 5.00% of the pixels of all masks, in 3 masks the nearest declared value"
        ]


def test_a_threshold_reads_bilevel_palette_and_16_bit_masks(tmp_path: Path):
    code = MaskCode((0, 255), threshold=100)
    bilevel = save(tmp_path / "1.png", DISC)
    palette = Image.fromarray(DISC.astype(np.uint8)).convert("P")
    palette.putdata(DISC.astype(np.uint8).ravel())
    palette.putpalette([0, 0, 0, 255, 255, 255])
    palette.save(tmp_path / "p.png")
    palette.save(tmp_path / "p.gif")
    deep = save(tmp_path / "16.png", np.where(DISC, 40_000, 99).astype(np.uint16))
    for path in (bilevel, tmp_path / "p.png", tmp_path / "p.gif", deep):
        assert np.array_equal(read_mask(path, code), DISC), path.name


def test_a_gif_mask_is_read_as_it_is(tmp_path: Path):
    pairs(tmp_path, ["a", "b", "c"])
    for name in "abc":
        (tmp_path / "masks" / f"{name}.png").unlink()
        save(tmp_path / "masks" / f"{name}.gif", np.array([[0, 255, 0, 0, 0, 255]] * 4, np.uint8))
    found = load(spec(tmp_path, values=[0, 255], splits=ALL))
    assert found.labelled[0].read_mask().tolist() == [[0, 1, 0, 0, 0, 1]] * 4


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"threshold": 128, "classes": ["a", "b", "c"]}, "makes two classes, but data.classes names 3"),
        ({"threshold": 128, "values": [0, 255]}, "remove data.values"),
        ({"threshold": 128, "nearest": True}, "remove data.nearest"),
        ({"nearest": True, "ignore": ["rest"]}, "choose one"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, settings: dict, says: str):
    with pytest.raises(ConfigError, match=says):
        mask_code(spec(tmp_path, **settings))


def test_a_colour_jpeg_still_needs_its_colours(tmp_path: Path):
    lossy(tmp_path, np.where(DISC[..., None], [200, 30, 30], [20, 20, 220]).astype(np.uint8))
    for settings in ({"nearest": True}, {"threshold": 128}):
        with pytest.raises(DataError, match=r"is a colour mask, but data\.colours is empty"):
            load(spec(tmp_path, splits=ALL, **settings)).labelled[0].read_mask()
