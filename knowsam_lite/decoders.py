"""U-Nets with one shared encoder and several decoders."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.subnets import DROPOUT, WIDTHS, decode, encode, make_decoder, make_encoder, transposed


class Enlarge(nn.Module):
    """conv1x1, then 2x upsampling by interpolation: (N, deep, H, W) -> (N, shallow, 2 H, 2 W)."""

    def __init__(self, deep: int, shallow: int, mode: str):
        super().__init__()
        self.conv, self.mode = nn.Conv2d(deep, shallow, 1), mode

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=2, mode=self.mode)


def bilinear(deep: int, shallow: int) -> nn.Module:
    """conv1x1, then bilinear upsampling."""
    return Enlarge(deep, shallow, "bilinear")


def nearest(deep: int, shallow: int) -> nn.Module:
    """conv1x1, then nearest-neighbor upsampling."""
    return Enlarge(deep, shallow, "nearest")


class UNetDecoder(nn.Module):
    """The decoder of a `UNet`, without its encoder.

    Features from `encode`, full size first -> logits (N, num_classes, H, W). `upsampling(deep, shallow)`
    makes the layer that doubles the size.
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = WIDTHS,
        upsampling: Callable[[int, int], nn.Module] = transposed,
    ):
        super().__init__()
        self.up, self.decoder = make_decoder(widths, upsampling)
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.head(decode(self.up, self.decoder, features)[-1])


class SharedEncoder(nn.Module):
    """The encoder of a `UNet`, shared by all `decoders`.

    Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> a list of logits (N, C, H, W).
    """

    def __init__(
        self,
        decoders: Sequence[nn.Module],
        widths: Sequence[int] = WIDTHS,
        dropout: Sequence[float] = DROPOUT,
    ):
        super().__init__()
        self.encoder, self.decoders = make_encoder(widths, dropout), nn.ModuleList(decoders)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = encode(self.encoder, x)
        return [decoder(features) for decoder in self.decoders]
