"""The two views of an image: F_a, a U-Net, and F_b, a two-dimensional V-Net.

They differ where networks can differ (normalization, activation, down-sampling, what a skip connection
carries), so that they make different mistakes: that is what the two can teach each other.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from knowsam_lite.errors import UserError

WIDTHS = (16, 32, 64, 128, 256)  # channels per resolution, full size first
STRIDE = 16  # four halvings: height and width must be a multiple of this


def check_size(height: int, width: int) -> None:
    """Raise UserError, naming the next valid size, if `height` or `width` (pixels) is no multiple of 16."""
    if height % STRIDE or width % STRIDE:
        up = [-(-n // STRIDE) * STRIDE for n in (height, width)]
        raise UserError(
            f"found images of {height} x {width}, expected multiples of {STRIDE}: resize or pad to "
            f"{up[0]} x {up[1]}"
        )


def as_image(x: Tensor) -> Tensor:
    """Return `x` (N, 1 or 3, H, W) as (N, 3, H, W); a grey image is repeated, not copied.

    Raises UserError if the channels are neither 1 nor 3 or if H or W is no multiple of 16.
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
            nn.LeakyReLU(0.01),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(0.01),
        )


class UNet(nn.Module):
    """Subnet F_a: a U-Net with BatchNorm; max-pooling down, transposed convolution up, skips concatenated.

    Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> logits (N, num_classes, H, W). Dropout grows
    with depth. 1.9 M parameters at the default widths. After Ronneberger et al. (2015), in the widths of the
    KnowSAM paper.
    """

    def __init__(
        self,
        num_classes: int = 2,
        widths: Sequence[int] = WIDTHS,
        dropout: Sequence[float] = (0.05, 0.1, 0.2, 0.3, 0.5),
    ):
        super().__init__()
        inputs = (3, *widths[:-1])
        self.encoder = nn.ModuleList(
            ConvBlock(i, o, p) for i, o, p in zip(inputs, widths, dropout, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        pairs = [(widths[i], widths[i - 1]) for i in range(len(widths) - 1, 0, -1)]  # deep to shallow
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in pairs)
        self.decoder = nn.ModuleList(ConvBlock(2 * shallow, shallow) for _, shallow in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](as_image(x))
        skips = []
        for block in self.encoder[1:]:
            skips.append(x)
            x = block(self.pool(x))
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], dim=1))
        return self.head(x)


def conv_stage(channels: int, depth: int, in_channels: int | None = None) -> nn.Sequential:
    """`depth` times conv3x3 + ReLU at one resolution: (N, C_in, H, W) -> (N, channels, H, W)."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [
            nn.Conv2d(in_channels or channels if i == 0 else channels, channels, 3, padding=1),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


class VNet(nn.Module):
    """Subnet F_b: a V-Net in two dimensions, without normalization; strided convolution down, skips added.

    Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> logits (N, num_classes, H, W). A skip
    carries the tensor that *enters* a stage, not the one that leaves it (except at full size). 3.3 M
    parameters at the default widths. After Milletari et al. (2016), in the widths of the KnowSAM paper;
    weights start Kaiming-normal.
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
            nn.Sequential(nn.Conv2d(widths[i], widths[i + 1], 2, stride=2), nn.ReLU()) for i in range(last)
        )
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(widths[i], widths[i - 1], 2, stride=2), nn.ReLU())
            for i in range(last, 0, -1)
        )
        self.decoder = nn.ModuleList(conv_stage(widths[i], depths[i]) for i in range(last - 1, -1, -1))
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](as_image(x))
        skips = [x]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            x = down(x)
            skips.append(x)
            x = stage(x)
        skips.pop()  # the deepest stage has no partner on the way up
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = stage(up(x) + skips.pop())
        return self.head(x)
