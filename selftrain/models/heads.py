"""An image-level head beside the pixels: which classes an image contains, and where the evidence is."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate

from selftrain.anatomy import anatomy_of
from selftrain.errors import ConfigError

ATTRIBUTE = "image_head"  # the head's name within a network
DEPTHS = 3  # the encoder's last ones: strides 8, 16 and 32 of a CNN


class ImageHead(nn.Module):
    """A linear classifier of the average of each feature, over the last depths of an encoder.

    As it is linear, a logit is the mean over the image of a map: the class activation map (CAM, Zhou et al.
    2016). The shallow depths make the maps finer than the paper's, which has the last depth only.
    """

    def __init__(self, widths: Sequence[int], classes: int):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(width, classes, 1, bias=number == 0) for number, width in enumerate(widths)
        )
        self.seen: list[Sequence[Tensor]] = []  # the features of the forward pass that is under way

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Features (N, C, h, w) of each depth -> logits (N, classes).

        They may be half precision where the head is not: accelerate's autocast ends with the network's own
        `forward`, before the hook that asks the head.
        """
        first, *others = (
            layer(one.mean(dim=(2, 3), keepdim=True).to(next(layer.parameters(), one).dtype))
            for layer, one in self._pairs(features)
        )
        return sum(others, first).flatten(1)

    def maps(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """The class activation maps (N, classes, H, W) of `size`."""
        first, *others = (
            interpolate(layer(one), size=size, mode="bilinear", align_corners=False)
            for layer, one in self._pairs(features)
        )
        return sum(others, first)

    def _pairs(self, features: Sequence[Tensor]) -> list[tuple[nn.Module, Tensor]]:
        return list(zip(self.layers, features[-len(self.layers) :], strict=True))

    def see(self, encoder: nn.Module, inputs: tuple, output: object) -> None:
        """Keep the encoder's features until the network returns its pixel logits."""
        self.seen.append(features_of(output))

    def answer(self, network: nn.Module, inputs: tuple, output: Tensor) -> tuple[Tensor, Tensor]:
        """The pixel logits and the image's."""
        return output, self(self.seen.pop())


def add_head(network: nn.Module, classes: int, arch: str) -> None:
    """Add an image-level head to a network, which then returns the logits of pixels and images.

    Hooks join them: each architecture has its own forward pass, and tensor names stay as they are. Copies of
    the network get hooks of their own, as the hooks are methods of the head.

    Raises ConfigError for an encoder that does not tell the widths of its features.
    """
    encoder = dict(network.named_modules()).get(anatomy_of(network).encoder)
    widths = getattr(encoder, "out_channels", None)
    if encoder is None or not isinstance(widths, Sequence):
        raise ConfigError(
            f"arch={arch}: its encoder does not tell the widths of its features, so there is no image-level "
            "head; set loss.image={} or another model.arch, such as unet"
        )
    head = ImageHead([width for width in widths[1:] if width][-DEPTHS:], classes)
    network.add_module(ATTRIBUTE, head)
    encoder.register_forward_hook(head.see)
    network.register_forward_hook(head.answer)


def head_of(network: nn.Module) -> ImageHead | None:
    """The image-level head of a network."""
    found = getattr(network, ATTRIBUTE, None)
    return found if isinstance(found, ImageHead) else None


def features_of(output: object) -> Sequence[Tensor]:
    """The features of an encoder's depths; some encoders return prefix tokens as well, or one depth."""
    if isinstance(output, Tensor):
        return [output]
    first = output[0]  # type: ignore[index]
    return first if isinstance(first, list | tuple) else output  # type: ignore[return-value]
