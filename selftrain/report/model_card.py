"""README.md of an export: a model card with the fields of Hugging Face, from card.json."""

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from selftrain.values import worded

README = "README.md"
# Our scores, their names on Hugging Face, and those for readers
METRICS = {"miou": ("mean_iou", "mIoU"), "pixel_accuracy": ("accuracy", "pixel accuracy")}
TEXT = """\
---
# license: choose one that the images, the masks and the pretrained weights allow
{fields}---

# {name}

{kind} for semantic segmentation, made by selftrain {version} with `recipe={recipe}` on the data `{data}`
(generation {generation}).{debug}

| classes | {classes} |
| --- | --- |
| architecture | {arch}, encoder {encoder}, {params:,} parameters |
{scores}
## Use

    pip install selftrain
    selftrain predict THIS_FOLDER images -o masks

or in Python:

    import selftrain

    mask = selftrain.load("THIS_FOLDER").predict("photo.jpg")  # (H, W) uint8, class ids
{onnx}
`card.json` has everything that other programs need: resizing, normalisation, padding, the decision and the
coding of the masks.
{variants}
## Scores

Scores are means over the classes, on images that did not train the network. val chose between networks and
thresholds, so its scores are slightly too good.{test}
"""
ONNX = """
`use.py` labels an image with `model.onnx` by NumPy and onnxruntime alone:

    python use.py photo.jpg labels.png
"""
VARIANTS = """
## Variants

Compared with torch on {images} val images, {threads} thread(s) of a CPU, image by image. "Same ids" is the
share of pixels with the class that torch gives.

| file | MB | mIoU lost | same ids | images/s |
| --- | --- | --- | --- | --- |
{rows}
"""


def model_card(card: Mapping[str, Any]) -> str:
    """The text of README.md for an export with this card."""
    model, scores = card["model"], list(_scores(card))
    made = card.get("compared")
    return TEXT.format(
        fields=yaml.safe_dump(_fields(card), sort_keys=False, allow_unicode=True),
        name=name_of(card),
        kind=card.get("network", "one network").capitalize(),
        version=card.get("selftrain"),
        recipe=card.get("recipe"),
        data=card.get("data"),
        generation=card.get("generation"),
        debug=f" **{card['debug']}**" if card.get("debug") else "",
        classes=", ".join(card["classes"]),
        arch=worded(model["arch"]),
        encoder=model["encoder"],
        params=model["params"],
        scores="".join(f"| {split} {METRICS[name][1]} | {value:.4f} |\n" for split, name, value in scores),
        onnx=ONNX if card.get("onnx") else "",
        variants=VARIANTS.format(**made, rows="\n".join(_rows(card))) if made else "",
        test="" if any(split == "test" for split, *_ in scores) else " There are no test scores.",
    )


def name_of(card: Mapping[str, Any]) -> str:
    """The name of the model."""
    return f"{card.get('data')} {card.get('recipe')}"


def _fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a model card, as the Hugging Face hub reads them."""
    arch = card["model"]["arch"]
    tags = ["semantic-segmentation", "semi-supervised-learning", "self-training"]
    tags += [arch if isinstance(arch, str) else next(iter(arch)), *(["onnx"] if card.get("onnx") else [])]
    results = [
        {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"type": card.get("data"), "name": card.get("data"), "split": split},
            "metrics": [{"type": METRICS[name][0], "name": METRICS[name][1], "value": round(value, 4)}],
        }
        for split, name, value in _scores(card)
    ]
    index = [{"name": name_of(card), "results": results}]
    return {
        "license": "unknown",
        "library_name": "selftrain",
        "pipeline_tag": "image-segmentation",
        "tags": tags,
        "datasets": [card.get("data")],
        "metrics": [name for name, _ in METRICS.values()],
        **({"model-index": index} if results else {}),
    }


def _scores(card: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """Split, name and value of each score that there is."""
    for split, scores in (card.get("metrics") or {}).items():
        for name in METRICS:
            if isinstance(scores, Mapping) and scores.get(name) is not None:
                yield split, name, scores[name]


def _rows(card: Mapping[str, Any]) -> Iterator[str]:
    """A row of the table of variants for each one that was made; the first is torch itself."""
    made = card["compared"]
    yield f"| model.safetensors (torch) | {made['mb']} | 0 | 100 % | {made['images_per_second']} |"
    for one in card["variants"].values():
        if "file" in one:
            yield (
                f"| {one['file']} | {one['mb']} | {one['miou_lost']:+.4f} | {one['same_ids']:.3%} "
                f"| {one['images_per_second']} |"
            )
