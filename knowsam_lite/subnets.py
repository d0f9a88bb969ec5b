"""The two subnets: F_a, a U-Net, and F_b, a two-dimensional V-Net.

They differ in normalization, activation, downsampling and skip connections, so that they make different
mistakes and can learn from each other.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.deprecated import old_names
from knowsam_lite.errors import UserError

__getattr__ = old_names(__name__)

WIDTHS = (16, 32, 64, 128, 256)  # channels per resolution, full size first
DROPOUT = (0.05, 0.1, 0.2, 0.3, 0.5)  # of the U-Net's encoder, likewise
STRIDE = 16  # four halvings: height and width must be a multiple of this
# Activations work in place: no backward pass needs what they overwrite, and a training step of both subnets
# at 256 px takes a seventh less memory.


def check_size(height: int, width: int) -> None:
    """Raise UserError with the next valid size if `height` or `width` (pixels) is not a multiple of 16."""
    if height % STRIDE or width % STRIDE:
        up = [-(-n // STRIDE) * STRIDE for n in (height, width)]
        raise UserError(
            f"found images of {height} x {width}, expected multiples of {STRIDE}: resize or pad to "
            f"{up[0]} x {up[1]}"
        )


def as_image(x: Tensor) -> Tensor:
    """Return `x` (N, 1 or 3, H, W) as (N, 3, H, W); a grey image is expanded, not copied.

    Raises UserError if the channels are neither 1 nor 3 or if H or W is not a multiple of 16.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise UserError(
            f"found an image batch of shape {tuple(x.shape)}, expected (N, 1 or 3, H, W): reorder it"
        )
    check_size(*x.shape[-2:])
    return x.expand(-1, 3, -1, -1)


class ConvBlock(nn.Sequential):
    """Twice conv3x3, BatchNorm, LeakyReLU(0.01), dropout between: (N, C_in, H, W) -> (N, C_out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.01, inplace=True),
        )


def make_encoder(widths: Sequence[int], dropout: Sequence[float]) -> nn.ModuleList:
    """The blocks of a U-Net's encoder, full size first."""
    inputs = (3, *widths[:-1])
    return nn.ModuleList(ConvBlock(i, o, p) for i, o, p in zip(inputs, widths, dropout, strict=True))


def transposed(deep: int, shallow: int) -> nn.Module:
    """2x upsampling by transposed convolution: (N, deep, H, W) -> (N, shallow, 2 H, 2 W)."""
    return nn.ConvTranspose2d(deep, shallow, 2, stride=2)


def make_decoder(
    widths: Sequence[int], upsampling: Callable[[int, int], nn.Module] = transposed
) -> tuple[nn.ModuleList, nn.ModuleList]:
    """The upsampling layers of a U-Net's decoder and the blocks after them, deepest first."""
    pairs = [(widths[i], widths[i - 1]) for i in range(len(widths) - 1, 0, -1)]  # deep to shallow
    up = nn.ModuleList(upsampling(deep, shallow) for deep, shallow in pairs)
    return up, nn.ModuleList(ConvBlock(2 * shallow, shallow) for _, shallow in pairs)


def encode(encoder: nn.ModuleList, x: Tensor) -> list[Tensor]:
    """Image (N, 1 or 3, H, W) -> the features of each resolution (N, widths[i], H / 2^i, W / 2^i)."""
    features = [encoder[0](as_image(x))]
    for block in encoder[1:]:
        features.append(block(F.max_pool2d(features[-1], 2)))
    return features


def decode(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    """Features from `encode` -> the decoder's features at all but the deepest resolution, coarsest first."""
    *skips, x = features
    found = []
    for enlarge, block in zip(up, decoder, strict=True):
        x = block(torch.cat([skips.pop(), enlarge(x)], dim=1))
        found.append(x)
    return found


class UNet(nn.Module):
    """Subnet F_a: a U-Net with BatchNorm; max-pooling down, transposed convolution up, skips concatenated.

    Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> logits (N, num_classes, H, W). Dropout grows
    with depth. 1.9 M parameters at the default widths. After Ronneberger et al. (2015), with the widths of
    the KnowSAM paper.
    """

    def __init__(
        self,
        num_classes: int = 2,
        widths: Sequence[int] = WIDTHS,
        dropout: Sequence[float] = DROPOUT,
    ):
        super().__init__()
        self.encoder = make_encoder(widths, dropout)
        self.up, self.decoder = make_decoder(widths)
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def features(self, x: Tensor) -> list[Tensor]:
        """The decoder's features at each resolution, coarsest first; the last is the input of `head`."""
        return decode(self.up, self.decoder, encode(self.encoder, x))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x)[-1])


def conv_stage(channels: int, depth: int, in_channels: int | None = None) -> nn.Sequential:
    """`depth` times conv3x3 + ReLU at one resolution: (N, C_in, H, W) -> (N, channels, H, W).

    C_in is `in_channels`, by default `channels`.
    """
    layers: list[nn.Module] = []
    for inputs in [in_channels or channels] + [channels] * (depth - 1):
        layers += [nn.Conv2d(inputs, channels, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def init_kaiming(net: nn.Module) -> None:
    """Draw the weights of every convolution in `net` from a normal distribution of variance 2 / fan-in.

    After a ReLU this keeps the signal's size from layer to layer (He et al., 2015). Biases are unchanged.
    """
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, mean=0.0, std=(2 / fan_in) ** 0.5)


class VNet(nn.Module):
    """Subnet F_b: a V-Net in two dimensions, without normalization; strided convolution down, skips added.

    Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> logits (N, num_classes, H, W). A skip
    carries the tensor that *enters* a stage, not the one that leaves it (except at full size). 3.3 M
    parameters at the default widths. After Milletari et al. (2016), with the widths of the KnowSAM paper;
    initial weights are Kaiming-normal.
    """

    def __init__(
        self, num_classes: int = 2, widths: Sequence[int] = WIDTHS, depths: Sequence[int] = (1, 2, 3, 3, 3)
    ):
        super().__init__()
        last = len(widths) - 1
        self.encoder = nn.ModuleList(
            conv_stage(width, depth, 3 if i == 0 else None)
            for i, (width, depth) in enumerate(zip(widths, depths, strict=True))
        )
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2), nn.ReLU(inplace=True))
            for i in range(last)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(widths[i], widths[i - 1], 2, stride=2), nn.ReLU(inplace=True))
            for i in range(last, 0, -1)
        )
        self.decoder = nn.ModuleList(conv_stage(widths[i], depths[i]) for i in range(last - 1, -1, -1))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        init_kaiming(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](as_image(x))
        skips = [x]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            x = down(x)
            skips.append(x)
            x = stage(x)
        skips.pop()  # the deepest stage has no counterpart in the decoder
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(up(x) + skips.pop())
        return self.head(x)
