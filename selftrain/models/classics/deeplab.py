"""DeepLab without its CRF: V1 with a large field of view, and V2 with ASPP, on VGG-16.

V1: Chen et al., ICLR 2015, Table 2, "DeepLab-CRF-LargeFOV". V2: Chen et al., PAMI 2018, Figure 7 (b),
"DeepLab-ASPP". Both keep the resolution after pool3 and dilate the convolutions behind it. The CRF is a
setting of the labels (`labels.refiner`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selftrain.models.classics.vgg import VGG16, Width, initialise, scaled, vgg16

HIDDEN = 1024  # channels of fc6 and fc7
LARGE_FOV = (12,)  # dilation of fc6
ASPP = (6, 12, 18, 24)  # ASPP-L of V2, Section 4.1.2


class DeepLab(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 8 -> logits (N, classes, H, W).

    Each dilation of `rates` has its own branch of fc6, fc7 and scores; the scores are added.
    """

    def __init__(self, encoder: VGG16, classes: int, width: float, rates: tuple[int, ...]):
        super().__init__()
        self.encoder = encoder
        hidden = scaled(HIDDEN, width)
        self.decoder = nn.ModuleList(_branch(encoder.channels, hidden, rate) for rate in rates)
        self.segmentation_head = Scores(hidden, classes, len(rates))
        initialise(self.decoder)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)[-1]
        scores = self.segmentation_head(torch.cat([branch(features) for branch in self.decoder], dim=1))
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear", align_corners=False)


class Scores(nn.Module):
    """The sum of the branches' scores: features (N, branches * hidden, h, w) -> (N, classes, h, w)."""

    def __init__(self, hidden: int, classes: int, branches: int):
        super().__init__()
        self.fc8 = nn.ModuleList(nn.Conv2d(hidden, classes, 1) for _ in range(branches))

    def forward(self, features: Tensor) -> Tensor:
        parts = features.chunk(len(self.fc8), dim=1)
        scores = [layer(part) for layer, part in zip(self.fc8, parts, strict=True)]
        return torch.stack(scores).sum(dim=0)


def _branch(channels: int, hidden: int, rate: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=rate, dilation=rate),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    )


def deeplabv1(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """DeepLab-LargeFOV: a dilated VGG-16 with a small fc6 of a large field of view (Chen et al. 2015)."""
    return _deeplab(encoder, classes, channels, imagenet, width, LARGE_FOV)


def deeplabv2(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """DeepLab-ASPP: four branches of different dilations on VGG-16 (Chen et al. 2018)."""
    return _deeplab(encoder, classes, channels, imagenet, width, ASPP)


def _deeplab(
    encoder: str, classes: int, channels: int, imagenet: bool, width: float, rates: tuple[int, ...]
) -> nn.Module:
    pools = [nn.MaxPool2d(3, stride=2 if number < 3 else 1, padding=1) for number in range(5)]
    vgg = vgg16(encoder, channels=channels, width=width, imagenet=imagenet, pools=pools, dilation=2)
    return DeepLab(vgg, classes, width, rates)
