"""Several networks as one: its logits are the logarithms of their mean probabilities."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, log_softmax

from selftrain.anatomy import ATTRIBUTE, anatomy_of
from selftrain.models.outputs import output_of

FINEST = 64  # denominators of zooms; whole numbers keep an ONNX graph independent of the image's size


class Ensemble(nn.Module):
    """Networks whose probabilities are averaged (Hansen & Salamon 1990).

    `zooms` contains the factor by which each network's images (N, C, H, W) are resized. Its logits are
    resized back. An image-level head's logits are averaged as they are. `weights` are the networks' shares
    in the mean, with any sum above 0; without them all networks weigh alike.
    """

    def __init__(self, members: Sequence[nn.Module], zooms: Sequence[float], weights: Sequence[float] = ()):
        super().__init__()
        anatomy = anatomy_of(members[0])
        self.members = nn.ModuleList(members)
        self.zooms, self.weights = list(zooms), list(weights)
        self.multiple = math.lcm(*(anatomy_of(one).multiple for one in members))
        encoder, head = f"members.0.{anatomy.encoder}", f"members.0.{anatomy.head}"
        setattr(self, ATTRIBUTE, replace(anatomy, multiple=self.multiple, encoder=encoder, head=head))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Images (N, C, H, W) to logits (N, classes, H, W), with image logits (N, K) if there are any."""
        size = images.shape[-2:]
        outputs = [
            output_of(member(_resized(images, self._seen(size, zoom), zoom)))
            for member, zoom in zip(self.members, self.zooms, strict=True)
        ]
        found = [
            log_softmax(_resized(output.pixels.float(), size, zoom), dim=1)
            for output, zoom in zip(outputs, self.zooms, strict=True)
        ]
        heads = [output.image for output in outputs if output.image is not None]
        if not self.weights:
            pixels = torch.stack(found).logsumexp(dim=0) - math.log(len(found))
            return (pixels, torch.stack(heads).mean(dim=0)) if heads else pixels
        shares = [weight / sum(self.weights) for weight in self.weights]
        weighed = [one + math.log(share) for one, share in zip(found, shares, strict=True)]
        pixels = torch.stack(weighed).logsumexp(dim=0)
        if not heads:
            return pixels
        return pixels, torch.stack([one * share for one, share in zip(heads, shares, strict=True)]).sum(dim=0)

    def _seen(self, size: Sequence[int], zoom: float) -> list[int]:
        """The sides of the resized images: multiples of `multiple`, as the network needs them."""
        ratio = Fraction(zoom).limit_denominator(FINEST)
        up, down = ratio.numerator, ratio.denominator
        return [(side // self.multiple * up + down - 1) // down * self.multiple for side in size]


def joined(networks: Sequence[nn.Module], zooms: Sequence[float], weights: Sequence[float] = ()) -> nn.Module:
    """The networks as one; a single network that sees images as they are is returned itself."""
    return networks[0] if list(zooms) == [1.0] else Ensemble(networks, zooms, weights)


def parts(network: nn.Module) -> list[nn.Module]:
    """The networks that `joined` joined."""
    return list(network.members) if isinstance(network, Ensemble) else [network]


def zooms_of(network: nn.Module) -> list[float]:
    """The zoom of each of `parts`."""
    return network.zooms if isinstance(network, Ensemble) else [1.0]


def singles(network: nn.Module) -> list[nn.Module]:
    """Each of `parts` as a network of its own, which sees images of the size that the whole network sees."""
    return [joined([one], [zoom]) for one, zoom in zip(parts(network), zooms_of(network), strict=True)]


def weights_of(network: nn.Module) -> list[float]:
    """The weight of each of `parts` in their mean; empty if all weigh alike."""
    return network.weights if isinstance(network, Ensemble) else []


def shares_of(network: nn.Module) -> list[float]:
    """The share of each of `parts` in the mean; their sum is 1."""
    weights = weights_of(network) or [1.0] * len(parts(network))
    return [weight / sum(weights) for weight in weights]


def _resized(images: Tensor, size: Sequence[int], zoom: float) -> Tensor:
    if zoom == 1.0:
        return images
    return interpolate(images, size=list(size), mode="bilinear", align_corners=False)
