"""A training step in less memory: what lies between two convolutions is computed twice instead of kept.

BatchNorm, activation, dropout, pooling and concatenation cost little time, but what they compute is as
large as what the convolutions do, and a backward pass needs both. Here a U-Net keeps the latter and what its
skips carry; HAM keeps what its one large convolution computes, and computes its narrow ones again, too. The
U-Net's gradients, statistics and random numbers are the same to the bit, HAM's within rounding.
"""

from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.forwards import replace_forward
from knowsam_lite.inference import branch_inputs, plain
from knowsam_lite.subnets import ConvBlock, UNet, as_image

NORMED = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
BLOCK = [*NORMED, nn.Dropout, *NORMED]


def compute_twice(module: nn.Module) -> None:
    """Let U-Nets, their blocks and HAM, wherever they are in `module`, keep little for the backward pass.

    Those with other layers than the usual ones stay as they are.
    """
    for part in module.modules():
        if isinstance(part, UNet) and usual_unet(part):
            replace_forward(part, unet)
        elif type(part) is ConvBlock and kinds(part) == BLOCK:
            replace_forward(part, block)
        elif isinstance(part, HybridAggregation) and usual(part):
            replace_forward(part, aggregation)


def kinds(layers: nn.Module) -> list[type[nn.Module]]:
    """The types of the layers of an `nn.Sequential`; of anything else none."""
    return [type(layer) for layer in layers] if isinstance(layers, nn.Sequential) else []


def usual_unet(net: UNet) -> bool:
    """Whether it computes as its class does, with the layers of `UNet`."""
    inherited = type(net).forward is UNet.forward and type(net).features is UNet.features
    blocks = all(type(part) is ConvBlock and kinds(part) == BLOCK for part in (*net.encoder, *net.decoder))
    ups = all(type(up) is nn.ConvTranspose2d for up in net.up)
    own = "features" in vars(net) or any("forward" in vars(part) for part in net.modules())
    return inherited and blocks and ups and type(net.head) is nn.Conv2d and not own


def usual(ham: HybridAggregation) -> bool:
    """Whether it computes as its class does, with the layers of `HybridAggregation`; how it ends is free."""
    if type(ham).forward is not HybridAggregation.forward or kinds(ham.fuse)[:4] != [*NORMED, nn.Conv2d]:
        return False
    over_all: Any = ham.fuse[0]
    branches = all(kinds(branch) == 2 * NORMED for branch in (ham.agreement, ham.certainty, ham.logits))
    return branches and plain(over_all, (3, 3), (1, 1)) and over_all.bias is None


def unet(self: UNet, x: Tensor) -> Tensor:
    """`UNet.forward`: kept are what convolutions compute and what the skips carry."""
    encoder: Any = self.encoder
    decoder: Any = self.decoder
    last, *deeper = encoder
    z, skips = inside(last, last[0](as_image(x))), []
    for block in deeper:
        skips.append(end(last)(z))
        z = inside(block, between(nn.Sequential(nn.MaxPool2d(2), block[0]), skips[-1]))
        last = block
    for up, block in zip(self.up, decoder, strict=True):
        x = between(nn.Sequential(end(last), up), z)
        z = inside(block, between(SideBySide(block[0]), skips.pop(), x))
        last = block
    return between(nn.Sequential(end(last), self.head), z)


class SideBySide(nn.Module):
    """Two maps as one through `layer`."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.layer(torch.cat([left, right], dim=1))


def block(self: ConvBlock, x: Tensor) -> Tensor:
    """`ConvBlock.forward`: the second convolution's input is computed twice."""
    return end(self)(inside(self, self[0](x)))


def inside(block: ConvBlock, z: Tensor) -> Tensor:
    """What its second convolution makes of what its first has computed; its `end` follows.

    What dropout leaves is drawn once and kept, a byte a number: drawing it again would take a while.
    """
    layers = Inside(block)
    if not (layers.training and layers.p):
        return between(layers, z)
    return between(layers, z, torch.empty_like(z, dtype=torch.bool).bernoulli_(1 - layers.p))


