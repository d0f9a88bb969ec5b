"""Prepares a trained method for prediction only: the same output in about half the time on a CPU.

Whatever is constant after training is computed beforehand, in a copy; the method itself is unchanged.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.fast.patching import hooked, replaced
from knowsam_lite.subnets import UNet, VNet
from knowsam_lite.uncertainty import disagreement_map

Module = TypeVar("Module", bound=nn.Module)
OWN = (UNet.forward, VNet.forward, PretrainedNet.forward, HybridAggregation.forward)  # any memory layout
BRANCH = [nn.Conv2d, nn.Identity, nn.LeakyReLU, nn.Conv2d, nn.Identity, nn.LeakyReLU]  # of HAM, once folded
NARROW = 8  # output channels up to which `NarrowConv` is faster


def for_inference(method: Module, device: torch.device) -> Module:
    """A copy of `method` that predicts the same within float32 rounding; unchanged parts are shared.

    It is a snapshot: further training of `method` does not reach the folded parts. It works for a user's own
    networks too: what cannot be folded is left as it is.
    """
    ready = fold_batchnorm(method)
    for parent in list(ready.modules()):
        for name, child in parent.named_children():
            if isinstance(child, HybridAggregation) and type(child).forward is HybridAggregation.forward:
                parent._modules[name] = merge_branches(child)
    if device.type == "cpu":
        channels_last(ready)
    return ready


def fold_batchnorm(module: Module) -> Module:
    """A copy in evaluation mode, each BatchNorm2d folded into the convolution before it.

    With fixed statistics BatchNorm is a scale and a shift per channel, which can be folded into the weights
    of a convolution. Only neighbors in an `nn.Sequential` are folded, because there nothing else reads what
    lies between; not those with hooks, nor a convolution used in two places.
    """
    folded = clone_modules(module, {}).eval()
    uses = Counter(id(m) for _, m in folded.named_modules(remove_duplicate=False))
    for parent in [m for m in folded.modules() if type(m).forward is nn.Sequential.forward]:
        names = list(parent._modules)
        for first, second in pairwise(names):
            conv, norm = parent._modules[first], parent._modules[second]
            if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
                continue
            if uses[id(conv)] > 1 or uses[id(norm)] > 1 or hooked(conv) or hooked(norm):
                continue
            parent._modules[first] = fuse_conv_bn_eval(conv, norm).requires_grad_(False)
            parent._modules[second] = nn.Identity()
    return folded


def clone_modules(module: Module, made: dict[int, nn.Module]) -> Module:
    """A copy of the tree of modules with the same tensors: replacing modules in it leaves the original alone.

    `made`: the copies so far by the original's id, so that a module used twice stays one module.
    """
    if id(module) not in made:
        other = made[id(module)] = type(module).__new__(type(module))
        other.__dict__ = module.__dict__.copy()  # copy.copy needs the state, which not every module gives
        other.__dict__.pop("_compiled_call_impl", None)  # it is bound to the original
        if replaced(module):  # a forward pass for training only
            del other.__dict__["forward"]
        for kind in ("_parameters", "_buffers", "_modules"):
            setattr(other, kind, getattr(module, kind).copy())
        for name, child in other._modules.items():
            if child is not None and not isinstance(child, torch.jit.ScriptModule):
                other._modules[name] = clone_modules(child, made)
    return made[id(module)]  # type: ignore[return-value]


def channels_last(module: nn.Module) -> None:
    """Convert the convolutions of the subnets and of HAM to channels-last, in new parameters.

    A CPU's convolutions compute in this layout; otherwise each first reorders its input and then its output.
    The layout propagates from layer to layer by itself.
    """
    for part in module.modules():
        if type(part).forward not in OWN and not isinstance(part, MergedAggregation):
            continue
        for conv in part.modules():
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d):
                weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
                conv.weight = nn.Parameter(weight, requires_grad=conv.weight.requires_grad)


def merge_branches(ham: HybridAggregation) -> nn.Module:
    """A folded HAM with its three branches merged; unchanged if its layers are not the default ones."""
    branches = [ham.agreement, ham.certainty, ham.logits]
    usual = all([type(layer) for layer in branch] == BRANCH for branch in branches)
    if not usual or any(hooked(module) for module in ham.modules()):
        return ham
    for layers in zip(*branches, strict=True):  # at one position in each branch
        if isinstance(layers[0], nn.Conv2d) and any(not same_geometry(conv, layers[0]) for conv in layers):
            return ham
        if isinstance(layers[0], nn.LeakyReLU) and len({layer.negative_slope for layer in layers}) > 1:
            return ham
    return MergedAggregation(ham)


def is_plain_conv(conv: nn.Conv2d, kernel: tuple[int, ...], padding: str | tuple[int, ...]) -> bool:
    """Whether it has this kernel and padding, zero padding mode, stride 1, no dilation and one group."""
    found = (conv.kernel_size, conv.padding, conv.stride, conv.dilation, conv.groups, conv.padding_mode)
    return found == (kernel, padding, (1, 1), (1, 1), 1, "zeros")


def same_geometry(conv: nn.Conv2d, like: nn.Conv2d) -> bool:
    """Whether it is a plain convolution with a bias that differs from `like` at most in its channels."""
    return is_plain_conv(conv, like.kernel_size, like.padding) and conv.bias is not None


def branch_inputs(
    z_a: Tensor, z_b: Tensor, entropy: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The inputs of HAM's three branches, for other implementations of HAM: logits (N, C, H, W) ->
    agreement (N, C, H, W), certainty (N, 2, H, W) and both logits (N, 2 C, H, W).
    """
    agreement = 1 - disagreement_map(z_a.softmax(dim=1), z_b.softmax(dim=1))
    certainty = 1 - torch.stack([entropy(z_a), entropy(z_b)], dim=1)
    return agreement, certainty, torch.cat([z_a, z_b], dim=1)


