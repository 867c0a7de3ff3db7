"""Cross pseudo supervision: two networks that learn from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selftrain.data.examples import Batch
from selftrain.ids import IGNORE
from selftrain.methods.base import Learnt, Online, views_of
from selftrain.models.outputs import pixels_of


class Pair(nn.Module):
    """Two networks as one module.

    In training mode it returns the logits of both, (2, N, C, H, W). In eval mode it returns the logits of the
    first network, which a run keeps.
    """

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        return torch.stack([pixels_of(first), pixels_of(self.second(images))]) if self.training else first


class CPS(Online):
    """Chen et al. 2021, with CutMix: each of two networks learns the hard labels that the other predicts.

    Every pixel is labelled, in eval mode. The EMA network is not used.
    """

    networks = 2

    @staticmethod
    def joined(networks: Sequence[nn.Module]) -> Pair:
        """Join both networks into one module."""
        return Pair(*networks)

    @staticmethod
    def kept(network: nn.Module) -> nn.Module:
        """The first network."""
        assert isinstance(network, Pair)
        return network.first

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> Learnt:
        """See `Online.learn`. Both networks learn; every pixel of an unlabelled image counts."""
        views, pair, labelled = views_of(batch), self.context.unwrap(model), batch.labelled
        assert isinstance(pair, Pair)
        pair.eval()
        probabilities = torch.stack(
            [self.probabilities(network, views.images[0]) for network in (pair.second, pair.first)]
        )
        confidence, labels = probabilities.max(dim=2)  # (2, M, h, w)
        pair.train()
        labels = torch.where(views.inside, labels, IGNORE)  # (2, M, h, w): each network's target
        mixture = self.mixture(batch, labels[0])
        target = self.target(mixture, batch, labels, confidence)
        images = torch.cat(
            [self.pixels(batch.images), self.pixels(mixture.mixed(views.images[1:], batch.images))]
        )
        logits = model(images).float()  # (2, N, C, h, w)
        both = batch.known.each(lambda plane: plane.repeat(2, *[1] * (plane.dim() - 1)))
        guessed = logits[:, labelled:].flatten(0, 1), target
        return Learnt((logits[:, :labelled].flatten(0, 1), both), guessed, views.inside.sum().float())
