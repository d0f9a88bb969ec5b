"""CDMA: three decoders with different attention distil their soft predictions into each other."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.decoders import SharedEncoder, UNetDecoder
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import distillation_loss, supervised_loss
from knowsam_lite.methods.base import Method
from knowsam_lite.subnets import WIDTHS

__getattr__ = old_names(__name__)

START = 0.1  # fraction of the run after which the unlabelled terms start (published: epoch 15 of 150)
WEIGHT = 0.1  # of the distillation and of the entropy, without a ramp
TEMPERATURE = 10.0  # T of the distillation
REDUCTION = 16  # the channel attention's bottleneck has 1/16 of the channels


class ChannelAttention(nn.Module):
    """Weight each channel by its mean and its maximum: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(1, channels // REDUCTION)
        self.shared = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = x.mean(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
        return x * (self.shared(mean) + self.shared(largest)).sigmoid()


class SpatialAttention(nn.Module):
    """Weight each pixel by the mean and the maximum of its channels: (N, C, H, W) -> (N, C, H, W)."""

    def __init__(self, kernel_size: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(dim=1, keepdim=True), x.amax(dim=1, keepdim=True)], dim=1)
        return x * self.conv(summary).sigmoid()


def channel_and_spatial(channels: int) -> nn.Module:
    """Channel attention, then spatial attention (CBAM: Woo et al., ECCV 2018)."""
    return nn.Sequential(ChannelAttention(channels), SpatialAttention(7))


def spatial(channels: int) -> nn.Module:
    """Spatial attention alone, for any number of channels."""
    return SpatialAttention()


ATTENTIONS: dict[str, Callable[[int], nn.Module]] = {
    "both": channel_and_spatial,
    "spatial": spatial,
    "channel": ChannelAttention,
}


class AttentionDecoder(UNetDecoder):
    """A U-Net's decoder with attention on each block's input, the skip and the coarser features together."""

    def __init__(
        self, num_classes: int, attention: Callable[[int], nn.Module], widths: Sequence[int] = WIDTHS
    ):
        super().__init__(num_classes, widths)
        sizes = [2 * width for width in reversed(widths[:-1])]  # deep to shallow
        self.decoder = nn.ModuleList(
            nn.Sequential(attention(size), block) for size, block in zip(sizes, self.decoder, strict=True)
        )


def cross_distillation(z: list[Tensor]) -> Tensor:
    """Each decoder learns from the two others: KD at T = 10 summed over ordered pairs, mean over decoders."""
    pairs = [distillation_loss(learner, other, TEMPERATURE) for learner, other in permutations(z, 2)]
    return torch.stack(pairs).sum() / len(z)


def mean_entropy(z: list[Tensor]) -> Tensor:
    """Entropy of the decoders' mean probability, in [0, 1] (divided by log C), mean over pixels."""
    p = torch.stack([one.float().softmax(dim=1) for one in z]).mean(dim=0)
    return -(p * p.clamp(min=1e-12).log()).sum(dim=1).mean() / math.log(p.shape[1])


class CDMA(Method):
    """CDMA (Zhong et al., MICCAI 2023, "Cross distillation of multiple attentions").

    This library's U-Net with three decoders: with channel and spatial, spatial, and channel attention. Mean
    over the decoders of 0.5 (CE + Dice) on labels; from a tenth of the run on, on all images, 0.1 x (cross
    distillation, with a gradient for the learner only, + entropy of the mean probability). The first decoder
    is tested. Published with an ImageNet ResNet-50 and a DeepLab decoder with attention in its two blocks;
    here every block of the U-Net's decoder has it, before its convolutions.
    """

    name = "cdma"
    published_aug = "weak"
    prediction_view = "both"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.require_paper()
        decoders = [AttentionDecoder(num_classes, attention) for attention in ATTENTIONS.values()]
        self.net = SharedEncoder(decoders)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y, z = batch.n_labeled, batch.y[: batch.n_labeled], self.net(batch.x)
        terms = {
            f"{name}/supervised": supervised_loss(one[:n], y) / (2 * len(z))
            for name, one in zip(ATTENTIONS, z, strict=True)
        }
        if self.progress(step) >= START:
            terms["cross_distillation"] = WEIGHT * cross_distillation(z)
            terms["entropy"] = WEIGHT * mean_entropy(z)
        yield terms

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)[0]

    def views(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(ATTENTIONS, self.net(x), strict=True))
