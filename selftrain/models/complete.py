"""An ONNX graph around a network: from an image as it is stored to class ids, like `selftrain predict`.

What comes before and after the network is written in ONNX's text format, and merged with its graph.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from selftrain.models.onnx import lean
from selftrain.sizes import SCALE, SIDES

NETWORK = "network/"  # the prefix of the network's own names
BEFORE = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
before (uint8[height, width, {channels}] image)
    => (float[1, {channels}, rows, columns] pixels, int64[2] seen, int64[2] own) {{
  own = Shape <end = 2> (image)
  stored = Cast <to = 1> (image)
{lines}
  mean = Constant <value = float[{channels}] {mean}> ()
  std = Constant <value = float[{channels}] {std}> ()
  centred = Sub (resized, mean)
  padded_2 = Div (centred, std)
{padding}
  planes = Transpose <perm = [2, 0, 1]> (padded_0)
  front = Constant <value = int64[1] {{0}}> ()
  pixels = Unsqueeze (planes, front)
}}
"""
AFTER = """
<ir_version: {ir}, opset_import: ["" : {opset}]>
after (float[1, {classes}, rows, columns] logits, int64[2] seen, int64[2] own)
    => (uint8[height, width] ids) {{
  corner = Constant <value = int64[2] {{0, 0}}> ()
  sides = Constant <value = int64[2] {{2, 3}}> ()
  cut = Slice (logits, corner, seen, sides)
  probs = Softmax <axis = 1> (cut)
{lines}
  best = ArgMax <axis = 1, keepdims = 0> (weighed)
  narrow = Cast <to = 2> (best)
  batch = Constant <value = int64[1] {{0}}> ()
  ids = Squeeze (narrow, batch)
}}
"""
NUMBERS = """
  one = Constant <value = double[1] {1.0}> ()
  zero = Constant <value = double[1] {0.0}> ()
  half = Constant <value = double[1] {0.5}> ()
"""
# [longest, side] and [shortest, side] of selftrain.sizes
BY_SIDE = """
  lengths = Cast <to = 11> (own)
  measured = {reduce} <keepdims = 1> (lengths)
  wanted = Constant <value = double[1] {{{side}}}> ()
  factor = Div (wanted, measured)
  exact = Mul (lengths, factor)
  whole = Round (exact)
  least = Max (whole, one)
  {name} = Cast <to = 7> (least)
"""
# [scale, factor] of selftrain.sizes
BY_FACTOR = """
  lengths_2 = Cast <to = 11> (sized)
  factor_2 = Constant <value = double[1] {{{factor}}}> ()
  exact_2 = Mul (lengths_2, factor_2)
  whole_2 = Round (exact_2)
  least_2 = Max (whole_2, one)
  seen = Cast <to = 7> (least_2)
"""
# The share of each stored pixel in a pixel of the resized image, along an axis: by area, or bilinear.
SHARES = """
  place_{axis} = Constant <value_int = {axis}> ()
  stored_{axis} = Gather <axis = 0> (own, place_{axis})
  wanted_{axis} = Gather <axis = 0> (seen, place_{axis})
  first_{axis} = Constant <value_int = 0> ()
  step_{axis} = Constant <value_int = 1> ()
  from_{axis} = Range (first_{axis}, stored_{axis}, step_{axis})
  to_{axis} = Range (first_{axis}, wanted_{axis}, step_{axis})
  j_{axis} = Cast <to = 11> (from_{axis})
  flat_{axis} = Cast <to = 11> (to_{axis})
  second_{axis} = Constant <value = int64[1] {{1}}> ()
  i_{axis} = Unsqueeze (flat_{axis}, second_{axis})
  n_{axis} = Cast <to = 11> (stored_{axis})
  m_{axis} = Cast <to = 11> (wanted_{axis})
  scale_{axis} = Div (n_{axis}, m_{axis})
  i1_{axis} = Add (i_{axis}, one)
  j1_{axis} = Add (j_{axis}, one)
  begin_{axis} = Mul (i_{axis}, scale_{axis})
  end_{axis} = Mul (i1_{axis}, scale_{axis})
  right_{axis} = Min (end_{axis}, j1_{axis})
  left_{axis} = Max (begin_{axis}, j_{axis})
  common_{axis} = Sub (right_{axis}, left_{axis})
  overlap_{axis} = Max (common_{axis}, zero)
  area_{axis} = Div (overlap_{axis}, scale_{axis})
  middle_{axis} = Add (i_{axis}, half)
  centre_{axis} = Mul (middle_{axis}, scale_{axis})
  raw_{axis} = Sub (centre_{axis}, half)
  last_{axis} = Sub (n_{axis}, one)
  above_{axis} = Max (raw_{axis}, zero)
  source_{axis} = Min (above_{axis}, last_{axis})
  signed_{axis} = Sub (source_{axis}, j_{axis})
  distance_{axis} = Abs (signed_{axis})
  nearness_{axis} = Sub (one, distance_{axis})
  linear_{axis} = Max (nearness_{axis}, zero)
  area4_{axis} = Cast <to = 1> (area_{axis})
  linear4_{axis} = Cast <to = 1> (linear_{axis})
  shares_{axis} = Where (shrinks, area4_{axis}, linear4_{axis})
"""
# OpenCV rounds halves upwards where both sides are halved, and else to the even neighbour.
RESIZED = """
  smaller = LessOrEqual (seen, own)
  counted = Cast <to = 7> (smaller)
  both = ReduceMin <keepdims = 1> (counted)
  shrinks = Cast <to = 9> (both)
{shares}
  flat = Constant <value = int64[2] {{0, -1}}> ()
  rows_in_line = Reshape (stored, flat)
  fewer_rows = MatMul (shares_0, rows_in_line)
  channels = Constant <value = int64[1] {{{channels}}}> ()
  shape = Concat <axis = 0> (seen_rows, stored_columns, channels)
  of_rows = Reshape (fewer_rows, shape)
  unrounded = MatMul (shares_1, of_rows)
  half4 = Constant <value = float[1] {{0.5}}> ()
  raised = Add (unrounded, half4)
  upwards = Floor (raised)
  nearest = Round (unrounded)
  doubled = Add (seen, seen)
  equal = Equal (doubled, own)
  equal8 = Cast <to = 7> (equal)
  lower = ReduceMin <keepdims = 1> (equal8)
  halves = Cast <to = 9> (lower)
  resized = Where (halves, upwards, nearest)
"""
# Padding of an axis at its end, as windows.pad does: reflection, or the edge where the image is too small.
PADDED = """
  at_{axis} = Constant <value_int = {axis}> ()
  count_{axis} = Gather <axis = 0> (seen, at_{axis})
  multiple_{axis} = Constant <value_int = {multiple}> ()
  minus_{axis} = Neg (count_{axis})
  more_{axis} = Mod (minus_{axis}, multiple_{axis})
  total_{axis} = Add (count_{axis}, more_{axis})
  start_{axis} = Constant <value_int = 0> ()
  unit_{axis} = Constant <value_int = 1> ()
  ids_{axis} = Range (start_{axis}, total_{axis}, unit_{axis})
  end1_{axis} = Sub (count_{axis}, unit_{axis})
  edge_{axis} = Min (ids_{axis}, end1_{axis})
  twice_{axis} = Add (end1_{axis}, end1_{axis})
  mirror_{axis} = Sub (twice_{axis}, ids_{axis})
  reflected_{axis} = Min (ids_{axis}, mirror_{axis})
  fits_{axis} = Less (more_{axis}, count_{axis})
  index_{axis} = Where (fits_{axis}, reflected_{axis}, edge_{axis})
  padded_{axis} = Gather <axis = {axis}> (padded_{before}, index_{axis})
"""
RESIZED_BACK = """
  front = Constant <value = int64[2] {{1, {classes}}}> ()
  target = Concat <axis = 0> (front, own)
  back = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (probs, , , target)
"""
WEIGHED = """
  each = Constant <value = float[1, {classes}, 1, 1] {each}> ()
  weighed = Div (back, each)
"""
SAME = "  {to} = Identity ({of})"


