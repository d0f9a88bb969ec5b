"""Shared by several exercises of chapter 08."""

import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.probes import noise

TEMPERATURES = (0.5, 1.0, 4.0, 10.0)


def kl_reference(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The oracle, from PyTorch: KL(p || q), summed over the classes."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def logit_pair(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a teacher with larger ones, (2, C, 4, 5) each."""
    return noise(2, classes, 4, 5, seed=seed), noise(2, classes, 4, 5, seed=seed + 50, scale=6.0)
