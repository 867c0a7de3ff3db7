"""Annotation files: polygons and run lengths."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from zoo_drawn import HEIGHT, INKS, WIDTH, Built, photo, save, scene


@dataclass
class Box:
    """A rectangle of a category; both corners belong to it."""

    category: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def corners(self) -> list[list[int]]:
        return [
            [self.left, self.top],
            [self.right, self.top],
            [self.right, self.bottom],
            [self.left, self.bottom],
        ]

    @property
    def flat(self) -> list[int]:
        return [number for corner in self.corners for number in corner]


def boxes(seed: int, categories: int = 2) -> tuple[np.ndarray, np.ndarray, list[Box]]:
    """A noisy picture, its class ids (category k is class k + 1), and its boxes. A small box lies on a large one."""
    random = np.random.default_rng(seed)
    ids, found = np.zeros((HEIGHT, WIDTH), np.uint8), list[Box]()
    left, top = random.integers(1, 6, 2).tolist()
    found.append(Box(0, left, top, left + 30, top + 24))
    for k in range(1, categories):
        x, y = left + 3 + 13 * (k - 1), top + 4 + int(random.integers(0, 6))
        found.append(Box(k, x, y, x + 8, y + int(random.integers(6, 12))))
    for box in found:
        ids[box.top : box.bottom + 1, box.left : box.right + 1] = box.category + 1
    image = INKS[ids % len(INKS)] + random.normal(0, 22, (HEIGHT, WIDTH, 3))
    return image.clip(0, 255).astype(np.uint8), ids, found


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(pictures: list[tuple[str, list[Box]]], names: list[tuple[int, str]], first: int) -> dict:
    """The content of a COCO file. The first category of the boxes is names[first]."""
    objects = [
        {"id": 100 * k + n, "image_id": k, "category_id": names[first + box.category][0], "iscrowd": 0,
         "segmentation": [box.flat], "bbox": [box.left, box.top, box.right - box.left, box.bottom - box.top],
         "area": (box.right - box.left) * (box.bottom - box.top)}
        for k, (_, found) in enumerate(pictures) for n, box in enumerate(reversed(found))
    ]  # fmt: skip
    return {
        "info": {"year": 2023},
        "licenses": [{"id": 1, "name": "CC BY 4.0", "url": ""}],
        "categories": [{"id": number, "name": name, "supercategory": "none"} for number, name in names],
        "images": [{"id": k, "file_name": name, "height": HEIGHT, "width": WIDTH}
                   for k, (name, _) in enumerate(pictures)],
        "annotations": objects,
    }  # fmt: skip


def coco_roboflow(root: Path) -> Built:
    """train/, valid/, test/, each with _annotations.coco.json beside the images and a dummy category: Roboflow."""
    built = Built(["background", "facade", "window"])
    for folder, split, count in (("train", "train", 6), ("valid", "val", 2), ("test", "test", 2)):
        pictures = []
        for i in range(count):
            name = f"IMG_{i}_jpg.rf.{folder}{i:04x}.jpg"
            image, ids, found = boxes(4000 + 10 * count + i + 50 * (split == "val"))
            save(root / folder / name, image)
            built.add(f"{folder}/{name}", ids, split)
            pictures.append((name, found))
        names = [(0, "facade"), (1, "facade"), (2, "window")]
        write(root / folder / "_annotations.coco.json", coco(pictures, names, first=1))
    return built


def livecell(root: Path) -> Built:
    """images/livecell_train_val_images/, images/livecell_test_images/, livecell_coco_{train,val,test}.json: LIVECell."""
    built = Built(["background", "cell"])
    for split, where, count in (("train", "train_val", 6), ("val", "train_val", 2), ("test", "test", 2)):
        pictures = []
        for i in range(count):
            name = f"A172_Phase_A7_1_00d{i:02d}h00m_{split}.tif"
            image, ids, found = boxes(4700 + 10 * count + i + 50 * (split == "val"), 1)
            save(root / f"images/livecell_{where}_images/A172/{name}", image)
            built.add(f"images/livecell_{where}_images/A172/{name}", ids, split)
            pictures.append((name, found))
        content = coco(pictures, [(1, "cell")], first=0)
        write(root / f"annotations/LIVECell/livecell_coco_{split}.json", content)
    return built


def coco_published(root: Path) -> Built:
    """train2017/, val2017/, unlabeled2017/, annotations/instances_*.json beside captions_*.json: COCO 2017."""
    built = Built(["background", "person", "car"])
    number = 0
    for split, count in (("train", 6), ("val", 3)):
        pictures = []
        for _ in range(count):
            name = f"{9 + number:012d}.jpg"
            image, ids, found = boxes(4100 + number)
            save(root / f"{split}2017/{name}", image)
            built.add(f"{split}2017/{name}", ids, split)
            pictures.append((name, found))
            number += 1
        content = coco(pictures, [(1, "person"), (3, "car"), (90, "toothbrush")], first=0)
        write(root / f"annotations/instances_{split}2017.json", content)
        captions = [{"id": k, "image_id": k, "caption": "drawn"} for k in range(count)]
        write(
            root / f"annotations/captions_{split}2017.json",
            {"images": content["images"], "annotations": captions},
        )
    for i in range(3):
        save(root / f"unlabeled2017/{500 + i:012d}.jpg", photo(4150 + i))
        built.unlabelled.add(f"unlabeled2017/{500 + i:012d}.jpg")
    return built


def coco_run_lengths(root: Path) -> Built:
    """images/, annotations/instances_default.json with run lengths: CVAT's COCO export."""
    built = Built(["background", "leaf"])
    pictures, objects = [], []
    for i in range(7):
        image, ids = scene(4200 + i)
        save(root / f"images/default/frame_{i:06d}.png", image)
        built.add(f"images/default/frame_{i:06d}.png", ids)
        column = ids.T.reshape(-1)
        edges = np.flatnonzero(np.diff(column)) + 1
        counts = np.diff(np.concatenate([[0], edges, [column.size]])).tolist()
        pictures.append({"id": i + 1, "file_name": f"frame_{i:06d}.png", "height": HEIGHT, "width": WIDTH})
        objects.append({"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0,
                        "segmentation": {"counts": counts, "size": [HEIGHT, WIDTH]}})  # fmt: skip
    tree = {"categories": [{"id": 1, "name": "leaf"}], "images": pictures, "annotations": objects}
    write(root / "annotations/instances_default.json", tree)
    return built


