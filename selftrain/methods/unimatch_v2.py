"""UniMatch V2."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from selftrain.anatomy import anatomy_of, part
from selftrain.methods.fixmatch import FixMatch


class UniMatchV2(FixMatch):
    """Yang et al. 2025: two strong views, each of which loses the channels that the other keeps."""

    views = 2

    @contextmanager
    def noise(self, network: nn.Module, labelled: int, unlabelled: int) -> Iterator[None]:
        """Complementary dropout of whole channels (p = 0.5, scaled by 2), at all encoder depths.

        It acts on half of the images. The depths of a vision transformer share one mask, as in the paper. In
        a CNN, depths differ in width, so each has its own mask.
        """
        dropped = torch.rand(unlabelled) < 0.5

        def drop(
            module: nn.Module, inputs: tuple, output: Tensor | list[Tensor] | tuple
        ) -> Tensor | list[Tensor] | tuple:
            """Replace the encoder's features by features with noise."""
            if isinstance(output, Tensor):  # an encoder with one depth
                return _complementary([output], labelled, dropped)[0]
            # a vision transformer: every feature is a depth; prefix tokens get no noise
            if isinstance(output, tuple):
                features, *rest = output
                return (_complementary(features, labelled, dropped), *rest)
            image, *features = output
            return [image, *_complementary(features, labelled, dropped, shared=False)]

        encoder = part(network, anatomy_of(network).encoder, "generations: unimatch_v2")
        handle = encoder.register_forward_hook(drop)
        try:
            yield
        finally:
            handle.remove()


def _complementary(
    features: list[Tensor], labelled: int, dropped: Tensor, *, shared: bool = True
) -> list[Tensor]:
    """Apply channel dropout to features (labelled + 2 M, C, h, w).

    In the images `dropped` (M,), each view loses the channels that the other keeps. With `shared`, features
    of one width get one mask.
    """
    masks: dict[int, Tensor] = {}
    found = []
    for feature in features:
        width = feature.shape[1]
        if not shared or width not in masks:
            masks[width] = _scale(width, labelled, dropped)
        found.append(feature * masks[width][:, :, None, None].to(feature))
    return found


def _scale(width: int, labelled: int, dropped: Tensor) -> Tensor:
    """Channel factors (labelled + 2 M, width): 1 without dropout, otherwise 0 or 2.

    The factors of both views of an image add up to 2.
    """
    mask = 2.0 * (torch.rand(len(dropped), width) < 0.5)
    first, second = (torch.where(dropped[:, None], one, 1.0) for one in (mask, 2.0 - mask))
    return torch.cat([torch.ones(labelled, width), first, second])
