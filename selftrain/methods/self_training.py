"""Training on masks, and on stored pseudo-labels if there are any."""

from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from selftrain.data.examples import Batch
from selftrain.methods.base import Method, StepResult
from selftrain.models.outputs import output_of
from selftrain.objectives.losses import weights_of
from selftrain.objectives.objective import Objective


class SelfTraining(Method):
    """Supervised training and self-training on stored pseudo-labels.

    The loss is `loss.labelled` on labelled pixels plus `loss.pseudo` on accepted pseudo-labelled pixels. With
    `loss.distill`, labelled pixels also learn from their teacher's labels.
    """

    @cached_property
    def pseudo(self) -> Objective:
        """The loss of pseudo-labelled pixels."""
        return Objective.of(self.cfg.pseudo, "loss.pseudo", self.context.classes)

    @cached_property
    def distilled(self) -> Objective:
        """The loss of labelled pixels against the teacher's labels."""
        return Objective.of(
            self.cfg.distill, "loss.distill", self.context.classes, self.context.class_weights
        )

    def counts(self, batch: Batch) -> Tensor:
        """See `Step.counts`. The last count is the number of pseudo-labelled pixels, accepted or not."""
        known = self.labelled.counts(batch.known)
        if self._distils(batch):
            known = torch.cat([known, self.distilled.counts(batch.known)])
        if batch.guessed is not None:
            seen = known.new_tensor([float(batch.guessed.hard.numel())])
            known = torch.cat([known, self.pseudo.counts(batch.guessed), seen])
        return self.with_image_counts(batch, known)

    def loss(self, model: nn.Module, averaged: nn.Module, batch: Batch, counts: Tensor) -> StepResult:
        """See `Step.loss`: labelled + distilled + `loss.unlabelled_weight` * pseudo."""
        output = output_of(model(self.context.pixels(batch.images)))
        logits = output.pixels.float()  # (N, C, h, w); softmax in fp32
        return self.with_image_loss(batch, output.image, counts, partial(self._of_pixels, batch, logits))

    def _of_pixels(self, batch: Batch, logits: Tensor, counts: Tensor) -> StepResult:
        labelled, first, known = batch.labelled, self.labelled.width, batch.known
        distils = self._distils(batch)
        masks = replace(known, soft=None) if distils else known
        supervised = self.ranks * self.labelled.value(logits[:labelled], masks, counts[:first])
        logs = {"labelled_loss": supervised}
        if distils:
            last = first + self.distilled.width
            taught = self.ranks * self.distilled.value(logits[:labelled], known, counts[first:last])
            supervised, first, logs["distill_loss"] = supervised + taught, last, taught
        if batch.guessed is None:
            return StepResult(supervised, logs)
        pseudo = self.ranks * self.pseudo.value(logits[labelled:], batch.guessed, counts[first:-1])
        accepted = self.ranks * (weights_of(batch.guessed) > 0).sum().float() / counts[-1]
        logs |= {"pseudo_loss": pseudo, "accepted": accepted}
        return StepResult(supervised + self.cfg.unlabelled_weight * pseudo, logs)

    def _distils(self, batch: Batch) -> bool:
        """Whether the labelled images have a teacher's labels to learn from."""
        return bool(self.cfg.distill) and batch.known.soft is not None
