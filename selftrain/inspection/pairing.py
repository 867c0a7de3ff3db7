"""Which pictures are masks of which: rules found by aligning names, confirmed by a look at a few pairs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from selftrain.inspection.names import Change, Key, change, changed, keys
from selftrain.inspection.pictures import Picture, look, some

ASKED = 3000  # most pictures whose names are compared with all others
CROWD = 64  # a key that more pictures have identifies nothing
LOOKS = 4  # pairs of a rule that are opened
KINDS = 60  # most rules that are tried
RARE = 0.05  # share of the most frequent change, below which a change is tried only for unexplained pictures
FLAT = 0.6  # least flatness of masks
FLATTER = 0.03  # masks are flatter than their images by this much
NO_PHOTO = 0.9  # two pictures that are flatter are two forms of one mask


@dataclass(frozen=True)
class Rule:
    """Masks of images: `change` leads from a mask's path to its image's path, apart from names of splits."""

    change: Change
    mask_of: dict[Picture, Picture]  # by image

    @property
    def masks(self) -> set[Picture]:
        return set(self.mask_of.values())


@dataclass(frozen=True)
class Pairs:
    """What names and a look tell about pictures."""

    rules: list[Rule]  # masks of images, the most frequent rule first
    forms: list[Rule]  # two flat pictures of one thing, in both directions: a mask in two forms, perhaps
    views: list[Rule]  # two photographs of one thing, in both directions: colours and depth, perhaps


def pairs(pictures: Sequence[Picture]) -> Pairs:
    """The rules by which pictures belong together, each with the result of a look at a few pairs."""
    kinds = _kinds(pictures)
    most = _frequent(kinds)
    by_name = _by_name(pictures)
    found: dict[str, list[Rule]] = {"mask": [], "form": [], "view": []}
    closed, unexplained = set[Change](), set(pictures)
    for kind in most:
        rare = sum(kinds[kind].values()) < RARE * sum(kinds[most[0]].values())
        if kind in closed or (rare and not unexplained):
            continue
        links = _links(pictures, by_name, kinds[kind])
        verdict = _verdict(links)
        if not verdict or (verdict != "mask" and not _is_whole(kind, links)):
            continue
        closed.add(_inverse(kind))
        found[verdict].append(Rule(kind, _one_each(links)))
        if verdict == "mask":
            unexplained.difference_update(one for pair in links for one in pair)
        else:
            found[verdict].append(Rule(_inverse(kind), _one_each([pair[::-1] for pair in links])))
    return Pairs(_sound(found["mask"]), found["form"], found["view"])


def _frequent(kinds: dict[Change, Counter[Change]]) -> list[Change]:
    """The kinds of changes that occur most often. A change that occurs once is a coincidence."""
    often = {kind: sum(changes.values()) for kind, changes in kinds.items()}
    least = min(2, max(often.values(), default=0))
    common = [kind for kind, count in often.items() if count >= least]
    return sorted(common, key=lambda kind: (-often[kind], weight(kind), kind))[:KINDS]


def _kinds(pictures: Sequence[Picture]) -> dict[Change, Counter[Change]]:
    """How often each change occurs between pictures whose names have something in common, by kind."""
    asked = some(pictures, ASKED)
    wanted = {key for picture in asked for key in keys(picture)}
    having = defaultdict[Key, list[Picture]](list)
    for picture in pictures:
        for key in {*keys(picture)} & wanted:
            having[key].append(picture)
    kinds = defaultdict[Change, Counter[Change]](Counter)
    for picture in asked:
        near = {one for key in keys(picture) if len(having[key]) <= CROWD for one in having[key]}
        for change_ in {change(picture, other) for other in near if other != picture}:
            if not change_.crosses_splits:  # a mask of train is no mask of a test image of the same name
                kinds[change_.kind][change_] += 1
    return kinds


def _by_name(pictures: Iterable[Picture]) -> dict[tuple[tuple[str, ...], str], list[Picture]]:
    named = defaultdict[tuple[tuple[str, ...], str], list[Picture]](list)
    for picture in pictures:
        named[picture.folders, picture.stem].append(picture)
    return named


def _links(
    pictures: Sequence[Picture],
    by_name: dict[tuple[tuple[str, ...], str], list[Picture]],
    changes: Counter[Change],
) -> list[tuple[Picture, Picture]]:
    """All pairs of pictures that differ by one of the changes, which are of one kind.

    A picture has one partner: the one by the most frequent change.
    """
    partner = dict[Picture, Picture]()
    for change_ in sorted(changes, key=lambda one: (-changes[one], one)):
        for picture in pictures:
            if picture in partner or (any(change_.suffixes) and picture.suffix != change_.suffixes[0]):
                continue
            found = [one for where in changed(picture, change_) for one in by_name.get(where, ())]
            found = [one for one in found if change(picture, one) == change_]
            if found:
                partner[picture] = found[0]
    return sorted(partner.items())


def _verdict(links: Sequence[tuple[Picture, Picture]]) -> str:
    """What the first pictures of pairs are to the second ones.

    "mask": their masks; "form": both are masks, of the same pixels; "view": both are photographs;
    "": unknown, or the inverse of a mask.
    """
    looks = [(look(one.path), look(other.path)) for one, other in some(links, LOOKS)]
    seen = [(one, other) for one, other in looks if one and other]
    if not seen:
        return ""
    if any(one.size != other.size for one, other in seen) and len(seen) > 1:
        equal = sum(one.size == other.size for one, other in seen)
        if equal * 2 < len(seen):
            return ""
    first = median(one.flatness for one, _ in seen)
    second = median(other.flatness for _, other in seen)
    few = all(one.few == other.few == 1 for one, other in seen)
    if few or min(first, second) >= NO_PHOTO:
        return "form"
    if first >= FLAT and first - second >= FLATTER:
        return "mask"
    return "view" if max(first, second) < FLAT else ""


def _is_whole(kind: Change, links: Sequence[tuple[Picture, Picture]]) -> bool:
    """Whether a change tells two kinds of pictures apart, rather than two pictures of one kind.

    Frames of a video differ by a number (frame_1, frame_2); the depth and the colours of a frame by words or
    folders.
    """
    words = (*kind.folders, *kind.name)
    return not any(text.isdigit() for side in words for text in side) and len(links) > 2


def _inverse(kind: Change) -> Change:
    return Change(kind.folders[::-1], kind.name[::-1], kind.suffixes[::-1])


def _one_each(links: Sequence[tuple[Picture, Picture]]) -> dict[Picture, Picture]:
    """The mask of each image; of two masks, the one that is not a JPEG."""
    mask_of = dict[Picture, Picture]()
    for mask, image in sorted(links, key=lambda pair: (pair[0].is_jpeg, pair[0])):
        mask_of.setdefault(image, mask)
    return mask_of


def _sound(rules: Sequence[Rule]) -> list[Rule]:
    """The rules without coincidences: a picture that a more frequent rule calls a mask has no mask itself.

    A rule that explains a few pictures only, all of which other rules explain better, is left out.
    """
    ordered = sorted(rules, key=lambda rule: (-len(rule.mask_of), weight(rule.change)))
    masks, images, kept = set[Picture](), set[Picture](), list[Rule]()
    for rule in ordered:
        pairs_ = rule.mask_of.items()
        mask_of = {image: mask for image, mask in pairs_ if image not in masks and mask not in images}
        again = sum(image in images and mask in masks for image, mask in mask_of.items())
        if not mask_of or again * 2 > len(mask_of):
            continue
        kept.append(replace(rule, mask_of=mask_of))
        images |= set(mask_of)
        masks |= set(mask_of.values())
    return kept


def weight(change_: Change) -> int:
    """How much two paths differ."""
    return sum(len(side) for sides in (change_.folders, change_.name) for side in sides)
