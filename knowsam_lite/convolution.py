"""Convolutions train faster on a CPU without AVX-512 with their weight gradient as matrix products.

oneDNN's kernel for it (`jit:avx2`) is at home where channels lie in blocks of 8. With all channels innermost
it multiplies a quarter as fast; the other kernels gain from that layout. Here it is done strip by strip, in
a cache, by the library that multiplies matrices.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

from knowsam_lite.forwards import in_float32_on_cpu, replace_forward
from knowsam_lite.inference import plain

CHANNELS = 32  # into a convolution and out of it: with fewer, products gain nothing
STRIP = 2**19  # numbers in a strip: 2 MB


def gradients_by_products(module: nn.Module) -> None:
    """Let every 3x3 convolution in `module` that has enough channels compute its weight gradient so."""
    for part in module.modules():
        if type(part) is nn.Conv2d and usual(part):
            replace_forward(part, convolution)


def usual(conv: nn.Conv2d) -> bool:
    """Whether it is 3x3, in steps of 1 from zeros around the image, from many channels to many."""
    return min(conv.in_channels, conv.out_channels) >= CHANNELS and plain(conv, (3, 3), (1, 1))


def convolution(self: nn.Conv2d, x: Tensor) -> Tensor:
    """`nn.Conv2d.forward`: (N, C, H, W) -> (N, D, H, W).

    PyTorch's own after all off the CPU, in other types than float32, where the channels are not innermost,
    and where x or the weight needs no gradient.
    """
    learns = torch.is_grad_enabled() and self.weight.requires_grad and x.requires_grad
    innermost = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    if not (in_float32_on_cpu(x) and learns and innermost):
        return self._conv_forward(x, self.weight, self.bias)
    x = Keep.apply(x, self.weight)
    return Convolution.apply(x, self.weight, self.bias, x.grad_fn)


class Keep(torch.autograd.Function):
    """x itself; keeps it and the weight for the convolution behind it.

    It is a node of its own so that both are kept before the convolution is computed: when x is computed twice
    (`recompute`), that ends here, and no convolution is.
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
        del x  # if it was computed for this alone, its memory can serve dL/dx
        return conv2d_input(shape, weight, grad, padding=1), of_weight, of_bias, None


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """dL/dW (D, C, 3, 3) of a 3x3 convolution, from its input (N, C, H, W) and dL/dz (N, D, H, W).

    dL/dW_dcij = sum_nhw dL/dz_ndhw x_nc(h+i-1)(w+j-1): in each strip of rows, a pixel's nine neighbors become
    9 C numbers side by side; their product with the strip's dL/dz adds to the sum.
    """
    (n, c, h, w), d = x.shape, grad.shape[1]
    x, grad = x.permute(0, 2, 3, 1), grad.permute(0, 2, 3, 1)  # (N, H, W, C), (N, H, W, D)
    height = min(h, max(1, STRIP // (n * w * 9 * c)))
    strip = x.new_zeros(n, height + 2, w + 2, c)  # with the zeros around the image
    neighbors = x.new_empty(n, height, w, 3, 3 * c)
    image, row, pixel, _ = strip.stride()
    found = x.new_zeros(n, d, 9 * c)
    for top in range(0, h, height):
        rows = min(height, h - top)
        above, below = min(top, 1), min(h - top - rows, 1)  # rows that are there, not zeros
        strip[:, 1 - above : 1 + rows + below, 1:-1] = x[:, top - above : top + rows + below]
        if not below:
            strip[:, 1 + rows] = 0
        windows = strip.as_strided((n, rows, w, 3, 3 * c), (image, row, pixel, row, 1))
        beside = neighbors[:, :rows].copy_(windows).view(n, rows * w, 9 * c)
        slopes = grad[:, top : top + rows].reshape(n, rows * w, d)
        found.baddbmm_(slopes.transpose(1, 2), beside)
    return found.sum(dim=0).view(d, 3, 3, c).permute(0, 3, 1, 2)
