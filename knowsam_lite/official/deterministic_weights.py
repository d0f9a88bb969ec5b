"""Weights, inputs and batches as functions of names and seeds, so that a parity case needs no weight file."""

import zlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from knowsam_lite.official.keys import to_official

FloatArray = NDArray[np.float32]
TRACE_SIZE = 256  # pixels a side of the images of a training trace
TRACE_IMAGES = 4


def fill_value(name: str, shape: tuple[int, ...]) -> FloatArray:
    """The value of the floating-point entry `name` (in the authors' spelling) of `shape`, float32.

    Normal numbers from a generator seeded by the name's CRC-32: variances are above 1, means and biases
    small, other vectors near 1, and kernels divided by the square root of their fan-in.
    """
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    z = generator.standard_normal(size=tuple(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return (1 + 0.1 * np.abs(z)).astype(np.float32)
    if name.endswith(("running_mean", "bias")):
        return (0.1 * z).astype(np.float32)
    if len(shape) < 2:
        return (1 + 0.1 * z).astype(np.float32)
    return (z / np.sqrt(int(np.prod(shape[1:])))).astype(np.float32)


def make_input(seed: int, shape: tuple[int, ...], dist: str) -> FloatArray:
    """A case's input, float32: `dist` is "rand" (uniform in [0, 1)) or "randn" (standard normal).

    Raises ValueError for any other `dist`.
    """
    generator = np.random.RandomState(seed)
    if dist == "rand":
        return generator.rand(*shape).astype(np.float32)
    if dist == "randn":
        return generator.randn(*shape).astype(np.float32)
    raise ValueError(f"found dist {dist!r}, expected rand or randn")


def trace_batch(num_classes: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """The batch of a training trace: images (4, 3, 256, 256) in [0, 1) and labels (4, 256, 256) int64.

    Each label map holds one disc, of class 1 + i % (num_classes - 1). The first two samples are the labelled
    half.
    """
    images = np.random.RandomState(3).rand(TRACE_IMAGES, 3, TRACE_SIZE, TRACE_SIZE).astype(np.float32)
    y, x = np.mgrid[:TRACE_SIZE, :TRACE_SIZE]
    labels = np.zeros((TRACE_IMAGES, TRACE_SIZE, TRACE_SIZE), dtype=np.int64)
    for i, label in enumerate(labels):
        label[(y - 80 - 20 * i) ** 2 + (x - 100 - 15 * i) ** 2 < (40 + 8 * i) ** 2] = 1 + i % (
            num_classes - 1
        )
    return images, labels


@torch.no_grad()
def fill(module: nn.Module) -> None:
    """Fill every floating-point entry of students or teacher with the value for its official name."""
    for name, tensor in module.state_dict().items():  # these tensors share the module's memory
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(fill_value(to_official(name), tuple(tensor.shape))))
