"""CPS: two nets with different initial weights give each other pseudo-labels."""

from collections.abc import Iterator

from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import cross_entropy, supervised_loss
from knowsam_lite.methods.base import Method, ramp

__getattr__ = old_names(__name__)

SUPERVISED_WEIGHT = 0.5  # of CE + Dice, as is usual in 2-D; CPS itself has cross-entropy alone
RAMPED_WEIGHT = 0.1  # final weight of the pseudo-labels (published for natural images: 1.5)


class CPS(Method):
    """CPS (Chen et al., CVPR 2021, "Semi-supervised semantic segmentation with cross pseudo supervision").

    Two of this library's U-Nets with different random weights: 0.5 (CE + Dice) of each on labels, and 0.1 w x
    cross-entropy of each with the other's most likely class, without gradient, on unlabelled images. The
    first net is tested. Published with DeepLabv3+ on natural images, with pseudo-labels on labelled images
    too and without a ramp; here in the form usual for medical images.
    """

    name = "cps"
    published_aug = "weak"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        self.net_a, self.net_b = self.make_net(), self.make_net()

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y = batch.n_labeled, batch.y[: batch.n_labeled]
        z_a, z_b = self.net_a(batch.x), self.net_b(batch.x)
        w = RAMPED_WEIGHT * ramp(self.progress(step))
        terms = {}
        for k, z_k, z_j in (("a", z_a, z_b), ("b", z_b, z_a)):
            terms[f"{k}/supervised"] = SUPERVISED_WEIGHT * supervised_loss(z_k[:n], y)
            terms[f"{k}/pseudo"] = w * cross_entropy(z_k[n:], z_j[n:].argmax(dim=1))
        yield terms

    def predict(self, x: Tensor) -> Tensor:
        return self.net_a(x)

    def views(self, x: Tensor) -> dict[str, Tensor]:
        return {self.prediction_view: self.net_a(x), f"{self.prediction_view} 2": self.net_b(x)}