class MergedAggregation(nn.Module):
    """HAM with its branches merged into one convolution per layer, whose weights are 0 between branches.

    z_a, z_b logits (N, C, H, W) -> fused logits z_f (N, C, H, W), equal to the folded `HybridAggregation`: it
    computes a few products with 0, but does not concatenate three maps or run six separate layers.
    """

    def __init__(self, ham: HybridAggregation):
        super().__init__()
        self.entropy = ham.entropy
        branches = (ham.agreement, ham.certainty, ham.logits)
        layers: list[nn.Module] = []
        for i in (0, 3):
            layers += [side_by_side([branch[i] for branch in branches]), branches[0][i + 2]]  # type: ignore
        *inner, last = (NarrowConv.instead_of(layer) for layer in ham.fuse)
        self.layers = nn.Sequential(*layers, *inner, last)

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return self.layers(torch.cat(branch_inputs(z_a, z_b, self.entropy), dim=1))


def side_by_side(convs: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution of all inputs to all outputs that computes each of `convs` separately."""
    first = convs[0]
    whole = nn.Conv2d(
        sum(conv.in_channels for conv in convs),
        sum(conv.out_channels for conv in convs),
        first.kernel_size,  # type: ignore[arg-type]
        padding=first.padding,  # type: ignore[arg-type]
        device=first.weight.device,
        dtype=first.weight.dtype,
    ).requires_grad_(False)
    whole.weight.zero_()
    row = column = 0
    for conv in convs:
        rows, columns = slice(row, row + conv.out_channels), slice(column, column + conv.in_channels)
        whole.weight[rows, columns] = conv.weight.detach()
        whole.bias[rows] = conv.bias.detach()  # type: ignore
        row, column = rows.stop, columns.stop
    return whole


class NarrowConv(nn.Conv2d):
    """A 3x3 convolution to a few channels: (N, C_in, H, W) -> (N, C_out, H, W).

    A CPU's convolution computes 8 or 16 output channels at a time and discards those not needed. Here the
    nine products per pixel and channel are one matrix product, shifted and added.
    """

    @classmethod
    def instead_of(cls, layer: nn.Module) -> nn.Module:
        """`layer`, or, if it is such a convolution, a `NarrowConv` with its weights."""
        if type(layer) is not nn.Conv2d or layer.out_channels > NARROW:
            return layer
        narrow = cls(layer.in_channels, layer.out_channels, 3, padding=1, device="meta").requires_grad_(False)
        if not same_geometry(layer, narrow):
            return layer
        narrow.weight, narrow.bias = layer.weight, layer.bias
        return narrow

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        (n, _, h, w), c = x.shape, self.out_channels
        pixels = x.permute(0, 2, 3, 1).reshape(n, h * w, -1).transpose(1, 2)  # (N, C_in, HW)
        taps = self.weight.permute(2, 3, 0, 1).reshape(9 * c, -1)
        parts = torch.matmul(taps, pixels).view(n, 3, 3, c, h, w)
        z = F.pad(torch.zeros_like(parts[:, 0, 0]), (1, 1, 1, 1))
        for i in range(3):
            for j in range(3):
                z[..., 2 - i : 2 - i + h, 2 - j : 2 - j + w] += parts[:, i, j]
        z = z[..., 1:-1, 1:-1]
        return z + self.bias.view(c, 1, 1)  # type: ignore[union-attr]
