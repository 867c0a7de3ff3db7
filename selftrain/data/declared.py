"""Checks of the mask settings against the masks: ignored classes, and undeclared values.

A class without a pixel is common (rare classes, few masks). So is an ignored value that means void. Together
they are a mistake if the masks of the whole data set leave no other explanation:

* The masks contain one class and ignored pixels, such as binary masks of 0 and 255 with data.ignore=[255].
* At most FEW classes are declared, the last of them have no pixel, and there is an ignored value for each.

With more classes, void and an absent class are both likely, so this stays a warning. A class that is missing
only from the labelled masks is a warning as well. A single file is compared with the others (`odd_masks`).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selftrain.data.faults import Fault, counted, some
from selftrain.data.masks import MOST_VALUES, SHOWN, MaskCode

FEW = 4  # classes
HARDLY = 0.05  # share of the files


def hidden_classes(classes: Sequence[str], counts: np.ndarray, code: MaskCode | None) -> Fault | None:
    """The fault of classes whose pixels are ignored, if any.

    counts (N, C + 1): pixels of each class in each mask; the last column counts ignored pixels.
    """
    pixels = counts.sum(axis=0)
    missing = [place for place in range(len(classes)) if pixels[place] == 0]
    if code is None or not missing or not pixels[:-1].any() or not pixels[-1]:
        return None
    if not _ignored_explain(missing, len(classes), code):
        return None
    names = ", ".join(repr(classes[place]) for place in missing)
    subject = f"class {names} has" if len(missing) == 1 else f"classes {names} have"
    ignored = f"{pixels[-1] / pixels.sum():.2%} of the pixels are ignored"
    what = f"{subject} no pixel in any of {counted(len(counts), 'mask')}, while {ignored}"
    void = f"if the ignored pixels mean nothing, take {names} out of data.classes"
    return Fault(_ignoring(code), what, f"{_unhidden(missing, len(classes), code)}; {void}")


def _ignored_explain(missing: list[int], classes: int, code: MaskCode) -> bool:
    """Whether ignored values are the only likely explanation of the missing classes (see above)."""
    used = classes - len(missing)
    ignored = len(code.ignore_colours if code.colours else code.ignore)
    return used <= 1 or (classes <= FEW and missing[0] == used and len(missing) <= ignored)


def _ignoring(code: MaskCode) -> str:
    """The setting that ignores values or colours, as text."""
    if code.colours and not code.rest:
        return f"data.ignore_colours={_colours(code.ignore_colours)}"
    return f"data.ignore={_numbers([*code.ignore, *(['rest'] if code.rest else [])])}"


def _unhidden(missing: list[int], classes: int, code: MaskCode) -> str:
    """The remedy: settings that turn the ignored values into classes."""
    by_colour = bool(code.colours)
    name, ignoring = ("colours", "ignore_colours") if by_colour else ("values", "ignore")
    declared = [(value,) for value in _packed(code.colours)] if by_colour else code.numbers()
    ignored = _packed(code.ignore_colours) if by_colour else list(code.ignore)
    if code.rest or len(ignored) > len(missing) or any(len(values) > 1 for values in declared):
        return f"give each class its value in data.{name} and take that out of data.{ignoring}"
    found = [values[0] for place, values in enumerate(declared) if place not in missing] + ignored
    settings = f"data.{name}={_setting(found, by_colour)} data.{ignoring}=[]"
    if len(found) < classes:
        return f"name {len(found)} classes, for the masks hold {len(found)} {name}, and set {settings}"
    return f"if they are objects, set {settings}"


def odd_masks(counts: np.ndarray) -> tuple[np.ndarray, bool]:
    """Find masks that contain one class and ignored pixels, although others contain several classes.

    Returns which masks are odd, (N,) bool, and whether this is a fault. counts (N, C + 1): pixels by class;
    the last column counts ignored pixels.

    It is a fault if masks of several classes hardly ever have ignored pixels, and masks without ignored
    pixels hardly ever have a single class. Then the likely reason is an object that is stored as an ignored
    value.
    """
    several = (counts[:, :-1] > 0).sum(axis=1)
    ignoring = counts[:, -1] > 0
    odd = (several == 1) & ignoring
    if not odd.any() or not (several > 1).any():
        return np.zeros_like(odd), False
    usual, clear = ignoring[several > 1], several[~ignoring] == 1
    return odd, bool(usual.mean() <= HARDLY and len(clear) > 0 and clear.mean() <= HARDLY)


# --- undeclared values


def with_one_remedy(faults: list[Fault], used: set[int], code: MaskCode, classes: int) -> list[Fault]:
    """Faults of undeclared values or colours, of one kind, with one remedy for all of them.

    `used`: values, or colours as 0xRRGGBB, in masks without faults. A single fault keeps its own remedy: the
    file may be a stray.
    """
    if len(faults) < 2:
        return faults
    by_colour, cause = bool(code.colours or faults[0].cause), faults[0].cause
    found = set(used).union(*(fault.values for fault in faults))
    if not cause:
        kind = "colours" if by_colour else "values"
        new = [_shown(value, by_colour) for value in sorted(found - _declared(code))]
        cause = f"masks hold {kind} that are not declared: {some(new, SHOWN)}"
    remedy = _declaration(found, classes, code, by_colour=by_colour)
    return [replace(fault, cause=cause, remedy=remedy) for fault in faults]


def _declaration(found: set[int], classes: int, code: MaskCode, *, by_colour: bool) -> str:
    """Settings for masks that contain the values `found`."""
    name = "colours" if by_colour else "values"
    ignoring = "ignore_colours" if by_colour else "ignore"
    ignored = set(_packed(code.ignore_colours) if by_colour else code.ignore)
    most = max(2 * classes, SHOWN)
    for values in (found, found - ignored):
        if len(values) == classes:
            rest = sorted(ignored - values)
            changed = f" data.{ignoring}={_setting(rest, by_colour)}" if ignored & values else ""
            order = "if the classes have this order"
            return f"data.{name}={_setting(sorted(values), by_colour)}{changed} {order}, or mend the masks"
    if len(found) > most:
        number = f"{len(found)} or more" if len(found) >= MOST_VALUES else str(len(found))
        return (
            f"the masks hold {number} {name} for {classes} classes: soft edges or a scaled picture; "
            "make the masks again with one value a class (no smoothing, nearest neighbour, PNG), "
            + (
                "or set data.threshold=128, or data.nearest=true"
                if classes == 2 and not by_colour
                else "or set data.nearest=true"
            )
        )
    listed = ", ".join(_shown(value, by_colour) for value in sorted(found))
    return (
        f"the masks hold {listed}: give data.{name} one for each of {classes} classes, in order, "
        f"and data.{ignoring} the others, or mend the masks"
    )


def values_used(counts: np.ndarray, code: MaskCode) -> set[int]:
    """Values, or colours as 0xRRGGBB, of the pixels counted in counts (C + 1,).

    Classes that are declared with several values are left out.
    """
    of_class = [(value,) for value in _packed(code.colours)] if code.colours else code.numbers()
    ignored = tuple(_packed(code.ignore_colours) if code.colours else code.ignore)
    present = [values for values, count in zip([*of_class, ignored], counts, strict=True) if count]
    return {values[0] for values in present if len(values) == 1}


def _declared(code: MaskCode) -> set[int]:
    """All declared values, or colours as 0xRRGGBB."""
    if code.colours:
        return {*_packed(code.colours), *_packed(code.ignore_colours)}
    return {one for value in code.numbers() for one in value} | set(code.ignore)


def _packed(colours: Sequence[tuple[int, int, int]]) -> list[int]:
    return [red << 16 | green << 8 | blue for red, green, blue in colours]


def _unpacked(value: int) -> tuple[int, int, int]:
    return value >> 16, value >> 8 & 255, value & 255


def _shown(value: int, by_colour: bool) -> str:
    return _numbers(_unpacked(value)) if by_colour else str(value)


def _setting(values: Sequence[int], by_colour: bool) -> str:
    return _colours([_unpacked(value) for value in values]) if by_colour else _numbers(values)


def _numbers(values: Sequence[object]) -> str:
    return f"[{','.join(map(str, values))}]"


def _colours(colours: Sequence[tuple[int, int, int]]) -> str:
    return f"[{','.join(map(_numbers, colours))}]"
