"""The labelled pictures that are converted: of a data YAML, of a folder, or of `selftrain predict`."""

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from selftrain.config import DataConfig
from selftrain.conversion import refuse_missing
from selftrain.data.dataset import SPLITS, DataSet
from selftrain.data.faults import counted, some
from selftrain.data.load import load
from selftrain.data.masks import MaskCode, read_mask
from selftrain.data.sample import Sample, Source
from selftrain.data.sources.files import ImageFile
from selftrain.data.sources.tree import Tree
from selftrain.data.spec import Spec
from selftrain.datasets import spec_of
from selftrain.errors import DataError
from selftrain.files import read_json
from selftrain.ids import IGNORE
from selftrain.inspection.init import describe
from selftrain.prediction.inputs import images_in, output_names
from selftrain.prediction.outputs import CLASSES, FOLDERS
from selftrain.settings import compose

KEPT = ("range", "channels", "mean", "std", "size")  # settings of images, which are converted unchanged


@dataclass(frozen=True)
class Picture:
    """A labelled picture.

    `name` is its path below the folder of its split, without suffix. `split` is "" if the data name
    no splits.
    """

    name: str
    split: str
    image: Source | None  # None: only the mask is known
    read: Callable[[], np.ndarray]  # class ids (H, W) uint8. Raises DataError

    @property
    def path(self) -> str:
        """The path below the folder of all images, without suffix."""
        return f"{self.split}/{self.name}" if self.split else self.name


@dataclass(frozen=True)
class Originals:
    """Labelled pictures, their classes, and the class that need not be drawn, or None."""

    pictures: list[Picture]
    classes: list[str]
    background: int | None
    root: Path
    settings: dict[str, Any] = field(default_factory=dict)  # for the data YAML of the converted pictures
    remarks: list[str] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """The splits that have pictures; [""] if the data name no splits."""
        return list(dict.fromkeys(one.split for one in self.pictures))


@contextmanager
def originals(source: Path, images: Path | None = None) -> Iterator[Originals]:
    """The pictures of a data YAML, of a folder that `init` understands without questions, or of predictions.

    `images` is the folder whose images were predicted. Raises ConfigError or DataError.
    """
    refuse_missing(source)
    with tempfile.TemporaryDirectory() as temporary:
        if (source / CLASSES).is_file():
            yield _predictions(source.resolve(), images)
        elif source.is_dir():
            yield _data_set(describe(source, Path(temporary)))
        else:
            yield _data_set(source)


def _data_set(file: Path) -> Originals:
    cfg = compose([f"data={file}"]).data
    spec = spec_of(cfg)
    data = load(spec)
    changed, default = asdict(cfg), asdict(DataConfig())
    settings = {name: changed[name] for name in KEPT if changed[name] != default[name]}
    settings["splits"] = {
        name: changed["splits"][name]
        for name in ("val_fraction", "test_fraction")
        if changed["splits"][name] != default["splits"][name]
    }
    found = [one for split, samples in _members(data, spec).items() for one in _pictures(split, samples)]
    background = data.classes.index(spec.background) if spec.background in data.classes else None
    return Originals(found, data.classes, background, data.root, settings, _remarks(data))


def _members(data: DataSet, spec: Spec) -> dict[str, list[Sample]]:
    """The labelled samples of the splits that the data name, or all of them as "".

    Samples of a made split belong to train. With data.splits.group, made splits are kept, since the pattern
    may not fit the new paths.
    """
    made = set() if spec.splits.group else spec.splits.made
    members = defaultdict[str, list[Sample]](list)
    for split in SPLITS:
        own = [one for one in getattr(data, split) if one.mask and not one.extra]
        members[split if split in ("val", "test") and split not in made else "train"] += own
    return {"": members["train"]} if made == {"val", "test"} else members


def _remarks(data: DataSet) -> list[str]:
    bare = sum(not one.mask for one in data.unlabelled)
    return [f"{counted(bare, 'image')} without a mask: not converted"] if bare else []


def _pictures(split: str, samples: Sequence[Sample]) -> list[Picture]:
    """The pictures of a split, with their paths below the folder that all of them share."""
    paths = [PurePosixPath(one.id) for one in samples]
    shared = os.path.commonpath([f"/{path.parent}" for path in paths]) if paths else "/"
    names = [str(PurePosixPath(f"/{path}").relative_to(shared)) for path in paths]
    return [
        Picture(name, split, one.image, one.mask.read)
        for name, one in zip(names, samples, strict=True)
        if one.mask
    ]


def _predictions(folder: Path, images: Path | None) -> Originals:
    """Masks that `selftrain predict` wrote."""
    described = read_json(folder / CLASSES, "classes")
    classes = [str(one["name"]) for one in described["classes"]]
    code = _code(described, len(classes))
    tree, beside = Tree(folder), [folder / name for name in FOLDERS.values()]
    masks = {
        tree.name(path, below=folder): path for path in tree.walk(folder, {".png", ".tif"}, without=beside)
    }
    if not masks:
        raise DataError(f"{folder} contains no mask; run selftrain predict again")
    image_of = _images(images, masks) if images else dict.fromkeys(masks)
    pictures = [
        Picture(name, "", image_of[name], partial(read_mask, path, code)) for name, path in masks.items()
    ]
    background = classes.index("background") if "background" in classes else None
    return Originals(pictures, classes, background, folder)


def _code(described: dict[str, Any], classes: int) -> MaskCode:
    """What the values of predictions mean."""
    if described.get("form") != "values":
        return MaskCode(tuple(range(classes)), (IGNORE,))
    masks = described["masks"]
    if "colours" in masks:
        return MaskCode((), colours=tuple((r, g, b) for r, g, b in masks["colours"]))
    return MaskCode(tuple(tuple(one) if isinstance(one, list) else one for one in masks["values"]))


def _images(folder: Path, masks: dict[str, Path]) -> dict[str, Source]:
    """The image of each mask, by the names that `selftrain predict` gives. Raises DataError."""
    root, files, *_ = images_in(folder)
    names = output_names([file.relative_to(root) for file in files])
    found: dict[str, Source] = {
        name.with_suffix("").as_posix(): ImageFile(root / file) for file, name in names.items()
    }
    missing = [name for name in masks if name not in found]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'mask')} without an image in {folder}: {some(missing)}; "
            "name the folder that selftrain predict read by --images"
        )
    return found