def labelme(root: Path) -> Built:
    """x.jpg beside x.json with shapes, two images without: labelme."""
    built = Built(["background", "wing", "beak"])
    for i in range(9):
        image, ids, found = boxes(4300 + i)
        save(root / f"IMG_{i:04d}.jpg", image)
        if i >= 7:
            built.unlabelled.add(f"IMG_{i:04d}.jpg")
            continue
        drawn = [{"label": ["wing", "beak"][box.category], "points": box.corners, "group_id": None,
                  "shape_type": "polygon", "flags": {}} for box in found]  # fmt: skip
        write(root / f"IMG_{i:04d}.json", {
            "version": "5.4.1", "flags": {}, "shapes": drawn, "imagePath": f"IMG_{i:04d}.jpg", "imageData": None,
            "imageHeight": HEIGHT, "imageWidth": WIDTH,
        })  # fmt: skip
        built.add(f"IMG_{i:04d}.jpg", ids)
    return built


def cvat(root: Path) -> Built:
    """images/, annotations.xml: CVAT's export "CVAT for images 1.1"."""
    built = Built(["background", "cell", "nucleus"])
    rows = []
    for i in range(7):
        image, ids, found = boxes(4400 + i)
        save(root / f"images/scan_{i}.png", image)
        built.add(f"images/scan_{i}.png", ids)
        drawn = [
            f'<polygon label="{["cell", "nucleus"][box.category]}" source="manual" occluded="0" '
            f'points="{";".join(f"{x:.2f},{y:.2f}" for x, y in box.corners)}" z_order="{box.category}"></polygon>'
            for box in found
        ]
        rows.append(
            f'<image id="{i}" name="scan_{i}.png" width="{WIDTH}" height="{HEIGHT}">{"".join(drawn)}</image>'
        )
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("cell", "nucleus"))
    write(
        root / "annotations.xml",
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job><labels>{labels}'
        f"</labels></job></meta>{''.join(rows)}</annotations>",
    )
    return built


def label_studio(root: Path) -> Built:
    """images/1a2b3c4d-x.jpg, project-1-at-….json with polygons in per cent: Label Studio's JSON export."""
    built = Built(["background", "leaf", "spot"])
    tasks = []
    for i in range(7):
        image, ids, found = boxes(4500 + i)
        name = f"1a2b3c{i:02d}-plant_{i}.jpg"
        save(root / f"images/{name}", image)
        built.add(f"images/{name}", ids)
        results = [
            {"id": f"r{n}", "type": "polygonlabels", "from_name": "label", "to_name": "image",
             "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
             "value": {"points": [[100 * (x + 0.5) / WIDTH, 100 * (y + 0.5) / HEIGHT] for x, y in box.corners], "closed": True,
                       "polygonlabels": [["leaf", "spot"][box.category]]}}
            for n, box in enumerate(found)
        ]  # fmt: skip
        tasks.append({"id": i, "data": {"image": f"/data/upload/1/{name}"},
                      "annotations": [{"id": i, "result": results, "was_cancelled": False}]})  # fmt: skip
    write(root / "project-1-at-2024-05-01-10-00-d41d8cd9.json", tasks)
    return built


def yolo_lines(found: list[Box]) -> str:
    return "".join(
        f"{box.category} "
        + " ".join(f"{(x + 0.5) / WIDTH:.6f} {(y + 0.5) / HEIGHT:.6f}" for x, y in box.corners)
        + "\n"
        for box in found
    )


def yolo(root: Path) -> Built:
    """images/{train,val}/, labels/{train,val}/x.txt, data.yaml with names: Ultralytics' segmentation data sets."""
    built = Built(["background", "bolt", "nut"])
    for split, count in (("train", 6), ("val", 3)):
        for i in range(count):
            image, ids, found = boxes(4600 + 10 * count + i)
            save(root / f"images/{split}/{i + count:06d}.jpg", image)
            write(root / f"labels/{split}/{i + count:06d}.txt", yolo_lines(found))
            built.add(f"images/{split}/{i + count:06d}.jpg", ids, split)
    write(root / "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames:\n  0: bolt\n  1: nut\n")
    return built


def yolo_roboflow(root: Path) -> Built:
    """train/images/, train/labels/, valid/, test/, data.yaml, README files: Roboflow's YOLOv8 export."""
    built = Built(["background", "crack", "patch"])
    for folder, split, count in (("train", "train", 6), ("valid", "val", 2), ("test", "test", 2)):
        for i in range(count):
            name = f"road{i}_jpg.rf.{folder}{i:04x}"
            image, ids, found = boxes(4700 + 10 * count + i + 50 * (split == "val"))
            save(root / f"{folder}/images/{name}.jpg", image)
            write(root / f"{folder}/labels/{name}.txt", yolo_lines(found))
            built.add(f"{folder}/images/{name}.jpg", ids, split)
    write(
        root / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 2\nnames: ['crack', 'patch']\n"
    )
    write(root / "README.roboflow.txt", "drawn\n")
    return built
