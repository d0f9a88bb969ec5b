"""The trainer's entry point to everything that makes a training step faster or smaller on a CPU."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.decoders import SharedEncoder
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.fast.allocator import freed_memory_kept
from knowsam_lite.fast.checkpointing import checkpoint_activations
from knowsam_lite.fast.folding import channels_last
from knowsam_lite.fast.frozen_linear import multiply_with_onednn
from knowsam_lite.fast.patching import has_avx512, restore_forward
from knowsam_lite.fast.weight_gradient import gradients_by_products
from knowsam_lite.subnets import UNet, VNet

# Pixels a side from which activations are large enough to recompute, and SAM's matrix products large enough
# to gain from oneDNN. Channels-last saves a seventh of a step at 256 px, little at 64; in bf16 it pays at any
# size. Dropout draws its masks in memory order, so a channels-last run is another draw of the same
# distribution.
LARGE = 128


def speed_up(method: nn.Module, image_size: int, device: torch.device, bf16: bool) -> None:
    """Replace forward passes of `method` in training by faster ones with the same results, in place.

    `image_size`: pixels a side. Off the CPU nothing changes. `while_training` undoes the replacements.
    """
    if device.type != "cpu":
        return
    large = image_size >= LARGE
    if bf16 or large:
        channels_last(method)
    if large:
        checkpoint_activations(method)
        multiply_with_onednn(method)
        if not has_avx512():
            gradients_by_products(method)


@contextmanager
def while_training(method: nn.Module) -> Iterator[None]:
    """Within the context freed memory is kept; afterwards `method` has its original forward passes again."""
    try:
        with freed_memory_kept():
            yield
    finally:
        restore_forward(method)


def compile_students(method: nn.Module) -> None:
    """Have PyTorch compile the networks that learn, in place, at their first use; their names stay."""
    for part in method.modules():
        if isinstance(part, UNet | VNet | SharedEncoder | PretrainedNet | HybridAggregation):
            part.compile()


def prepare_same_bits(wanted: bool) -> None:
    """What has to be said, if `wanted`, before the first product on a GPU, see `same_bits`."""
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextmanager
def same_bits(wanted: bool) -> Iterator[None]:
    """Within the context, if `wanted`, operations with a random order of summation on a GPU are replaced.

    Raises UserError for an operation that PyTorch has no such version of.
    """
    if not wanted:
        yield
        return
    before, fastest = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):  # PyTorch has no class of its own for it
            raise
        raise UserError(
            f"found an operation that sums in any order ({str(error).splitlines()[0][:100]}), expected a "
            "deterministic one: leave out --deterministic"
        ) from None
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = fastest
