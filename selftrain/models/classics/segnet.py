"""SegNet (Badrinarayanan, Kendall and Cipolla, PAMI 2017, Figure 2).

The decoder mirrors the 13 convolutions of VGG-16. It puts features where the encoder's max pooling found its
maxima (Figure 3).
"""

from torch import Tensor, nn

from selftrain.models.classics.unpooling import pooled, unpooled
from selftrain.models.classics.vgg import BLOCKS, NORMED, VGG16, Width, initialise, scaled, vgg16


class SegNet(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 32 -> logits (N, classes, H, W)."""

    def __init__(self, encoder: VGG16, classes: int, width: float):
        super().__init__()
        self.encoder = encoder
        self.decoder = nn.ModuleList(
            _mirrored(block, BLOCKS[max(0, number - 1)][-1], width, last=number == 0)
            for number, block in enumerate(BLOCKS)
        )
        self.segmentation_head = nn.Conv2d(scaled(BLOCKS[0][0], width), classes, 3, padding=1)
        initialise(self.decoder)
        initialise(self.segmentation_head)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes, H, W)."""
        features, places = images, []
        for number in range(len(BLOCKS)):
            features, place = pooled(self.encoder.block(number, features))
            places.append(place)
        for number in reversed(range(len(BLOCKS))):
            features = self.decoder[number](unpooled(features, places[number]))
        logits: Tensor = self.segmentation_head(features)
        return logits


def _mirrored(block: tuple[int, ...], below: int, width: float, *, last: bool) -> nn.Sequential:
    """The convolutions of a block in reverse; the last one of the network is the head."""
    layers: list[nn.Module] = []
    outputs = block[1:] if last else (*block[1:], below)
    for inside, outside in zip(block, outputs, strict=False):
        channels = scaled(outside, width)
        layers += [
            nn.Conv2d(scaled(inside, width), channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def segnet(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """SegNet: a decoder that unpools with the encoder's places (Badrinarayanan et al. 2017)."""
    vgg = vgg16(encoder, channels=channels, width=width, imagenet=imagenet, names=[NORMED])
    return SegNet(vgg, classes, width)
