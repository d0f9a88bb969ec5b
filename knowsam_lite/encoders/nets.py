"""A student with a start: an ImageNet encoder, a decoder, and the encoder's normalization inside."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.encoders.weights import ENCODERS, load_weights, normalization, timm_name
from knowsam_lite.errors import UserError
from knowsam_lite.subnets import as_image

Module = TypeVar("Module", bound=nn.Module)
STRIDE = 32  # what the deepest features of an encoder are smaller by
# The decoders by name: their class in segmentation_models_pytorch, and how figures call the whole net.
DECODERS = {
    "unet": ("Unet", "U-Net"),
    "fpn": ("FPN", "FPN"),
    "linknet": ("Linknet", "LinkNet"),
    "unetplusplus": ("UnetPlusPlus", "U-Net++"),
    "manet": ("MAnet", "MA-Net"),
    "deeplabv3plus": ("DeepLabV3Plus", "DeepLabV3+"),
    "pan": ("PAN", "PAN"),
}


class PretrainedNet(nn.Module):
    """Image (N, 1 or 3, H, W) in [0, 1], H and W multiples of 16 -> logits (N, num_classes, H, W).

    `encoder`: a name in ENCODERS or any of timm's; `decoder`: a name in DECODERS. `pretrained`: with ImageNet
    weights, else at random, for a checkpoint to fill. Raises UserError for unknown names and missing weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str, decoder: str, num_classes: int, pretrained: bool = True):
        super().__init__()
        name = timm_name(encoder)
        if decoder not in DECODERS:
            raise UserError(f"found decoder {decoder!r}, expected one of {', '.join(DECODERS)}: correct it")
        import segmentation_models_pytorch as smp

        kind = getattr(smp, DECODERS[decoder][0])
        with nullcontext() if encoder in ENCODERS else _refusing(encoder, decoder):
            self.net = kind(f"tu-{name}", encoder_weights=None, classes=num_classes)
            if encoder not in ENCODERS:
                _try(self.net)
        if pretrained:
            load_weights(self.net.encoder.model, encoder)
        for key, values in zip(("mean", "std"), normalization(encoder), strict=True):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1), persistent=False)

    @property
    def encoder(self) -> nn.Module:
        """What starts pretrained."""
        return self.net.encoder

    @property
    def whole(self) -> bool:
        """Whether the decoder's features are as large as the image; else the head enlarges its answer."""
        return not any(isinstance(layer, nn.Upsample) for layer in self.net.segmentation_head)

    @property
    def head(self) -> nn.Conv2d:
        """The convolution that turns the decoder's features into logits."""
        return next(layer for layer in self.net.segmentation_head if isinstance(layer, nn.Conv2d))

    def features(self, x: Tensor) -> list[Tensor]:
        """What `head` reads, (N, D, H', W'), as the only entry of a list. H, W multiples of 32."""
        return [self.net.decoder(self.net.encoder((x - self.mean) / self.std))]

    def forward(self, x: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """`change` is done to the encoder's features of every resolution, if given."""
        x = as_image(x)
        height, width = x.shape[-2:]
        right, below = -width % STRIDE, -height % STRIDE
        if right or below:
            x = F.pad(x, (0, right, 0, below), mode="replicate")
        features = self.net.encoder((x - self.mean) / self.std)
        if change is not None:
            features = [change(f) for f in features]
        z = self.net.segmentation_head(self.net.decoder(features))
        return z[..., :height, :width] if right or below else z


@contextmanager
def _refusing(encoder: str, decoder: str) -> Iterator[None]:
    """One line for a network of timm that smp, or its decoder, refuses in one of many ways."""
    try:
        yield
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:100]
        raise UserError(
            f"found encoder {encoder!r}, which {decoder} cannot use ({why}), expected a convolutional "
            f"one: choose another, such as {', '.join(ENCODERS)}"
        ) from None


@torch.no_grad()
def _try(net: nn.Module) -> None:
    """One small picture, which some of timm's networks refuse."""
    net.eval()(torch.zeros(1, 3, 2 * STRIDE, 2 * STRIDE))
    net.train()


def share_batchnorm(method: Module) -> Module:
    """`method` with BatchNorms whose statistics are those of the images of all processes, on CUDA."""
    if "timm" in sys.modules:  # else nothing in `method` is of timm
        from timm.layers import convert_sync_batchnorm  # keeps the activation that timm puts in the norm

        return cast(Module, convert_sync_batchnorm(method))
    return cast(Module, nn.SyncBatchNorm.convert_sync_batchnorm(method))
