"""Masks that are corrupted on purpose: shifted, with swapped classes, or with missing objects."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from selftrain.data.dataset import DataSet
from selftrain.ids import IGNORE
from selftrain.report.palette import save_plain_png

SHIFT = 0.15, 0.25  # share of the shorter side
MISSING = 0.6  # share of the objects


def shifted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask (H, W) moved by SHIFT in a random direction; the border is continued."""
    distance, angle = min(mask.shape) * rng.uniform(*SHIFT), rng.uniform(0, 2 * np.pi)
    move = np.array([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]], np.float32)
    return cv2.warpAffine(
        mask, move, mask.shape[::-1], flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE
    )


def swapped(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask in which two of its classes, not the most frequent one if there are others, change places."""
    found, counts = np.unique(mask[mask != IGNORE], return_counts=True)
    others = [int(c) for c in found if len(found) < 3 or c != found[counts.argmax()]]
    first, second = rng.choice(others, 2, replace=False)
    table = np.arange(256, dtype=np.uint8)
    table[[first, second]] = second, first
    return table[mask]


def missing(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A mask without MISSING of its objects, at least one: they become the most frequent class."""
    found, counts = np.unique(mask[mask != IGNORE], return_counts=True)
    common, bare = found[counts.argmax()], mask.copy()
    objects = []
    for one in found[found != common]:
        number, parts = cv2.connectedComponents((mask == one).astype(np.uint8))
        objects += [parts == part for part in range(1, number)]
    for place in rng.permutation(len(objects))[: max(1, round(MISSING * len(objects)))]:
        bare[objects[place]] = common
    return bare


CORRUPTIONS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "shifted": shifted, "swapped classes": swapped, "missing object": missing,
}  # fmt: skip


def corrupted(masks: Sequence[np.ndarray], share: float, seed: int) -> dict[int, tuple[str, np.ndarray]]:
    """The kind of corruption and the corrupted mask for a `share` of the masks, by index; kinds take turns.

    Masks with a single class are passed over: they have no object to lose and no class to swap.
    """
    rng, kinds = np.random.default_rng(seed), list(CORRUPTIONS)
    usable = [i for i, mask in enumerate(masks) if len(np.unique(mask[mask != IGNORE])) > 1]
    chosen = rng.permutation(usable)[: round(share * len(masks))]
    return {
        int(i): (kind := kinds[n % len(kinds)], CORRUPTIONS[kind](masks[i], rng))
        for n, i in enumerate(chosen)
    }


def write_folder(root: Path, data: DataSet, share: float, seed: int) -> dict[str, str]:
    """Write a data set as a folder of PNGs, with a `share` of the training masks corrupted.

    Returns the kind of each corrupted mask, by the id of its image in the folder.
    """
    masks = [sample.read_mask() for sample in data.labelled]
    bad = corrupted([mask for mask in masks if mask is not None], share, seed)
    for split, samples in (("train", data.labelled), ("val", data.val), ("test", data.test)):
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True, exist_ok=True)
        for i, sample in enumerate(samples):
            mask = bad[i][1] if split == "train" and i in bad else sample.read_mask()
            assert mask is not None
            save_plain_png(root / "images" / split / f"{i:04d}.png", sample.read_image())
            save_plain_png(root / "masks" / split / f"{i:04d}.png", mask)
    return {f"images/train/{i:04d}": kind for i, (kind, _) in bad.items()}
