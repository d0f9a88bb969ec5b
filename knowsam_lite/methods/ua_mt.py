"""UA-MT: the student follows the teacher only where the teacher is certain over eight passes."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.deprecated import old_names
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.methods.mean_teacher import MeanTeacher, noisy
from knowsam_lite.parallel.ranks import whole_batch

__getattr__ = old_names(__name__)

DROPPED = 0.2  # of pretrained features
PASSES = 8  # T, noisy dropout passes of the teacher
START, RISE = 0.75, 0.25  # the threshold goes from START to START + RISE times the largest entropy


@whole_batch
def masked_error(p: Tensor, target: Tensor, sure: Tensor) -> Tensor:
    """Squared error of `p` and `target` (N, C, H, W), over the pixels of `sure` (N, H, W); 0 if none is.

    Summed over the classes and divided by twice the number of sure pixels, as published: for two classes
    that is the mean.
    """
    error = (p - target).square().sum(dim=1)
    return (error * sure).sum() / (2 * sure.sum()).clamp(min=1)


class UAMT(MeanTeacher):
    """UA-MT (Yu et al., MICCAI 2019, "Uncertainty-aware self-ensembling model"), based on `MeanTeacher`.

    The teacher predicts 8 times, each with its own noise and dropout; the squared error counts only where the
    entropy of the mean probability is below (0.75 + 0.25 w) ln C. The target is one more noisy prediction.
    Published in 3-D for two classes with ln 2; here ln C, in 2-D. Pretrained students have no dropout of
    their own: a fifth of the encoder's features is dropped, the mean of the U-Net's rates.
    """

    name = "ua_mt"

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        if not isinstance(self.teacher, PretrainedNet):
            return super().teach(x)
        return self.teacher(noisy(x), partial(F.dropout, p=DROPPED)).float().softmax(dim=1)

    def consistency(self, p: Tensor, x: Tensor, rise: float) -> Tensor:
        sure = self.doubt(x) < (START + RISE * rise) * math.log(self.num_classes)
        return masked_error(p, self.teach(x), sure)

    def doubt(self, x: Tensor) -> Tensor:
        """Entropy of the teacher's mean probability over 8 passes: images (N, 3, H, W) -> (N, H, W) in
        [0, ln C].
        """
        passes = self.teach(x.repeat(PASSES, 1, 1, 1))  # one forward of 8 N images: noise and dropout differ
        mean = passes.unflatten(0, (PASSES, len(x))).mean(dim=0)  # (8 N, C, H, W) -> (N, C, H, W)
        return torch.special.entr(mean).sum(dim=1)
