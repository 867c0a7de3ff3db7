"""Step functions that label unlabelled images while they learn from them. No label is stored; the loop is that of all others.

Weak views have the crop's geometry only. CutMix's boxes come from the next unlabelled image of the same rank, or by `paste` from
a labelled one.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selftrain.config import LossConfig
from selftrain.data.batches import IGNORE, Batch, Views
from selftrain.models.pair import Pair
from selftrain.objectives.losses import cross_entropy_sum
from selftrain.stages.steps import Reduce, StepResult, normalised


@dataclass(frozen=True)
class Online:
    """What the methods share. A method gives, per unlabelled pixel, a loss and which pixels it counts."""

    loss: LossConfig
    mean: Tensor  # (1, 3, 1, 1), in grey levels
    std: Tensor
    ranks: int
    reduce: Reduce
    autocast: Callable[[], AbstractContextManager]
    unwrap: Callable[[nn.Module], nn.Module]
    steps: int  # of the stage; the ramp-up is a share of them
    weights: Tensor | None = None  # (C,), of labelled pixels by class

    strong = 1  # noisy views that the method wants

    def __call__(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> StepResult:
        views, known = _of(batch), batch.hard.long()
        counts = self.reduce(torch.stack([(known != IGNORE).sum().float(), views.inside.sum().float()]))
        shares = self.ranks / counts.clamp_min(1.0)
        labelled, losses, accepted = self.learn(model, averaged, batch, known)
        supervised, pseudo = shares[0] * labelled, shares[1] * losses
        weight = self.loss.unlabelled_weight * self._ramp(views.step)
        total = (supervised + weight * pseudo) / (1 + self.loss.unlabelled_weight)  # at weight 1 the mean of both
        share = self.reduce(accepted) / counts[1].clamp_min(1.0)
        return StepResult(total, {"labelled_loss": supervised, "pseudo_loss": pseudo, "accepted": share})

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over pixels: the labelled loss, the unlabelled one (mean over its views), the pixels that count."""
        raise NotImplementedError

    def pixels(self, images: Tensor) -> Tensor:
        """(..., h, w, 3) uint8 -> (N, 3, h, w), normalised."""
        return normalised(images.reshape(-1, *images.shape[-3:]), self.mean, self.std)

    @torch.no_grad()
    def probabilities(self, network: nn.Module, images: Tensor) -> Tensor:
        """(N, C, h, w) of images (N, h, w, 3) by a network in eval mode."""
        with self.autocast():
            return network(self.pixels(images)).float().softmax(dim=1)

    def supervised(self, logits: Tensor, known: Tensor) -> Tensor:
        return cross_entropy_sum(logits, known, smoothing=self.loss.smoothing, weights=self.weights)

    def _ramp(self, step: int) -> float:
        """The sigmoid ramp-up exp(-5 (1 - t)^2) of Laine & Aila 2017, over the first `ramp_up` of the steps."""
        ramp = self.loss.ramp_up * self.steps
        return math.exp(-5 * (1 - step / ramp) ** 2) if step < ramp else 1.0


