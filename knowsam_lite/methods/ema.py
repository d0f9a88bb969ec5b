"""The exponential moving average (EMA) of a network's weights."""

import torch
from torch import nn


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, decay: float, buffers: bool) -> None:
    """teacher <- decay x teacher + (1 - decay) x student, in place; both have the same layers.

    `decay` in [0, 1]. `buffers`: BatchNorm's running statistics too; counters are copied.
    """
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    if buffers:
        for kept, seen in zip(teacher.buffers(), student.buffers(), strict=True):
            if kept.is_floating_point():
                kept.lerp_(seen, 1 - decay)
            else:
                kept.copy_(seen)
