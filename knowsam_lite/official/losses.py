"""The authors' losses with their defects. Logits are (N, C, H, W), losses float32 scalars."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.losses import cross_entropy, dice_loss
from knowsam_lite.parallel.ranks import whole_batch

EPS = 1e-6  # inside every logarithm of a probability
DICE_SMOOTH = 1e-10
RAMP_EPOCHS = 200  # the consistency weight grows over this many equal parts of the run
CONSISTENCY_WEIGHT = 0.1
RAMP_HEIGHT = 10.0


def entropy(z: Tensor) -> Tensor:
    """Natural entropy of softmax(z), not normalized: (N, C, H, W) -> (N, H, W), in [0, log C]."""
    p = z.softmax(dim=1)
    return -(p * (p + EPS).log()).sum(dim=1)


def entropy_loss(z: Tensor) -> Tensor:
    """Mean entropy divided by log 2, whatever C is: for C > 2 it can exceed 1."""
    return entropy(z).mean() / math.log(2)


def official_dice_loss(z: Tensor, y: Tensor) -> Tensor:
    """Soft Dice with the authors' smoothing: an absent class has a loss of 1."""
    return dice_loss(z, y, smooth=DICE_SMOOTH)


@whole_batch
def supervised_loss(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy + soft Dice. `y` (N, H, W) int64 classes."""
    return cross_entropy(z, y) + official_dice_loss(z, y)


def consistency_a_from_b(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Binary cross-entropy of the last class channel only: prediction p_a, target p_b without gradient."""
    with torch.autocast(z_a.device.type, enabled=False):  # on CUDA it refuses this loss
        p_a = z_a.float().softmax(dim=1)[:, -1].clamp(1e-8, 1 - 1e-7)
        p_b = z_b.detach().float().softmax(dim=1)[:, -1]
        return F.binary_cross_entropy(p_a, p_b)


def consistency_b_from_a(z_b: Tensor, z_a: Tensor) -> Tensor:
    """The same number, but without gradient: prediction and target are swapped, B learns nothing from A."""
    return consistency_a_from_b(z_a.detach(), z_b)


def distillation_loss(z: Tensor, z_teacher: Tensor, temperature: float = 10.0) -> Tensor:
    """T^2 KL(SAM || subnet) over rows of two numbers, whatever C is; the mean over rows.

    A row is a pixel only for C = 2; for more classes it pairs neighbouring channels, even across pixels.
    """
    rows, teacher_rows = (
        t.movedim(1, -1).reshape(-1, 2) / temperature for t in (z, z_teacher.detach())
    )  # (N, C, H, W) -> (N H W C / 2, 2)
    log_q, log_p = rows.log_softmax(dim=1), teacher_rows.log_softmax(dim=1)
    return temperature**2 * F.kl_div(log_q, log_p, reduction="sum", log_target=True) / len(rows)


def certain_cells(z: Tensor, grid: int = 4, count: int = 5) -> Tensor:
    """The `count` cells of lowest mean entropy, in increasing order, numbered row by row.

    Logits (N, C, H, W) -> (N, count) int64.
    """
    height, width = z.shape[-2:]
    cells = F.avg_pool2d(entropy(z).unsqueeze(1), (height // grid, width // grid)).flatten(1)
    return cells.sort(dim=1).indices[:, :count]


def as_regions(cells: Tensor, grid: int = 4) -> Tensor:
    """Cell numbers (N, count) as a mask (N, grid, grid), True where chosen."""
    board = torch.zeros(len(cells), grid * grid, dtype=torch.bool, device=cells.device)
    return board.scatter(1, cells, True).view(-1, grid, grid)


def consistency_weight(step: int, max_steps: int) -> float:
    """w(t) = 10 * 0.1 * exp(-5 (1 - e / 200)^2) with e = t // (t_max // 200), in (0, 1].

    If t_max is not a multiple of 200, e would exceed 200; the ramp is then capped at its end.
    """
    epoch = min(step // max(max_steps // RAMP_EPOCHS, 1), RAMP_EPOCHS)
    return RAMP_HEIGHT * CONSISTENCY_WEIGHT * math.exp(-5 * (1 - epoch / RAMP_EPOCHS) ** 2)
