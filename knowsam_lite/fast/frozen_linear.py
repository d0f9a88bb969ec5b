"""Frozen linear layers by oneDNN, PyTorch's library for convolutions: SAM's matrix products in less time,
and large MLPs in less memory.

PyTorch's CPU builds multiply float32 matrices with Intel's MKL, which does not use AVX-512 on other vendors'
processors and so runs at half the speed there. Without AVX-512 oneDNN is faster in the forward pass, with the
weight as stored, and MKL in the backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from knowsam_lite.fast.patching import has_avx512, in_float32_on_cpu, replace_forward, replaced
from knowsam_lite.sam.modeling import MLPBlock

HIDDEN = 2**21  # numbers in a frozen MLP's hidden layer from which it is recomputed: 8 MB


def multiply_with_onednn(module: nn.Module) -> None:
    """Make every frozen `nn.Linear` in `module` use oneDNN, if this PyTorch has it; frozen MLPs recompute a
    large hidden layer.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return
    for part in module.modules():
        if type(part) is MLPBlock and type(part.act) is nn.GELU and part.act.approximate == "none":
            replace_forward(part, frozen_mlp)
        elif type(part) is nn.Linear and not learns(part):
            replace_forward(part, frozen_linear)


def learns(layer: nn.Module) -> bool:
    """Whether any of its parameters is trained."""
    return any(p.requires_grad for p in layer.parameters())


def frozen_linear(self: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward` of a frozen layer: (..., in) -> (..., out).

    Falls back to PyTorch's own if the layer is trainable, off the CPU, or in other types than float32.
    """
    if not in_float32_on_cpu(x) or learns(self):
        return F.linear(x, self.weight, self.bias)
    return FrozenLinear.apply(x, self.weight, self.bias)


def onednn_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b by a oneDNN kernel, which has no derivative of its own."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class FrozenLinear(torch.autograd.Function):
    """x W^T + b, of which only x has a gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return onednn_linear(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return onednn_linear_backward(grad, *ctx.saved_tensors), None, None


def onednn_linear_backward(grad: Tensor, weight: Tensor) -> Tensor:
    """dL/dx of x W^T, by the faster library."""
    if has_avx512():
        return onednn_linear(grad, weight.t())
    return grad.reshape(-1, len(weight)).mm(weight).view(*grad.shape[:-1], -1)


def frozen_mlp(self: MLPBlock, x: Tensor) -> Tensor:
    """`MLPBlock.forward`, (..., D) -> (..., D): if frozen and large, its hidden layer, four times as large as
    x, is not kept for the backward pass.
    """
    layers = (self.lin1, self.lin2)
    large = x[..., 0].numel() * self.lin1.out_features >= HIDDEN
    own = any(learns(layer) or not replaced(layer) for layer in layers)
    if own or not (large and in_float32_on_cpu(x)):
        return self.lin2(self.act(self.lin1(x)))
    return FrozenMLP.apply(x, *(p for layer in layers for p in (layer.weight, layer.bias)))


class FrozenMLP(torch.autograd.Function):
    """W_2 GELU(W_1 x + b_1) + b_2, of which only x has a gradient. x is kept, as SAM's adapter keeps it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w_1: Tensor, b_1: Tensor, w_2: Tensor, b_2: Tensor) -> Tensor:
        ctx.save_for_backward(x, w_1, b_1, w_2)
        return onednn_linear(F.gelu(onednn_linear(x, w_1, b_1)), w_2, b_2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, w_1, b_1, w_2 = ctx.saved_tensors
        hidden = onednn_linear(x, w_1, b_1)
        slope = torch.ops.aten.gelu_backward(onednn_linear_backward(grad, w_2), hidden)
        return onednn_linear_backward(slope, w_1), None, None, None, None