@dataclass(frozen=True)
class Around:
    """What belongs around a network, from an export's card."""

    mean: Sequence[float]  # in 0..1, of each channel
    std: Sequence[float]
    classes: int
    multiple: int  # of the sides that the network takes
    size: Sequence[Any] | None  # by the rules of selftrain.sizes
    predicted: Sequence[Any] | None
    thresholds: Sequence[float] = ()  # of each class; empty: the most probable class


def complete(content: bytes, around: Around) -> bytes:
    """A graph of a network, `content`, with everything around it.

    Input "image" (height, width, channels) uint8 of any size, output "ids" (height, width) uint8. The image
    is resized, normalised and padded. The padding is cut off, the softmax is resized to the image's size, and
    the decision is made. An image is seen as a whole and once: windows, views, refinements, a gate and a
    clean-up are not part of the graph.
    """
    import onnx
    from onnx import compose

    model = compose.add_prefix(onnx.load_from_string(content), NETWORK)
    form = {
        "ir": model.ir_version,
        "opset": model.opset_import[0].version,
        "classes": around.classes,
        "channels": len(around.mean),
    }
    before, after = (onnx.parser.parse_model(text) for text in (_before(around, form), _after(around, form)))
    seeing = compose.merge_models(before, model, io_map=[("pixels", f"{NETWORK}image")])
    names = [("seen", "seen"), ("own", "own"), (f"{NETWORK}logits", "logits")]
    after = compose.add_prefix(after, "after/", rename_inputs=False, rename_outputs=False)
    whole = compose.merge_models(seeing, after, io_map=names, outputs=["ids"])
    return lean(whole)


