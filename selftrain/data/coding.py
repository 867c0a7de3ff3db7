"""The mask code of the settings: which values or colours of mask files mean which class."""

from selftrain.data.masks import MaskCode
from selftrain.data.spec import Spec
from selftrain.errors import ConfigError

MAX_CLASSES = 254
REST = "rest"  # in data.ignore: every value that is not declared


def mask_code(spec: Spec) -> MaskCode:
    """The mask code of the settings. Raises ConfigError for settings that contradict themselves."""
    check_classes(spec)
    count = len(spec.classes)
    if spec.nearest and REST in spec.ignore:
        raise ConfigError(
            "data.nearest repairs undeclared values, and data.ignore=[rest] ignores them: choose one"
        )
    if spec.threshold:
        return _threshold_code(spec)
    if spec.colours or spec.ignore_colours:
        return _colour_code(spec)
    values = spec.values or list(range(count))
    declared = [one for value in values for one in (value if isinstance(value, list) else [value])]
    if len(values) != count:
        raise ConfigError(
            f"data.values has {len(values)} entries for {count} classes: give one for each, in order"
        )
    # The default of data.ignore yields to declared values: nobody set it.
    yields = "ignore" not in spec.changed
    ignore = [value for value in spec.ignore if value != REST and not (yields and value in declared)]
    both = declared + ignore
    if not all(type(value) is int and 0 <= value <= 0xFFFF for value in both) or len(set(both)) != len(both):
        raise ConfigError(
            f"data.values={values} and data.ignore={spec.ignore} must be different numbers from 0 to 65535; "
            "where a class has the value 255, set data.ignore=[]; "
            "where it has several values, list them, such as data.values=[0,[1,2]]; "
            "data.ignore=rest ignores all others"
        )
    if [] in values:
        raise ConfigError(f"data.values={values} leaves a class without a value; give each at least one")
    coded = tuple(tuple(value) if isinstance(value, list) else value for value in values)
    return MaskCode(coded, tuple(ignore), rest=REST in spec.ignore, nearest=spec.nearest)


def check_classes(spec: Spec, hint: str = "") -> None:
    """Raises ConfigError unless data.classes names 2 to MAX_CLASSES different classes."""
    count = len(spec.classes)
    if not 2 <= count <= MAX_CLASSES or len(set(spec.classes)) != count:
        some = f"2 to {MAX_CLASSES} different classes, such as [background,road]"
        raise ConfigError(f"data.classes={spec.classes} must name {some}{hint}")


def _threshold_code(spec: Spec) -> MaskCode:
    if len(spec.classes) != 2:
        count = len(spec.classes)
        raise ConfigError(
            f"data.threshold={spec.threshold} makes two classes, but data.classes names {count}"
        )
    others = [
        name for name in ("values", "colours", "ignore", "ignore_colours", "nearest") if name in spec.changed
    ]
    if others:
        raise ConfigError(
            f"data.threshold={spec.threshold} gives every value a class: remove data.{others[0]}"
        )
    return MaskCode((0, 255), threshold=spec.threshold)


def _colour_code(spec: Spec) -> MaskCode:
    both = [*spec.colours, *spec.ignore_colours]
    if spec.values:
        raise ConfigError("data.values and data.colours are two ways to read masks: give one of them")
    if len(spec.colours) != len(spec.classes):
        counts = f"{len(spec.colours)} entries for {len(spec.classes)} classes"
        raise ConfigError(f"data.colours has {counts}: give one for each, in order")
    if not all(len(colour) == 3 and 0 <= min(colour) <= max(colour) <= 255 for colour in both):
        raise ConfigError("data.colours and data.ignore_colours hold [red, green, blue] from 0 to 255")
    if len({tuple(colour) for colour in both}) != len(both):
        raise ConfigError("data.colours and data.ignore_colours must be different colours")
    colours = [(red, green, blue) for red, green, blue in both]
    count = len(spec.colours)
    return MaskCode(
        (), (), tuple(colours[:count]), tuple(colours[count:]), REST in spec.ignore, nearest=spec.nearest
    )
