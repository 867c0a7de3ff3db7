"""Losses, each as a sum and the count that the global batch divides it by.

A batch may be spread over ranks and micro-batches. The sums of its parts add up; the means of unequal parts
do not. So a loss has two functions: `count` returns how much of a target counts, without a forward pass, and
`total` returns the sum over it. A new loss is one `total`, one line in LOSSES and one test. Recipes name it
with its weight:

    loss: {labelled: {ce: {weight: 1.0, smoothing: 0.1}, dice: 0.5}}
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional as F

from selftrain.ids import IGNORE
from selftrain.tables import Bounds, Share, Table
from selftrain.targets import Target

LEAST = 1e-4  # below the store's resolution of 1/255; keeps log(p) finite if a class was stored as 0


@dataclass(frozen=True)
class Loss:
    """A loss: `total(logits, target, *, class_weights, settings)`, summed over what `count(target)` counts.

    logits are (N, C, h, w) float32. Both functions return a number, or (C,) numbers with `per_class`: then
    the means are averaged over the classes that count. `class_weights` (C,) come from the labelled pixels, or
    are None. A total that does not use them need not have the parameter.
    """

    total: Callable[..., Tensor]
    count: Callable[[Target[Tensor]], Tensor]
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
    class_weights: Tensor | None,
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


def squared_error(logits: Tensor, target: Target[Tensor], *, class_weights: Tensor | None) -> Tensor:
    """Per-pixel squared difference of the probabilities, averaged over classes (Tarvainen & Valpola 2017)."""
    difference = (logits.softmax(dim=1) - _soft(target)).square().mean(dim=1)  # (N, h, w)
    return (difference * weights_of(target)).sum()


def dice(
    logits: Tensor,
    target: Target[Tensor],
    *,
    class_weights: Tensor | None,
    smooth: Annotated[float, Bounds(0), "pixels added to both sides of the fraction"] = 1.0,
) -> Tensor:
    """1 - Dice per image, averaged over the classes in its labels (Milletari et al. 2016)."""
    weight = weights_of(target)[:, None]  # (N, 1, h, w)
    probs = logits.softmax(dim=1) * weight
    truth = one_hot(target, logits.shape[1]) * weight
    overlap, sizes = (probs * truth).sum(dim=(2, 3)), (probs + truth).sum(dim=(2, 3))  # (N, C)
    present = truth.sum(dim=(2, 3)) > 0
    sizes = (sizes + smooth).clamp_min(1e-12)  # not 0/0 in an image without a label if `smooth` is 0
    each = (1 - (2 * overlap + smooth) / sizes) * present
    return (each.sum(dim=1) / present.sum(dim=1).clamp_min(1)).sum()


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


LOSSES: dict[str, Loss] = {
    "ce": Loss(cross_entropy, pixels),
    "kl": Loss(kl, pixels),
    "mse": Loss(squared_error, pixels),
    "dice": Loss(dice, images),
    "ohem": Loss(ohem, images),
}
TABLE = Table(LOSSES, main="weight", function=lambda loss: loss.total)


def _soft(target: Target[Tensor]) -> Tensor:
    assert target.soft is not None, "this loss learns from soft labels"
    return target.soft
