"""Two networks that learn from each other."""

import torch
from torch import Tensor, nn


class Pair(nn.Module):
    """In training the logits of both, (2, N, C, H, W); in eval mode those of the first, which is what a run keeps."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, images: Tensor) -> Tensor:
        first = self.first(images)
        return torch.stack([first, self.second(images)]) if self.training else first
