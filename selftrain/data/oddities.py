"""Warnings about sound pictures that a user may not expect: one line each, with a setting and examples."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from selftrain.data.faults import counted, some
from selftrain.data.findings import EXTRA
from selftrain.data.likeness import groups, unlike
from selftrain.data.look import Look
from selftrain.data.spec import Spec
from selftrain.sizes import resized

GLIMPSE = 0.1  # share of a training image in a crop; below, a warning
AIM = 0.25  # share that the suggested data.size leads to
STEP = 32  # multiples of which a suggested side is
RATIO = 4.0  # of the largest side to the smallest one; from this on, a warning
LISTED = {  # the setting that lists the images of a split
    "labelled": "data.splits.train", "unlabelled": "data.unlabelled", "val": "data.splits.val",
    "test": "data.splits.test",
}  # fmt: skip
WORST = 5  # raw images that a message names
Pair = tuple[int, int]  # places of two looks


def oddities(looks: Sequence[Look], pairs: Sequence[Pair], spec: Spec, crop: Sequence[int]) -> list[str]:
    """The warnings. `pairs` are nearly identical pictures; `crop` is train.crop, or empty if not known."""
    of_sizes, of_kinds = (_glimpses(looks, crop), _sizes(looks)), (_blank(looks), _unlike(looks, pairs))
    return [line for line in (_near(looks, pairs, spec), *of_sizes, *of_kinds) if line]


def near_groups(looks: Sequence[Look], pairs: Sequence[Pair]) -> list[list[str]]:
    """Groups of ids of images that are the same picture or nearly so, sorted; without data.extra."""
    first: dict[bytes, int] = {}
    same = [(first.setdefault(one.digest, i), i) for i, one in enumerate(looks) if one.digest]
    joined = groups([*pairs, *((i, j) for i, j in same if i != j)])
    own = [sorted(looks[i].sample.id for i in places if looks[i].split != EXTRA) for places in joined]
    return sorted(names for names in own if len(names) > 1)


def _near(looks: Sequence[Look], pairs: Sequence[Pair], spec: Spec) -> str:
    """Val and test images that are nearly the same picture as images of other splits."""
    held: dict[str, tuple[Look, Look]] = {}  # by id: the image and its counterpart
    for first, second in ((looks[i], looks[j]) for i, j in pairs):
        if first.digest == second.digest or first.split == second.split or not (first.split and second.split):
            continue
        for one, other in ((first, second), (second, first)):
            if one.split in ("val", "test") and (one.split, other.split) != ("val", "test"):
                held.setdefault(one.sample.id, (one, other))
    if not held:
        return ""
    examples = [
        f"{one.sample.id} ({one.split}) ~ {other.sample.id} ({other.split})" for one, other in held.values()
    ]
    number = f"{counted(len(held), 'image')} of {' and '.join(_splits(held.values()))}"
    return (
        f"nearly the same picture in two splits: {number} ({some(examples)}), so scores are too good; "
        + " and ".join(_remedies(list(held.values()), spec))
    )


def _remedies(held: list[tuple[Look, Look]], spec: Spec) -> list[str]:
    """Ways to part val and test images from nearly identical ones in other splits."""
    splits = _splits([(one, other) for one, other in held if other.split in LISTED])
    named = [f"data.splits.{split}" for split in splits if split not in spec.splits.made]
    found = ["data.duplicates=near keeps them in one made split"] if len(named) < len(splits) else []
    found += [f"move images to or from {' and '.join(named)}"] if named else []
    external = any(other.split not in LISTED for _, other in held)
    return found + (["leave them out of data.extra"] if external else [])


def _splits(held: Iterable[tuple[Look, Look]]) -> list[str]:
    """The splits of val and test images, in this order."""
    return sorted({one.split for one, _ in held}, reverse=True)


def _trained_size(one: Look) -> tuple[int, int]:
    """(height, width) of a readable image as training sees it, after data.size."""
    assert one.size is not None
    return resized(one.sample.size, one.size)


def _glimpses(looks: Sequence[Look], crop: Sequence[int]) -> str:
    """Training images far larger than the crop."""
    training = [one for one in looks if one.split in ("labelled", "unlabelled") and one.size]
    if not training or not crop:
        return ""
    sizes = np.array([_trained_size(one) for one in training])  # (N, 2)
    shares = np.minimum(1, np.array(crop) / sizes).prod(axis=1)
    few = np.flatnonzero(shares < GLIMPSE)
    if len(few) <= len(shares) / 2:
        return ""
    typical = few[np.argsort(shares[few])[len(few) // 2]]
    (height, width), share = sizes[typical], shares[typical]
    better = max(STEP, STEP * round(max(height, width) * (share / AIM) ** 0.5 / STEP))
    number = f"{len(few):,} of {counted(len(shares), 'training image')}"
    example = f"{share:.1%} of {training[typical].sample.id}, {height}x{width}"
    return (
        f"a training step sees less than {GLIMPSE:.0%} of {number} (such as {example}): raise "
        f"train.crop=[{crop[0]},{crop[1]}], shrink images (data.size=[longest,{better}]), or draw from tiles "
        "(data.tile)"
    )


def _sizes(looks: Sequence[Look]) -> str:
    """Images of wildly different sizes."""
    seen = [one for one in looks if one.size]
    if not seen:
        return ""
    sizes = [_trained_size(one) for one in seen]
    sides = np.prod(sizes, axis=1) ** 0.5
    ratio = sides.max() / sides.min()
    if ratio < RATIO:
        return ""
    ends = " to ".join(
        f"{sizes[place][0]}x{sizes[place][1]} ({seen[place].sample.id})"
        for place in (int(sides.argmin()), int(sides.argmax()))
    )
    (usual, _), *_ = Counter(sizes).most_common(1)
    return (
        f"image sizes differ by a factor of {ratio:.1f}, from {ends}: if objects differ as much, "
        f"data.size=[longest,{max(usual)}] brings images to one scale"
    )


def _blank(looks: Sequence[Look]) -> str:
    """Pictures of one colour, or nearly so."""
    found = [one for one in looks if one.blank and one.split in LISTED]
    if not found:
        return ""
    number = "1 image is" if len(found) == 1 else f"{len(found):,} images are"
    names = some([one.sample.id for one in found])
    settings = " and ".join(dict.fromkeys(LISTED[one.split] for one in found))
    return f"{number} of one colour (blank tiles?): {names}; a list file for {settings} can leave them out"


def _unlike(looks: Sequence[Look], pairs: Sequence[Pair]) -> str:
    """Unlabelled images that are unlike every labelled one."""
    labelled = {place for place, one in enumerate(looks) if one.split in ("labelled", EXTRA) and one.traits}
    # nearly identical labelled images say nothing about how much labelled images differ
    again = {place for group in groups(pairs) for place in [one for one in group if one in labelled][1:]}
    known = [looks[place] for place in sorted(labelled - again)]
    raw = [one for one in looks if one.split == "unlabelled" and one.traits]
    sides = [[float(np.prod(_trained_size(one))) ** 0.5 for one in part] for part in (raw, known)]
    found = unlike([one.traits for one in raw], sides[0], [one.traits for one in known], sides[1])
    if not found:
        return ""
    number = f"{len(found):,} of {counted(len(raw), 'unlabelled image')} {'is' if len(found) == 1 else 'are'}"
    return (
        f"{number} unlike every labelled one in colour, brightness or size, most of all "
        f"{some([raw[place].sample.id for place in found], WORST)}: "
        "label some of them, or leave them out of data.unlabelled"
    )
