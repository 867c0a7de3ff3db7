"""Test-time augmentation: softmax probabilities averaged over the views of ttach. The table is VIEWS.

An entry returns the views and their weights. Its settings are keywords with a default.

Works around four traps of ttach 0.0.3. Its `Scale` interpolates to the nearest pixel, always adds the scale
1, and returns a map that is a pixel too small (`int(int(h * s) / s)`). Turns with both flips give every view
twice.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
import ttach
from torch import Tensor, nn

from selftrain.anatomy import Anatomy
from selftrain.errors import ConfigError
from selftrain.inference.windows import Window, whole
from selftrain.models.outputs import gated
from selftrain.tables import Bounds, Table, bound

Scales = Annotated[list[float], Bounds(above=0), "sizes, as multiples of the image size"]
Weights = Annotated[list[float], Bounds(0), "weight of each view, in the order of the views; []: all alike"]


class Zoom(ttach.Scale):
    """Exactly the given scales, with bilinear interpolation and rounded sizes.

    The views of one scale share the resized image. `predict` resizes the maps back: it has the size of the
    images, and it resizes the maps of one scale together.
    """

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__(list(scales), interpolation="bilinear", align_corners=False)
        self.params = list(scales)
        self._last: tuple[Tensor, float, Tensor] | None = None  # image, scale, resized image

    def apply_aug_image(self, image: Tensor, scale: float = 1.0, **_: Any) -> Tensor:
        if self._last is None or self._last[0] is not image or self._last[1] != scale:
            height, width = (max(1, round(side * scale)) for side in image.shape[2:])
            self._last = image, scale, resize_maps(image, (height, width))
        return self._last[2]

    def apply_deaug_mask(self, mask: Tensor, scale: float = 1.0, **_: Any) -> Tensor:
        return mask


def views(*, hflip: bool, vflip: bool, rotate90: bool, scales: Sequence[float]) -> ttach.Compose:
    """The product of scales, four turns and flips, without duplicates. Raises ConfigError for bad scales."""
    if not scales or min(scales) <= 0 or len(set(scales)) < len(scales):
        raise ConfigError(
            f"tta scales must be positive and all different, not {list(scales)}; [1.0] changes no size"
        )
    transforms: list[Any] = [Zoom(scales)]
    if rotate90:
        transforms.append(ttach.Rotate90([0, 90, 180, 270]))
    if hflip:
        transforms.append(ttach.HorizontalFlip())
    # Turns and one flip give all eight symmetries; the other flip would repeat each of them.
    if vflip and not (rotate90 and hflip):
        transforms.append(ttach.VerticalFlip())
    return ttach.Compose(transforms)


class Views(NamedTuple):
    """Views of an image, and the weight of each; without weights all views count alike."""

    transforms: ttach.Compose
    weights: tuple[float, ...] = ()


def plain(*, weights: Weights = []) -> Views:  # noqa: B006  (never changed)
    """The image as it is."""
    return Views(ttach.Compose([]), tuple(weights))


def product(
    *,
    hflip: Annotated[bool, "mirrored left to right"] = False,
    vflip: Annotated[bool, "mirrored top to bottom"] = False,
    rotate90: Annotated[bool, "rotated by 90, 180 and 270 degrees"] = False,
    scales: Scales = [1.0],  # noqa: B006  (never changed)
    weights: Weights = [],  # noqa: B006  (never changed)
) -> Views:
    """Each scale with each turn and each flip; the scale changes last, the flips first."""
    return Views(views(hflip=hflip, vflip=vflip, rotate90=rotate90, scales=scales), tuple(weights))


def d4(*, weights: Weights = []) -> Views:  # noqa: B006  (never changed)
    """The eight symmetries of the square, as in ttach's alias `d4_transform`."""
    return Views(views(hflip=True, vflip=False, rotate90=True, scales=[1.0]), tuple(weights))


def twelve(
    *,
    scales: Scales = [0.75, 1.0, 1.25],  # noqa: B006  (never changed)
    weights: Weights = [],  # noqa: B006  (never changed)
) -> Views:
    """Two flips at three scales, 2 x 2 x 3 views.

    They are the flips, half turns and scales of the example of ttach: a flip and a half turn make the other
    flip.
    """
    return Views(views(hflip=True, vflip=True, rotate90=False, scales=scales), tuple(weights))


VIEWS: dict[str, Callable[..., Views]] = {"plain": plain, "product": product, "d4": d4, "twelve": twelve}


