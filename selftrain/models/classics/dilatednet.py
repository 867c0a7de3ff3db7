"""DilatedNet (Yu and Koltun, ICLR 2016): the front end of Section 4 and the basic context module of Table 1.

The front end is VGG-16 without its last two poolings; the later layers are dilated instead. The context
module works on class scores. It starts as the identity (Equation 4). Borders are padded with zeros.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from selftrain.models.classics.vgg import VGG16, Width, vgg16

CONTEXT = (1, 1, 2, 4, 8, 16, 1)  # dilations of Table 1, before a 1x1 layer


class DilatedNet(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 8 -> logits (N, classes, H, W)."""

    def __init__(self, encoder: VGG16, classes: int):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.5)
        self.segmentation_head = nn.Conv2d(encoder.channels, classes, 1)
        self.context = context(classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)[-1]
        for layer in self.encoder.pre_logits.values():
            features = self.dropout(layer(features).relu())
        scores = self.context(self.segmentation_head(features))
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear", align_corners=False)


def context(classes: int) -> nn.Sequential:
    """The basic context module, which keeps the number of channels; it starts as the identity."""
    layers: list[nn.Module] = []
    for rate in CONTEXT:
        layers += [nn.Conv2d(classes, classes, 3, padding=rate, dilation=rate), nn.ReLU(inplace=True)]
    layers.append(nn.Conv2d(classes, classes, 1))
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def dilatednet(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """DilatedNet: a dilated VGG-16 and a context module on its scores (Yu and Koltun 2016)."""
    pools = [*(nn.MaxPool2d(2) for _ in range(3)), nn.Identity(), nn.Identity()]
    vgg = vgg16(
        encoder,
        channels=channels,
        width=width,
        imagenet=imagenet,
        pools=pools,
        dilation=2,
        fc=True,
        fc_dilation=4,
    )
    return DilatedNet(vgg, classes)
