"""Pseudo-labels from the image-level head: class activation maps, restricted to the classes of each image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from selftrain.anatomy import anatomy_of, part
from selftrain.inference.predictor import Predictor
from selftrain.inference.windows import Logits, pad
from selftrain.models.ensemble import parts
from selftrain.models.heads import features_of, head_of
from selftrain.tables import Chosen

TINY = 1e-6


class Activations(nn.Module):
    """The class activation maps of a network: images (N, channels, H, W) -> (N, classes, H, W)."""

    def __init__(self, network: nn.Module):
        super().__init__()
        head = head_of(network)
        assert head is not None
        self.encoder, self.head = part(network, anatomy_of(network).encoder, "generations.0.from_tags"), head

    def forward(self, images: Tensor) -> Tensor:
        self.head.seen.clear()
        maps = self.head.maps(features_of(self.encoder(images)), (images.shape[2], images.shape[3]))
        self.head.seen.clear()
        return maps.float()


def activations(logits: Logits, images: Tensor, multiple: int, batch: int) -> Tensor:
    """The window of activation maps: positive evidence in the whole image (N, K, H, W)."""
    height, width = images.shape[2:]
    return logits(pad(images, multiple))[:, :, :height, :width].relu()


def predictor_of_maps(predictor: Predictor) -> Predictor:
    """A predictor whose "probabilities" are activation maps, averaged over its networks and views."""
    networks = tuple(Activations(one) for network in predictor.networks for one in parts(network))
    return replace(predictor, networks=networks, window=Chosen("activations", activations, 1.0, {}), gate=0.0)


@dataclass(frozen=True)
class Seeds:
    """How activation maps become probabilities of pixels.

    `background` is the id of the class of pixels without evidence, None if every class has a map. `exponent`
    is the exponent of the score of `background`.
    """

    background: int | None
    exponent: float

    def probabilities(self, maps: Tensor, tags: Sequence[Sequence[bool]] | Tensor) -> Tensor:
        """Probabilities (N, C, H, W) of maps (N, C, H, W) >= 0 and the classes (N, C) that images contain.

        Each map is divided by its maximum, classes that an image lacks are left out, and the background
        scores (1 - the largest of them)^exponent (Ahn & Kwak 2018, equations 1 and 2). The scores are divided
        by their sum; without any evidence, all classes are equally probable.
        """
        shown = torch.as_tensor(tags, dtype=torch.bool, device=maps.device).clone()
        if self.background is not None:
            shown[:, self.background] = False
        scores = maps / maps.amax(dim=(2, 3), keepdim=True).clamp_min(TINY) * shown[:, :, None, None]
        if self.background is not None:
            scores[:, self.background] = (1 - scores.amax(dim=1)) ** self.exponent
        total = scores.sum(dim=1, keepdim=True)
        return torch.where(total > TINY, scores / total.clamp_min(TINY), 1 / maps.shape[1])
