"""A slim DPT on a plain vision transformer: the network of UniMatch V2 (Yang et al. 2025)."""

from typing import Annotated, Any

import timm
import torch
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder, DPTSegmentationHead
from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder
from torch import Tensor, nn

from selftrain.errors import ConfigError
from selftrain.models.encoders import TIMM
from selftrain.tables import Bounds

PATCH = 16  # pixels; with DINOv2's 14, the features of DPT's depths would not fit each other


class Encoder(TimmViTEncoder):
    """smp's encoder, with the transformer's last norm on the features of every depth, as in DINOv2."""

    def forward(self, images: Tensor) -> tuple[list[Tensor], list[Tensor | None]]:
        """Features (N, C, H / PATCH, W / PATCH) of each depth; no prefix tokens."""
        features: list[Tensor] = self.model.forward_intermediates(
            images, indices=self._output_indices, norm=True, intermediates_only=True
        )
        return features, [None] * len(features)


class SlimDPT(nn.Module):
    """Images (N, C, H, W) with sides in multiples of 32 -> logits (N, classes, H, W)."""

    def __init__(self, encoder: Encoder, classes: int, width: float = 1.0):
        super().__init__()
        deepest = encoder.out_channels[-1]
        features = _share(deepest, width / 6)  # 64 for ViT-S and 128 for ViT-B, as in the paper
        self.encoder = encoder
        self.decoder = DPTDecoder(
            encoder_out_channels=encoder.out_channels,
            encoder_output_strides=encoder.output_strides,
            encoder_has_prefix_tokens=False,
            readout="ignore",
            intermediate_channels=[_share(deepest, width / part) for part in (8, 4, 2, 1)],
            fusion_channels=features,
        )
        self.segmentation_head = DPTSegmentationHead(features, classes, upsampling=2)
        for part in (*self.decoder.modules(), *self.segmentation_head.modules()):
            for name, child in part.named_children():
                if isinstance(child, nn.BatchNorm2d | nn.Dropout):
                    setattr(part, name, nn.Identity())  # the paper's decoder has neither

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoder(*self.encoder(images)))
        return logits


def _share(channels: int, share: float) -> int:
    return max(1, int(channels * share + 1e-6))


def slim_dpt(
    *,
    encoder: str,
    classes: int,
    channels: int,
    drop_path: float,
    imagenet: bool,
    width: Annotated[
        float, Bounds(above=0, most=4), "factor on the widths of the decoder; 1: as in the paper"
    ] = 1.0,
) -> nn.Module:
    """UniMatch V2's network: a vision transformer of timm, and a DPT without batch norm.

    Weights for another patch size, such as 14, are resampled to PATCH (timm's `resample_patch_embed`). Images
    of any size are taken: the position embedding keeps its grid and is resampled in every forward pass.

    Raises ConfigError for an encoder that is not a plain vision transformer of timm.
    """
    name = encoder.removeprefix(TIMM)
    settings: dict[str, Any] = {"patch_size": PATCH, "dynamic_img_size": True}
    if drop_path:
        settings["drop_path_rate"] = drop_path
    try:
        with torch.device("meta"):
            patches: Any = timm.create_model(name).patch_embed
            settings["img_size"] = tuple(PATCH * side for side in patches.grid_size)
            Encoder(name, pretrained=False, **settings)
    except (AttributeError, TypeError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"arch=slim_dpt encoder={encoder}: it takes a plain vision transformer of timm, such as "
            f"{TIMM}vit_small_patch14_dinov2 ({reason})"
        ) from None
    return SlimDPT(Encoder(name, pretrained=imagenet, in_channels=channels, **settings), classes, width)
