"""Small drawn data sets, each laid out as a public data set or an annotation tool lays out its files.

Each function builds one data set in a folder and returns what a reader has to find in it. Its docstring names
the source of the layout. The pictures are drawn here; nothing is copied from the data sets.
"""

from collections.abc import Callable
from pathlib import Path

from zoo_drawn import Built
from zoo_objects import (
    bowl_2018,
    busi,
    carvana,
    cell_tracking,
    cvat_masks,
    cvc_clinicdb,
    drive,
    floodnet,
    glas,
    isic2018,
    kaggle_nuclei,
    kvasir,
    labelme_export,
    lgg_mri,
    nnunet,
    roboflow_masks,
    scans_16_bit,
    suim,
)
from zoo_scenes import (
    ade20k,
    alpha_matting,
    bdd100k,
    camvid_raw,
    cityscapes,
    deepglobe,
    kitti,
    kitti_road,
    loveda,
    massachusetts,
    mmsegmentation,
    oxford_pets,
    pairs_in_one_folder,
    potsdam,
    scannet,
    segnet_camvid,
    semantic_drone,
    uavid,
    voc2012,
)
from zoo_shapes import (
    coco_published,
    coco_roboflow,
    coco_run_lengths,
    cvat,
    label_studio,
    labelme,
    livecell,
    yolo,
    yolo_roboflow,
)

MASKS: list[Callable[[Path], Built]] = [
    kaggle_nuclei, bowl_2018, segnet_camvid, camvid_raw, ade20k, cityscapes, voc2012, drive, carvana, oxford_pets, isic2018,
    kvasir, lgg_mri, massachusetts, deepglobe, potsdam, loveda, bdd100k, kitti, kitti_road, suim, roboflow_masks,
    cvat_masks, floodnet, uavid, scannet, nnunet, mmsegmentation, pairs_in_one_folder, labelme_export, busi, cvc_clinicdb,
    alpha_matting, scans_16_bit, glas, cell_tracking, semantic_drone,
]  # fmt: skip
SHAPES: list[Callable[[Path], Built]] = [
    coco_roboflow, coco_published, coco_run_lengths, labelme, cvat, label_studio, yolo, yolo_roboflow, livecell,
]  # fmt: skip
