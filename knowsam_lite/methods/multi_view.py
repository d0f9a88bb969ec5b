"""MC, multi-view co-training: the two subnets teach each other on all images, without SAM."""

from torch import Tensor

from knowsam_lite.losses import consistency_loss, entropy_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.supervised import SupervisedPair
from knowsam_lite.students import StudentOutput


def mutual_terms(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
    """The terms that need no labels: consistency both ways, weight `w`, and low entropy, weight `v`.

    Logits (N, C, H, W). Each subnet's terms count one half.
    """
    terms = {}
    for k, z_k, z_j in (("a", z_a, z_b), ("b", z_b, z_a)):
        terms[f"{k}/consistency"] = 0.5 * w * consistency_loss(z_k, z_j)
        terms[f"{k}/entropy"] = 0.5 * v * entropy_loss(z_k)
    return terms


class MultiView(SupervisedPair):
    """The pair, with consistency in both directions and low entropy on all images, both ramped up.

    Without SAM there is no SKD, and no UGDA either, because UGDA's pseudo-labels are SAM's.
    """

    name = "mc"
    uses_unlabeled = True

    def pair_losses(self, z: StudentOutput, y: Tensor, progress: float) -> dict[str, Tensor]:
        rise = ramp(progress)
        w, v = rise * self.config.consistency_weight, rise * self.config.entropy_weight
        terms = super().pair_losses(z, y, progress)
        return {**terms, **mutual_terms(z.logits_a, z.logits_b, w, v)}
