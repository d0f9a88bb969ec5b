"""MC-Net+: three decoders on one encoder, each trained to match the sharpened output of the others."""

from collections.abc import Iterator
from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.decoders import SharedEncoder, UNetDecoder, bilinear, nearest
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import dice_loss
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.methods.mcf import sharpen
from knowsam_lite.subnets import transposed

__getattr__ = old_names(__name__)

SUPERVISED_WEIGHT = 0.5  # of each decoder's Dice loss, as in the authors' code
RAMPED_WEIGHT = 0.1  # final weight of the mutual consistency
UPSAMPLINGS = {"bilinear": bilinear, "transposed": transposed, "nearest": nearest}


def mutual_consistency(z: list[Tensor]) -> Tensor:
    """Sum over ordered pairs i, j of the squared error of p_i and the sharpened p_j (T = 0.1), mean over the
    rest.

    `z` logits (N, C, H, W). The gradient flows through both, as published.
    """
    p = [one.float().softmax(dim=1) for one in z]
    pairs = permutations(zip(p, [sharpen(one) for one in p], strict=True), 2)
    return torch.stack([F.mse_loss(p_i, target_j) for (p_i, _), (_, target_j) in pairs]).sum()


class MCNetPlus(Method):
    """MC-Net+ (Wu et al., Medical Image Analysis 2022, "Mutual consistency learning").

    This library's U-Net with three decoders that differ in how they double the size: conv1x1 and bilinear,
    transposed convolution, conv1x1 and nearest. Half of each decoder's Dice loss on labels, no cross-entropy;
    0.1 w x mutual consistency on all images. The first decoder is tested. Published with a 3-D V-Net and a
    2-D U-Net of these widths. Sharpening is p^10 / sum_c p^10, which for two classes is the published form.
    """

    name = "mc_net_plus"
    published_aug = "weak"
    prediction_view = "bilinear"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.require_paper()
        decoders = [UNetDecoder(num_classes, upsampling=u) for u in UPSAMPLINGS.values()]
        self.net = SharedEncoder(decoders)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y, z = batch.n_labeled, batch.y[: batch.n_labeled], self.net(batch.x)
        terms = {
            f"{name}/supervised": SUPERVISED_WEIGHT * dice_loss(one[:n], y)
            for name, one in zip(UPSAMPLINGS, z, strict=True)
        }
        terms["consistency"] = RAMPED_WEIGHT * ramp(self.progress(step)) * mutual_consistency(z)
        yield terms

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)[0]

    def views(self, x: Tensor) -> dict[str, Tensor]:
        return dict(zip(UPSAMPLINGS, self.net(x), strict=True))
