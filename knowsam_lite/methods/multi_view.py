"""MC, multi-view co-training: the two subnets teach each other on all images, without SAM."""

from torch import Tensor

from knowsam_lite.losses import consistency_loss, entropy_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.supervised import SupervisedPair
from knowsam_lite.students import StudentOutput


class MultiView(SupervisedPair):
    """The pair, with consistency in both directions and low entropy on all images, both ramped up.

    Without SAM there is no SKD, and no UGDA either, for UGDA's pseudo-labels are SAM's.
    """

    name = "mc"
    uses_unlabeled = True

    def pair_losses(self, z: StudentOutput, y: Tensor, progress: float) -> dict[str, Tensor]:
        rise = ramp(progress)
        w, v = rise * self.config.consistency_weight, rise * self.config.entropy_weight
        terms = super().pair_losses(z, y, progress)
        for k, z_k, z_j in (("a", z.logits_a, z.logits_b), ("b", z.logits_b, z.logits_a)):
            terms[f"{k}/consistency"] = 0.5 * w * consistency_loss(z_k, z_j)
            terms[f"{k}/entropy"] = 0.5 * v * entropy_loss(z_k)
        return terms
