"""Step functions: a batch and a model -> the loss of one optimizer step. What differs between methods of training."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from selftrain.config import LossConfig
from selftrain.data.batches import IGNORE, Batch
from selftrain.inference.pixels import PixelScale
from selftrain.objectives.distillation import kl_sum
from selftrain.objectives.losses import cross_entropy_sum, weighted_cross_entropy_sum

Reduce = Callable[[torch.Tensor], torch.Tensor]  # sum over ranks


@dataclass(frozen=True)
class StepResult:
    """`loss` is this rank's share: averaged over the ranks, as DDP does, it is the loss of the global batch."""

    loss: torch.Tensor
    logs: dict[str, torch.Tensor]


Step = Callable[[nn.Module, nn.Module, Batch], StepResult]  # the network, its average so far, what this step sees


def normalised(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(N, H, W, 3) uint8 -> (N, 3, H, W) float, channels_last without a copy of its own."""
    return PixelScale(mean, std).normalise(images)


@dataclass(frozen=True)
class SelfTraining:
    """Cross-entropy on labelled pixels plus distillation on accepted pseudo-labelled ones. Also the supervised step."""

    loss: LossConfig
    mean: torch.Tensor  # (1, 3, 1, 1), in grey levels
    std: torch.Tensor
    ranks: int
    reduce: Reduce
    weights: torch.Tensor | None = None  # (C,), of labelled pixels by class

    def __call__(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> StepResult:
        hard = batch.hard.long()
        known, guessed = hard[: batch.labelled], hard[batch.labelled :]
        weight = batch.weight * (guessed != IGNORE)
        # Divide by what counts in the global batch: the mean over ranks of unequal means would be another loss. Asked before
        # the network is: ranks wait for each other where they start anyway.
        seen = torch.tensor(float(weight.numel()), device=weight.device)
        sums = ((known != IGNORE).sum().float(), weight.sum(), (weight > 0).sum().float(), seen)
        counts = self.reduce(torch.stack(sums))
        shares = self.ranks / counts.clamp_min(1.0)
        logits = model(normalised(batch.images, self.mean, self.std)).float()  # (N, C, h, w); softmax in fp32
        supervised = shares[0] * cross_entropy_sum(
            logits[: batch.labelled], known, smoothing=self.loss.smoothing, weights=self.weights
        )
        if not len(guessed):
            return StepResult(supervised, {"labelled_loss": supervised})
        pseudo = shares[1] * self._pseudo(logits[batch.labelled :], guessed, batch.soft, weight)
        logs = {"labelled_loss": supervised, "pseudo_loss": pseudo, "accepted": counts[2] / counts[3]}
        return StepResult(supervised + self.loss.unlabelled_weight * pseudo, logs)

    def _pseudo(self, logits: torch.Tensor, hard: torch.Tensor, soft: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        share = self.loss.distillation
        total = logits.sum() * 0.0  # finite, and part of the graph, where no pixel counts
        if share > 0:
            total = total + share * kl_sum(logits, soft.permute(0, 3, 1, 2), weight, temperature=self.loss.temperature)
        if share < 1:
            total = total + (1 - share) * weighted_cross_entropy_sum(logits, hard, weight)
        return total
