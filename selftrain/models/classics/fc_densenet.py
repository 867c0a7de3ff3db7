"""FC-DenseNet 56, 67 and 103 (Jégou et al., CVPR Workshops 2017, Figure 1 and Tables 1 and 2).

Dense blocks on the way down and up. A block on the way up passes on only the features that it made itself.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.models.classics.vgg import Width, initialise, scaled

FIRST = 48  # channels of the first convolution
DROPOUT = 0.2


class Layer(nn.Sequential):
    """Batch norm, ReLU, convolution and dropout (Table 1)."""

    def __init__(self, inside: int, outside: int, size: int):
        super().__init__(
            nn.BatchNorm2d(inside),
            nn.ReLU(),
            nn.Conv2d(inside, outside, size, padding=size // 2),
            nn.Dropout(DROPOUT),
        )


class Block(nn.Module):
    """A dense block: features (N, channels, H, W) -> the features that its layers add to them."""

    def __init__(self, channels: int, growth: int, layers: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(channels + number * growth, growth, 3) for number in range(layers))

    def forward(self, features: Tensor) -> Tensor:
        made = []
        for layer in self.layers:
            made.append(layer(features))
            features = torch.cat([features, made[-1]], dim=1)
        return torch.cat(made, dim=1)


class Down(nn.Module):
    """The way down: images -> the features before each pooling, and after the last one."""

    def __init__(self, channels: int, first: int, growth: int, layers: Sequence[int]):
        super().__init__()
        self.first = nn.Conv2d(channels, first, 3, padding=1)
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        self.channels = [first]
        for count in layers:
            before, after = self.channels[-1], self.channels[-1] + count * growth
            self.blocks.append(Block(before, growth, count))
            self.transitions.append(nn.Sequential(Layer(after, after, 1), nn.MaxPool2d(2)))
            self.channels.append(after)

    def forward(self, images: Tensor) -> list[Tensor]:
        features, found = self.first(images), []
        for block, transition in zip(self.blocks, self.transitions, strict=True):
            found.append(torch.cat([features, block(features)], dim=1))
            features = transition(found[-1])
        return [*found, features]


class FCDenseNet(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 32 -> logits (N, classes, H, W)."""

    def __init__(self, channels: int, classes: int, first: int, growth: int, layers: Sequence[int]):
        super().__init__()
        *down, middle = layers
        self.encoder = Down(channels, first, growth, down)
        self.middle = Block(self.encoder.channels[-1], growth, middle)
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        made = middle * growth
        for count, skipped in zip(reversed(down), reversed(self.encoder.channels[1:]), strict=True):
            # cropped to twice the size
            self.ups.append(nn.ConvTranspose2d(made, made, 3, stride=2, padding=1, output_padding=1))
            inside = made + skipped
            self.blocks.append(Block(inside, growth, count))
            made = count * growth
        self.segmentation_head = nn.Conv2d(inside + made, classes, 1)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes, H, W)."""
        *skipped, features = self.encoder(images)
        made = self.middle(features)
        for up, block in zip(self.ups, self.blocks, strict=True):
            features = torch.cat([up(made), skipped.pop()], dim=1)
            made = block(features)
        logits: Tensor = self.segmentation_head(torch.cat([features, made], dim=1))
        return logits


def fc_densenet56(*, encoder: str, classes: int, channels: int, width: Width = 1.0) -> nn.Module:
    """FC-DenseNet56: dense blocks of 4 layers with growth 12 (Jégou et al. 2017)."""
    return _fc_densenet(encoder, classes, channels, width, 12, (4, 4, 4, 4, 4, 4))


def fc_densenet67(*, encoder: str, classes: int, channels: int, width: Width = 1.0) -> nn.Module:
    """FC-DenseNet67: dense blocks of 5 layers with growth 16 (Jégou et al. 2017)."""
    return _fc_densenet(encoder, classes, channels, width, 16, (5, 5, 5, 5, 5, 5))


def fc_densenet103(*, encoder: str, classes: int, channels: int, width: Width = 1.0) -> nn.Module:
    """FC-DenseNet103: dense blocks of 4 to 15 layers with growth 16 (Jégou et al. 2017)."""
    return _fc_densenet(encoder, classes, channels, width, 16, (4, 5, 7, 10, 12, 15))


def _fc_densenet(
    encoder: str, classes: int, channels: int, width: float, growth: int, layers: tuple[int, ...]
) -> nn.Module:
    """`layers` of the blocks on the way down, and of the middle one. Raises ConfigError for an encoder."""
    if encoder:
        raise ConfigError(
            f"model.encoder={encoder}: FC-DenseNet takes no encoder; set model.encoder= and "
            "generations.N.encoder=null"
        )
    return FCDenseNet(channels, classes, scaled(FIRST, width), scaled(growth, width), layers)
