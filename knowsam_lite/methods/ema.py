"""The exponential moving average (EMA) of a network's weights."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_ema(teacher: nn.Module, student: nn.Module, decay: float, buffers: bool) -> None:
    """teacher <- decay x teacher + (1 - decay) x student, in place; both have the same layers.

    `decay` in [0, 1]. `buffers`: BatchNorm's running statistics too; counters are copied.
    """
    pairs: list[tuple[Tensor, Tensor]] = list(zip(teacher.parameters(), student.parameters(), strict=True))
    if buffers:
        both = list(zip(teacher.buffers(), student.buffers(), strict=True))
        pairs += [(kept, seen) for kept, seen in both if kept.is_floating_point()]
        for kept, seen in both:
            if not kept.is_floating_point():
                kept.copy_(seen)
    old, new = zip(*pairs, strict=True)
    torch._foreach_lerp_(list(old), list(new), 1 - decay)  # all in one: on a GPU each alone would be a kernel
