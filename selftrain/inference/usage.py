"""use.py of an export: a few lines of NumPy and onnxruntime that label an image like `selftrain predict`."""

from collections.abc import Mapping
from typing import Any

from selftrain.inference import tta, windows
from selftrain.sizes import SCALE, SIDES
from selftrain.tables import Table

USE = "use.py"
TEXT = '''\
"""Label an image with model.onnx, without selftrain: python use.py {photo} labels.png

Needs onnxruntime, numpy, {imports} and pillow. Written by selftrain {version}; the classes are in card.json.
{left_out}"""

import sys
from pathlib import Path

{import_cv2}import numpy as np
import onnxruntime
from PIL import Image{import_ops}

MEAN, STD = 255 * np.float32({mean}), 255 * np.float32({std})
session = onnxruntime.InferenceSession(Path(__file__).parent / "model.onnx")


def predict(image: np.ndarray) -> np.ndarray:
    """Class ids (H, W) uint8 of an image (H, W, {channels}) uint8{order}."""
    height, width = image.shape[:2]
{before}    for axis, side in enumerate((rows, columns)):  # pad at the end: reflect, or repeat the edge
        by, more = [(0, 0)] * 3, -side % {multiple}
        by[axis] = (0, more)
        pixels = np.pad(pixels, by, mode="reflect" if more < side else "edge")
    logits = session.run(["logits"], {{"image": pixels.transpose(2, 0, 1)[None]}})[0][0, :, :rows, :columns]
{after}    return scores.argmax(axis=0).astype(np.uint8)


if __name__ == "__main__":
    image = {read}
    Image.fromarray(predict(image)).save(sys.argv[2])
'''
MODES = {1: "L", 3: "RGB"}  # of pictures; images of other channels are arrays
PICTURE = 'np.atleast_3d(ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("{mode}"))'
NORMAL = "    pixels = (image - MEAN) / STD\n"
RESIZED = """\
    shrinks = rows <= height and columns <= width
    seen = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    pixels = (seen.reshape(rows, columns, -1) - MEAN) / STD
"""
SOFTMAX = """\
    exps = np.exp(logits - logits.max(axis=0))
    scores = exps / exps.sum(axis=0)
"""
BACK = "    scores = np.stack([cv2.resize(one, (width, height)) for one in scores])  # bilinear\n"


def usage(card: Mapping[str, Any], version: str) -> str:
    """The text of use.py for an export with this card."""
    size, predicted = card["input"]["size"], card["input"].get("predicted")
    resizes, each = bool(size or predicted), thresholds_of(card)
    channels = len(card["mean"])
    lines = [*_seen(size, predicted), RESIZED] if resizes else ["    rows, columns = height, width\n", NORMAL]
    after = SOFTMAX if resizes or each else "    scores = logits\n"
    after += BACK if resizes else ""
    after += f"    scores /= np.float32({each})[:, None, None]  # thresholds of the classes\n" if each else ""
    rest = left_out(card)
    return TEXT.format(
        imports="opencv" if resizes else "no other package",
        version=version,
        left_out=f"\nIt leaves out: {'; '.join(rest)}.\nselftrain predict applies them.\n" if rest else "",
        import_cv2="import cv2\n" if resizes else "",
        mean=list(card["mean"]),
        std=list(card["std"]),
        channels=channels,
        order=", RGB" if channels == 3 else "",
        multiple=card["input"]["multiple"],
        before="".join(lines),
        after=after,
        photo="photo.jpg" if channels in MODES else "image.npy",
        import_ops=", ImageOps" if channels in MODES else "",
        read=PICTURE.format(mode=MODES[channels]) if channels in MODES else "np.load(sys.argv[1])",
    )


def thresholds_of(card: Mapping[str, Any]) -> list[float]:
    """The thresholds of the classes; empty: the most probable class is chosen."""
    decision = card.get("decision", "argmax")
    return [] if isinstance(decision, str) else decision.get("thresholds", {}).get("each", [])


def left_out(card: Mapping[str, Any]) -> list[str]:
    """What `selftrain predict` does by this card beyond one look at the whole image, in words."""
    side = windows.side_of(windows.of(card["input"]["window"]))
    views = Table(tta.VIEWS).one(card.get("views", "plain"), "views")
    found = {
        f"windows of {side} pixels for images with a longer side": 0 < side < _longest(card),
        "views of the image, whose probabilities are averaged": views.name != "plain",
        "a dense CRF after the network": card.get("refine"),
        "the gate of the image-level head": card.get("gate"),
        "the clean-up of small regions": any((card.get("cleanup") or {}).values()),
        "the range of 16-bit images, which becomes 0 to 255": card["input"].get("range"),
    }
    return [words for words, there in found.items() if there]


def _longest(card: Mapping[str, Any]) -> float:
    """The longest side in pixels that the network may see."""
    size, predicted = card["input"]["size"], card["input"].get("predicted")
    scaled = bool(predicted) and predicted[0] == SCALE
    first = size if scaled else predicted or size
    if not first or first[0] == "shortest":
        return float("inf")
    side = first[1] if first[0] in SIDES else max(first)
    return float(side * predicted[1] if scaled else side)


def _seen(size: Any, predicted: Any) -> list[str]:
    """The lines that compute `rows` and `columns`, as sizes.seen_size."""
    scaled = bool(predicted) and predicted[0] == SCALE
    first = size if scaled else predicted or size
    if not first:
        lines = ["    rows, columns = height, width\n"]
    elif first[0] in SIDES:
        lines = [
            f"    scale = {first[1]} / {SIDES[first[0]].__name__}(height, width)\n",
            "    rows, columns = (max(1, round(side * scale)) for side in (height, width))\n",
        ]
    else:
        lines = [f"    rows, columns = {first[0]}, {first[1]}\n"]
    if scaled:
        text = f"    rows, columns = (max(1, round(side * {predicted[1]})) for side in (rows, columns))\n"
        lines.append(text)
    return lines
