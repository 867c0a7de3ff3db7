"""Training on masks, and on stored pseudo-labels if there are any."""

from functools import cached_property

import torch
from torch import Tensor, nn

from selftrain.data.examples import Batch
from selftrain.methods.base import Method, StepResult
from selftrain.models.outputs import pixels_of
from selftrain.objectives.losses import weights_of
from selftrain.objectives.objective import Objective


class SelfTraining(Method):
    """Supervised training and self-training on stored pseudo-labels.

    The loss is `loss.labelled` on labelled pixels plus `loss.pseudo` on accepted pseudo-labelled pixels.
    """

    @cached_property
    def pseudo(self) -> Objective:
        """The loss of pseudo-labelled pixels."""
        return Objective.of(self.cfg.pseudo, "loss.pseudo", self.context.classes)

    def counts(self, batch: Batch) -> Tensor:
        """See `Step.counts`. The last count is the number of pseudo-labelled pixels, accepted or not."""
        known = self.labelled.counts(batch.known)
        if batch.guessed is None:
            return known
        seen = known.new_tensor([float(batch.guessed.hard.numel())])
        return torch.cat([known, self.pseudo.counts(batch.guessed), seen])

    def loss(self, model: nn.Module, averaged: nn.Module, batch: Batch, counts: Tensor) -> StepResult:
        """See `Step.loss`: labelled + `loss.unlabelled_weight` * pseudo."""
        logits = pixels_of(model(self.context.pixels(batch.images))).float()  # (N, C, h, w); softmax in fp32
        labelled, first = batch.labelled, self.labelled.width
        supervised = self.ranks * self.labelled.value(logits[:labelled], batch.known, counts[:first])
        if batch.guessed is None:
            return StepResult(supervised, {"labelled_loss": supervised})
        pseudo = self.ranks * self.pseudo.value(logits[labelled:], batch.guessed, counts[first:-1])
        accepted = self.ranks * (weights_of(batch.guessed) > 0).sum().float() / counts[-1]
        logs = {"labelled_loss": supervised, "pseudo_loss": pseudo, "accepted": accepted}
        return StepResult(supervised + self.cfg.unlabelled_weight * pseudo, logs)
