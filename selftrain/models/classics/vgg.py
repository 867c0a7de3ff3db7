"""VGG-16 as an encoder, with the tensor names of timm (Simonyan and Zisserman 2015, Table 1, column D)."""

from collections.abc import Sequence
from typing import Annotated

import timm
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.models.encoders import TIMM
from selftrain.tables import Bounds

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
FC = 4096  # channels of fc6 and fc7
PLAIN, NORMED = "tu-vgg16", "tu-vgg16_bn"

Width = Annotated[float, Bounds(above=0), "channels of each layer, as a share of the paper's"]


class VGG16(nn.Module):
    """Images (N, channels, H, W) -> the features after each of the five poolings.

    `pools` are the five poolings. The last block has `dilation`. With `fc` the network also has fc6 (7x7) and
    fc7 (1x1) as convolutions; the caller applies them.
    """

    def __init__(
        self,
        channels: int,
        width: float,
        *,
        normed: bool,
        pools: Sequence[nn.Module],
        dilation: int,
        fc: bool,
        fc_dilation: int,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        self.ends: list[int] = []  # the places of the poolings in `features`
        for block, pool in zip(BLOCKS, pools, strict=True):
            rate = dilation if len(self.ends) == len(BLOCKS) - 1 else 1
            for full in block:
                layers.append(nn.Conv2d(channels, scaled(full, width), 3, padding=rate, dilation=rate))
                channels = scaled(full, width)
                layers += [nn.BatchNorm2d(channels)] if normed else []
                layers.append(nn.ReLU(inplace=True))
            self.ends.append(len(layers))
            layers.append(pool)
        self.features = nn.Sequential(*layers)
        self.channels = channels
        if fc:
            wide = scaled(FC, width)
            fc6 = nn.Conv2d(channels, wide, 7, padding=3 * fc_dilation, dilation=fc_dilation)
            self.pre_logits = nn.ModuleDict({"fc1": fc6, "fc2": nn.Conv2d(wide, wide, 1)})
            self.channels = wide
        initialise(self)

    def block(self, number: int, features: Tensor) -> Tensor:
        """The features of block `number`, counted from 0, before its pooling."""
        start = self.ends[number - 1] + 1 if number else 0
        for place in range(start, self.ends[number]):
            features = self.features[place](features)
        return features

    def forward(self, images: Tensor) -> list[Tensor]:
        found = [images]
        for number, end in enumerate(self.ends):
            found.append(self.features[end](self.block(number, found[-1])))
        return found[1:]


def vgg16(
    encoder: str,
    *,
    channels: int,
    width: float,
    imagenet: bool,
    names: Sequence[str] = (PLAIN, NORMED),
    pools: Sequence[nn.Module] | None = None,
    dilation: int = 1,
    fc: bool = False,
    fc_dilation: int = 1,
) -> VGG16:
    """Build the VGG-16 of a network; `imagenet` downloads timm's weights.

    `names` are the encoders that the architecture takes.

    Raises ConfigError for another encoder, and for weights of a narrower network.
    """
    if encoder not in names:
        raise ConfigError(
            f"model.encoder={encoder}: this architecture is built on VGG-16; "
            f"set model.encoder={' or '.join(names)}"
        )
    if imagenet and width != 1:
        raise ConfigError(
            f"ImageNet weights of {encoder} fit width=1, not width={width}; set model.weights=null"
        )
    network = VGG16(
        channels,
        width,
        normed=encoder == NORMED,
        pools=pools or [nn.MaxPool2d(2) for _ in BLOCKS],
        dilation=dilation,
        fc=fc,
        fc_dilation=fc_dilation,
    )
    if imagenet:
        theirs = timm.create_model(
            encoder.removeprefix(TIMM), pretrained=True, in_chans=channels
        ).state_dict()
        network.load_state_dict({name: theirs[name] for name in network.state_dict()})
    return network


def scaled(channels: int, width: float) -> int:
    """The number of channels of a layer at `width`."""
    return max(1, round(channels * width))


def initialise(network: nn.Module) -> None:
    """Set random weights for layers with ReLU (He et al. 2015); biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
