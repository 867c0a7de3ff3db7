"""Splits that images had in an earlier run. They keep them, and only new images are drawn into splits.

An image is known by the hash of its content, so it may have moved or have another name.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from selftrain.data.dataset import SPLITS
from selftrain.data.many import Many, Run
from selftrain.data.sample import Sample
from selftrain.data.spec import Kept
from selftrain.errors import DataError
from selftrain.manifests import SHA256, Long

READERS = 4  # threads
Parts = dict[str, list[Sample]]  # samples by split


def kept_of(manifest: Mapping) -> Kept:
    """The splits of a run, from its data.json. Of equal images, val and test come before training."""
    rest, prefixes = list[Any](), list[np.ndarray]()
    unlabelled = manifest["unlabelled"]
    for rows in unlabelled.rows() if isinstance(unlabelled, Long) else ():
        rest += rows.more.values()
        plain = np.delete(rows.hashes[:, :8], list(rows.more), axis=0)
        prefixes.append(np.ascontiguousarray(plain).view(">u8")[:, 0].astype(np.uint64))
    short = {**manifest, "unlabelled": rest if isinstance(unlabelled, Long) else unlabelled}
    found = [(split, row) for split in ("unlabelled", "labelled", "val", "test") for row in short[split]]
    kept = {row["image"]: (split, row["mask"]) for split, row in found if row.get("image")}
    return WithMany(kept, np.sort(np.concatenate(prefixes))) if prefixes else kept


class WithMany(dict[str, tuple[str, str | None]]):
    """`Kept` with millions of unlabelled images without masks, which take 8 bytes each.

    They are known by the first 64 bits of their hash: among ten million, an image is taken for another one
    with a probability of 5e-13. `items` contains the others only.
    """

    def __init__(self, kept: Mapping[str, tuple[str, str | None]], prefixes: np.ndarray) -> None:
        super().__init__(kept)
        self.prefixes = prefixes  # sorted

    def __missing__(self, image: str) -> tuple[str, str | None]:
        if SHA256.fullmatch(image):  # and not the ETag of an object, or ""
            prefix = np.uint64(int(image[:16], 16))
            place = int(np.searchsorted(self.prefixes, prefix))
            if place < len(self.prefixes) and self.prefixes[place] == prefix:
                return "unlabelled", None
        raise KeyError(image)

    def __contains__(self, image: object) -> bool:
        return isinstance(image, str) and self.get(image) is not None

    def get(self, image: str, default: Any = None) -> Any:
        try:
            return self[image]
        except KeyError:
            return default


@dataclass
class Sorted:
    """Samples that keep their split, and new ones; all of `new` have masks, none of `bare` has one."""

    parts: Parts = field(default_factory=lambda: {split: [] for split in SPLITS})
    new: list[Sample] = field(default_factory=list)
    bare: list[Sample] = field(default_factory=list)


def sort(samples: Sequence[Sample], kept: Kept) -> Sorted:
    """Tell samples that an earlier run knew from new ones.

    An unlabelled image that has got a mask, or another one, becomes a labelled one: the earlier run may have
    learnt from it, so no score may be measured with it. Raises DataError if an image of val or test has lost
    its mask.
    """
    with ThreadPoolExecutor(READERS) as pool:
        prints = list(pool.map(_print, samples))
    found, lost = Sorted(), list[str]()
    for sample, image in zip(samples, prints, strict=True):
        split, mask = kept.get(image, ("", None))
        if split in ("val", "test") and sample.mask is None:
            lost.append(sample.id)
        elif not split:
            (found.new if sample.mask else found.bare).append(sample)
        elif sample.mask is None:
            found.parts["unlabelled"].append(sample)
        elif split == "unlabelled" and sample.mask.fingerprint() != mask:
            found.parts["labelled"].append(sample)
        else:
            found.parts[split].append(sample)
    if lost:
        raise DataError(
            f"{len(lost)} images that were in val or test have no mask any more, such as {lost[0]}; "
            "restore the masks, or remove the images"
        )
    return found


def lost_in(unlabelled: Many | None, kept: Kept) -> None:
    """Raises DataError if images without masks, which come from shards, were images of val or test before."""
    held = {image for image, (split, _) in kept.items() if split in ("val", "test")}
    for run in unlabelled.runs() if unlabelled is not None and held else ():
        for name, image in zip(run.ids, run.hashes, strict=True) if isinstance(run, Run) else ():
            if image.tobytes().hex() in held:
                raise DataError(f"{name} was an image of val or test, and has no mask any more; remove it")


def _print(sample: Sample) -> str:
    try:
        return sample.image.fingerprint() or ""
    except (DataError, OSError):  # unreadable, as verify will report
        return ""
