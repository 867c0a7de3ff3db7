"""The base classes of the training methods: a step function and its requirements.

First, a step function counts the pixels or images of a batch that contribute to each loss. This needs no
forward pass. The caller sums these counts over the micro-batches and ranks of the global batch. With the
sums, the step function computes its batch's share of the loss of the global batch.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from selftrain.config import LossConfig
from selftrain.data import mixing
from selftrain.data.examples import Batch, Views
from selftrain.data.mixing import Mixer
from selftrain.ids import IGNORE
from selftrain.models.outputs import pixels_of
from selftrain.objectives.losses import IMAGE_TABLE
from selftrain.objectives.objective import Objective
from selftrain.targets import Target, blend


@dataclass(frozen=True)
class StepResult:
    """The contribution of one micro-batch on one rank to the loss and logs of the global batch.

    Averaged over the ranks, as DDP does, and summed over micro-batches, these are the values of the global
    batch.
    """

    loss: Tensor
    logs: dict[str, Tensor]


class Step(Protocol):
    """One step of training."""

    def counts(self, batch: Batch) -> Tensor:
        """The counts of a batch on this rank, (k,) float32."""

    def loss(self, model: nn.Module, averaged: nn.Module, batch: Batch, counts: Tensor) -> StepResult:
        """The batch's share of the loss.

        `counts` (k,) are summed over the global batch. `averaged` is the EMA network.
        """


@dataclass(frozen=True)
class Context:
    """The context that a method gets from its run and its stage."""

    cfg: LossConfig
    classes: int
    pixels: Callable[[Tensor], Tensor]  # (N, h, w, C) uint8 -> (N, C, h, w), normalised
    ranks: int
    reduce: Callable[[Tensor], Tensor]  # sum over ranks
    autocast: Callable[[], AbstractContextManager]
    unwrap: Callable[[nn.Module], nn.Module]
    steps: int  # of the stage; `loss.ramp_up` is a share of them
    class_weights: Tensor | None = None  # (C,), from the labelled pixels
    mixers: tuple[Mixer, ...] = ()


class Method:
    """A step function and its requirements. A method is one file, one subclass and one line in table.py."""

    # Augmented views of an unlabelled image that the method labels itself; 0: it trains on stored labels
    views: ClassVar[int] = 0
    networks: ClassVar[int] = 1  # networks trained together
    mixes: ClassVar[bool] = True  # whether unlabelled images may be mixed
    adaptive: ClassVar[bool] = False  # whether `loss.adaptive` has an effect

    def __init__(self, context: Context) -> None:
        self.context, self.cfg, self.ranks = context, context.cfg, context.ranks

    @staticmethod
    def joined(networks: Sequence[nn.Module]) -> nn.Module:
        """Join the `networks` that are trained together into one module."""
        return networks[0]

    @staticmethod
    def kept(network: nn.Module) -> nn.Module:
        """The part of a joined module that the run keeps."""
        return network

    @cached_property
    def labelled(self) -> Objective:
        """The loss of labelled pixels."""
        return Objective.of(
            self.cfg.labelled, "loss.labelled", self.context.classes, self.context.class_weights
        )

    @cached_property
    def image(self) -> Objective:
        """The loss of the image-level head; without losses if there is no such head."""
        return Objective.of(self.cfg.image, "loss.image", self.context.classes, table=IMAGE_TABLE)

    def with_image_counts(self, batch: Batch, counts: Tensor) -> Tensor:
        """The counts of the image-level head, if there is one, and then `counts`."""
        return counts if batch.tags is None else torch.cat([self.image.counts(batch.tags), counts])

    def with_image_loss(
        self, batch: Batch, logits: Tensor | None, counts: Tensor, of_pixels: Callable[[Tensor], StepResult]
    ) -> StepResult:
        """The loss `of_pixels` for its own counts, plus the loss of the image-level head, if there is one.

        `logits` (at least N, C) begin with the logits of the batch's images; `with_image_counts`
        returned `counts`.
        """
        if batch.tags is None:
            return of_pixels(counts)
        assert logits is not None
        result, width = of_pixels(counts[self.image.width :]), self.image.width
        own = self.image.value(logits[: len(batch.tags)].float(), batch.tags, counts[:width])
        return StepResult(result.loss + self.ranks * own, {**result.logs, "image_loss": self.ranks * own})

    def counts(self, batch: Batch) -> Tensor:
        """See `Step.counts`."""
        raise NotImplementedError

    def loss(self, model: nn.Module, averaged: nn.Module, batch: Batch, counts: Tensor) -> StepResult:
        """See `Step.loss`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Learnt:
    """The result of an online step: logits with their targets, and the number of accepted pixels."""

    known: tuple[Tensor, Target[Tensor]]
    guessed: tuple[Tensor, Target[Tensor]]
    accepted: Tensor
    views: int = 1  # the loss of `guessed` is averaged over them
    image: Tensor | None = None  # logits (N, C) of an image-level head; the labelled images come first


