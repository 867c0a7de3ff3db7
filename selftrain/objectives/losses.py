"""Losses, each as a sum and the count that the global batch divides it by.

A batch may be spread over ranks and micro-batches. The sums of its parts add up; the means of unequal parts
do not. So a loss has two functions: `count` returns how much of a target counts, without a forward pass, and
`total` returns the sum over it. A new loss is one `total`, one line in LOSSES and one test. Recipes name it
with its weight:

    loss: {labelled: {ce: {weight: 1.0, smoothing: 0.1}, dice: 0.5}}
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from selftrain.ids import IGNORE
from selftrain.tables import Bounds, Share, Table
from selftrain.targets import Target

TINY = 1e-6  # keeps powers of numbers near 0 differentiable
LEAST = 1e-4  # below the store's resolution of 1/255; keeps log(p) finite if a class was stored as 0


class HardLabelsError(Exception):
    """A loss of soft labels got hard ones."""


@dataclass(frozen=True)
class Loss:
    """A loss: `total(logits, target, *, class_weights, settings)`, summed over what `count(target)` counts.

    logits are (N, C, h, w) float32. Both functions return a number, or (C,) numbers with `per_class`: then
    the means are averaged over the classes that count. `class_weights` (C,) come from the labelled pixels, or
    are None. A total that does not use them need not have the parameter.

    The target of a loss in IMAGE_LOSSES is (N, C) numbers: 1 for classes that an image contains, 0 for others
    and NaN where that is not known. Its logits are (N, C).
    """

    total: Callable[..., Tensor]
    count: Callable[[Any], Tensor]
    per_class: bool = False


def weights_of(target: Target[Tensor]) -> Tensor:
    """The weight of each pixel, (N, h, w) float32; 0 for ignored pixels."""
    known = target.hard != IGNORE
    return known.float() if target.weight is None else target.weight * known


def pixels(target: Target[Tensor]) -> Tensor:
    """The total weight of all pixels that count."""
    return (target.hard != IGNORE).sum().float() if target.weight is None else weights_of(target).sum()


def images(target: Target[Tensor]) -> Tensor:
    """The number of images with at least one pixel that counts."""
    return (weights_of(target).flatten(1).amax(dim=1) > 0).sum().float()


def one_hot(target: Target[Tensor], classes: int) -> Tensor:
    """The soft labels, or the hard ones as 0 and 1, (N, C, h, w)."""
    if target.soft is not None:
        return target.soft
    known = torch.where(target.hard == IGNORE, 0, target.hard.long())
    return F.one_hot(known, classes).permute(0, 3, 1, 2).float()


def cross_entropy(
    logits: Tensor, target: Target[Tensor], *, class_weights: Tensor | None, smoothing: Share = 0.0
) -> Tensor:
    """Per-pixel -log p of the hard label, with label smoothing (Szegedy et al. 2016).

    As in torch, class weights also weigh the smoothing term, so smoothing favours rare classes and lowers the
    confidence of frequent ones. With few masks this scores higher on val than equal smoothing
    (docs/lab-notes.md, 2026-11-29).
    """
    hard = target.hard.long()
    if target.weight is None:
        return F.cross_entropy(
            logits, hard, class_weights, ignore_index=IGNORE, label_smoothing=smoothing, reduction="sum"
        )
    each = F.cross_entropy(
        logits, hard, class_weights, ignore_index=IGNORE, label_smoothing=smoothing, reduction="none"
    )
    return (each * weights_of(target)).sum()


def kl(
    logits: Tensor,
    target: Target[Tensor],
    *,
    temperature: Annotated[
        float, Bounds(0.01), "softens teacher and student; the loss is scaled by its square"
    ] = 1.0,
) -> Tensor:
    """Per-pixel KL(teacher || student), both softened by T (Hinton, Vinyals, Dean 2015, section 2).

    The teacher's logits are not stored. log(soft) replaces them: it has the same softmax.
    """
    soft = _soft(target)
    log_teacher, teacher = soft.clamp_min(LEAST).log(), soft
    if temperature != 1:
        log_teacher = (log_teacher / temperature).log_softmax(dim=1)
        teacher, logits = log_teacher.exp(), logits / temperature
    divergence = (teacher * (log_teacher - F.log_softmax(logits, dim=1))).sum(dim=1)  # (N, h, w)
    return temperature**2 * (divergence * weights_of(target)).sum()


def squared_error(logits: Tensor, target: Target[Tensor]) -> Tensor:
    """Per-pixel squared difference of the probabilities, averaged over classes (Tarvainen & Valpola 2017)."""
    difference = (logits.softmax(dim=1) - _soft(target)).square().mean(dim=1)  # (N, h, w)
    return (difference * weights_of(target)).sum()


def dice(
    logits: Tensor,
    target: Target[Tensor],
    *,
    smooth: Annotated[float, Bounds(0), "pixels added to both sides of the fraction"] = 1.0,
) -> Tensor:
    """1 - Dice per image, averaged over the classes in its labels (Milletari et al. 2016)."""
    weight = weights_of(target)[:, None]  # (N, 1, h, w)
    probs = logits.softmax(dim=1) * weight
    truth = one_hot(target, logits.shape[1]) * weight
    overlap, sizes = (probs * truth).sum(dim=(2, 3)), (probs + truth).sum(dim=(2, 3))  # (N, C)
    present = truth.sum(dim=(2, 3)) > 0
    sizes = (sizes + smooth).clamp_min(1e-12)  # not 0/0 in an image without a label if `smooth` is 0
    return _over_classes(1 - (2 * overlap + smooth) / sizes, present)


def ohem(
    logits: Tensor,
    target: Target[Tensor],
    *,
    class_weights: Tensor | None,
    keep: Annotated[
        float, Bounds(0.01, 1), "share of each image's pixels, the hardest ones, that is learnt from"
    ] = 0.25,
) -> Tensor:
    """Mean cross-entropy of each image's hardest pixels (OHEM, Shrivastava et al. 2016).

    OHEM is online hard example mining.
    """
    each = F.cross_entropy(logits, target.hard.long(), class_weights, ignore_index=IGNORE, reduction="none")
    each, weight = (each * weights_of(target)).flatten(1), weights_of(target).flatten(1)  # (N, P)
    most = (keep * (weight > 0).sum(dim=1)).ceil().long()  # (N,)
    hardest = each.sort(dim=1, descending=True).values.cumsum(dim=1)
    sums = hardest.gather(1, (most - 1).clamp_min(0)[:, None])[:, 0]
    return (sums / most.clamp_min(1)).sum()


def focal(
    logits: Tensor,
    target: Target[Tensor],
    *,
    class_weights: Tensor | None,
    gamma: Annotated[float, Bounds(0), "focus on hard pixels; 0: cross-entropy"] = 2.0,
) -> Tensor:
    """Cross-entropy times (1 - p)^gamma per pixel (Lin et al. 2017).

    With soft labels, each class's term is weighted by the class's probability.
    """
    log_probs = F.log_softmax(logits, dim=1)
    hardness = (-log_probs.expm1()).clamp_min(TINY) ** gamma  # (1 - p)^gamma, (N, C, h, w)
    terms = -hardness * log_probs * one_hot(target, logits.shape[1])
    if class_weights is not None:
        terms = terms * class_weights[:, None, None]
    return (terms.sum(dim=1) * weights_of(target)).sum()


def tversky(
    logits: Tensor,
    target: Target[Tensor],
    *,
    alpha: Annotated[float, Bounds(0), "weight of false positives"] = 0.3,
    beta: Annotated[float, Bounds(0), "weight of false negatives; above `alpha`: fewer misses"] = 0.7,
    exponent: Annotated[
        float, Bounds(above=0), "of the loss; below 1: focal Tversky, 0.75 in Abraham & Khan 2019"
    ] = 1.0,
    smooth: Annotated[float, Bounds(0), "pixels added to both sides of the fraction"] = 1.0,
) -> Tensor:
    """1 - the Tversky index per image, averaged over the classes in its labels (Salehi et al. 2017).

    The overlap of two probabilities is the smaller one. For masks that is their product. For soft labels it
    makes the loss 0 where both are equal (Wang et al. 2023, Jaccard metric losses).
    """
    weight = weights_of(target)[:, None]  # (N, 1, h, w)
    probs, truth = logits.softmax(dim=1), one_hot(target, logits.shape[1])
    hits, found, there = (
        (weight * plane).sum(dim=(2, 3)) for plane in (torch.minimum(probs, truth), probs, truth)
    )  # (N, C)
    sizes = hits + alpha * (found - hits) + beta * (there - hits)
    missing = 1 - (hits + smooth) / (sizes + smooth).clamp_min(1e-12)
    return _over_classes(missing.clamp_min(TINY) ** exponent if exponent != 1 else missing, there > 0)


def jaccard(
    logits: Tensor,
    target: Target[Tensor],
    *,
    smooth: Annotated[float, Bounds(0), "pixels added to both sides of the fraction"] = 1.0,
) -> Tensor:
    """1 - soft IoU per image, averaged over the classes in its labels (Rahman & Wang 2016).

    Soft labels: see `tversky`.
    """
    return tversky(logits, target, alpha=1.0, beta=1.0, smooth=smooth)


def lovasz(logits: Tensor, target: Target[Tensor]) -> Tensor:
    """Lovasz-softmax per image, averaged over the classes in its labels (Berman et al. 2018).

    It is the convex extension of 1 - IoU of the hard labels. Weighted pixels have the weighted IoU; soft
    labels are not used.
    """
    weight = weights_of(target).flatten(1)[:, None]  # (N, 1, P)
    truth = one_hot(Target(target.hard), logits.shape[1]).flatten(2)  # (N, C, P)
    there = (weight * truth).sum(dim=2) > 0  # (N, C); only K classes of images are sorted
    wrong = (truth - logits.softmax(dim=1).flatten(2)).abs()
    errors, order = wrong[there].sort(dim=1, descending=True)  # (K, P)
    inside, outside = ((weight * part)[there].gather(1, order) for part in (truth, 1 - truth))
    area = inside.sum(dim=1, keepdim=True)
    lost = 1 - (area - inside.cumsum(dim=1)) / (area + outside.cumsum(dim=1))
    steps = torch.cat([lost[:, :1], lost.diff(dim=1)], dim=1)  # (K, P)
    each = torch.zeros_like(there, dtype=logits.dtype).masked_scatter(there, (errors * steps).sum(dim=1))
    return _over_classes(each, there)


def boundary(logits: Tensor, target: Target[Tensor]) -> Tensor:
    """Probability times the signed distance to the class's boundary, per pixel (Kervadec et al. 2019).

    Distances are in pixels, negative inside, and exact (OpenCV, on the CPU). Soft labels have no boundary, so
    distances are measured to the boundaries of the hard labels. Use it beside another loss, at a weight near
    0.01: alone it has poor minima.
    """
    weight = weights_of(target)
    distances = signed_distances(target.hard, weight > 0, logits.shape[1])
    return (distances * logits.softmax(dim=1) * weight[:, None]).sum()


def signed_distances(hard: Tensor, known: Tensor, classes: int) -> Tensor:
    """The distance of each pixel of `hard` (N, h, w) to each class's boundary, (N, C, h, w) in pixels.

    Outside it is the distance to the nearest pixel of the class. Inside it is 1 minus the distance to the
    nearest pixel of another class. Pixels that are not `known` (N, h, w) bound nothing. A class that no known
    pixel of an image has, or all have, is at distance 0.
    """
    ids = torch.where(known, hard, IGNORE).cpu().numpy()
    found = np.zeros((len(ids), classes, *ids.shape[1:]), np.float32)
    for image, planes in zip(ids, found, strict=True):
        there = np.setdiff1d(image, IGNORE)
        for c in there if len(there) > 1 else ():
            outside, inside = (_distance(image == c), _distance((image != c) & (image != IGNORE)))
            planes[c] = np.where(outside > 0, outside, 1 - inside)
    return torch.from_numpy(found).to(hard.device)


def _distance(pixels: np.ndarray) -> np.ndarray:
    """The distance of each pixel (h, w) to the nearest of `pixels` (h, w) bool.

    OpenCV's last bit depends on where the array lies in memory, so two equal runs would differ. Squared
    distances are whole numbers, so rounding them makes the result exact, up to 1,000 pixels.
    """
    found = cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.sqrt(np.rint(np.square(found, dtype=np.float64))).astype(np.float32)


LOSSES: dict[str, Loss] = {
    "ce": Loss(cross_entropy, pixels),
    "kl": Loss(kl, pixels),
    "mse": Loss(squared_error, pixels),
    "dice": Loss(dice, images),
    "ohem": Loss(ohem, images),
    "focal": Loss(focal, pixels),
    "jaccard": Loss(jaccard, images),
    "tversky": Loss(tversky, images),
    "lovasz": Loss(lovasz, images),
    "boundary": Loss(boundary, pixels),
}
TABLE = Table(LOSSES, main="weight", function=lambda loss: loss.total)


def known_tags(tags: Tensor) -> Tensor:
    """The number of known tags (N, C)."""
    return (~tags.isnan()).sum().float()


def bce(
    logits: Tensor,
    tags: Tensor,
    *,
    present: Annotated[
        float, Bounds(above=0), "weight of classes that an image contains; others weigh 1"
    ] = 1.0,
) -> Tensor:
    """Multi-label binary cross-entropy of an image's classes; unknown tags do not count."""
    known = ~tags.isnan()
    truth = torch.where(known, tags, 0.0)
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (each * torch.where(truth > 0, present, 1.0) * known).sum()


IMAGE_LOSSES: dict[str, Loss] = {"bce": Loss(bce, known_tags)}
IMAGE_TABLE = Table(IMAGE_LOSSES, main="weight", function=lambda loss: loss.total)


def _over_classes(each: Tensor, present: Tensor) -> Tensor:
    """The mean of `each` (N, C) over the `present` classes of an image, summed over images."""
    return ((each * present).sum(dim=1) / present.sum(dim=1).clamp_min(1)).sum()


def _soft(target: Target[Tensor]) -> Tensor:
    if target.soft is None:
        raise HardLabelsError
    return target.soft
