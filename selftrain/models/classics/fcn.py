"""FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer and Darrell, CVPR 2015, Figure 3).

VGG-16 with fc6 and fc7 as convolutions, a class score per position, and scores of pool4 and pool3 added on
the way up. Upsampling by 2 is learnt and starts as bilinear; the last upsampling stays bilinear (Section
4.3). The paper pads images by 100 pixels and crops the scores. Here fc6 is padded instead.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selftrain.models.classics.vgg import BLOCKS, VGG16, Width, scaled, vgg16

POOLS = (4, 3)  # the poolings whose scores are added, in this order


class FCN(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 32 -> logits (N, classes, H, W)."""

    def __init__(self, encoder: VGG16, classes: int, width: float, skips: int):
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(0.5)
        self.segmentation_head = nn.Conv2d(encoder.channels, classes, 1)
        self.pools = POOLS[:skips]
        for pool in self.pools:
            self.add_module(f"score{pool}", nn.Conv2d(scaled(BLOCKS[pool - 1][-1], width), classes, 1))
            self.add_module(f"up{pool}", _doubling(classes))
        for name, module in self.named_children():
            if name == "segmentation_head" or name.startswith("score"):
                for parameter in module.parameters():
                    nn.init.zeros_(parameter)  # Section 4.3

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes, H, W)."""
        features = self.encoder(images)
        deep = features[-1]
        for layer in self.encoder.pre_logits.values():
            deep = self.dropout(layer(deep).relu())
        scores: Tensor = self.segmentation_head(deep)
        for pool in self.pools:
            own = self.get_submodule(f"score{pool}")(features[pool - 1])
            scores = self.get_submodule(f"up{pool}")(scores) + own
        return F.interpolate(scores, size=images.shape[2:], mode="bilinear", align_corners=False)


def _doubling(classes: int) -> nn.ConvTranspose2d:
    """Upsampling by 2, bilinear at first."""
    layer = nn.ConvTranspose2d(classes, classes, 4, stride=2, padding=1, bias=False)
    line = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        layer.weight.copy_(torch.eye(classes)[:, :, None, None] * line[:, None] * line)
    return layer


def fcn32s(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """FCN-32s: class scores of the last layer of VGG-16 (Long et al. 2015)."""
    return _fcn(encoder, classes, channels, imagenet, width, skips=0)


def fcn16s(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """FCN-16s: FCN-32s with the scores of pool4 added (Long et al. 2015)."""
    return _fcn(encoder, classes, channels, imagenet, width, skips=1)


def fcn8s(*, encoder: str, classes: int, channels: int, imagenet: bool, width: Width = 1.0) -> nn.Module:
    """FCN-8s: FCN-16s with the scores of pool3 added (Long et al. 2015)."""
    return _fcn(encoder, classes, channels, imagenet, width, skips=2)


def _fcn(encoder: str, classes: int, channels: int, imagenet: bool, width: float, skips: int) -> nn.Module:
    vgg = vgg16(encoder, channels=channels, width=width, imagenet=imagenet, fc=True)
    return FCN(vgg, classes, width, skips)
