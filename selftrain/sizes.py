"""The size that images are brought to: `data.size` of the settings, and `input.size` of an export's card.

* [height, width]: this size, whatever the shape of the image;
* [longest, 512] or [shortest, 512]: the longest or shortest side gets 512 pixels, and the other one follows,
  so that the aspect ratio is kept;
* [] (null in a card): images keep their size.
"""

from collections.abc import Sequence
from typing import Any

SIDES = {"longest": max, "shortest": min}  # which side of an image a word means
WANTED = "be [height, width], [longest, side] or [shortest, side] in pixels, or [] for images as they are"


def is_size(setting: Sequence[Any]) -> bool:
    """Whether a setting has one of the forms above."""
    if not setting:
        return True
    first, *rest = setting
    numbers = rest if first in SIDES else setting
    return len(setting) == 2 and all(type(side) is int and side > 0 for side in numbers)


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
