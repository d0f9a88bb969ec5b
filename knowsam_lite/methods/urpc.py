"""URPC: four scales of one decoder agree with their mean, weighted less where a scale deviates from it."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.parallel.ranks import whole_batch
from knowsam_lite.subnets import WIDTHS, UNet

__getattr__ = old_names(__name__)

RAMPED_WEIGHT = 0.1  # final weight of the consistency


@whole_batch
def rectified_consistency(z: list[Tensor]) -> Tensor:
    """Mean over scales of [mean((p_mean - p_s)^2 e^-D) / mean(e^-D) + mean D], a scalar.

    `z` logits (N, C, H, W) of each scale; p_mean the mean of their probabilities; D = KL(p_mean || p_s) per
    pixel (N, H, W), how much a scale deviates. The gradient flows through all of it, as published.
    """
    log_p = torch.stack([one.float().log_softmax(dim=1) for one in z])  # (S, N, C, H, W)
    log_mean = log_p.logsumexp(dim=0) - math.log(len(z))
    p, mean = log_p.exp(), log_mean.exp()
    strays = (mean * (log_mean - log_p)).sum(dim=2)  # D, (S, N, H, W)
    trust = (-strays).exp()
    error = (mean - p).square().mean(dim=2)  # mean over classes
    over = (1, 2, 3)
    return ((error * trust).mean(over) / trust.mean(over).clamp(min=1e-8) + strays.mean(over)).mean()


class URPC(Method):
    """URPC (Luo et al., MICCAI 2021, "Uncertainty rectified pyramid consistency") on this library's U-Net.

    Each of the decoder's four resolutions has a head, whose logits are upsampled bilinearly to full size.
    Mean over the scales of 0.5 (CE + Dice) on labels, and 0.1 w x rectified consistency on unlabelled images.
    The full resolution is tested. Published on a 3-D U-Net; here in 2-D, and without the noise that the
    authors' later 2-D code adds to the coarse features.
    """

    name = "urpc"
    published_aug = "weak"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.require_paper()
        self.net = UNet(num_classes)
        coarse = reversed(WIDTHS[1:-1])  # 1/8, 1/4, 1/2 of full size; the deepest features have no head
        self.coarse_heads = nn.ModuleList(nn.Conv2d(width, num_classes, 3, padding=1) for width in coarse)

    def scales(self, x: Tensor) -> list[Tensor]:
        """Image (N, 3, H, W) -> logits (N, C, H, W) of each scale at full size, coarsest first."""
        *coarse, fine = self.net.features(x)
        heads = zip(self.coarse_heads, coarse, strict=True)
        z = [F.interpolate(head(features), x.shape[-2:], mode="bilinear") for head, features in heads]
        return [*z, self.net.head(fine)]

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y, z = batch.n_labeled, batch.y[: batch.n_labeled], self.scales(batch.x)
        supervised = torch.stack([supervised_loss(one[:n], y) for one in z]).sum() / (2 * len(z))
        consistency = rectified_consistency([one[n:] for one in z])
        yield {
            "supervised": supervised,
            "consistency": RAMPED_WEIGHT * ramp(self.progress(step)) * consistency,
        }

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)
