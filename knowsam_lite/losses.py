"""The losses of the networks. All logits are (N, C, H, W); all losses are float32 scalars."""

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.parallel.ranks import whole_batch
from knowsam_lite.uncertainty import entropy_map

UNKNOWN = -1  # label of a pixel whose class is not known


@whole_batch
def cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Mean over the known pixels of -log p_y, 0 if there are none. `y` (N, H, W) int64, -1 where unknown."""
    each = F.cross_entropy(z.float(), y, ignore_index=UNKNOWN, reduction="none")  # (N, H, W)
    return each.sum() / (y != UNKNOWN).sum().clamp(min=1)  # PyTorch's own mean sums in any order on CUDA


@whole_batch
def dice_loss(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    """1 - soft Dice with squared denominator (Milletari et al., 2016), mean over all C classes, background
    included.

    `y` (N, H, W) int64 classes, -1 where unknown (such pixels are ignored). The sums run over the whole
    batch, so a class that is absent from one image does not distort the ratio.
    """
    known = (y != UNKNOWN).unsqueeze(1)
    p = z.float().softmax(dim=1) * known
    truth = F.one_hot(y.clamp(min=0), z.shape[1]).movedim(-1, 1) * known  # (N, H, W, C) -> (N, C, H, W)
    over = (0, 2, 3)
    dice = (2 * (p * truth).sum(over) + smooth) / ((p * p).sum(over) + truth.sum(over) + smooth)
    return 1 - dice.mean()


def consistency_loss(z: Tensor, z_other: Tensor) -> Tensor:
    """Subnet k learns from subnet j: -sum_c sg(p_jc) log p_kc, mean over pixels; sg stops the gradient.

    `z` logits of the learner k, `z_other` those of j. Our formula, as the paper's was not available: the soft
    cross-entropy over all classes, applied to both subnets in turn.
    """
    target = z_other.detach().float().softmax(dim=1)
    return -(target * z.float().log_softmax(dim=1)).sum(dim=1).mean()


def entropy_loss(z: Tensor) -> Tensor:
    """Mean entropy of softmax(z) over pixels, divided by log C: in [0, 1], for every number of classes."""
    return entropy_map(z).mean()


def distillation_loss(z: Tensor, z_teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """SKD: T^2 KL(softmax(z_s / T) || softmax(z / T)) over all C classes, mean over pixels (Hinton et al.,
    2015).

    `z` logits of the student, `z_teacher` those of SAM, without gradient. T^2 keeps the size of the gradient
    comparable to that of the other terms for any T.
    """
    log_q = (z.float() / temperature).log_softmax(dim=1)
    log_p = (z_teacher.detach().float() / temperature).log_softmax(dim=1)
    return temperature**2 * torch.sum(log_p.exp() * (log_p - log_q), dim=1).mean()


@whole_batch
def supervised_loss(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy + soft Dice on the labelled pixels."""
    return cross_entropy(z, y) + dice_loss(z, y)
