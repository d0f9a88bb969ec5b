"""Prediction by overlapping squares, blended; memory grows with a picture's width, not with its height."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.data.tiles import padded, starts

Views = dict[str, Tensor]


def blending(side: int) -> Tensor:
    """The weight of each pixel of a square (side, side): 1 inside, falling to 0 over the overlap."""
    place = torch.arange(side) + 0.5
    ramp = (torch.minimum(place, side - place) / overlap_of(side)).clamp(max=1)
    return ramp[:, None] * ramp[None]


def overlap_of(side: int) -> int:
    """Pixels that neighboring squares share: a quarter of a side."""
    return max(side // 4, 1)


def blended(
    squares: Callable[[Iterable[np.ndarray]], Iterable[Views]],
    rows: Callable[[int, int], np.ndarray],
    size: tuple[int, int],
    side: int,
) -> Iterator[Views]:
    """The log-probabilities of a picture of `size` (H, W), in bands (C, rows, W) of each view from the top.

    `squares`: pictures uint8 (side, side, 3) -> logits (C, side, side) of each view; `rows(first, end)`:
    these rows of the picture, uint8 (rows, W, 3), which are asked for in order.
    """
    height, width = size
    ys, xs = starts(height, side, overlap_of(side)), starts(width, side, overlap_of(side))
    weight = blending(side)
    kept: dict[str, Tensor] = {}  # weighted sums (C, rows, W) that the next band goes on with
    kept_weight = torch.zeros(0, max(width, side))
    for y, after in zip(ys, [*ys[1:], height], strict=True):
        band = padded(rows(y, min(y + side, height)), side)
        sums: dict[str, Tensor] = {}
        weights = _grown(kept_weight, side)
        for x, views in zip(xs, squares(band[:, x : x + side] for x in xs), strict=True):
            weights[:, x : x + side] += weight
            for name, z in views.items():
                p = z.float().softmax(dim=0).cpu() * weight
                if name not in sums:
                    before = kept.get(name, torch.zeros(len(p), 0, band.shape[1]))
                    sums[name] = _grown(before, side)
                sums[name][:, :, x : x + side] += p
        done = after - y
        yield {
            name: (total[:, :done, :width] / weights[:done, :width]).clamp(min=1e-12).log()
            for name, total in sums.items()
        }
        kept = {name: total[:, done:].clone() for name, total in sums.items()}
        kept_weight = weights[done:].clone()


def _grown(sums: Tensor, rows: int) -> Tensor:
    """(..., some rows, W) with zeros below, to so many rows."""
    return torch.cat([sums, sums.new_zeros(*sums.shape[:-2], rows - sums.shape[-2], sums.shape[-1])], dim=-2)
