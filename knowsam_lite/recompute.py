"""A training step in less memory: what lies between two convolutions is computed twice instead of kept.

BatchNorm, activation, dropout and concatenation cost little time, but what they compute is as large as what
the convolutions do, and a backward pass needs both. Only the latter is kept here. Gradients, running
statistics and random numbers are the same to the bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.forwards import replace_forward
from knowsam_lite.inference import branch_inputs
from knowsam_lite.subnets import ConvBlock

NORMED = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
BLOCK = [*NORMED, nn.Dropout, *NORMED]


def compute_twice(module: nn.Module) -> None:
    """Let U-Nets' blocks and HAM, wherever they are in `module`, keep what their convolutions compute alone.

    Those with other layers than the usual ones, or with hooks, stay as they are.
    """
    for part in module.modules():
        if type(part) is ConvBlock and kinds(part) == BLOCK:
            replace_forward(part, block)
        elif isinstance(part, HybridAggregation) and usual(part):
            replace_forward(part, aggregation)


def kinds(layers: nn.Module) -> list[type[nn.Module]]:
    """The types of the layers of an `nn.Sequential`; of anything else none."""
    return [type(layer) for layer in layers] if isinstance(layers, nn.Sequential) else []


def usual(ham: HybridAggregation) -> bool:
    """Whether it computes as its class does, with the layers of `HybridAggregation`; how it ends is free."""
    inherited = type(ham).forward is HybridAggregation.forward
    branches = all(kinds(branch) == 2 * NORMED for branch in (ham.agreement, ham.certainty, ham.logits))
    return inherited and branches and kinds(ham.fuse)[:4] == [*NORMED, nn.Conv2d]


def block(self: ConvBlock, x: Tensor) -> Tensor:
    """`ConvBlock.forward`: the second convolution's input is computed twice."""
    first, *inner, norm, activation = self
    return activation(norm(between(nn.Sequential(*inner), first(x))))


def aggregation(self: HybridAggregation, z_a: Tensor, z_b: Tensor) -> Tensor:
    """`HybridAggregation.forward`: the inputs of all convolutions but the first three are computed twice."""
    inputs = branch_inputs(z_a, z_b, self.entropy)
    branches = (self.agreement, self.certainty, self.logits)
    maps = [between(branch[1:4], branch[0](x)) for branch, x in zip(branches, inputs, strict=True)]
    join = Join([branch[4:] for branch in branches], self.fuse[0])
    return self.fuse[4:](between(self.fuse[1:4], between(join, *maps)))


class Join(nn.Module):
    """The ends of HAM's branches, then one convolution over all: maps (N, C_k, H, W) -> (N, 64, H, W)."""

    def __init__(self, ends: list[nn.Module], conv: nn.Module):
        super().__init__()
        self.ends, self.conv = nn.ModuleList(ends), conv

    def forward(self, *maps: Tensor) -> Tensor:
        return self.conv(torch.cat([end(x) for end, x in zip(self.ends, maps, strict=True)], dim=1))


def between(layers: nn.Module, *maps: Tensor) -> Tensor:
    """layers(*maps), of which the backward pass has `maps` and computes the rest again.

    `layers` ends in a convolution, which is not run again: its answer is not needed.
    """
    return checkpoint(
        layers, *maps, use_reentrant=False, context_fn=lambda: (nullcontext(), statistics_kept(layers))
    )


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """BatchNorm counts what passes here on copies of its running statistics, which are thrown away."""
    kept = [(norm, dict(norm._buffers)) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
    for norm, buffers in kept:
        norm._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in kept:
            norm._buffers.update(buffers)