class MeanTeacher(Online):
    """Tarvainen & Valpola 2017: the squared difference between the probabilities of the network and of its average."""

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Online.learn`; every pixel of an unlabelled image counts."""
        views = _of(batch)
        target = self.probabilities(averaged, views.images[0])
        images = torch.cat([self.pixels(batch.images), self.pixels(views.images[1])])
        logits = model(images).float()
        difference = (logits[batch.labelled :].softmax(dim=1) - target).square().mean(dim=1)  # (M, h, w)
        inside = views.inside.float()
        return self.supervised(logits[: batch.labelled], known), (difference * inside).sum(), inside.sum()


class FixMatch(Online):
    """Sohn et al. 2020, with the averaged network as the teacher: weak views label strong ones, where they are sure."""

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Online.learn`; the pixels count of which the average is sure, before CutMix."""
        views = _of(batch)
        probabilities = self.probabilities(averaged, views.images[0])
        confidence, hard = probabilities.max(dim=1)  # (M, h, w)
        floors = self.thresholds(confidence[views.inside], hard[views.inside], classes=probabilities.shape[1])
        target = torch.where(views.inside & (confidence >= floors[hard]), hard, IGNORE)
        accepted = (target != IGNORE).sum().float()
        seen = mixed(views.images[1:], batch.images, views)
        target = mixed(target.expand(seen.shape[:-1]), known, views)  # (S, M, h, w)
        images = torch.cat([self.pixels(batch.images), self.pixels(seen)])
        with self.noise(self.unwrap(model), batch.labelled, len(target[0])):
            logits = model(images).float()
        losses = F.cross_entropy(logits[batch.labelled :], target.flatten(0, 1), ignore_index=IGNORE, reduction="sum")
        return self.supervised(logits[: batch.labelled], known), losses / len(target), accepted

    def thresholds(self, confidence: Tensor, hard: Tensor, *, classes: int) -> Tensor:
        """Of each class (C,): `loss.threshold`, or with `loss.adaptive` as much lower as its mean confidence in this batch is.

        `confidence` and `hard` (P,) are of the pixels inside of images. After FreeMatch (Wang et al. 2023, eq. 8), which takes
        the mean probability of c over all samples, by moving averages, and lets the surest class's threshold move, too.
        """
        if not self.loss.adaptive:
            return torch.full((classes,), self.loss.threshold, device=hard.device)
        pixels = torch.bincount(hard, minlength=classes).float()
        sums = torch.bincount(hard, weights=confidence, minlength=classes)
        pixels, sums = self.reduce(torch.stack([pixels, sums]))
        mean = sums / pixels.clamp_min(1)
        return self.loss.threshold * mean / mean.max()

    @contextmanager
    def noise(self, network: nn.Module, labelled: int, unlabelled: int) -> Iterator[None]:
        """Noise inside of the network for this pass."""
        yield


class UniMatchV2(FixMatch):
    """Yang et al. 2025: two strong views, of which each loses the channels that the other keeps."""

    strong = 2

    @contextmanager
    def noise(self, network: nn.Module, labelled: int, unlabelled: int) -> Iterator[None]:
        """Complementary dropout of whole channels (p = 0.5, doubled) on half of the images, at all encoder depths.

        The depths of a vision transformer share one mask, as in the paper. In a CNN they differ in width, and each
        has its own.
        """
        dropped = torch.rand(unlabelled) < 0.5

        def drop(module: nn.Module, inputs: tuple, output: list[Tensor] | tuple) -> list[Tensor] | tuple:
            if isinstance(output, tuple):  # a vision transformer: every feature is a depth; prefix tokens have no noise
                features, *rest = output
                return (_complementary(features, labelled, dropped), *rest)
            image, *features = output
            return [image, *_complementary(features, labelled, dropped, shared=False)]

        handle = network.encoder.register_forward_hook(drop)  # type: ignore[union-attr]
        try:
            yield
        finally:
            handle.remove()


class CPS(Online):
    """Chen et al. 2021, cross pseudo supervision with CutMix: each of two networks learns the hard labels of the other.

    The labels are made in eval mode and of every pixel; the averaged network is not asked.
    """

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `Online.learn`, of both networks; every pixel of an unlabelled image counts."""
        views, pair = _of(batch), self.unwrap(model)
        assert isinstance(pair, Pair)
        pair.eval()
        labels = torch.stack(
            [self.probabilities(network, views.images[0]).argmax(dim=1) for network in (pair.second, pair.first)]
        )
        pair.train()
        labels = torch.where(views.inside, labels, IGNORE)  # (2, M, h, w): what each network has to learn
        target = torch.cat([mixed(one[None], known, views) for one in labels])
        images = torch.cat([self.pixels(batch.images), self.pixels(mixed(views.images[1:], batch.images, views))])
        logits = model(images).float()  # (2, N, C, h, w)
        supervised = self.supervised(logits[:, : batch.labelled].flatten(0, 1), known.repeat(2, 1, 1))
        losses = F.cross_entropy(
            logits[:, batch.labelled :].flatten(0, 1), target.flatten(0, 1), ignore_index=IGNORE, reduction="sum"
        )
        return supervised, losses, views.inside.sum().float()


METHODS: dict[str, type[Online]] = {"mean_teacher": MeanTeacher, "fixmatch": FixMatch, "unimatch_v2": UniMatchV2, "cps": CPS}


def boxes_of(views: Views) -> Tensor:
    """Where CutMix takes pixels from another image: (V - 1, M, h, w) bool."""
    height, width = views.inside.shape[1:]
    top, bottom, left, right = views.boxes[..., None, None].unbind(dim=2)  # (V - 1, M, 1, 1) each
    rows = torch.arange(height, device=top.device)[:, None]
    columns = torch.arange(width, device=top.device)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def mixed(planes: Tensor, labelled: Tensor, views: Views) -> Tensor:
    """`planes` (S, M, h, w) or (S, M, h, w, 3), each with its box from the next one or, where `pasted`, from a labelled one.

    `labelled`: (L, h, w) or (L, h, w, 3). Such boxes, with their masks, are one of the two ways of BCP (Bai et al. 2023).
    """
    area, pasted = (flags.reshape(flags.shape + (1,) * (planes.dim() - flags.dim())) for flags in (boxes_of(views), views.pasted))
    turn = torch.arange(views.pasted.numel(), device=planes.device).reshape(views.pasted.shape) % len(labelled)
    return torch.where(area, torch.where(pasted, labelled[turn], planes.roll(-1, dims=1)), planes)


def _complementary(features: list[Tensor], labelled: int, dropped: Tensor, *, shared: bool = True) -> list[Tensor]:
    """Features (labelled + 2 M, C, h, w) with noise: of images `dropped` (M,), a view loses what the other keeps.

    `shared`: features of one width get one mask.
    """
    masks: dict[int, Tensor] = {}
    found = []
    for feature in features:
        width = feature.shape[1]
        if not shared or width not in masks:
            masks[width] = _scale(width, labelled, dropped)
        found.append(feature * masks[width][:, :, None, None].to(feature))
    return found


def _scale(width: int, labelled: int, dropped: Tensor) -> Tensor:
    """(labelled + 2 M, width): 1 where nothing is dropped; otherwise 0 or 2, which add up to 2 over both views."""
    mask = 2.0 * (torch.rand(len(dropped), width) < 0.5)
    first, second = (torch.where(dropped[:, None], one, 1.0) for one in (mask, 2.0 - mask))
    return torch.cat([torch.ones(labelled, width), first, second])


def _of(batch: Batch) -> Views:
    assert batch.views is not None
    return batch.views
