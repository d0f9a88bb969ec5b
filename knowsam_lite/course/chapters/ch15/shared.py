"""Shared by several exercises of chapter 15."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.course.probes import noise

Array = NDArray[Any]
Mask = NDArray[np.bool_]


def numbers(values: Iterable[Any]) -> Tensor:
    """Numbers of any kind as one tensor."""
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def blobs(classes: int, seed: int, size: tuple[int, int] = (18, 24)) -> Tensor:
    """Smooth logits (C, H, W), confident in places."""
    return F.interpolate(noise(1, classes, 5, 6, seed=seed, scale=3.0), size, mode="bilinear")[0]


def mask(seed: int, size: tuple[int, int] = (18, 24), above: float = 0.5) -> Mask:
    """A mask of several pieces, some at the picture's edge."""
    found: Mask = (blobs(1, seed, size)[0] > above).numpy()
    return found
