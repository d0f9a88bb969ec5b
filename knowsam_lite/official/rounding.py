"""How far float32 rounding alone moves the norms of a training trace on this machine.

A training step has edges: a LeakyReLU changes slope at 0, a max-pooling takes one of two nearly equal values.
On which side a value within rounding of an edge falls depends on the processor, the number of threads and the
version of PyTorch, and one such value among a million moves a gradient's norm by a thousandth. The authors'
norms were recorded in float32 and contain this random effect, and so do ours. To measure it, the trace is run
again with every weight moved by four millionths of itself: about the rounding error in the sums of a layer,
which leaves the authors' code and ours the same method.

A single such run may miss an edge that another hits, and a trace has 800 norms. So runs are added, up to six,
until each norm is explained or chance is ruled out as the cause.
"""

from collections.abc import Mapping, Sequence
from statistics import median

import torch
from torch import nn

MOVE = 2.0**-18  # relative: 32 units in the last place of a float32, so that few edges are missed
SEEDS = (0, 1, 2, 3, 4, 5)  # of the moved traces, used in turn as needed
AT_LEAST = 3  # moved traces before a norm is given up
FEW = 0.01  # if no larger fraction of the values is left, another trace may explain them
FACTOR = 3.0  # a recorded norm may lie this many times as far from ours as the moved traces do

Norms = Mapping[str, float]


@torch.no_grad()
def move_weights(module: nn.Module, seed: int) -> None:
    """Move every weight by MOVE of itself, up or down at random. In place."""
    generator = torch.Generator().manual_seed(seed)
    for weight in module.parameters():
        up = torch.rand(weight.shape, generator=generator) < 0.5
        weight.mul_(torch.where(up, 1 + MOVE, 1 - MOVE))


def network(parameter: str) -> str:
    """The part of the model that a parameter belongs to: "VNet.block_one.conv.0.weight" -> "VNet"."""
    return parameter.split(".")[0]


def allowed(found: Norms, moved: Sequence[Norms]) -> dict[str, float]:
    """How far, absolutely, each parameter's recorded norm may lie from ours by rounding alone.

    FACTOR times the largest change of this norm in the moved traces or, since a few traces may miss an edge
    that another hits, times the typical change (the relative median) in its network, whichever is larger.

    `found`, `moved`: norm of each parameter in our trace and in the moved ones.
    """
    distance = {p: max(abs(norms[p] - norm) for norms in moved) for p, norm in found.items()}
    relative: dict[str, list[float]] = {}
    for parameter, norm in found.items():
        if norm > 0:
            relative.setdefault(network(parameter), []).append(distance[parameter] / norm)
    usual = {name: median(shares) for name, shares in relative.items()}
    return {p: FACTOR * max(distance[p], norm * usual.get(network(p), 0.0)) for p, norm in found.items()}
