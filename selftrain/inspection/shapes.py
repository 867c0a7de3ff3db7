"""The settings of a data set whose masks are drawn from annotation files."""

from collections.abc import Mapping
from pathlib import Path

from selftrain.data.annotations import FORMATS
from selftrain.errors import DataError
from selftrain.inspection.annotations import Annotated, place
from selftrain.inspection.classes import BACKGROUND, is_void
from selftrain.inspection.data_file import loaded_with
from selftrain.inspection.layout import SPLITS
from selftrain.inspection.names import split_word
from selftrain.inspection.pictures import Folder, Picture, picture_of
from selftrain.inspection.questions import Questions

Row = tuple[str, str]
OUTSIDE = {"background", "_background_", "__background__"}  # categories for pixels outside of all others


def settings_of(
    folder: Folder, chosen: Annotated, questions: Questions
) -> tuple[dict[str, object], list[Row]]:
    """The settings of the annotations and their classes, and rows about them.

    Raises DataError if no setting can name the files.
    """
    where = _where(folder, chosen)
    names = _names(folder.root, chosen)
    used = [name for name in _ordered(chosen, names) if chosen.shapes[name]]
    void = [name for name in used if is_void(names.get(name, name))]
    if void and len(void) < len(used):
        asked = f"{', '.join(void)}: pixels without a class?"
        void = void if questions.confirm(asked, "ignore these pixels", "classes like all others") else []
    used = [name for name in used if name not in void]
    outside = next((name for name in used if names.get(name, name).lower() in OUTSIDE), "")
    titles = [_title(name, names) for name in used]
    classes = titles if outside else [BACKGROUND, *titles]
    settings: dict[str, object] = {"format": chosen.form, "classes": classes} | where
    if outside:
        settings["background"] = _title(outside, names)
    if any(title != names.get(name, name) for name, title in zip(used, titles, strict=True)):
        settings["values"] = ([] if outside else [""]) + used
    if void:
        settings["ignore"] = [names.get(name, name) for name in void]
    rows = [("masks", str(chosen)), ("class", f"{classes[0]}: pixels outside of all shapes")][
        : 1 if outside else 2
    ]
    rows += [
        ("class", f"{title}: {chosen.shapes[name]} shapes") for name, title in zip(used, titles, strict=True)
    ]
    rows += [("ignored", f"{names.get(name, name)}: {chosen.shapes[name]} shapes") for name in void]
    return settings, rows


def _where(folder: Folder, chosen: Annotated) -> dict[str, object]:
    """The settings that name the annotation files: data.splits if each file is a split, or data.annotations.

    Raises DataError if neither can name these files only.
    """
    named = {split_word(file.stem): file.relative_to(folder.root).as_posix() for file in chosen.files}
    if 1 < len(named) == len(chosen.files) and "train" in named and "" not in named:
        return {"splits": {split: named[split] for split in SPLITS if split in named}}
    where = place(folder.root, chosen, folder.others)
    if where is not None:
        return {"annotations": where}
    suffix = FORMATS[chosen.form].suffix
    raise DataError(
        f"{folder.root}: the annotation files of {chosen.form}, such as {chosen.files[0]}, lie among other "
        f"{suffix} files; move them to a folder of their own"
    )


def _names(root: Path, chosen: Annotated) -> dict[str, str]:
    """The names of categories that are numbers, where a file gives them."""
    read = FORMATS[chosen.form].names
    return read([root, *dict.fromkeys(file.parent for file in chosen.files)]) if read else {}


def _ordered(chosen: Annotated, names: Mapping[str, str]) -> list[str]:
    """The categories as their files list them; numbers in their order."""
    numbers = all(name.isdigit() for name in chosen.categories)
    return sorted(chosen.categories, key=int) if numbers or names else list(chosen.categories)


def _title(category: str, names: Mapping[str, str]) -> str:
    """The name of a category's class; a number without a name becomes class_<number>."""
    return names.get(category, f"class_{category}" if category.isdigit() else category)


def described(folder: Folder, settings: Mapping[str, object]) -> dict[Picture, str]:
    """The images that the annotation files describe, and their splits where files name them ("" elsewhere).

    Raises DataError.
    """
    whole = {"name": "all", "root": str(folder.root), "images": ".", "unlabelled": ""}
    named = settings.get("splits")
    splits = dict(named) if isinstance(named, Mapping) else {"train": "."}
    data = loaded_with(folder.root, whole | dict(settings) | {"splits": splits | {"test_fraction": 0.0}})
    parts = {"train": data.labelled, "val": data.val, "test": data.test}
    return {
        picture_of(Path(one.image.name), folder.root): split if named else ""
        for split, samples in parts.items()
        for one in samples
    }
