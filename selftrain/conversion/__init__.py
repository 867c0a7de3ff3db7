"""Masks as files of annotation programs."""

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