def _before(around: Around, form: dict[str, Any]) -> str:
    resizes = bool(around.size or around.predicted)
    rest = [NUMBERS, *_seen(around), *_resized(form)] if resizes else []
    lines = rest or [SAME.format(to="seen", of="own"), SAME.format(to="resized", of="stored")]
    padding = "".join(PADDED.format(axis=axis, before=axis + 1, multiple=around.multiple) for axis in (1, 0))
    mean, std = (_floats(255 * value for value in row) for row in (around.mean, around.std))
    return BEFORE.format(**form, lines="\n".join(lines), mean=mean, std=std, padding=padding)


def _seen(around: Around) -> list[str]:
    """The nodes that compute "seen" from "own", as sizes.seen_size."""
    scaled = bool(around.predicted) and around.predicted[0] == SCALE  # type: ignore[index]
    size, name = (around.size if scaled else around.predicted or around.size), "sized" if scaled else "seen"
    if not size:
        lines = [SAME.format(to=name, of="own")]
    elif size[0] in SIDES:
        reduce = {max: "ReduceMax", min: "ReduceMin"}[SIDES[size[0]]]
        lines = [BY_SIDE.format(reduce=reduce, side=float(size[1]), name=name)]
    else:
        lines = [f"  {name} = Constant <value = int64[2] {{{size[0]}, {size[1]}}}> ()"]
    if scaled and around.predicted:
        lines.append(BY_FACTOR.format(factor=float(around.predicted[1])))
    return lines


def _resized(form: dict[str, Any]) -> list[str]:
    pick = [
        f"  index_of_{name} = Constant <value = int64[1] {{{axis}}}> ()\n"
        f"  {name} = Gather <axis = 0> ({of}, index_of_{name})"
        for name, of, axis in (("seen_rows", "seen", 0), ("stored_columns", "own", 1))
    ]
    shares = "".join(SHARES.format(axis=axis) for axis in (0, 1))
    return [*pick, RESIZED.format(shares=shares, channels=form["channels"])]


def _after(around: Around, form: dict[str, Any]) -> str:
    resizes = bool(around.size or around.predicted)
    back = RESIZED_BACK.format(**form) if resizes else SAME.format(to="back", of="probs")
    each = _floats(around.thresholds)
    weigh = WEIGHED.format(**form, each=each) if around.thresholds else SAME.format(to="weighed", of="back")
    return AFTER.format(**form, lines=f"{back}\n{weigh}")


def _floats(values: Iterable[float]) -> str:
    return "{" + ", ".join(f"{value:.9e}" for value in values) + "}"
