"""UGDA, uncertainty-guided augmentation: exchanges regions between labelled and unlabelled images."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.errors import UserError
from knowsam_lite.uncertainty import entropy_map


class Mixed(NamedTuple):
    """The mixed labelled images, then the mixed unlabelled ones: `x` (N, 3, H, W) and `y` (N, H, W)."""

    x: Tensor
    y: Tensor


def uncertainty_map(z: Tensor, grid: int = 4) -> Tensor:
    """Mean entropy of softmax(z) in each of grid x grid cells: (N, C, H, W) -> (N, grid, grid) in [0, 1].

    Raises UserError if the grid does not divide H and W.
    """
    height, width = z.shape[-2:]
    if height % grid or width % grid:
        raise UserError(
            f"found a {height} x {width} map and a {grid} x {grid} grid, expected a grid that divides it"
        )
    return F.avg_pool2d(entropy_map(z).unsqueeze(1), (height // grid, width // grid)).squeeze(1)


def choose_regions(u: Tensor, count: int = 5, most: Literal["uncertain", "certain"] = "uncertain") -> Tensor:
    """Mark the `count` most uncertain (the paper's figure 3) or most certain cells of each image.

    `u` uncertainty (N, grid, grid) -> bool of the same shape, exactly `count` True in each image.
    """
    cells = u.flatten(1).topk(count, dim=1, largest=most == "uncertain").indices
    return torch.zeros_like(u.flatten(1), dtype=torch.bool).scatter(1, cells, True).view_as(u)


def mix(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, regions_l: Tensor, regions_u: Tensor) -> Mixed:
    """Replace the chosen cells of each image and its labels with the same cells of its partner.

    `x_l` (N_l, 3, H, W), `x_u` (N_u, 3, H, W) images; `y_l` labels and `y_u` pseudo-labels (N, H, W);
    `regions_l`, `regions_u` bool (N, grid, grid). Labelled image i pairs with unlabelled image i mod N_u,
    unlabelled image j with labelled image j mod N_l; what is pasted always comes from the unmixed images.
    """
    n_l, n_u = len(x_l), len(x_u)
    to_u = torch.arange(n_l, device=x_l.device) % n_u
    to_l = torch.arange(n_u, device=x_l.device) % n_l
    size = x_l.shape[-2:]
    paste_l, paste_u = (
        F.interpolate(r.unsqueeze(1).float(), size) > 0.5 for r in (regions_l, regions_u)
    )  # (N, 1, H, W)
    x = torch.cat([torch.where(paste_l, x_u[to_u], x_l), torch.where(paste_u, x_l[to_l], x_u)])
    y = torch.cat(
        [
            torch.where(paste_l.squeeze(1), y_u[to_u], y_l),
            torch.where(paste_u.squeeze(1), y_l[to_l], y_u),
        ]
    )
    return Mixed(x, y)
