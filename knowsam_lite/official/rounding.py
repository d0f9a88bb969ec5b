"""How far float32 itself moves the norms of a training trace on this machine.

A training step has edges: a LeakyReLU changes slope at 0, a max-pooling takes one of two nearly equal values.
Which side a value that lies within rounding of an edge takes depends on the processor, the number of threads
and the version of PyTorch, and one such value among a million moves a gradient's norm by a thousandth. The
authors' norms were recorded in float32 and carry this accident, and so do ours. To see how large it is, the
trace is run again with every weight moved by four millionths of itself: about what rounding leaves in the
sums of a layer, after which the authors' code and ours would still be the same method.

One such run in a few misses an edge that another meets, and a trace has 800 norms. So runs are added, up to
six, until each norm is explained or it is plain that chance cannot be the cause.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import torch
from torch import nn

MOVE = 2.0**-18  # relative: 32 units in the last place of a float32, so that few edges are missed
SEEDS = (0, 1, 2, 3, 4, 5)  # of the moved traces, taken in turn as long as it needs
AT_LEAST = 3  # of them before a norm is given up
FEW = 0.01  # as long as no larger part of the values is left, another trace may explain them
FACTOR = 3.0  # a recorded norm may lie this many times as far from ours as the moved traces do

Norms = Mapping[str, float]


@torch.no_grad()
def move_weights(module: nn.Module, seed: int) -> None:
    """Move every weight by MOVE of itself, up or down by chance. In place."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        up = torch.rand(weight.shape, generator=generator) < 0.5
        weight.mul_(torch.where(up, 1 + MOVE, 1 - MOVE))


def network(parameter: str) -> str:
    """The part of the model that a parameter belongs to: "VNet.block_one.conv.0.weight" -> "VNet"."""
    return parameter.split(".")[0]


def allowed(found: Norms, moved: Sequence[Norms]) -> dict[str, float]:
    """How far, absolutely, each parameter's recorded norm may lie from ours by rounding alone.

    FACTOR times the farthest that the moved traces carry this norm, or, since a few traces need not meet an
    edge that another meets, times what is usual (the median, relative) in its network.

    `found`, `moved`: norm of each parameter in our trace and in the moved ones.
    """
    distance = {p: max(abs(norms[p] - norm) for norms in moved) for p, norm in found.items()}
    relative: dict[str, list[float]] = {}
    for parameter, norm in found.items():
        if norm > 0:
            relative.setdefault(network(parameter), []).append(distance[parameter] / norm)
    usual = {name: median(shares) for name, shares in relative.items()}
    return {p: FACTOR * max(distance[p], norm * usual.get(network(p), 0.0)) for p, norm in found.items()}
