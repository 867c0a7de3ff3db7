"""The size that images are brought to: `data.size` of the settings, and `input.size` of an export's card.

* [height, width]: this size, whatever the shape of the image;
* [longest, 512] or [shortest, 512]: the longest or shortest side gets 512 pixels, and the other one follows,
  so that the aspect ratio is kept;
* [] (null in a card): images keep their size.

`predict.size`, `labels.size` and `input.predicted` of a card have the same forms, and [scale, 1.5]: a
multiple of the size that `data.size` gives.
"""

from collections.abc import Sequence
from typing import Any

SIDES = {"longest": max, "shortest": min}  # which side of an image a word means
SCALE = "scale"
WANTED = "be [height, width], [longest, side] or [shortest, side] in pixels, or [] for images as they are"


def is_size(setting: Sequence[Any]) -> bool:
    """Whether a setting has one of the forms above."""
    if not setting:
        return True
    first, *rest = setting
    numbers = rest if first in SIDES else setting
    return len(setting) == 2 and all(type(side) is int and side > 0 for side in numbers)


SEEN = f"{WANTED.partition(' in pixels')[0]} in pixels, [{SCALE}, factor], or []"


def is_seen_size(setting: Sequence[Any]) -> bool:
    """Whether a setting has one of the forms of `seen_size`."""
    if len(setting) == 2 and setting[0] == SCALE:
        return type(setting[1]) in (int, float) and 0 < setting[1] < float("inf")
    return is_size(setting)


def seen_size(
    data: Sequence[Any] | None, predicted: Sequence[Any] | None, own: tuple[int, int]
) -> tuple[int, int]:
    """(height, width) at which a network sees an image of size `own`.

    `predicted` takes the place of `data`; as [scale, factor] it is a multiple of the size by `data`.
    """
    if not predicted or predicted[0] != SCALE:
        return resized(predicted or data, own)
    height, width = (max(1, round(length * predicted[1])) for length in resized(data, own))
    return height, width


def resized(setting: Sequence[Any] | None, own: tuple[int, int]) -> tuple[int, int]:
    """(height, width) that an image of size `own` is brought to; each side has at least one pixel."""
    if not setting:
        return own
    first, side = setting
    if first not in SIDES:
        return first, side
    scale = side / SIDES[first](own)
    height, width = (max(1, round(length * scale)) for length in own)
    return height, width
