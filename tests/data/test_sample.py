import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from drawn_folders import NAMED, ids, mask, spec
from PIL import Image

from selftrain.data.dataset import DataSet, with_levels, without
from selftrain.data.load import load, manifest
from selftrain.data.sample import Sample, Source
from selftrain.data.sources.files import ImageFile
from selftrain.data.storage import fingerprint
from selftrain.errors import DataError

pytestmark = pytest.mark.promise(
    "layouts and names of files (doubles, case, Unicode, links, missing masks): handled, or a fault that names them"
)


def test_samples_come_at_the_size_of_the_settings(by_folders: Path):
    sample = load(spec(by_folders, splits=NAMED, size=[8, 3])).labelled[1]
    assert sample.read_image().shape == (8, 3, 3) and sample.read_mask().shape == (8, 3)
    assert (sample.read_mask() == 1).all()


@pytest.mark.parametrize(("size", "shape"), [(["longest", 3], (2, 3)), (["shortest", 8], (8, 12))])
def test_a_side_may_be_given_alone_and_keeps_the_aspect_ratio(by_folders: Path, size: list, shape: tuple):
    sample = load(spec(by_folders, splits=NAMED, size=size)).labelled[1]  # 4x6 pixels
    assert sample.read_image().shape == (*shape, 3)
    assert sample.read_mask().shape == sample.read_size() == shape


def test_a_mask_of_another_size_is_refused_though_it_would_be_resized(by_folders: Path):
    mask(by_folders / "masks" / "train" / "a_1.png", size=(6, 4))
    sample = load(spec(by_folders, splits=NAMED, size=[8, 8])).labelled[0]
    with pytest.raises(DataError, match="its image is 4x6"):
        sample.read_mask()


def test_several_values_of_a_class_and_the_ignored_rest_reach_the_masks(by_folders: Path):
    file = by_folders / "masks" / "train" / "a_1.png"
    Image.fromarray(np.array([[0, 1, 2, 7, 9, 0]] * 4, np.uint8)).save(file)
    sample = load(spec(by_folders, splits=NAMED, values=[0, [1, 2]], ignore=["rest"])).labelled[0]
    assert sample.read_mask()[0].tolist() == [0, 1, 1, 255, 255, 0]


def test_16_bit_images_are_read_by_the_range_of_the_settings(by_folders: Path):
    file = by_folders / "images" / "train" / "a_1.png"
    Image.fromarray(np.full((4, 6), 2000, np.uint16)).save(file)
    for settings, value in (
        ({}, 2000 >> 8),
        ({"range": [0, 4000]}, 128),
        ({"range": ["percentile"]}, 2000 >> 8),
    ):
        data = load(spec(by_folders, splits=NAMED, **settings))
        assert (data.labelled[0].read_image() == value).all()
    data = with_levels(data, [1000, 3000])  # as it was measured
    assert (data.labelled[0].read_image() == 128).all() and (data.labelled[1].read_image() == 1).all()
    assert with_levels(data, None) == data


def test_samples_travel_to_workers(by_folders: Path):
    sample = load(spec(by_folders, splits=NAMED)).labelled[0]
    assert pickle.loads(pickle.dumps(sample)) == sample


def test_samples_set_aside_are_left_out(by_folders: Path):
    data = load(spec(by_folders, splits=NAMED | {"labels": 1}))
    gone = data.unlabelled[1].id
    assert gone not in ids(without(data, {gone}))["unlabelled"] and len(without(data, {gone}).unlabelled) == 2


# --- a source of another kind


@dataclass(frozen=True)
class Bands(Source):
    """An image of four channels that no file holds: channel c is 10 * c."""

    name: str = "bands"

    def read(self) -> np.ndarray:
        return np.full((4, 6, 4), 10 * np.arange(4), np.uint8)

    def fingerprint(self) -> str:
        return "b" * 64


@dataclass(frozen=True)
class Painted(Source):
    """A mask painted from two files: what is white in the later one lies on top."""

    files: tuple[Path, ...]
    name: str = "painted"

    def read(self) -> np.ndarray:
        ids = np.zeros((4, 6), np.uint8)
        for number, file in enumerate(self.files, start=1):
            ids[np.asarray(Image.open(file)) > 0] = number
        return ids

    def fingerprint(self) -> str:
        return "".join(map(fingerprint, self.files))


def painted(root: Path) -> Painted:
    for name, rows in (("first", slice(0, 3)), ("second", slice(2, 3))):
        pixels = np.zeros((4, 6), np.uint8)
        pixels[rows] = 255
        Image.fromarray(pixels).save(root / f"{name}.png")
    return Painted((root / "first.png", root / "second.png"))


def test_a_source_needs_nothing_but_pixels_a_name_and_a_fingerprint(tmp_path: Path):
    sample = Sample("a", Bands(), painted(tmp_path))
    assert sample.read_image()[3, 5].tolist() == [0, 10, 20, 30]
    assert sample.read_mask()[:, 0].tolist() == [1, 1, 2, 0]
    data = DataSet(["ground", "low", "high"], [sample], [], [sample], [])
    low, high = (fingerprint(tmp_path / f"{name}.png") for name in ("first", "second"))
    assert manifest(data)["val"] == [{"id": "a", "image": "b" * 64, "mask": low + high}]
    assert with_levels(data, [0, 9]).labelled == [sample]  # no 16-bit samples, so the range changes nothing


def test_images_of_any_number_of_channels_are_resized_with_their_masks(tmp_path: Path):
    sample = Sample("a", Bands(), painted(tmp_path), size=(8, 3))
    assert sample.read_image().shape == (8, 3, 4) and sample.read_mask().shape == (8, 3)
    assert sample.read_image()[7, 2].tolist() == [0, 10, 20, 30]


def test_the_size_of_an_image_is_read_only_if_nothing_else_tells(tmp_path: Path):
    assert Sample("a", Bands(), None).read_size() == (4, 6)
    assert Sample("a", Bands(), None, size=(8, 3)).read_size() == (8, 3)
    assert Sample("a", ImageFile(tmp_path / "none.png"), None, size=(8, 3)).read_size() == (8, 3)
