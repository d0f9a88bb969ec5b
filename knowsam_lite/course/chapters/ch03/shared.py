"""Shared by several exercises of chapter 03."""

import torch
from torch import nn

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def alike_filled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights of mean 0 that depend only on their order and shapes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
    return net
