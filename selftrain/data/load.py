"""Data sets from settings: the samples of each split, and what a run records about them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any

from selftrain import sizes
from selftrain.columns import MANY, PART
from selftrain.data import faults, levels
from selftrain.data.dataset import SPLITS, DataSet, with_channels, without
from selftrain.data.division import with_fold
from selftrain.data.extra import with_extra
from selftrain.data.few import few
from selftrain.data.images import Levels
from selftrain.data.many import Both, Many, Run, finder
from selftrain.data.places import is_url, naming_urls
from selftrain.data.sample import Copies, Sample
from selftrain.data.sources import annotated, folder, objects, shapes, voc
from selftrain.data.sources.named import root_of
from selftrain.data.spec import Spec
from selftrain.data.suspects import with_suspects
from selftrain.data.tags import with_tags
from selftrain.errors import ConfigError, DataError
from selftrain.manifests import Long, Rows
from selftrain.process import mapped

DUPLICATES = ("group", "near", "fault", "drop")
READERS = 4  # threads
MASKED = ("labelled", "val", "test")  # the splits of images with masks
SHOWN = 4  # most copies that a line names

# The choices of data.format. An entry lists the samples and decides the splits, usually by data/division.py.
# It keeps equal pictures, whose ids `copies` lists, in one split. It raises ConfigError for settings and
# DataError for files. It reads no pixels unless splits.choose is "stratified" or splits.stratify is set.
SOURCES: dict[str, Callable[[Spec, Copies], DataSet]] = {
    "shapes": shapes.data_set,
    "folder": folder.data_set,
    "voc": voc.data_set,
    "objects": objects.data_set,
    "coco": annotated.coco,
    "labelme": annotated.labelme,
    "cvat": annotated.cvat,
    "labelstudio": annotated.labelstudio,
    "yolo": annotated.yolo,
}


BELOW_A_ROOT = {*SOURCES} - {"shapes"}  # formats whose files lie below data.root


def check_place(spec: Spec) -> None:
    """Check data.root of a format that needs it; a remote store is asked later.

    Raises ConfigError or DataError, like `root_of`.
    """
    if spec.format in BELOW_A_ROOT and not is_url(spec.root):
        root_of(spec)


@naming_urls()
def load(spec: Spec, *, strict: bool = True, copies: Copies = ()) -> DataSet:
    """List the samples and decide the splits. Masks are read only to stratify.

    `copies` come from verify and are treated according to data.duplicates: copies of a picture stay in one
    made split, and copies of val and test images are left out of training.

    Raises ConfigError for settings, DataError for files, StorageError for a store that does not answer. With
    strict=False, files with their own faults (a
    missing mask, a name shared by two files, a link that leaves the root) are left out and listed in
    `faults`, for verify.
    """
    if not sizes.is_size(spec.size):
        raise ConfigError(f"data.size={spec.size} must {sizes.WANTED}")
    if spec.duplicates not in DUPLICATES:
        raise ConfigError(f"data.duplicates={spec.duplicates!r} must be one of {', '.join(DUPLICATES)}")
    copies = () if spec.duplicates == "fault" or spec.debug else copies
    data = with_channels(_listed(spec, copies, strict=strict), spec.channels)
    data = with_suspects(with_tags(data, spec), spec)
    data = with_extra(data, spec, lambda own: _listed(own, (), strict=strict))
    data = _without_copies(data, spec, copies)
    if spec.debug:
        data = few(data, spec.splits.seed)
    if strict:
        faults.refuse(data.faults)
    return data


def _listed(spec: Spec, copies: Copies, *, strict: bool) -> DataSet:
    if spec.format not in SOURCES:
        raise ConfigError(f"data.format={spec.format!r} must be one of {', '.join(SOURCES)}")
    try:
        return with_fold(SOURCES[spec.format](spec, copies), spec.splits, copies)
    except DataError:
        if strict or (spec.splits.choose != "stratified" and not spec.splits.stratify):
            raise
        # Stratifying stops at the first unreadable mask; verify is to list all of them.
        splits = replace(spec.splits, choose="spread", stratify=False)
        return with_fold(SOURCES[spec.format](replace(spec, splits=splits), copies), splits, copies)


def _without_copies(data: DataSet, spec: Spec, copies: Copies) -> DataSet:
    """The data set without training images that are copies of val or test images, and with warnings.

    With data.duplicates=group or near, only unlabelled images are left out, and only copies of images in made
    splits.
    A named split that shares a picture with another split is a fault of the data.
    """
    if not copies:
        return data
    find = finder(data.unlabelled)
    named = {name for names in copies for name in names}
    split_of = {one.id: split for split in MASKED for one in getattr(data, split) if one.id in named}
    split_of |= {name: "unlabelled" for name in named - split_of.keys() if find(name) is not None}
    made = spec.splits.made
    leaving = ("labelled", "unlabelled") if spec.duplicates == "drop" else ("unlabelled",)
    gone: dict[str, str] = {}
    for names in copies:
        held = [name for name in names if split_of.get(name) in ("val", "test")]
        if held and (spec.duplicates == "drop" or {split_of[name] for name in held} <= made):
            gone |= {name: held[0] for name in names if split_of.get(name) in leaving}
    kept = without(replace(data, labelled=[one for one in data.labelled if one.id not in gone]), gone)
    return replace(
        kept, warnings=[*data.warnings, *_about_copies(copies, split_of, gone, made, spec.duplicates)]
    )


def _about_copies(
    copies: Copies, split_of: dict[str, str], gone: dict[str, str], made: set[str], duplicates: str
) -> list[str]:
    """Lines on the decisions about copies: pictures that stay together, and images that are left out."""
    masked = [[name for name in names if split_of.get(name) in MASKED] for names in copies]
    together = [names for names in masked if len(names) > 1]
    lines = []
    if together and made:
        sign, kind = (" ~ ", "nearly identical") if duplicates == "near" else (" = ", "equal")
        first = sign.join(together[0][:SHOWN]) + (f"{sign}..." if len(together[0]) > SHOWN else "")
        more = f" (and {len(together) - 1} more such groups)" if len(together) > 1 else ""
        lines.append(f"{kind} pictures stay in one split: {first}{more}")
    if gone:
        name, other = next(iter(gone.items()))
        lines.append(
            f"{len(gone)} copies of val or test images are left out of training, such as {name} = {other}"
        )
    return lines


def levels_of(data: DataSet, setting: Sequence[Any]) -> Levels | None:
    """The range by data.range for this data set: two numbers, or None for dtype.

    Raises ConfigError for a wrong setting, DataError if the range cannot be measured.
    """
    if list(setting) != levels.PERCENTILE:
        return levels.fixed(setting)
    measured = levels.some(Both(data.labelled, data.unlabelled))
    with ThreadPoolExecutor(READERS) as pool:
        return levels.measure(pool.map(lambda sample: sample.image.stored(), measured))


def mask_coding(data: DataSet) -> dict[str, list[Any]]:
    """The coding of classes in the training masks: their values, or their colours, in order."""
    if data.code is None:
        return {"values": list(range(len(data.classes)))}
    if data.code.colours:
        return {"colours": [list(colour) for colour in data.code.colours]}
    return {"values": [list(value) if isinstance(value, tuple) else value for value in data.code.values]}


def manifest(data: DataSet) -> dict[str, Any]:
    """The manifest of the data set: the id and the fingerprints of each sample (selftrain.manifests)."""
    rows: dict[str, Any] = {split: _entries(getattr(data, split)) for split in SPLITS}
    if len(data.unlabelled) > MANY:
        rows["unlabelled"] = Long(len(data.unlabelled), partial(_rows, data.unlabelled))
    return {
        "classes": data.classes,
        **data.facts,
        **{split: value if isinstance(value, Long) else list(value) for split, value in rows.items()},
    }


def _entries(samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    with ThreadPoolExecutor(READERS) as pool:
        yield from mapped(pool, _fingerprints, samples)


def _rows(samples: Sequence[Sample]) -> Iterator[Rows]:
    """The entries of many samples as columns. Indices of shards contain those of most."""
    if isinstance(samples, Many) and not samples.told:
        others = _entries(samples.others)
        for run in samples.runs():
            yield Rows(run.ids, run.hashes, {}) if isinstance(run, Run) else Rows.of([next(others)])
    else:
        entries = _entries(samples)
        while some := list(islice(entries, PART)):
            yield Rows.of(some)


def _fingerprints(sample: Sample) -> dict[str, Any]:
    image, mask = sample.image.fingerprint(), sample.mask.fingerprint() if sample.mask else None
    files = {"image": image, "mask": mask} if image or mask else {}
    extra = {"extra": sample.extra} if sample.extra else {}
    weight = {"weight": sample.weight} if sample.extra or sample.weight != 1 else {}
    tags = {"tags": list(sample.tags)} if sample.tags is not None else {}
    return {"id": sample.id, **files, **extra, **weight, **tags}
