"""The choice between several masks of one image, and between several images of one mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from selftrain.data.images import read_stored
from selftrain.errors import DataError
from selftrain.inspection.coding import Survey, survey
from selftrain.inspection.names import WORD
from selftrain.inspection.pairing import Pairs, Rule, weight
from selftrain.inspection.pictures import Picture, look, some

SIDE = 24  # pixels to which two pictures are reduced to compare them
SIMILAR = 0.4  # correlation of pictures that show the same
TRIED = 24  # masks that are read to compare choices
OBJECTS = {
    "instance",
    "instances",
    "inst",
    "object",
    "objects",
    "instanceids",
}  # numbers of objects, not classes
CLASHING = 0.1  # share of the smaller rule's images or masks that two rules have in common


@dataclass(frozen=True)
class Choice:
    """Masks for images, by one or more rules that do not contradict each other."""

    rules: list[Rule]
    survey: Survey | None  # None if the masks cannot be read

    @property
    def mask_of(self) -> dict[Picture, Picture]:
        """The mask of each image; the first rule that has one decides."""
        return {image: mask for rule in reversed(self.rules) for image, mask in rule.mask_of.items()}

    def __str__(self) -> str:
        image, mask = next(iter(self.rules[0].mask_of.items()))
        form = self.survey.form if self.survey else "unreadable"
        frame = ", nearly the same in all images" if self.survey and self.survey.same else ""
        return f"{mask.relative} for {image.relative}, and {len(self.mask_of) - 1} more ({form}{frame})"


def choices(found: Pairs) -> list[Choice]:
    """The sets of rules that do not contradict each other, the most likely set first."""
    rules = found.rules or found.forms
    sets = list[list[Rule]]()
    for lead in rules:
        together = [lead]
        for rule in rules:
            if rule is not lead and not any(_clash(rule, other) for other in together):
                together.append(rule)
        if not any(set(map(id, together)) <= set(map(id, other)) for other in sets):
            sets.append(together)
    return sorted((Choice(rules, _tried(rules)) for rules in sets), key=_rank)


def _clash(one: Rule, other: Rule) -> bool:
    """Whether two rules give different masks to images, or different images to masks."""
    fewer = CLASHING * min(len(one.mask_of), len(other.mask_of))
    images = len(one.mask_of.keys() & other.mask_of.keys())
    masks = len(one.masks & other.masks)
    crossed = len(one.masks & other.mask_of.keys()) + len(one.mask_of.keys() & other.masks)
    return max(images, masks, crossed) > fewer


def _tried(rules: Sequence[Rule]) -> Survey | None:
    try:
        return survey([mask for rule in rules for mask in sorted(rule.masks)], TRIED)
    except DataError:
        return None


def _rank(choice: Choice) -> tuple[object, ...]:
    """Classes before objects and frames, then many images before few, then values before colours."""
    found = choice.survey
    if found is None:
        return (1,)
    words = {word.lower() for mask in choice.rules[0].masks for part in (*mask.folders, mask.stem)
             for word in (*WORD.findall(part), *part.split("_"))}  # fmt: skip
    objects = bool({word.lower() for word in words} & OBJECTS) or (len(found.counts) > 255 and not found.soft)
    return (0, found.same, objects, -len(choice.mask_of), found.by_colour, len(found.counts),
            weight(choice.rules[0].change), str(choice))  # fmt: skip


def forms_of_masks(found: Pairs, labelled: set[Picture]) -> set[Picture]:
    """Masks of all rules, also of rules that were not chosen, and the same masks in other colours."""
    gone = {mask for rule in found.rules for mask in rule.masks}
    for rule in found.forms:
        if sum(image in gone for image in rule.mask_of) * 2 > len(rule.mask_of):
            gone |= rule.masks
    return gone - labelled


def views_of_images(found: Pairs, labelled: set[Picture]) -> list[dict[Picture, Picture]]:
    """Pictures with the names of labelled images, by rule, each with its image: depth, or other images."""
    views, seen = list[dict[Picture, Picture]](), set[Picture]()
    for rule in found.views:
        of = {one: image for image, one in rule.mask_of.items() if one not in labelled | seen}
        if sum(image in labelled for image in of.values()) * 2 > len(of):
            views.append(of)
            seen |= of.keys()
    return views


def show_the_same(views: dict[Picture, Picture]) -> bool:
    """Whether pictures show their images in another way.

    They do if one is grey or deep and the other is not, as depth and colours, or if their brightness is
    similar (or inverse) at the same places.
    """
    seen = [(look(one.path), look(image.path)) for one, image in some(sorted(views.items()), TRIED)]
    if any(one and image and one.pixels != image.pixels for one, image in seen):
        return True
    alike = [
        abs(found)
        for pair in some(sorted(views.items()), TRIED)
        if (found := _correlation(*pair)) is not None
    ]
    return bool(alike) and median(alike) >= SIMILAR


def _correlation(one: Picture, other: Picture) -> float | None:
    """The correlation of the brightness of two pictures at SIDE x SIDE; None if one cannot be read."""
    try:
        small = [
            cv2.resize(
                read_stored(picture.path).mean(axis=2, dtype=np.float32),
                (SIDE, SIDE),
                interpolation=cv2.INTER_AREA,
            )
            for picture in (one, other)
        ]
    except DataError:
        return None
    deviations = [pixels - pixels.mean() for pixels in small]
    spread = float(np.linalg.norm(deviations[0]) * np.linalg.norm(deviations[1]))
    return float((deviations[0] * deviations[1]).sum()) / spread if spread else 0.0
