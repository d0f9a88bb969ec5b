"""MC without HAM: the two subnets without a learned combination."""

import math

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.methods.multi_view import MultiView
from knowsam_lite.students import StudentOutput


class MeanOfTwo(nn.Module):
    """The mean of both subnets' softmax, as logits: (N, C, H, W) twice -> (N, C, H, W); no parameters."""

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        both = torch.stack([z_a.float().log_softmax(dim=1), z_b.float().log_softmax(dim=1)])
        return both.logsumexp(dim=0) - math.log(2)


class MultiViewMean(MultiView):
    """MC alone: consistency and entropy as in `mc`, the mean of both subnets instead of HAM (ours)."""

    name = "mc_mean"

    def __init__(
        self, config: Config, num_classes: int, net_a: nn.Module | None = None, net_b: nn.Module | None = None
    ):
        super().__init__(config, num_classes, net_a, net_b)
        self.students.ham = MeanOfTwo()

    def pair_losses(self, z: StudentOutput, y: Tensor, progress: float) -> dict[str, Tensor]:
        terms = super().pair_losses(z, y, progress)
        del terms["fused/supervised"]  # the mean has no parameters of its own
        return terms
