"""DeconvNet (Noh, Hong and Han, ICCV 2015, Figure 2 and Table 2).

VGG-16 with fc6 and fc7, and its mirror image of unpoolings and transposed convolutions. Every layer but the
last has batch norm. The paper's fc6 reduces 224x224 images to one position. Here it is padded, so that images
of any size are taken; the parameters are the same.
"""

from torch import Tensor, nn

from selftrain.models.classics.unpooling import pooled, unpooled
from selftrain.models.classics.vgg import BLOCKS, NORMED, VGG16, Width, initialise, scaled, vgg16

DECODER = ((64, 64), (128, 64), (256, 256, 128), (512, 512, 256), (512, 512, 512))  # outputs, by block


class DeconvNet(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 32 -> logits (N, classes, H, W)."""

    def __init__(self, encoder: VGG16, classes: int, width: float):
        super().__init__()
        self.encoder = encoder
        self.norm6, self.norm7 = (_norm(encoder.channels) for _ in range(2))
        deep = scaled(BLOCKS[-1][-1], width)
        self.deconv6 = nn.Sequential(
            nn.ConvTranspose2d(encoder.channels, deep, 7, padding=3, bias=True), *_norm(deep)
        )
        self.decoder = nn.ModuleList(
            _deconvolutions(block[-1], outputs, width) for block, outputs in zip(BLOCKS, DECODER, strict=True)
        )
        self.segmentation_head = nn.Conv2d(scaled(DECODER[0][-1], width), classes, 1)
        for part in (self.deconv6, self.decoder, self.segmentation_head):
            initialise(part)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes, H, W)."""
        features, places = images, []
        for number in range(len(BLOCKS)):
            features, place = pooled(self.encoder.block(number, features))
            places.append(place)
        features = self.norm6(self.encoder.pre_logits["fc1"](features))
        features = self.deconv6(self.norm7(self.encoder.pre_logits["fc2"](features)))
        for number in reversed(range(len(BLOCKS))):
            features = self.decoder[number](unpooled(features, places[number]))
        logits: Tensor = self.segmentation_head(features)
        return logits


def _norm(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))


def _deconvolutions(inside: int, outputs: tuple[int, ...], width: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for outside in outputs:
        channels = scaled(outside, width)
        layers += [nn.ConvTranspose2d(scaled(inside, width), channels, 3, padding=1), *_norm(channels)]
        inside = outside
    return nn.Sequential(*layers)


def deconvnet(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """DeconvNet: a mirror image of VGG-16 with unpooling and deconvolution (Noh et al. 2015)."""
    vgg = vgg16(encoder, channels=channels, width=width, imagenet=imagenet, names=[NORMED], fc=True)
    return DeconvNet(vgg, classes, width)
