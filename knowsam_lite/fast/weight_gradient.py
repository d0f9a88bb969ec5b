"""Weight gradients of convolutions as matrix products, which is faster on a CPU without AVX-512.

oneDNN's kernel for them (`jit:avx2`) is made for channels in blocks of 8. In channels-last it is a quarter as
fast, while the other kernels gain from that layout. Here they are computed strip by strip, within the cache,
by the library for matrix products.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from knowsam_lite.fast.folding import is_plain_conv
from knowsam_lite.fast.patching import in_float32_on_cpu, replace_forward

CHANNELS = 32  # into a convolution and out of it: with fewer, there is no gain
STRIP = 2**19  # numbers in a strip: 2 MB


def gradients_by_products(module: nn.Module) -> None:
    """Make every 3x3 convolution in `module` with enough channels compute its weight gradient this way."""
    for part in module.modules():
        if type(part) is nn.Conv2d and is_wide_3x3(part):
            replace_forward(part, convolution)


def is_wide_3x3(conv: nn.Conv2d) -> bool:
    """Whether it is 3x3 with stride 1, zero padding, and many input and output channels."""
    return min(conv.in_channels, conv.out_channels) >= CHANNELS and is_plain_conv(conv, (3, 3), (1, 1))


def convolution(self: nn.Conv2d, x: Tensor) -> Tensor:
    """`nn.Conv2d.forward`: (N, C, H, W) -> (N, D, H, W).

    Falls back to PyTorch's own off the CPU, in other types than float32, without channels-last, and if x or
    the weight needs no gradient.
    """
    learns = torch.is_grad_enabled() and self.weight.requires_grad and x.requires_grad
    innermost = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not (in_float32_on_cpu(x) and learns and innermost):
        return self._conv_forward(x, self.weight, self.bias)
    x = Keep.apply(x, self.weight)
    return Convolution.apply(x, self.weight, self.bias, x.grad_fn)


class Keep(torch.autograd.Function):
    """Returns x; keeps it and the weight for the convolution after it.

    It is a separate node so that both are kept before the convolution runs: when x is recomputed
    (`checkpointing`), recomputation ends here, and no convolution is run again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class Convolution(torch.autograd.Function):
    """x (N, C, H, W) -> (N, D, H, W), with gradients of x, weight and bias; `keep`: its `Keep`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, keep: Any) -> Tensor:
        ctx.keep = keep
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        x, weight = ctx.keep.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        of_bias = grad.sum(dim=(0, 2, 3)) if ctx.needs_input_grad[2] else None
        shape, of_weight = x.shape, weight_gradient(x, grad)
        del x  # if it was recomputed for this alone, its memory can be reused for dL/dx
        return conv2d_input(shape, weight, grad, padding=1), of_weight, of_bias, None


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """dL/dW (D, C, 3, 3) of a 3x3 convolution, from its input (N, C, H, W) and dL/dz (N, D, H, W).

    dL/dW_dcij = sum_nhw dL/dz_ndhw x_nc(h+i-1)(w+j-1): in each strip of rows, a pixel's nine neighbors become
    9 C adjacent numbers; their product with the strip's dL/dz is added to the sum.
    """
    (n, c, h, w), d = x.shape, grad.shape[1]
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # (N, H, W, C), (N, H, W, D)
    height = min(h, max(1, STRIP // (n * w * 9 * c)))
    strip = x.new_zeros(n, height + 2, w + 2, c)  # with zero padding
    neighbors = x.new_empty(n, height, w, 3, 3 * c)
    image, row, pixel, _ = strip.stride()
    found = x.new_zeros(n, d, 9 * c)
    for top in range(0, h, height):
        rows = min(height, h - top)
        above, below = min(top, 1), min(h - top - rows, 1)  # rows inside the image, not padding
        strip[:, 1 - above : 1 + rows + below, 1:-1] = x[:, top - above : top + rows + below]
        if not below:
            strip[:, 1 + rows] = 0
        windows = strip.as_strided((n, rows, w, 3, 3 * c), (image, row, pixel, row, 1))
        beside = neighbors[:, :rows].copy_(windows).view(n, rows * w, 9 * c)
        slopes = grad[:, top : top + rows].reshape(n, rows * w, d)
        found.baddbmm_(slopes.transpose(1, 2), beside)
    return found.sum(dim=0).view(d, 3, 3, c).permute(0, 3, 1, 2)
