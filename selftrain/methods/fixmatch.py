"""FixMatch, with adaptive thresholds based on FreeMatch."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selftrain.data.examples import Batch
from selftrain.ids import IGNORE
from selftrain.methods.base import Learnt, Online, views_of
from selftrain.models.outputs import output_of


class FixMatch(Online):
    """Sohn et al. 2020: the EMA network labels weak views, and the student learns these on strong views.

    A pixel counts if the EMA network is confident about it before mixing.
    """

    adaptive = True

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> Learnt:
        """See `Online.learn`."""
        views, labelled = views_of(batch), batch.labelled
        probabilities = self.probabilities(averaged, views.images[0])
        confidence, hard = probabilities.max(dim=1)  # (M, h, w)
        floors = self.thresholds(confidence[views.inside], hard[views.inside], classes=probabilities.shape[1])
        target = torch.where(views.inside & (confidence >= floors[hard]), hard, IGNORE)
        mixture = self.mixture(batch, torch.where(views.inside, hard, IGNORE))
        seen = mixture.mixed(views.images[1:], batch.images)
        mixed = self.target(mixture, batch, target[None], confidence)
        images = torch.cat([self.pixels(batch.images), self.pixels(seen)])
        with self.noise(self.context.unwrap(model), labelled, len(target)):
            output = output_of(model(images))
        logits = output.pixels.float()
        accepted = (target != IGNORE).sum().float()
        known, guessed = (logits[:labelled], batch.known), (logits[labelled:], mixed)
        return Learnt(known, guessed, accepted, len(seen), output.image)

    def thresholds(self, confidence: Tensor, hard: Tensor, *, classes: int) -> Tensor:
        """The threshold of each class, (C,): `loss.threshold`, relaxed per class if `loss.adaptive`.

        With `loss.adaptive`, a class's threshold is scaled down by its relative mean confidence. `confidence`
        and `hard` (P,) belong to the pixels inside of images. FreeMatch (Wang et al. 2023, eq. 8) differs: it
        uses moving averages of the mean probability of each class over all samples, and also moves the
        threshold of the most confident class.
        """
        if not self.cfg.adaptive:
            return torch.full((classes,), self.cfg.threshold, device=hard.device)
        pixels = torch.bincount(hard, minlength=classes).float()
        sums = torch.bincount(hard, weights=confidence, minlength=classes)
        pixels, sums = self.context.reduce(torch.stack([pixels, sums]))
        mean = sums / pixels.clamp_min(1)
        return self.cfg.threshold * mean / mean.max()

    @contextmanager
    def noise(self, network: nn.Module, labelled: int, unlabelled: int) -> Iterator[None]:
        """Apply the method's noise inside of the network during one forward pass."""
        yield
