"""Shared by several exercises of chapter 05."""

from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.course.probes import noise

BRANCHES = ("agreement", "certainty", "logits")


def library_inputs(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, ...]:
    """What the library's HAM passes to its three branches."""
    ham, seen = HybridAggregation(z_a.shape[1]).eval(), {}
    for name in BRANCHES:
        getattr(ham, name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
    ham(z_a, z_b)
    return tuple(seen[name] for name in BRANCHES)


def logit_pair(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return noise(2, classes, 6, 8, seed=seed), noise(2, classes, 6, 8, seed=seed + 50)


def weighed(kind: Any, classes: int = 2, train: bool = False) -> nn.Module:
    """A module of this class with the library's weights and non-trivial BatchNorm statistics; its names must
    match the library's.
    """
    reference = HybridAggregation(classes)
    generator = torch.Generator().manual_seed(classes)
    state = {
        name: torch.rand(tensor.shape, generator=generator) + (0.5 if tensor.ndim < 2 else -0.5)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in reference.state_dict().items()
    }
    made = kind(classes)
    made.load_state_dict(state)
    return made.train(train)
