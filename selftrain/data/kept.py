"""Splits that images had in an earlier run. They keep them, and only new images are drawn into splits.

An image is known by the hash of its content, so it may have moved or have another name.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from selftrain.data.sample import SPLITS, Sample
from selftrain.data.spec import Kept
from selftrain.errors import DataError

READERS = 4  # threads
Parts = dict[str, list[Sample]]  # samples by split


def kept_of(manifest: Mapping) -> Kept:
    """The splits of a run, from its data.json. Of equal images, val and test come before training."""
    rows = [(split, row) for split in ("unlabelled", "labelled", "val", "test") for row in manifest[split]]
    return {row["image"]: (split, row["mask"]) for split, row in rows if row.get("image")}


@dataclass
class Sorted:
    """Samples that keep their split, and new ones; all of `new` have masks, none of `bare` has one."""

    parts: Parts = field(default_factory=lambda: {split: [] for split in SPLITS})
    new: list[Sample] = field(default_factory=list)
    bare: list[Sample] = field(default_factory=list)


def sort(samples: Sequence[Sample], kept: Kept) -> Sorted:
    """Tell samples that an earlier run knew from new ones.

    An unlabelled image that has got a mask, or another one, becomes a labelled one: the earlier run may have
    learnt from it, so it must not judge. Raises DataError if an image of val or test has lost its mask.
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


def _print(sample: Sample) -> str:
    try:
        return sample.image.fingerprint() or ""
    except (DataError, OSError):  # unreadable, as verify will report
        return ""
