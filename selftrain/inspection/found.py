"""What an inspection finds: the choice of masks, classes and splits, with the questions that remain."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from selftrain.data.annotations import FORMATS
from selftrain.data.coding import MAX_CLASSES
from selftrain.data.faults import counted
from selftrain.data.images import IMAGE_SUFFIXES
from selftrain.data.sources.tree import suffix_counts, unread
from selftrain.errors import DataError
from selftrain.inspection import classes, shapes, splits
from selftrain.inspection.annotations import Annotated, annotated
from selftrain.inspection.bands import reading
from selftrain.inspection.coding import Coding, Survey, codings, share_of, shown_value, survey
from selftrain.inspection.layout import Layout
from selftrain.inspection.masks import Choice, choices, forms_of_masks, show_the_same, views_of_images
from selftrain.inspection.numbered import number_objects, vary
from selftrain.inspection.objects import Objects, objects
from selftrain.inspection.pairing import FLAT, Pairs, pairs
from selftrain.inspection.pictures import Folder, Picture, look, some
from selftrain.inspection.questions import IGNORED, Questions

MANY = 40  # values that each mark a single region: they number objects, also if there is only one mask
LOOKS = 3  # pictures of a folder that are opened
LOOKED_AT = 40  # pictures that are opened for a message
MASKLIKE = 0.9  # least flatness of masks without an image
Row = tuple[str, str]


@dataclass
class Found:
    """The settings of a data set of mask files, and the facts to print."""

    layout: Layout
    settings: dict[str, object]
    rows: list[Row] = field(default_factory=list)


def find(folder: Folder, questions: Questions) -> Found:
    """Find images, masks or annotations, classes and splits. Raises DataError if there are none."""
    apart = objects(folder)
    if apart is not None:
        return _of_objects(folder, apart, questions)
    forms = annotated(folder)
    found = pairs(folder.pictures)
    files = choices(found) if found.rules or not (forms or _photographs(folder, found)) else []
    ways: list[Choice | Annotated] = [*files, *forms]
    if forms and files:
        ways.sort(key=_size_of)
    if not ways:
        raise DataError(_nothing(folder))
    chosen = ways[questions.choose("Which masks?", [str(way) for way in ways])]
    if isinstance(chosen, Annotated):
        return _of_shapes(folder, chosen, questions)
    return _of_files(folder, found, chosen, questions)


def _photographs(folder: Folder, found: Pairs) -> bool:
    """Whether there are photographs beside masks that belong together: the masks are no images then."""
    flat = {one for rule in found.forms for one in rule.mask_of}
    seen = [look(one.path) for one in some([one for one in folder.pictures if one not in flat], LOOKED_AT)]
    return bool(flat) and any(one and one.flatness < FLAT for one in seen)


def _size_of(way: Choice | Annotated) -> int:
    """Ways with many images come first."""
    return -(way.images if isinstance(way, Annotated) else len(way.mask_of))


def _of_files(folder: Folder, found: Pairs, chosen: Choice, questions: Questions) -> Found:
    """The data set of a choice of mask files."""
    mask_of = chosen.mask_of
    views = _views(found, mask_of, questions)
    unused = forms_of_masks(found, set(mask_of)) | views | set(mask_of.values())
    rest = [one for one in folder.pictures if one not in mask_of and one not in unused]
    bare, lonely = _without_masks(rest)
    rows = [*_rows_of_images(mask_of), *_rows_of_unused(unused - set(mask_of.values()), lonely)]
    content = survey(sorted(mask_of.values()))
    numbered = number_objects(sorted(mask_of.values()), content)
    settings, more = _classes(folder.root, folder.others, content, questions, numbered=numbered)
    layout = _layout(folder.others, mask_of, bare, questions)
    settings = {"format": "folder"} | settings | reading([*mask_of, *bare])
    return Found(layout, settings, rows + more)


def _views(found: Pairs, mask_of: dict[Picture, Picture], questions: Questions) -> set[Picture]:
    """The pictures that show images with masks in another way, such as depth, if they are to be left out."""
    gone = set[Picture]()
    for views in views_of_images(found, set(mask_of)):
        one, image = next(iter(views.items()))
        example = f"{one.relative}, {image.relative}"
        what = f"{_places(sorted(views))} have the names of images with masks ({example})."
        ways = ["leave them out: they show the same", "use them as unlabelled images"]
        alike = show_the_same(views)
        if questions.choose(what, ways if alike else ways[::-1]) == (0 if alike else 1):
            gone |= views.keys()
    return gone


def _of_objects(folder: Folder, apart: Objects, questions: Questions) -> Found:
    """The data set of a mask file for each object."""
    masks = [mask for each in apart.masks_of.values() for mask in each]
    settings, more = _classes(folder.root, folder.others, survey(some(masks, LOOKED_AT)), questions)
    names = settings["classes"]
    assert isinstance(names, list)
    bare = [one for one in set(folder.pictures) - apart.masks_of.keys() if apart.images in one.folders[-1:]]
    layout = Layout({image: image for image in apart.masks_of}, {}, sorted(bare), drawn=True)
    named = {"format": "objects", "images": apart.images, "masks": apart.masks, "classes": names}
    row = f"{apart.count} files in {apart.masks}/, one for each object of {len(apart.masks_of)} images"
    rows = [("masks", row), ("classes", " and ".join(names)), more[-1]]
    return Found(layout, named | reading([*layout.mask_of, *bare]), rows)


def _of_shapes(folder: Folder, chosen: Annotated, questions: Questions) -> Found:
    """The data set of a choice of annotation files."""
    settings, rows = shapes.settings_of(folder, chosen, questions)
    split_of = shapes.described(folder, settings)
    mask_of = {image: image for image in split_of}
    bare = [picture for picture in folder.pictures if picture not in split_of]
    if any(split_of.values()):
        layout = Layout(mask_of, split_of, _asked_about(bare, questions))
    else:
        layout = _layout(folder.others, mask_of, bare, questions)
    layout.drawn = True
    return Found(layout, settings | reading([*mask_of, *bare]), rows)


def _nothing(folder: Folder) -> str:
    """The message for a folder without masks."""
    suffixes = suffix_counts([picture.path for picture in folder.pictures])
    if not folder.pictures:
        files = unread(str(folder.root), folder.others, "images", IMAGE_SUFFIXES)
        return files if folder.others else f"{folder.root} contains no files"
    flat = [
        one
        for one in some(folder.pictures, LOOKED_AT)
        if (seen := look(one.path)) and seen.flatness > MASKLIKE
    ]
    if flat and len(flat) < len(folder.pictures):
        if other := _of_another_size(flat, folder.pictures):
            return f"{folder.root}: {other}"
        return (
            f"{folder.root}: {flat[0].relative} looks like a mask, but its name leads to no image: a mask "
            "has the path of its image, apart from one run of folders and one run of the name, such as "
            "images/1.jpg and masks/1_gt.png; several masks of one image are not read, so merge them"
        )
    return (
        f"{folder.root}: no masks and no annotations were found beside {len(folder.pictures)} pictures "
        f"({suffixes}); a mask has the path of its image, apart from one run of folders and "
        f"one run of the name, such as images/1.jpg and masks/1_gt.png{_not_read(folder.others)}"
    )


def _of_another_size(flat: Sequence[Picture], pictures: Sequence[Picture]) -> str:
    """A line about the first masks that have the name of a picture of another size; "" if there is none."""
    named = {one.stem: one for one in pictures if one not in set(flat)}
    for mask in flat:
        image = named.get(mask.stem)
        photo, drawn = look(image.path) if image else None, look(mask.path)
        if image and photo and drawn and photo.size != drawn.size:
            sizes = " and ".join(f"{height}x{width}" for height, width in (photo.size, drawn.size))
            return (
                f"{image.relative} and its mask {mask.relative} have different sizes, {sizes}: save masks at "
                "the size of their images (data.size makes both smaller)"
            )
    return ""


def _not_read(others: Sequence[Path]) -> str:
    """A remark about files that may contain annotations."""
    found = [path for path in others if path.suffix.lower() in (".json", ".xml", ".txt", ".csv")]
    if not found:
        return ""
    formats = ", ".join(FORMATS)
    return f"; {suffix_counts(found)} files were read as well, and are in none of the formats {formats}"


def _rows_of_images(mask_of: dict[Picture, Picture]) -> list[Row]:
    """The folders of images with masks, and an example of each."""
    examples = dict[tuple[str, str], list[Picture]]()
    for image, mask in mask_of.items():
        examples.setdefault((image.folder, mask.folder), []).append(image)
    rows = [
        ("images", f"{len(images)} in {where}: {images[0].path.name}, its mask {mask_of[images[0]].relative}")
        for (where, _), images in sorted(examples.items())
    ]
    return _cut(rows, "images", "folders of images and masks")


def _cut(rows: list[Row], name: str, noun: str, most: int = 6) -> list[Row]:
    """At most `most` rows, and the number of the others."""
    return rows if len(rows) <= most else [*rows[:most], (name, f"and {len(rows) - most} more {noun}")]


def _rows_of_unused(others: Iterable[Picture], lonely: Sequence[Picture]) -> list[Row]:
    rows = [("not used", f"{_places(list(others))}: beside images or masks that are used")] if others else []
    if lonely:
        rows.append(("not used", f"{_places(lonely)}: look like masks without an image"))
    return rows


def _places(pictures: Sequence[Picture]) -> str:
    """The number of pictures and their folders."""
    where = Counter(picture.folder for picture in pictures)
    some_ = ", ".join(name for name, _ in where.most_common(3)) + (", ..." if len(where) > 3 else "")
    return f"{counted(len(pictures), 'picture')} in {some_}"


def _without_masks(pictures: Sequence[Picture]) -> tuple[list[Picture], list[Picture]]:
    """The photographs, and the pictures that look like masks, folder by folder."""
    folders = dict[tuple[tuple[str, ...], str], list[Picture]]()
    for picture in pictures:
        folders.setdefault((picture.folders, picture.suffix), []).append(picture)
    bare, lonely = list[Picture](), list[Picture]()
    for members in folders.values():
        seen = [one.flatness for one in (look(member.path) for member in some(members, LOOKS)) if one]
        (lonely if seen and median(seen) >= MASKLIKE else bare).extend(members)
    return sorted(bare), sorted(lonely)


# --- classes


def _classes(
    root: Path, others: Sequence[Path], content: Survey, questions: Questions, *, numbered: bool = False
) -> tuple[dict[str, object], list[Row]]:
    """The settings of the classes and their values, and rows about them.

    `numbered`: the values seem to number objects.
    """
    ways = _ways(content, numbered=numbered)
    coding = ways[0][1]
    if content.jpeg:
        asked = "The masks are JPEGs, whose compression mixes values; masks saved as PNG are better."
        if not questions.confirm(asked, ways[0][0], "stop, to save them as PNG from their source"):
            raise DataError("the masks are JPEGs; save them as PNG from their source")
    if len(ways) > 1:
        asked = f"What do the masks' {content.form} mean?"
        if numbered:
            asked += " Nearly every one marks a single region."
        coding = ways[questions.choose(asked, [text for text, _ in ways])][1]
    if coding is None:
        raise DataError(f"the masks have {content.form}, which are more than {MAX_CLASSES} classes")
    coding, names, source = _names(root, others, content, coding, questions)
    ordered = classes.unique([names[value] for value in coding.values])
    rows = [("masks", f"{content.form}; {_read(content)}")]
    rows += [
        ("class", f"{name}: {_meaning(value, content, coding)}")
        for value, name in zip(coding.values, ordered, strict=True)
    ]
    rows += [("ignored", _meaning(value, content, coding)) for value in coding.ignore]
    rows.append(("names", source))
    return {"classes": ordered, **coding.settings()}, rows


def _ways(content: Survey, *, numbered: bool) -> list[tuple[str, Coding | None]]:
    """The ways in which masks can be read, the most likely first; None stands for none of them.

    `numbered`: the values seem to number objects. Raises DataError if no way is left.
    """
    if not numbered:
        return [*codings(content)]
    top = max(content.counts)
    united = ("they number objects: all objects are one class", Coding([0, top], [], threshold=1))
    if len(content.counts) > MAX_CLASSES:
        return [united, ("something else: stop", None)]
    objects = vary(content) or len(content.counts) > MANY
    return [united, *codings(content)] if objects else [*codings(content), united]


def _read(content: Survey) -> str:
    unread = f", {content.unread:,} cannot be read" if content.unread else ""
    return f"{content.read:,} of {content.of:,} read{unread}"


def _meaning(value: int, content: Survey, coding: Coding) -> str:
    if coding.threshold:
        side = (lambda one: one >= coding.threshold) if value else (lambda one: one < coding.threshold)
        share = sum(count for one, count in content.counts.items() if side(one)) / content.counts.total()
        limit = f"from {coding.threshold}" if value else f"below {coding.threshold}"
        return f"values {limit}, {share:.2%} of the pixels"
    return f"{shown_value(value, coding)}, {share_of(value, content, coding):.2%} of the pixels"


def _names(
    root: Path, others: Sequence[Path], content: Survey, coding: Coding, questions: Questions
) -> tuple[Coding, dict[int, str], str]:
    """The names of the classes, with the coding changed by them, and their source in words."""
    found = classes.names_in(classes.tables(others), content, coding)
    if not found:
        return *_asked(content, coding, questions), questions.source_of_names
    shown = [f"{names.file.relative_to(root)}: {', '.join(names.of.values())}" for names in found]
    names = found[questions.choose("Which file names the classes?", shown)]
    if names.by_row:
        asked = f"{names.file.name} names colours, but the masks contain numbers."
        rows = f"its rows in order: {', '.join(f'{value} {name}' for value, name in names.of.items())}"
        if not questions.confirm(asked, rows, "it does not name these classes"):
            return *_asked(content, coding, questions), questions.source_of_names
    of = dict(names.of)
    for value in names.nameless:
        asked = (
            f"{names.file.name} has no name for the value {value}, {content.share(value):.1%} of the pixels."
        )
        if questions.confirm(asked, "ignore these pixels", f"a class of its own, {classes.BACKGROUND}"):
            coding = coding.without([value])
        else:
            of[value] = classes.BACKGROUND
    values = sorted({*coding.values, *of}) if not coding.by_colour else coding.values
    coding = Coding(
        list(values), [one for one in coding.ignore if one not in of], coding.by_colour, coding.threshold
    )
    if any(one not in of for one in coding.values):
        coding = coding.without([one for one in coding.values if one not in of])
    void = [value for value in coding.values if classes.is_void(of[value])]
    if void and len(coding.values) - len(void) >= 2:
        listed = ", ".join(f"{of[value]} ({content.share(value):.1%} of the pixels)" for value in void)
        if questions.confirm(
            f"{listed}: pixels without a class?", "ignore these pixels", "classes like all others"
        ):
            coding = coding.without(void)
    return coding, of, f"from {names.file.relative_to(root)}"


def _asked(content: Survey, coding: Coding, questions: Questions) -> tuple[Coding, dict[int, str]]:
    """Names from the terminal, or numbers."""
    names = classes.numbered(coding, content)
    shown = [f"  {_meaning(value, content, coding)}" for value in coding.values]
    given = questions.names(
        "Names of the classes with these values?", shown, [names[v] for v in coding.values]
    )
    named = dict(zip(coding.values, given, strict=True))
    return coding.without([value for value, name in named.items() if name == IGNORED]), named


# --- splits


def _layout(
    others: Sequence[Path], mask_of: dict[Picture, Picture], bare: list[Picture], questions: Questions
) -> Layout:
    """The division of images into splits, as folders or list files name it."""
    images = sorted(mask_of)
    by_folder = _useful(splits.by_folder(images))
    found = splits.lists(others, [*images, *bare], {mask: image for image, mask in mask_of.items()})
    ways: list[tuple[str, dict[Picture, str], list[Picture]]] = []
    if by_folder:
        ways.append(("by the names of folders", by_folder, []))
    for entry in found:
        listed = {
            image: split for split, members in entry.images.items() for image in members if image in mask_of
        }
        if not listed:
            continue
        missing = [image for image in images if image not in listed]
        assigned = _useful(listed | ({} if "train" in listed.values() else dict.fromkeys(missing, "train")))
        files = ", ".join(sorted(path.name for path in entry.files.values()))
        if assigned and all(assigned != other for _, other, _ in ways):
            unlisted = [image for image in images if image not in assigned]
            ways.append((f"by the lists {files} in {entry.folder.name}/", assigned, unlisted))
    if not ways:
        return Layout(mask_of, {}, _asked_about(bare, questions))
    _, split_of, unlisted = ways[questions.choose("Which splits?", [_described(*way) for way in ways])]
    if unlisted and questions.confirm(
        f"{len(unlisted)} images with masks are in no list.", "leave them out", "train on them"
    ):
        mask_of = {image: mask for image, mask in mask_of.items() if image in split_of}
    elif unlisted:
        split_of = split_of | dict.fromkeys(unlisted, "train")
    return Layout(mask_of, split_of, _asked_about(bare, questions))


def _useful(split_of: dict[Picture, str]) -> dict[Picture, str]:
    """The splits, if there are two or more and one trains. Images without a split train."""
    named = {image: split or "train" for image, split in split_of.items()}
    return named if "train" in named.values() and len(set(named.values())) > 1 else {}


def _described(text: str, split_of: dict[Picture, str], unlisted: list[Picture]) -> str:
    counted = ", ".join(f"{count} {split}" for split, count in sorted(Counter(split_of.values()).items()))
    return f"{text}: {counted}" + (f", {len(unlisted)} in none" if unlisted else "")


def _asked_about(bare: list[Picture], questions: Questions) -> list[Picture]:
    """The images without masks. A question decides whether images of a val or test folder are among them."""
    held = [picture for picture, split in splits.by_folder(bare).items() if split in ("val", "test")]
    if not held:
        return bare
    asked = f"{_places(held)} have no masks."
    if questions.confirm(asked, "use them as unlabelled images", "leave them out"):
        return bare
    return [picture for picture in bare if picture not in set(held)]
