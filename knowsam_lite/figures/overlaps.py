"""A prediction laid over the truth: what it hits, adds and misses, with its scores underneath."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import QUIET, RC, save
from knowsam_lite.metrics import BoolArray, dice, hd95, iou, surface

KINDS = {"hit": "#44AA99", "added": "#CC6677", "missed": "#DDCC77"}  # three of `look.CLASSES`
EMPTY = "#F3F3F3"
# Inches: a picture, the gaps between columns and rows (title and two lines of scores), the margins.
CELL, GAP, BETWEEN, TOP, FOOT = 1.3, 0.1, 0.54, 0.26, 0.6


def overlaps(
    pairs: Mapping[str, tuple[ArrayLike, ArrayLike]], path: str | Path, columns: int = 4, cell: float = CELL
) -> dict[str, dict[str, float]]:
    """Draw each title -> (prediction, truth), boolean masks (H, W), in rows of `columns`, each
    `cell` inches wide.

    A bar joins two border pixels that are about HD95 apart. Returns title -> {"dice", "iou", "hd95"}. Raises
    `UserError` for no pair, masks of different shapes or not of two dimensions.
    """
    masks = {title: _masks(title, *pair) for title, pair in pairs.items()}
    if not masks:
        raise UserError("found no pair, expected at least one: pass title -> (prediction, truth)")
    across, down = min(columns, len(masks)), -(-len(masks) // columns)
    width = across * (cell + GAP) - GAP + 0.2
    height = TOP + down * (cell + BETWEEN) - BETWEEN + FOOT
    told = {}
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for number, (title, (pred, true)) in enumerate(masks.items()):
            row, column = divmod(number, columns)
            x, y = 0.1 + column * (cell + GAP), height - TOP - cell - row * (cell + BETWEEN)
            axes = figure.add_axes((x / width, y / height, cell / width, cell / height))
            axes.set_axis_off()
            axes.set_title(title, loc="center", color=INK, pad=3, fontsize=8)
            _paint(axes, pred, true)
            told[title] = {"dice": dice(pred, true), "iou": iou(pred, true), "hd95": hd95(pred, true)}
            words = "Dice {dice:.2f}   IoU {iou:.2f}\nHD95 {hd95:.1f}".format(**told[title])
            below: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7, "linespacing": 1.3}
            axes.text(0.5, -0.03, words, transform=axes.transAxes, color=INK, **below)
        x, size = 0.1, 7.0 if across > 1 else 6.0  # below a single pair, closer together
        for name, paint in KINDS.items():
            figure.text(x / width, 0.05 / height, "\N{BLACK SQUARE}", color=paint, fontsize=9)
            figure.text((x + 0.13) / width, 0.06 / height, name, color=QUIET, fontsize=size)
            x += 0.75 if across > 1 else 0.2 + 0.052 * len(name)
        save(figure, path)
    return told


def farthest(pred: BoolArray, true: BoolArray) -> NDArray[np.intp] | None:
    """Two border pixels, [[row, column], [row, column]], whose distance is closest to HD95.

    One lies on one mask's border, the other is the nearest on the other's. None if a mask is empty.
    """
    if not pred.any() or not true.any():
        return None
    p, t = np.argwhere(surface(pred)), np.argwhere(surface(true))
    between = np.linalg.norm(p[:, None] - t[None], axis=2)  # (P, T)
    near = [(i, int(j)) for i, j in enumerate(between.argmin(axis=1))]
    near += [(int(i), j) for j, i in enumerate(between.argmin(axis=0))]
    wanted = hd95(pred, true)
    i, j = min(near, key=lambda ends: abs(between[ends] - wanted))
    return np.stack([p[i], t[j]])


def _paint(axes: Axes, pred: BoolArray, true: BoolArray) -> None:
    picture = np.zeros(pred.shape, int) + 1 * (pred & true) + 2 * (pred & ~true) + 3 * (~pred & true)
    colors = matplotlib.colors.ListedColormap([EMPTY, *KINDS.values()])
    axes.imshow(picture, cmap=colors, vmin=-0.5, vmax=3.5, interpolation="nearest")
    if true.any():
        axes.contour(true, levels=[0.5], colors=INK, linewidths=0.8)
    ends = farthest(pred, true)
    if ends is not None and (ends[0] != ends[1]).any():
        (rows, columns) = ends.T
        axes.plot(columns, rows, "o-", color=INK, markersize=2, linewidth=1.3)


def _masks(title: str, pred: ArrayLike, true: ArrayLike) -> tuple[BoolArray, BoolArray]:
    p, t = np.asarray(pred, dtype=bool), np.asarray(true, dtype=bool)
    if p.ndim != 2 or p.shape != t.shape:
        raise UserError(
            f"found shapes {p.shape} and {t.shape} in {title!r}, expected two masks (H, W) of one shape: "
            "index or resize them"
        )
    return p, t
