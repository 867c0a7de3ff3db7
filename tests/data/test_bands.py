"""Images of other channels than RGB: as they are stored, as grey, and with clear words where they cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from drawn_folders import fault, mask, spec
from PIL import Image

from selftrain.data.images import as_rgb, geometry, read_image, read_stored, resize_image
from selftrain.data.load import load
from selftrain.data.verify import verify
from selftrain.errors import DataError

SHAPE = (20, 30)  # pixels


def samples(channels: int, dtype=np.uint8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (*SHAPE, channels), dtype)


def stored(path: Path, pixels: np.ndarray, how: str) -> Path:
    first = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    if how == "npy":
        np.save(path.with_suffix(".npy"), pixels)
        return path.with_suffix(".npy")
    if how == "npy, bands first":
        np.save(path.with_suffix(".npy"), first)
        return path.with_suffix(".npy")
    file = path.with_suffix(".tif")
    settings = {
        "tiff": {"planarconfig": "contig"},
        "tiff, deflate": {"planarconfig": "contig", "compression": "zlib"},
        "tiff, planes": {"planarconfig": "separate"},
        "tiff, pages": {},
    }[how]
    tifffile.imwrite(
        file,
        pixels if settings.get("planarconfig") == "contig" else first,
        photometric="minisblack",
        **settings,
    )
    return file


@pytest.mark.parametrize(
    "how", ["npy", "npy, bands first", "tiff", "tiff, deflate", "tiff, planes", "tiff, pages"]
)
@pytest.mark.parametrize(
    ("channels", "dtype"), [(2, np.uint8), (4, np.uint16), (5, np.uint8), (12, np.uint16)]
)
def test_bands_are_read_as_they_are_stored(tmp_path: Path, how: str, channels: int, dtype: type):
    pixels = samples(channels, dtype)
    file = stored(tmp_path / "a", pixels, how)
    np.testing.assert_array_equal(read_stored(file, channels=channels), pixels)
    wide = dtype == np.uint16
    np.testing.assert_array_equal(read_image(file, channels=channels), pixels >> 8 if wide else pixels)
    assert read_image(file, channels=channels).dtype == np.uint8
    assert geometry(file) == (SHAPE, 1)


def test_bands_of_16_bits_are_scaled_by_one_range(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.full((9, 8, 5), [0, 1000, 2000, 3000, 9000], np.uint16))
    assert read_image(tmp_path / "a.npy", (1000, 3000), 5)[0, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_keep_every_grey_level(tmp_path: Path, dtype: type):
    grey = samples(1, dtype)
    Image.fromarray(grey[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_stored(tmp_path / "a.png", channels=1), grey)
    np.save(tmp_path / "a.npy", grey[..., 0])
    np.testing.assert_array_equal(read_stored(tmp_path / "a.npy", channels=1), grey)
    as_three = read_stored(tmp_path / "a.npy")
    assert as_three.shape == (*SHAPE, 3) and (as_three == grey).all()


def test_colours_become_grey_by_brightness(tmp_path: Path):
    Image.fromarray(np.full((2, 2, 3), (200, 100, 50), np.uint8)).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", channels=1) == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()


def test_alpha_is_a_channel_if_four_are_wanted(tmp_path: Path):
    pixels = samples(4)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", channels=4), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), pixels[..., :3])


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (samples(4), r"has 4 channels, but data.channels=5; save it with 5, or set data.channels=4"),
        (samples(5).astype(np.float32), "has samples of float32; save it as unsigned 8- or 16-bit"),
        (samples(5)[0, 0], "has the shape 5, which is no image; save it as height x width x channels"),
        (np.array([{}]), "cannot be decoded"),  # a pickle is not read
    ],
)
def test_arrays_that_are_no_images_are_named(tmp_path: Path, pixels: np.ndarray, said: str):
    np.save(tmp_path / "a.npy", pixels, allow_pickle=True)
    with pytest.raises(DataError, match=f"a.npy: {said}"):
        read_image(tmp_path / "a.npy", channels=5)


@pytest.mark.parametrize("cut", [20, 90, 150, 700])
@pytest.mark.parametrize("how", ["npy", "tiff", "tiff, deflate"])
def test_damaged_files_raise_data_errors(tmp_path: Path, how: str, cut: int):
    file = stored(tmp_path / "a", samples(5), how)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"cannot be decoded|unusual|whatever its name"):
        read_image(file, channels=5)


def test_a_picture_of_other_channels_is_a_fault(tmp_path: Path):
    Image.fromarray(samples(3)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"has 3 channels, but data.channels=5"):
        read_image(tmp_path / "a.png", channels=5)


@pytest.mark.parametrize("channels", [1, 2, 5, 9])
def test_any_channels_are_averaged_over_areas_each_alone(channels: int):
    image = samples(channels)
    found = resize_image(image, (10, 15))
    for band in range(channels):
        alone = resize_image(image[..., band : band + 1], (10, 15))[..., 0]
        np.testing.assert_allclose(found[..., band], alone, atol=1)  # OpenCV rounds pairs differently
    assert as_rgb(image).shape == (*SHAPE, 3)


def bands(root: Path, channels: int = 5) -> None:
    for number in range(4):
        (root / "images").mkdir(exist_ok=True, parents=True)
        stored(root / "images" / str(number), samples(channels, seed=number), "tiff" if number % 2 else "npy")
        mask(root / "masks" / f"{number}.png", number % 2, SHAPE)


def test_a_folder_of_bands_is_listed_verified_and_read(tmp_path: Path):
    bands(tmp_path)
    settings = spec(tmp_path, channels=5, size=["longest", 15])
    data = load(settings)
    sample = data.labelled[0]
    assert sample.read_image().shape == (10, 15, 5) and sample.read_mask().shape == (10, 15)
    report = verify(data, settings, workers=1)
    assert not report.faults and report.rows()[3][1] == "20x30"


def test_verify_names_images_of_other_channels(tmp_path: Path):
    bands(tmp_path, channels=4)
    settings = spec(tmp_path, channels=5)
    report = verify(load(settings), settings, workers=1)
    assert len(report.faults) == 4
    assert str(report.faults[0]).endswith("or set data.channels=4")


def test_a_mask_must_have_the_size_of_its_bands(tmp_path: Path):
    bands(tmp_path)
    mask(tmp_path / "masks" / "1.png", 1, (30, 20))
    settings = spec(tmp_path, channels=5)
    report = verify(load(settings), settings, workers=1)
    assert [one.file for one in report.faults] == ["masks/1.png"]
    assert "its image is 20x30" in str(report.faults[0])
    assert "no mask" in fault(tmp_path, masks="none", channels=5)
