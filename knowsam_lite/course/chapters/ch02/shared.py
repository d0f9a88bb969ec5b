"""Shared by several exercises of chapter 02."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def filled(net: Module, seed: int = 0) -> Module:
    """The module in evaluation mode, with random weights and statistics that depend only on their order."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                low = 0.5 if tensor.ndim < 2 else -0.5
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)
    return net.eval()


def picture(*shape: int, seed: int = 0) -> Tensor:
    """The same image batch every time, values in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))
