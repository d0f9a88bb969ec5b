"""Preprocessing before a SAM's encoder: each SAM has its own normalization and fit into the square."""

import torch
from torch import Tensor, nn


class MeanStd(nn.Module):
    """(x - mean) / std per channel, mean and std given for 0..255; the image fills the whole square.

    x (N, 3, h, w) in [0, 1] -> (N, 3, h, w).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]):
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1) / 255, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def inside(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Height and width of an image in a square of `side`: all of it, stretched."""
        return side, side


class MinMax(nn.Module):
    """Each image scaled to [0, 1], all channels alike; it keeps its shape, the rest of the square is zero.

    x (N, 3, h, w) -> (N, 3, h, w); a constant image becomes zero.
    """

    def forward(self, x: Tensor) -> Tensor:
        low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
        return (x - low) / (high - low).clamp(min=1e-8)

    def inside(self, height: int, width: int, side: int) -> tuple[int, int]:
        """Height and width of an image in a square of `side`, at its upper left: the longer one is `side`."""
        longest = max(height, width)
        return max(round(side * height / longest), 1), max(round(side * width / longest), 1)
