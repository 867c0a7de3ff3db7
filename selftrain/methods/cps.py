"""Cross pseudo supervision: two networks that learn from each other."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selftrain.data.examples import Batch
from selftrain.ids import IGNORE
from selftrain.methods.base import Learnt, Online, views_of
from selftrain.models.outputs import pixels_of
from selftrain.targets import Target


class Pair(nn.Module):
    """In training the logits of both networks, (2, N, C, H, W); in eval mode those of the first, which a run keeps."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        return torch.stack([pixels_of(first), pixels_of(self.second(images))]) if self.training else first


class CPS(Online):
    """Chen et al. 2021, with CutMix: each of two networks learns the hard labels that the other predicts.

    The labels are made in eval mode and of every pixel; the EMA network is not used.
    """

    networks = 2

    @staticmethod
    def joined(networks: Sequence[nn.Module]) -> Pair:
        """Both networks as one module."""
        return Pair(*networks)

    @staticmethod
    def kept(network: nn.Module) -> nn.Module:
        """The first network."""
        assert isinstance(network, Pair)
        return network.first

    def learn(self, model: nn.Module, averaged: nn.Module, batch: Batch) -> Learnt:
        """As `Online.learn`, of both networks; every pixel of an unlabelled image counts."""
        views, pair, labelled = views_of(batch), self.context.unwrap(model), batch.labelled
        assert isinstance(pair, Pair)
        pair.eval()
        labels = torch.stack(
            [
                self.probabilities(network, views.images[0]).argmax(dim=1)
                for network in (pair.second, pair.first)
            ]
        )
        pair.train()
        labels = torch.where(views.inside, labels, IGNORE)  # (2, M, h, w): what each network has to learn
        mixture, known = self.mixture(batch, labels[0]), batch.known.hard.long()
        target = torch.cat([mixture.mixed(one[None], known) for one in labels])
        images = torch.cat(
            [self.pixels(batch.images), self.pixels(mixture.mixed(views.images[1:], batch.images))]
        )
        logits = model(images).float()  # (2, N, C, h, w)
        both = batch.known.each(lambda plane: plane.repeat(2, *[1] * (plane.dim() - 1)))
        guessed = logits[:, labelled:].flatten(0, 1), Target(target.flatten(0, 1))
        return Learnt((logits[:, :labelled].flatten(0, 1), both), guessed, views.inside.sum().float())
