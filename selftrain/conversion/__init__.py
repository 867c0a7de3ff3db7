"""Masks as files of annotation programs."""

from pathlib import Path

from selftrain.errors import DataError

# The names of the formats, without the imports of `targets`: --help lists them.
TO = (
    "png",
    "voc",
    "coco",
    "coco-rle",
    "coco-panoptic",
    "labelme",
    "cvat",
    "cvat-rle",
    "labelstudio",
    "labelstudio-rle",
    "yolo",
)


def refuse_missing(source: Path) -> None:
    """Raise DataError for a path that leads nowhere; takes no time."""
    if not source.exists():
        raise DataError(
            f"{source} does not exist; give a data YAML, a folder, or the output of selftrain predict"
        )