def of(setting: str | Mapping[str, Mapping[str, Any]], name: str = "views") -> Views:
    """The views for a setting: the name of an entry of VIEWS, or `{name: {parameter: value}}`.

    `name` is the name of the setting for messages. Raises ConfigError for unknown names and values, and for
    weights that are not one per view or all 0.
    """
    chosen = Table(VIEWS).one(setting, name)
    found: Views = bound(chosen)()
    if found.weights and (len(found.weights) != len(found.transforms) or not sum(found.weights)):
        raise ConfigError(
            f"{name}.{chosen.name}.weights={list(found.weights)} must have a number for each of "
            f"{len(found.transforms)} views, not all 0"
        )
    return found


def sizes_of(transforms: ttach.Compose, size: tuple[int, int]) -> list[tuple[int, int]]:
    """The size of each view of an image of `size` (height, width)."""
    images = torch.empty(1, 1, *size, device="meta")
    shapes = [view.augment_image(images).shape for view in transforms]
    return [(shape[2], shape[3]) for shape in shapes]


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: Tensor,
    *,
    transforms: ttach.Compose | None = None,
    weights: Sequence[float] = (),
    window: Window = whole,
    multiple: int = Anatomy.multiple,
    batch: int = 1,
    gate: float = 0.0,
    sureness: list[Tensor] | None = None,
) -> Tensor:
    """Class probabilities (N, K, H, W) float32 of images (N, C, H, W): the mean over the views.

    Without `transforms`, there is one view: the plain image. `weights` has a number for each view; without
    them all views count alike. A view of weight 0 is left out. `model` must be in eval mode; autocast is left
    to the caller. `window`, an entry of WINDOWS with its settings, pads each view to `multiple` and computes
    its probabilities. With `gate`, classes that an image-level head finds less probable than this in what the
    network sees at once have probability 0. Views of one size, and windows, share a forward pass of up to
    `batch` images. `sureness` gets the mean confidence (N,) of the single views, averaged like the views.

    Raises ConfigError for transforms that do not suit segmentation.
    """
    assert not model.training, "batch statistics would let an image change the result of its neighbours"
    transforms = _suited(transforms or ttach.Compose([]))
    size = (images.shape[2], images.shape[3])
    sums: dict[tuple[int, int], Tensor] = {}  # by the size of the maps: one resize for each size
    sure = list[Tensor]()
    given = zip(transforms, weights or [1.0] * len(transforms), strict=True)
    weighed = [(transformer, weight) for transformer, weight in given if weight]
    for group in _groups(weighed, images, most=max(1, batch // len(images))):
        seen = torch.cat([view for _, view in group])
        found = window(lambda padded: gated(model(padded), gate), seen, multiple, batch).split(len(images))
        for ((transformer, weight), _), probs in zip(group, found, strict=True):
            probs = transformer.deaugment_mask(probs)  # (N, C, h, w)
            if sureness is not None:
                sure.append(weight * probs.amax(dim=1).flatten(1).mean(dim=1))
            if weights:
                probs = probs * weight
            key = (probs.shape[2], probs.shape[3])
            sums[key] = sums[key].add_(probs) if key in sums else probs
    total = sum(weights) if weights else len(transforms)
    if sureness is not None:
        sureness.append(torch.stack(sure).sum(dim=0) / total)
    return reduce(torch.add, [resize_maps(part, size) for part in sums.values()]) / total


def _suited(transforms: ttach.Compose) -> ttach.Compose:
    for transform in transforms.aug_transforms:
        name = type(transform).__name__
        if isinstance(transform, ttach.FiveCrops):
            raise ConfigError("tta: FiveCrops has no way back to a whole map; use a window instead")
        if isinstance(transform, ttach.Resize) and transform.original_size is None:
            raise ConfigError("tta: Resize needs original_size to find the way back; use scales instead")
        if getattr(transform, "interpolation", "bilinear") == "nearest":
            raise ConfigError(f"tta: {name} takes the nearest pixel; say interpolation='bilinear'")
    return transforms


def _groups(
    weighed: Iterable[tuple[Any, float]], images: Tensor, *, most: int
) -> Iterator[list[tuple[tuple[Any, float], Tensor]]]:
    """Groups of up to `most` neighbouring views of one size.

    Each view has the transformer that undoes it, and its weight.
    """
    group: list[tuple[tuple[Any, float], Tensor]] = []
    for transformer, weight in weighed:
        view = transformer.augment_image(images)
        if group and (len(group) == most or group[0][1].shape != view.shape):
            yield group
            group = []
        group.append(((transformer, weight), view))
    yield group


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (N, K, h, w) at another size (height, width), by bilinear interpolation."""
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
