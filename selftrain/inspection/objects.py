"""Folders of images with one mask file for each object: CASE/images/NAME.png, CASE/masks/*.png."""

from collections import defaultdict
from dataclasses import dataclass

from selftrain.inspection.pictures import Folder, Picture, look, some

PROBED = 8  # masks that are opened
MASKLIKE = 0.9  # least flatness of a mask


@dataclass(frozen=True)
class Objects:
    """The names of the two folders of each case, and the masks of each image."""

    images: str
    masks: str
    masks_of: dict[Picture, list[Picture]]

    @property
    def count(self) -> int:
        """The number of mask files."""
        return sum(map(len, self.masks_of.values()))


def objects(folder: Folder) -> Objects | None:
    """The layout of the folder, if it has a case for each image, and several masks in some of them."""
    cases: dict[tuple[str, ...], dict[str, list[Picture]]] = defaultdict(lambda: defaultdict(list))
    for picture in folder.pictures:
        if len(picture.folders) > 1:
            cases[picture.folders[:-1]][picture.folders[-1]].append(picture)
    names = sorted({name for case in cases.values() for name in case})
    found = [
        one
        for images in names
        for masks in names
        if images != masks and (one := _objects(images, masks, cases)) is not None
    ]
    return max(found, key=lambda one: one.count, default=None)


def _objects(
    images: str, masks: str, cases: dict[tuple[str, ...], dict[str, list[Picture]]]
) -> Objects | None:
    both = [case for case in cases.values() if case.get(images) and case.get(masks)]
    alone = all(len(case[images]) == 1 for case in both)
    if len(both) < 2 or not alone or not any(len(case[masks]) > 1 for case in both):
        return None
    found = Objects(images, masks, {case[images][0]: case[masks] for case in both})
    seen = [look(one.path) for one in some([one for case in both for one in case[masks]], PROBED)]
    return found if all(one is not None and one.flatness > MASKLIKE for one in seen) else None
