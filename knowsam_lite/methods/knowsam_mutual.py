"""Mutual KnowSAM: SAM also learns from the students, on the unlabelled images."""

from typing import ClassVar

from torch import Tensor

from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.knowsam import KnowSAM
from knowsam_lite.sam.prompts import roughen

__getattr__ = old_names(__name__)

MUTUAL_WEIGHT = 0.5  # final weight of the students' pseudo-labels


class KnowSAMMutual(KnowSAM):
    """KnowSAM whose SAM also takes the fused map's argmax on unlabelled images as labels (ours).

    The weight ramps up over the first fifth of the run: the students' first maps are noise, which SAM would
    learn and teach back. SAM gets a roughened prompt here, as on labelled images: prompted with the very map
    that is its target, it would learn to copy.
    """

    name = "knowsam_mutual"
    rise: ClassVar[float] = 0.2  # fraction of the run; 0: the full weight from the first step

    def sam_losses(
        self, batch: Batch, z_s_labeled: Tensor, z_f: Tensor, progress: float
    ) -> dict[str, Tensor]:
        n = batch.n_labeled
        weight = MUTUAL_WEIGHT * (ramp(min(progress / self.rise, 1.0)) if self.rise else 1.0)
        own = self.teacher(batch.x[n:], roughen(z_f[n:])).logits
        terms = super().sam_losses(batch, z_s_labeled, z_f, progress)
        return {**terms, "sam/pseudo": weight * supervised_loss(own, z_f[n:].argmax(dim=1))}


class KnowSAMMutualAtOnce(KnowSAMMutual):
    """`knowsam_mutual` without its ramp: SAM learns from the students from the first step on (ours)."""

    name = "knowsam_mutual_at_once"
    rise = 0.0
