"""MCF, mutual correction: two different nets correct each other where they disagree."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import UNKNOWN, dice_loss, supervised_loss
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.parallel.ranks import whole_batch
from knowsam_lite.subnets import UNet, VNet

__getattr__ = old_names(__name__)

SHARPNESS = 0.1  # temperature of the sharpened target
RECTIFY_WEIGHT = 0.5  # of the squared error where the nets disagree, on labelled images
RAMPED_WEIGHT = 0.1  # final weight of the unlabelled term


def sharpen(p: Tensor, temperature: float = SHARPNESS) -> Tensor:
    """Probabilities (N, C, H, W) pushed towards their largest class: p^(1/T) / sum_c p^(1/T)."""
    powered = p ** (1 / temperature)
    return powered / powered.sum(dim=1, keepdim=True)


@whole_batch
def rectify_loss(p: Tensor, p_other: Tensor, y: Tensor) -> Tensor:
    """Squared error of `p` (N, C, H, W) against known labels, mean over the pixels where the nets disagree.

    The nets disagree where their most likely classes differ; the loss is 0 if they do so nowhere. `y`
    (N, H, W) int64 classes, -1 where unknown.
    """
    quarrel = ((p.argmax(dim=1) != p_other.argmax(dim=1)) & (y != UNKNOWN)).unsqueeze(1)  # (N, 1, H, W)
    truth = F.one_hot(y.clamp(min=0), p.shape[1]).movedim(-1, 1)  # (N, H, W, C) -> (N, C, H, W)
    return ((p - truth).square() * quarrel).sum() / (quarrel.sum().clamp(min=1) * p.shape[1])


class MCF(Method):
    """MCF (Wang et al., CVPR 2023, "Mutual correction framework") on this library's U-Net and V-Net.

    Labelled: CE + Dice of each net, and 0.5 x squared error where the two disagree. Unlabelled: the net whose
    Dice on this batch's labels is worse learns from the other's sharpened output (T = 0.1), squared error,
    0.1 w. At test time both are averaged. Published in 3-D with a V-Net and a 3-D ResNet; here in 2-D.
    """

    name = "mcf"
    published_aug = "weak"
    prediction_view = "mean"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.net_a, self.net_b = self.make_net("a", UNet), self.make_net("b", VNet)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y = batch.n_labeled, batch.y[: batch.n_labeled]
        z_a, z_b = self.net_a(batch.x).float(), self.net_b(batch.x).float()
        p_a, p_b = z_a.softmax(dim=1), z_b.softmax(dim=1)
        a_is_worse = (dice_loss(z_a[:n], y) > dice_loss(z_b[:n], y)).to(p_a.dtype)  # stays on the device
        corrected = a_is_worse * F.mse_loss(p_a[n:], sharpen(p_b[n:].detach()))
        corrected = corrected + (1 - a_is_worse) * F.mse_loss(p_b[n:], sharpen(p_a[n:].detach()))
        yield {
            "a/supervised": supervised_loss(z_a[:n], y),
            "b/supervised": supervised_loss(z_b[:n], y),
            "a/rectification": RECTIFY_WEIGHT * rectify_loss(p_a[:n], p_b[:n].detach(), y),
            "b/rectification": RECTIFY_WEIGHT * rectify_loss(p_b[:n], p_a[:n].detach(), y),
            "correction": RAMPED_WEIGHT * ramp(self.progress(step)) * corrected,
        }

    def predict(self, x: Tensor) -> Tensor:
        """The logarithm of the two nets' mean probability: (N, 3, H, W) -> (N, C, H, W)."""
        return self.views(x)["mean"]

    def views(self, x: Tensor) -> dict[str, Tensor]:
        z_a, z_b = self.net_a(x), self.net_b(x)
        both = torch.stack([z_a.float().log_softmax(dim=1), z_b.float().log_softmax(dim=1)])
        a, b = self.net_names()
        return {a: z_a, b: z_b, "mean": both.logsumexp(dim=0)}