class Online(Method):
    """A method that labels unlabelled images while it trains on them; no label is stored.

    The first view of an image has the crop's geometry only. A view is mixed with images of the same rank, as
    labels do not exist before the step.
    """

    views: ClassVar[int] = 1
    term: ClassVar[str] = "ce"  # the loss of unlabelled pixels if `loss.online` is empty

    @cached_property
    def guessed(self) -> Objective:
        """The loss of unlabelled pixels."""
        return Objective.of(self.cfg.online or {self.term: {}}, "loss.online", self.context.classes)

    def counts(self, batch: Batch) -> Tensor:
        """See `Step.counts`. Every pixel inside an unlabelled image counts, even if its label is rejected."""
        inside = views_of(batch).inside
        everything = Target(torch.where(inside, 0, IGNORE))
        known, guessed = self.labelled.counts(batch.known), self.guessed.counts(everything)
        return self.with_image_counts(batch, torch.cat([known, guessed, inside.sum().float()[None]]))

    def loss(self, model: nn.Module, averaged: nn.Module, batch: Batch, counts: Tensor) -> StepResult:
        """See `Step.loss`: (labelled + w * unlabelled) / (1 + `loss.unlabelled_weight`).

        The weight w ramps up to `loss.unlabelled_weight`. At weight 1 the loss is the mean of both parts.
        """
        learnt = self.learn(model, averaged, batch)
        return self.with_image_loss(batch, learnt.image, counts, partial(self._of_pixels, batch, learnt))

    def _of_pixels(self, batch: Batch, learnt: Learnt, counts: Tensor) -> StepResult:
        first = self.labelled.width
        supervised = self.ranks * self.labelled.value(*learnt.known, counts[:first])
        pseudo = self.ranks * self.guessed.value(*learnt.guessed, counts[first:-1]) / learnt.views
        weight = self.cfg.unlabelled_weight * self._ramp(views_of(batch).step)
        total = (supervised + weight * pseudo) / (1 + self.cfg.unlabelled_weight)
        share = self.ranks * learnt.accepted / counts[-1].clamp_min(1.0)
        return StepResult(total, {"labelled_loss": supervised, "pseudo_loss": pseudo, "accepted": share})

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> Learnt:
        """Logits of the network and their targets."""
        raise NotImplementedError

    def pixels(self, images: Tensor) -> Tensor:
        """Normalise images: (..., h, w, C) uint8 -> (N, C, h, w)."""
        return self.context.pixels(images.reshape(-1, *images.shape[-3:]))

    @torch.no_grad()
    def probabilities(self, network: nn.Module, images: Tensor) -> Tensor:
        """Probabilities (N, C, h, w) for images (N, h, w, C), by a network in eval mode."""
        with self.context.autocast():
            return pixels_of(network(self.pixels(images))).float().softmax(dim=1)

    def mixture(self, batch: Batch, hard: Tensor) -> "Mixture":
        """The mixing of a batch's views; `hard` (M, h, w) are the labels of the unlabelled images."""
        return Mixture.of(views_of(batch), batch, hard, self.context.mixers)

    def target(self, mixture: "Mixture", batch: Batch, hard: Tensor, confidence: Tensor) -> Target[Tensor]:
        """The target (S M, h, w) of mixed views.

        `hard` and `confidence` (S or 1, M, h, w) are labels of the images and their probabilities. Erased
        pixels have no label, and move with the pixels. If the run has a mixing that averages images, labels
        are soft, and averaged by the same shares.
        """
        own = torch.where(views_of(batch).erased, IGNORE, hard)  # (S, M, h, w)
        weight = mixture.emphasis(confidence * (own != IGNORE), (batch.known.hard != IGNORE).float())
        if not any(mixer.soft for mixer in self.context.mixers):
            found = Target(mixture.mixed(own, batch.known.hard.to(own)), weight)
        else:
            ours, known = self._softened(Target(own)), self._softened(batch.known)
            theirs = (_partner(*planes, mixture.pasted) for planes in zip(ours, known, strict=True))
            found = Target(*ours).blended(Target(*theirs), mixture.share)
            if weight is not None and found.weight is not None:
                found = replace(found, weight=found.weight * weight)
        return found.each(lambda plane: plane.flatten(0, 1))

    def _softened(self, target: Target[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Hard labels (..., h, w) of a target, weights of its pixels, and soft labels (..., C, h, w)."""
        known = target.hard != IGNORE
        weight = known.float() if target.weight is None else target.weight * known
        soft = target.soft
        if soft is None:
            ids = torch.where(known, target.hard.long(), 0)
            soft = one_hot(ids, self.context.classes).movedim(-1, -3).float()
        return target.hard.long(), weight, soft

    def _ramp(self, step: int) -> float:
        """The sigmoid ramp-up exp(-5 (1 - t)^2) over the first `loss.ramp_up` steps (Laine & Aila 2017).

        `loss.ramp_up` is a share of the stage's steps.
        """
        ramp = self.cfg.ramp_up * self.context.steps
        return math.exp(-5 * (1 - step / ramp) ** 2) if step < ramp else 1.0


@dataclass(frozen=True)
class Mixture:
    """Where the augmented views of unlabelled images take pixels from a partner.

    The partner is the next unlabelled image. Where `pasted`, it is a labelled image (one of the two ways of
    BCP, Bai et al. 2023).
    """

    share: Tensor  # (S, M, h, w): the partner's share of each pixel
    pasted: Tensor  # (S, M) bool
    weighs: Tensor  # (S, M) bool: labels weigh by class activation

    @classmethod
    def of(cls, views: Views, batch: Batch, hard: Tensor, mixers: tuple[Mixer, ...]) -> "Mixture":
        """The mixture drawn for `views`; `hard` (M, h, w) are the labels of the unlabelled images."""
        partner = _partner(
            hard.expand(*views.pasted.shape, *hard.shape[1:]), batch.known.hard.to(hard), views.pasted
        )
        share = torch.zeros_like(partner, dtype=torch.bool)
        for which, mixer in enumerate(mixers):
            chosen = (views.which == which)[..., None, None]
            if chosen.any():  # a mixer that no view drew has no numbers here
                share = torch.where(chosen, mixer.mask(views.numbers, partner), share)
        weighing = [which for which, mixer in enumerate(mixers) if mixer.weighs]
        return cls(share, views.pasted, torch.isin(views.which, torch.tensor(weighing).to(views.which)))

    def mixed(self, planes: Tensor, labelled: Tensor) -> Tensor:
        """Mix `planes` (S, M, h, w) or (S, M, h, w, C) with their partners.

        `labelled` (L, h, w) or (L, h, w, C) are the same planes of the labelled images.
        """
        share = self.share.reshape(self.share.shape + (1,) * (planes.dim() - self.share.dim()))
        return blend(share, planes, _partner(planes, labelled, self.pasted))

    def emphasis(self, ours: Tensor, labelled: Tensor) -> Tensor | None:
        """The weights (S, M, h, w) of the mixed pixels; None if no mixing weighs them.

        `ours` (S, M, h, w) and `labelled` (L, h, w) are activations of the pixels' classes.
        """
        if not self.weighs.any():
            return None
        theirs = _partner(ours, labelled, self.pasted)
        weights = mixing.emphasis(self.share.bool(), ours, theirs)
        return torch.where(self.weighs[..., None, None], weights, 1.0)


def _partner(planes: Tensor, labelled: Tensor, pasted: Tensor) -> Tensor:
    """The planes (S, M, ...) of each view's partner."""
    turn = torch.arange(pasted.numel(), device=planes.device).reshape(pasted.shape) % len(labelled)
    where = pasted.reshape(pasted.shape + (1,) * (planes.dim() - pasted.dim()))
    return torch.where(where, labelled[turn], planes.roll(-1, dims=1))


def views_of(batch: Batch) -> Views:
    """The views of a batch for online methods."""
    assert batch.views is not None
    return batch.views
