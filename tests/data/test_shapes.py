"""The embedded data set: the same bits for the same arguments, sound masks, every class there."""

import numpy as np
import pytest

from selftrain.config import DataConfig, SplitConfig
from selftrain.data.dataset import SPLITS
from selftrain.data.load import load, manifest
from selftrain.data.sources import shapes
from selftrain.datasets import spec_of
from selftrain.errors import ConfigError


@pytest.fixture(scope="module")
def labelled() -> list[tuple[np.ndarray, np.ndarray]]:
    return [shapes.draw(0, "labelled", index) for index in range(24)]


@pytest.mark.parametrize("split", SPLITS)
def test_same_arguments_draw_the_same_bits(split: str) -> None:
    image, mask = shapes.draw(3, split, 7)
    shapes.draw(3, split, 8)
    again, mask_again = shapes.draw(3, split, 7)
    assert image.tobytes() == again.tobytes()
    assert mask.tobytes() == mask_again.tobytes()


def test_global_random_state_neither_matters_nor_moves() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    image, _ = shapes.draw(0, "val", 0)
    np.testing.assert_array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    np.testing.assert_array_equal(shapes.draw(0, "val", 0)[0], image)


def test_seed_split_and_index_each_make_another_scene() -> None:
    arguments = [
        (0, "val", 0),
        (1, "val", 0),
        (0, "test", 0),
        (0, "labelled", 0),
        (0, "unlabelled", 0),
        (0, "val", 1),
    ]
    assert len({shapes.draw(*a)[0].tobytes() for a in arguments}) == len(arguments)


def test_images_and_masks_have_the_promised_type_and_ids(
    labelled: list[tuple[np.ndarray, np.ndarray]],
) -> None:
    for image, mask in labelled:
        assert (image.shape, image.dtype) == ((shapes.SIZE, shapes.SIZE, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((shapes.SIZE, shapes.SIZE), np.uint8)
        assert mask.max() < len(shapes.CLASSES)
        assert image.flags.c_contiguous
        assert image.std() > 5


@pytest.mark.parametrize("seed", range(5))
def test_24_labelled_images_show_every_class(seed: int) -> None:
    masks = [shapes.draw(seed, "labelled", index)[1] for index in range(24)]
    images_with = [sum((mask == c).any() for mask in masks) for c in range(len(shapes.CLASSES))]
    assert min(images_with) >= 3


def test_background_does_not_dominate_and_star_is_rare() -> None:
    masks = np.stack([shapes.draw(0, "unlabelled", index)[1] for index in range(100)])
    share = dict(
        zip(
            shapes.CLASSES,
            np.bincount(masks.ravel(), minlength=len(shapes.CLASSES)) / masks.size,
            strict=True,
        )
    )
    assert max(share.values()) < 0.8
    assert min(share, key=share.__getitem__) == "star"
    assert 0.005 < share["star"] < 0.03
    assert all(share[name] > 0.03 for name in ("disc", "ring", "square", "triangle"))


def test_colour_alone_does_not_tell_the_class(labelled: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Mean colours of the common shapes lie within two standard deviations of each other's pixels."""
    pixels = [
        np.concatenate([image[mask == c] for image, mask in labelled]).astype(float) for c in (1, 2, 3, 4)
    ]
    means = np.array([p.mean(axis=0) for p in pixels])  # (4, 3)
    assert (np.ptp(means, axis=0) < 2 * np.mean([p.std(axis=0) for p in pixels], axis=0)).all()


def test_every_outline_has_a_class_and_a_texture() -> None:
    assert set(shapes.OUTLINES) == set(shapes.TEXTURE_OF) == set(shapes.CLASSES[1:])
    assert set(shapes.TEXTURE_OF.values()) <= set(shapes.TEXTURES)


def test_unknown_split_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="labelled, unlabelled, val, test"):
        shapes.draw(0, "train", 0)


# --- the data set


def test_shapes_are_drawn_by_the_seed_of_the_splits():
    cfg = DataConfig(shapes={"labelled": 3, "unlabelled": 4, "val": 2, "test": 1}, splits=SplitConfig(seed=5))
    data = load(spec_of(cfg))
    assert [len(getattr(data, split)) for split in SPLITS] == [3, 4, 2, 1]
    assert data.classes == list(shapes.CLASSES) and data.val[1].id == "val/00001"
    image, labels = shapes.draw(5, "val", 1)
    assert np.array_equal(data.val[1].read_image(), image) and np.array_equal(data.val[1].read_mask(), labels)
    assert data.unlabelled[0].read_mask() is not None


def test_a_label_budget_holds_for_drawn_data_too():
    data = load(spec_of(DataConfig(splits=SplitConfig(labels=6))))
    assert len(data.labelled) == 6 and len(data.unlabelled) == 200 + 18


@pytest.mark.parametrize(
    "settings",
    [
        {"root": "/data"},
        {"classes": ["a", "b"]},
        {"values": [1, 2]},
        {"range": ["percentile"]},
        {"shapes": {"labelled": 1, "val": 1}},
        {"shapes": {"labelled": 0, "unlabelled": 1, "val": 1, "test": 1}},
        {"shapes": {"labelled": 1, "unlabelled": -1, "val": 1, "test": 1}},
        {"splits": SplitConfig(val="val")},
        {"splits": SplitConfig(seed=-1)},
    ],
)
def test_settings_that_drawn_data_would_ignore_are_refused(settings: dict):
    with pytest.raises(ConfigError):
        load(spec_of(DataConfig(**settings)))


def test_the_manifest_of_drawn_data_is_its_recipe():
    entry = manifest(load(spec_of(DataConfig(splits=SplitConfig(seed=7)))))
    assert entry["drawn"] == {"seed": 7} and entry["test"][0] == {"id": "test/00000"}
