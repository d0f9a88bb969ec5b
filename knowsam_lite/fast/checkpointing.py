"""A training step in less memory: activations between two convolutions are recomputed instead of kept.

BatchNorm, activation, dropout, pooling and concatenation cost little time, but their outputs are as large as
those of the convolutions, and a backward pass needs both. Here a U-Net keeps the convolutions' outputs and
its skip connections; HAM keeps the output of its one large convolution and recomputes its narrow ones too.
The U-Net's gradients, statistics and random numbers are bit-identical, HAM's are equal within rounding.
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
from knowsam_lite.fast.folding import branch_inputs, is_plain_conv
from knowsam_lite.fast.patching import replace_forward
from knowsam_lite.subnets import ConvBlock, UNet, as_image

NORMED = [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
BLOCK = [*NORMED, nn.Dropout, *NORMED]


def checkpoint_activations(module: nn.Module) -> None:
    """Make all U-Nets, their blocks and HAM in `module` recompute activations in the backward pass.

    Those with non-default layers are unchanged.
    """
    for part in module.modules():
        if isinstance(part, UNet) and has_default_layers(part):
            replace_forward(part, unet)
        elif type(part) is ConvBlock and layer_types(part) == BLOCK:
            replace_forward(part, block)
        elif isinstance(part, HybridAggregation) and has_default_layers(part):
            replace_forward(part, aggregation)


def layer_types(layers: nn.Module) -> list[type[nn.Module]]:
    """The types of the layers of an `nn.Sequential`; empty for anything else."""
    return [type(layer) for layer in layers] if isinstance(layers, nn.Sequential) else []


def has_default_layers(part: UNet | HybridAggregation) -> bool:
    """True if `part` has its class's forward pass and default layers. HAM's last layers may differ."""
    return _is_default_unet(part) if isinstance(part, UNet) else _is_default_ham(part)


def _is_default_unet(net: UNet) -> bool:
    inherited = type(net).forward is UNet.forward and type(net).features is UNet.features
    blocks = all(
        type(part) is ConvBlock and layer_types(part) == BLOCK for part in (*net.encoder, *net.decoder)
    )
    ups = all(type(up) is nn.ConvTranspose2d for up in net.up)
    own = "features" in vars(net) or any("forward" in vars(part) for part in net.modules())
    return inherited and blocks and ups and type(net.head) is nn.Conv2d and not own


def _is_default_ham(ham: HybridAggregation) -> bool:
    if type(ham).forward is not HybridAggregation.forward or layer_types(ham.fuse)[:4] != [
        *NORMED,
        nn.Conv2d,
    ]:
        return False
    over_all: Any = ham.fuse[0]
    branches = all(layer_types(branch) == 2 * NORMED for branch in (ham.agreement, ham.certainty, ham.logits))
    return branches and is_plain_conv(over_all, (3, 3), (1, 1)) and over_all.bias is None


def unet(self: UNet, x: Tensor) -> Tensor:
    """`UNet.forward`, keeping only the outputs of convolutions and the skip connections."""
    encoder: Any = self.encoder
    decoder: Any = self.decoder
    last, *deeper = encoder
    z, skips = through_second_conv(last, last[0](as_image(x))), []
    for block in deeper:
        skips.append(last_layers(last)(z))
        z = through_second_conv(block, recomputed(nn.Sequential(nn.MaxPool2d(2), block[0]), skips[-1]))
        last = block
    for up, block in zip(self.up, decoder, strict=True):
        x = recomputed(nn.Sequential(last_layers(last), up), z)
        z = through_second_conv(block, recomputed(Concatenated(block[0]), skips.pop(), x))
        last = block
    return recomputed(nn.Sequential(last_layers(last), self.head), z)


class Concatenated(nn.Module):
    """Two maps, concatenated, through `layer`."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.layer(torch.cat([left, right], dim=1))


def block(self: ConvBlock, x: Tensor) -> Tensor:
    """`ConvBlock.forward`, recomputing the second convolution's input."""
    return last_layers(self)(through_second_conv(self, self[0](x)))


def through_second_conv(block: ConvBlock, z: Tensor) -> Tensor:
    """Output of the block's second convolution from that of its first; `last_layers` come after it.

    The dropout mask is drawn once and kept, one byte per number, because drawing it again is slow.
    """
    layers = NormToConv(block)
    if not (layers.training and layers.p):
        return recomputed(layers, z)
    return recomputed(layers, z, torch.empty_like(z, dtype=torch.bool).bernoulli_(1 - layers.p))


class NormToConv(nn.Module):
    """A block from the output of its first convolution to that of its second: (N, C, H, W), and the mask of
    numbers that dropout keeps, if it drops any -> (N, C, H, W).
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


def last_layers(block: ConvBlock) -> nn.Module:
    """The block's last BatchNorm and activation."""
    return nn.Sequential(*list(block)[5:])


def aggregation(self: HybridAggregation, z_a: Tensor, z_b: Tensor) -> Tensor:
    """`HybridAggregation.forward`, keeping only the output of the convolution over all branches among the
    wide maps.

    That convolution is computed as a sum with a term for each branch, so that the backward pass does not need
    all branches' maps at the same time. The layers before it are so small that they are recomputed.
    """
    layers: Any = self.fuse
    branches: tuple[Any, ...] = (self.agreement, self.certainty, self.logits)
    weights = layers[0].weight.split([branch[3].out_channels for branch in branches], dim=1)
    inputs = branch_inputs(z_a, z_b, self.entropy)
    terms = (
        recomputed(Branch(branch, layers[0]), x, weight)
        for branch, x, weight in zip(branches, inputs, weights, strict=True)
    )
    last = nn.Sequential(layers[1], InplaceLeakyReLU(layers[2].negative_slope), layers[3])
    return layers[4:](recomputed(last, reduce(Tensor.add_, terms)))


class Branch(nn.Module):
    """One of HAM's branches and its term of the convolution over all branches: x (N, C_k, H, W), weights
    (64, D_k, 3, 3) -> (N, 64, H, W).
    """

    def __init__(self, branch: nn.Sequential, conv: nn.Conv2d):
        super().__init__()
        self.narrow, self.end, self.conv = branch[:4], branch[4:], conv

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional_call(self.conv, {"weight": weight}, self.end(recomputed(self.narrow, x)))


class InplaceLeakyReLU(nn.Module):
    """LeakyReLU that overwrites its input and its gradient: nothing else may need them."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return InplaceLeakyReLUFunction.apply(x, self.slope)


class InplaceLeakyReLUFunction(torch.autograd.Function):
    """The function of `InplaceLeakyReLU`."""

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


def recomputed(layers: nn.Module, *maps: Tensor) -> Tensor:
    """layers(*maps), keeping only `maps` and recomputing the rest in the backward pass.

    `layers` ends in a convolution, which is not run again: its output is not needed.
    """
    return checkpoint(
        layers,
        *maps,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing random inside
        context_fn=lambda: (nullcontext(), FrozenStatistics(layers)),
    )


class FrozenStatistics:
    """Within the context, BatchNorm updates copies of its running statistics, which are then discarded."""

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