class Inside(nn.Module):
    """A block from the answer of its first convolution to that of its second: (N, C, H, W), and which numbers
    dropout leaves, if any are to go -> (N, C, H, W).
    """

    def __init__(self, block: ConvBlock):
        super().__init__()
        _, self.norm, self.activation, dropout, self.conv, *_ = block
        assert isinstance(dropout, nn.Dropout)
        self.p, self.training = dropout.p, dropout.training

    def forward(self, z: Tensor, left: Tensor | None = None) -> Tensor:
        x = self.activation(self.norm(z))
        if left is not None:
            x = x * left.to(x.dtype).div_(1 - self.p)
        return self.conv(x)


def end(block: ConvBlock) -> nn.Module:
    """Its last BatchNorm and activation."""
    return nn.Sequential(*list(block)[5:])


def aggregation(self: HybridAggregation, z_a: Tensor, z_b: Tensor) -> Tensor:
    """`HybridAggregation.forward`: of the wide maps only what the convolution over all branches computes is
    kept.

    That convolution is computed as a sum, a term for each branch, so that in the backward pass the branches'
    maps need not be there at the same time. What lies before it is so small that it is computed again.
    """
    layers: Any = self.fuse
    branches: tuple[Any, ...] = (self.agreement, self.certainty, self.logits)
    weights = layers[0].weight.split([branch[3].out_channels for branch in branches], dim=1)
    inputs = branch_inputs(z_a, z_b, self.entropy)
    terms = (
        between(Branch(branch, layers[0]), x, weight)
        for branch, x, weight in zip(branches, inputs, weights, strict=True)
    )
    last = nn.Sequential(layers[1], Overwriting(layers[2].negative_slope), layers[3])
    return layers[4:](between(last, reduce(Tensor.add_, terms)))


class Branch(nn.Module):
    """One of HAM's branches, then its term of the convolution over all: x (N, C_k, H, W), the weights
    (64, D_k, 3, 3) -> (N, 64, H, W).
    """

    def __init__(self, branch: nn.Sequential, conv: nn.Conv2d):
        super().__init__()
        self.narrow, self.end, self.conv = branch[:4], branch[4:], conv

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional_call(self.conv, {"weight": weight}, self.end(between(self.narrow, x)))


class Overwriting(nn.Module):
    """LeakyReLU that overwrites what it is given, the gradient too: nobody else may need them."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return OverwritingLeakyReLU.apply(x, self.slope)


class OverwritingLeakyReLU(torch.autograd.Function):
    """The function of `Overwriting`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float) -> Tensor:
        ctx.slope = slope
        ctx.mark_dirty(x)
        ctx.save_for_backward(F.leaky_relu_(x, slope))
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        torch.ops.aten.leaky_relu_backward.grad_input(grad, y, ctx.slope, True, grad_input=grad)
        return grad, None


def between(layers: nn.Module, *maps: Tensor) -> Tensor:
    """layers(*maps), of which the backward pass has `maps` and computes the rest again.

    `layers` ends in a convolution, which is not run again: its answer is not needed.
    """
    return checkpoint(
        layers,
        *maps,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn in between
        context_fn=lambda: (nullcontext(), StatisticsKept(layers)),
    )


class StatisticsKept:
    """Within, BatchNorm counts what passes on copies of its running statistics, which are thrown away."""

    def __init__(self, module: nn.Module):
        self.norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]
        self.kept: list[dict[str, Tensor | None]] = []

    def __enter__(self) -> None:
        self.kept = [dict(norm._buffers) for norm in self.norms]
        for norm in self.norms:
            norm._buffers.update({name: b if b is None else b.clone() for name, b in norm._buffers.items()})

    def __exit__(self, *_: object) -> None:
        for norm, buffers in zip(self.norms, self.kept, strict=True):
            norm._buffers.update(buffers)
