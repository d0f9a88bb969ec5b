"""Frozen linear layers by oneDNN, which computes PyTorch's convolutions: SAM's products in less time.

PyTorch's CPU builds multiply float32 matrices with Intel's MKL. That leaves AVX-512 alone on other makers'
processors, which costs half the speed. Without AVX-512 oneDNN is faster forward, with the weight as it
lies, and MKL backward.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from knowsam_lite.forwards import in_float32_on_cpu, replace_forward
from knowsam_lite.machine import has_avx512


def multiply_with_onednn(module: nn.Module) -> None:
    """Let every frozen `nn.Linear` in `module` multiply so, if this PyTorch has oneDNN."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for part in module.modules():
        if type(part) is nn.Linear and not learns(part):
            replace_forward(part, frozen_linear)


def learns(layer: nn.Module) -> bool:
    """Whether any of its parameters is trained."""
    return any(p.requires_grad for p in layer.parameters())


def frozen_linear(self: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward` of a layer that learns nothing: (..., in) -> (..., out).

    PyTorch's own after all where the layer has begun to learn, off the CPU, and in other types than float32.
    """
    if not in_float32_on_cpu(x) or learns(self):
        return F.linear(x, self.weight, self.bias)
    return FrozenLinear.apply(x, self.weight, self.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b as a kernel of oneDNN, which has no derivative of its own."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class FrozenLinear(torch.autograd.Function):
    """x W^T + b, of which only x has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        if has_avx512():
            return product(grad, weight.t()), None, None
        return grad.reshape(-1, len(weight)).mm(weight).view(*grad.shape[:-1], -1), None, None
