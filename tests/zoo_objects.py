"""Data sets of medicine and inspection, and exports of tools: masks in files."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
from zoo_drawn import HEIGHT, WIDTH, Built, coloured, photo, save, scene, valued, voc_palette


def kaggle_nuclei(root: Path) -> Built:
    """images/x.jpg, masks/x.png with 0 and 255: BBBC038 (2018 Data Science Bowl) as shared on Kaggle."""
    built = Built(["background", "foreground"])
    for i in range(8):
        image, ids = scene(i)
        save(root / f"images/{i:02d}a7.jpg", image)
        save(root / f"masks/{i:02d}a7.png", valued(ids, [0, 255]))
        built.add(f"images/{i:02d}a7.jpg", ids)
    return built


def bowl_2018(root: Path, cases: int = 6) -> Built:
    """stage1_train/ID/images/ID.png, ID/masks/*.png (an object each), stage1_test: BBBC038 (Broad Institute)."""
    built = Built(["background", "foreground"])
    for i in range(cases):
        image, ids = scene(700 + i)
        case = f"stage1_train/{i:02d}f3"
        save(root / f"{case}/images/{i:02d}f3.png", image)
        half = np.zeros_like(ids)
        half[:, : WIDTH // 2] = 1
        for k, part in enumerate((ids * half, ids * (1 - half))):
            if part.any() or i % 2:
                save(root / f"{case}/masks/{i}{k}c.png", valued(part, [0, 255]))
        built.add(f"{case}/images/{i:02d}f3.png", ids)
    for i in range(3):
        save(root / f"stage1_test/{i:02d}e9/images/{i:02d}e9.png", photo(750 + i))
        built.unlabelled.add(f"stage1_test/{i:02d}e9/images/{i:02d}e9.png")
    return built


def drive(root: Path) -> Built:
    """training/images/21_training.tif, 1st_manual/21_manual1.gif, mask/ (field of view), test/: DRIVE."""
    built = Built(["background", "foreground"])
    frame = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(frame, (24, 20), 18, 255, -1)
    for i in range(21, 28):
        image, ids = scene(600 + i)
        save(root / f"training/images/{i}_training.tif", image)
        save(root / f"training/1st_manual/{i}_manual1.gif", valued(ids, [0, 255]))
        save(root / f"training/mask/{i}_training_mask.gif", frame)
        built.add(f"training/images/{i}_training.tif", ids)
    for i in range(1, 4):
        save(root / f"test/images/{i:02d}_test.tif", photo(650 + i))
        save(root / f"test/mask/{i:02d}_test_mask.gif", frame)
        built.unlabelled.add(f"test/images/{i:02d}_test.tif")
    return built


def carvana(root: Path) -> Built:
    """train/x.jpg, train_masks/x_mask.gif, test/ without masks: Carvana Image Masking (Kaggle)."""
    built = Built(["background", "foreground"])
    for i in range(6):
        image, ids = scene(700 + i)
        save(root / f"train/fff9b3a5373f_{i:02d}.jpg", image)
        save(root / f"train_masks/fff9b3a5373f_{i:02d}_mask.gif", ids)
        built.add(f"train/fff9b3a5373f_{i:02d}.jpg", ids)
        save(root / f"test/0004d4463b50_{i:02d}.jpg", photo(750 + i))
        built.unlabelled.add(f"test/0004d4463b50_{i:02d}.jpg")
    return built


def isic2018(root: Path) -> Built:
    """…_Training_Input/ISIC_x.jpg, …_Training_GroundTruth/ISIC_x_segmentation.png and a second part: ISIC 2018."""
    built = Built(["background", "foreground"])
    number = 0
    for part, split, count in (("Training", "train", 6), ("Validation", "val", 2)):
        for _ in range(count):
            name = f"ISIC_{number:07d}"
            image, ids = scene(900 + number)
            folder = f"ISIC2018_Task1-2_{part}_Input"
            save(root / folder / f"{name}.jpg", image)
            save(root / f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png", valued(ids, [0, 255]))
            built.add(f"{folder}/{name}.jpg", ids, split)
            number += 1
        (root / folder / "ATTRIBUTION.txt").write_text("drawn\n")
    return built


def kvasir(root: Path) -> Built:
    """images/x.jpg, masks/x.jpg in black and white, as JPEG: Kvasir-SEG."""
    built = Built(["background", "foreground"])
    for i in range(8):
        image, ids = scene(1000 + i)
        name = f"cju0qkwl{i}s3gy.jpg"
        save(root / "images" / name, image)
        save(root / "masks" / name, valued(ids, [0, 255]), quality=95)
        built.add(f"images/{name}", ids)
    return built


def lgg_mri(root: Path) -> Built:
    """kaggle_3m/PATIENT/PATIENT_1.tif beside PATIENT_1_mask.tif: LGG MRI Segmentation (Kaggle)."""
    built = Built(["background", "foreground"])
    for p in range(6):
        patient = f"TCGA_CS_{4941 + p}_19960909"
        for i in range(1, 4):
            image, ids = scene(1100 + 10 * p + i)
            save(root / f"kaggle_3m/{patient}/{patient}_{i}.tif", image)
            save(root / f"kaggle_3m/{patient}/{patient}_{i}_mask.tif", valued(ids, [0, 255]))
            built.add(f"kaggle_3m/{patient}/{patient}_{i}.tif", ids)
    return built


def suim(root: Path) -> Built:
    """train_val/images/x.jpg, train_val/masks/x.bmp in colours, TEST/: SUIM (underwater images)."""
    built = Built(["background", "colour_0_0_255", "colour_255_255_0"])
    colours = [(0, 0, 0), (0, 0, 255), (255, 255, 0)]
    for folder, split, count in (("train_val", "train", 6), ("TEST", "test", 2)):
        for i in range(count):
            name = f"d_r_{i + 40 * count}_"
            image, ids = scene(1900 + i + 10 * count, 3)
            save(root / f"{folder}/images/{name}.jpg", image)
            save(root / f"{folder}/masks/{name}.bmp", coloured(ids, colours))
            built.add(f"{folder}/images/{name}.jpg", ids, split)
    return built


def roboflow_masks(root: Path) -> Built:
    """train/x.jpg beside x_mask.png, _classes.csv per split: Roboflow's export "Semantic Segmentation Masks"."""
    built = Built(["background", "crack", "spall"])
    for folder, split, count in (("train", "train", 6), ("valid", "val", 2), ("test", "test", 2)):
        for i in range(count):
            name = f"IMG_{5928 + i + 10 * count}_jpg.rf.b42290{i}9e046f{count}"
            image, ids = scene(2000 + i + 10 * count + 100 * len(folder), 3)
            save(root / f"{folder}/{name}.jpg", image)
            save(root / f"{folder}/{name}_mask.png", ids)
            built.add(f"{folder}/{name}.jpg", ids, split)
        with (root / folder / "_classes.csv").open("w", newline="") as file:
            csv.writer(file).writerows(
                [["Pixel Value", " Class"], [0, " background"], [1, " crack"], [2, " spall"]]
            )
    return built


def cvat_masks(root: Path) -> Built:
    """JPEGImages, SegmentationClass in RGB, ImageSets/Segmentation/default.txt, labelmap.txt: CVAT's mask export."""
    built = Built(["background", "leaf", "stem"])
    colours = [(0, 0, 0), (51, 221, 255), (250, 50, 83)]
    names = [f"frame_{i:06d}" for i in range(7)]
    for i, name in enumerate(names):
        image, ids = scene(2100 + i, 3)
        save(root / f"JPEGImages/{name}.jpg", image)
        save(root / f"SegmentationClass/{name}.png", coloured(ids, colours))
        save(root / f"SegmentationObject/{name}.png", coloured(ids, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]))
        built.add(f"JPEGImages/{name}.jpg", ids)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/default.txt").write_text("\n".join(names) + "\n")
    (root / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\nleaf:51,221,255::\nstem:250,50,83::\n"
    )
    return built


def floodnet(root: Path) -> Built:
    """train/train-org-img/6279.jpg, train/train-label-img/6279_lab.png, val, test: FloodNet 2021."""
    built = Built(["background", "class_1", "class_2", "class_3"])
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for i in range(count):
            image, ids = scene(2200 + i + 10 * count + 100 * len(split), 4)
            name = f"{6279 + 100 * count + 7 * i}"
            save(root / f"{split}/{split}-org-img/{name}.jpg", image)
            save(root / f"{split}/{split}-label-img/{name}_lab.png", ids)
            built.add(f"{split}/{split}-org-img/{name}.jpg", ids, split)
    return built


def nnunet(root: Path) -> Built:
    """imagesTr/case_000_0000.png, labelsTr/case_000.png, imagesTs, dataset.json: nnU-Net v2."""
    built = Built(["background", "organ", "tumour"])
    for i in range(6):
        image, ids = scene(2500 + i, 3)
        save(root / f"imagesTr/road_{i:03d}_0000.png", image)
        save(root / f"labelsTr/road_{i:03d}.png", ids)
        built.add(f"imagesTr/road_{i:03d}_0000.png", ids)
    for i in range(2):
        save(root / f"imagesTs/road_{90 + i:03d}_0000.png", photo(2550 + i))
        built.unlabelled.add(f"imagesTs/road_{90 + i:03d}_0000.png")
    card = {"channel_names": {"0": "R"}, "labels": {"background": 0, "organ": 1, "tumour": 2}, "numTraining": 6,
            "file_ending": ".png"}  # fmt: skip
    (root / "dataset.json").write_text(json.dumps(card))
    return built


def labelme_export(root: Path) -> Built:
    """x_json/img.png, x_json/label.png with a palette, label_viz.png, label_names.txt: labelme_export_json."""
    built = Built(["_background_", "bolt", "nut"])
    for i in range(7):
        folder = f"2011_{i + 3:06d}_json"
        image, ids = scene(2800 + i, 3)
        save(root / folder / "img.png", image)
        save(root / folder / "label.png", ids, palette=voc_palette())
        save(root / folder / "label_viz.png", (image // 2 + voc_palette()[ids] // 2).astype(np.uint8))
        (root / folder / "label_names.txt").write_text("_background_\nbolt\nnut\n")
        built.add(f"{folder}/img.png", ids)
    return built


def busi(root: Path) -> Built:
    """benign/benign (1).png beside benign (1)_mask.png, malignant/, normal/: BUSI (breast ultrasound)."""
    built = Built(["background", "foreground"])
    for c, kind in enumerate(("benign", "malignant", "normal")):
        for i in range(1, 5):
            image, ids = scene(3200 + 10 * c + i, 1 if kind == "normal" else 2)
            base = root / f"Dataset_BUSI_with_GT/{kind}/{kind} ({i})"
            save(Path(f"{base}.png"), image)
            save(Path(f"{base}_mask.png"), valued(ids, [0, 255]))
            built.add(f"Dataset_BUSI_with_GT/{kind}/{kind} ({i}).png", ids)
    return built


def cvc_clinicdb(root: Path) -> Built:
    """PNG/Original/1.png, PNG/Ground Truth/1.png with grey edges: CVC-ClinicDB as shared on Kaggle."""
    built = Built(["background", "foreground"])
    for i in range(1, 8):
        image, ids = scene(2900 + i)
        soft = cv2.GaussianBlur(valued(ids, [0, 255]), (3, 3), 0.7)
        save(root / f"PNG/Original/{i}.png", image)
        save(root / f"PNG/Ground Truth/{i}.png", soft)
        built.add(f"PNG/Original/{i}.png", (soft >= 128).astype(np.uint8))
    return built


def scans_16_bit(root: Path) -> Built:
    """rawimages/x.tif of 12 bits in 16, groundtruth/x.tif: nuclei of Kromp et al. 2020 (BioStudies S-BSST265)."""
    built = Built(["background", "foreground"])
    for i in range(7):
        image, ids = scene(3100 + i)
        deep = image[..., 0].astype(np.uint16) * 12 + 300
        save(root / f"rawimages/Ganglioneuroblastoma_{i}.tif", deep)
        save(root / f"groundtruth/Ganglioneuroblastoma_{i}.tif", valued(ids, [0, 255]))
        built.add(f"rawimages/Ganglioneuroblastoma_{i}.tif", ids)
    return built


def numbered(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy picture and its objects, numbered from 1: squares in a grid, 7 to 26 of them."""
    image, ids = scene(seed)
    ids[:] = 0
    for number in range(7 + seed % 20):
        row, column = number // 8 * 8, number % 8 * 6
        ids[row : row + 5, column : column + 4] = number + 1
    image[ids > 0] //= 2
    return image, ids


def glas(root: Path) -> Built:
    """train_1.bmp beside train_1_anno.bmp, in which each gland has a number: GlaS (Warwick)."""
    built = Built(["background", "foreground"])
    for part, count in (("train", 8), ("testA", 4)):
        for i in range(1, count + 1):
            image, ids = numbered(3000 + 3 * i + count)
            save(root / f"{part}_{i}.bmp", image)
            save(root / f"{part}_{i}_anno.bmp", ids)
            built.add(f"{part}_{i}.bmp", (ids > 0).astype(np.uint8))
    (root / "Grade.csv").write_text("name,patient ID, grade (GlaS)\ntestA_1,6, benign\n")
    return built


def cell_tracking(root: Path) -> Built:
    """01/t000.tif, 01_GT/SEG/man_seg000.tif of some frames, with a number for each cell, 02/: Cell Tracking Challenge."""
    built = Built(["background", "foreground"])
    for series in ("01", "02"):
        for i in range(8):
            image, ids = numbered(3100 + 7 * i + int(series))
            save(root / f"{series}/t{i:03d}.tif", image)
            if i % 2:
                built.unlabelled.add(f"{series}/t{i:03d}.tif")
            else:
                save(root / f"{series}_GT/SEG/man_seg{i:03d}.tif", ids.astype(np.uint16))
                built.add(f"{series}/t{i:03d}.tif", (ids > 0).astype(np.uint8))
    return built
