"""Shared by several exercises of chapter 06."""

from typing import Any

import torch
from torch import nn

from knowsam_lite.sam.adapter import Adapter


def stirred(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every weight random: adapters that start at zero would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def all_adapters(net: nn.Module) -> list[nn.Parameter]:
    return [p for m in net.modules() if isinstance(m, Adapter) for p in m.parameters()]


Kind = Any
