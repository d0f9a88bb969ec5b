"""Draws an encoder-decoder network with skips from measured shapes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, save

Shape = tuple[int, int, int]  # channels, height, width
Box = tuple[float, float, float, float]  # its centre, width and height
WIDTH, ROW, LEFT = 9.0, 0.86, 2.2  # the drawing's width, a level's height, the first box; in its own units
SCALE = 0.72  # inches per unit
PAINT = COLORS["U-Net"]


def ladder(down: Sequence[Shape], up: Sequence[Shape], path: str | Path) -> dict[str, list[str]]:
    """Draw the shapes (C, H, W) of a way down, full size first, and of a way up, coarsest first.

    A box's width and height are the square roots of its channels and of its map's height. Returns {"down",
    "up"}: the labels. Raises `UserError` unless `up` has one shape less than `down`.
    """
    if len(down) < 2 or len(up) != len(down) - 1:
        raise UserError(
            f"found {len(down)} shapes down and {len(up)} up, expected one less up than down, from two: "
            "give what the network's blocks return"
        )
    height, step = ROW * len(down) + 0.42, (WIDTH / 2 - LEFT) / (len(down) - 1)
    levels = range(len(down)), range(len(up) - 1, -1, -1)
    most, largest = max(c for c, *_ in [*down, *up]), down[0][1]
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH * SCALE, height * SCALE))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, height))
        axes.set_axis_off()
        boxes: tuple[list[Box], list[Box]] = [], []
        for side, shapes in enumerate((down, up)):
            for level, (channels, rows, _) in zip(levels[side], shapes, strict=True):
                x = LEFT + step * level
                y = height - 0.32 - ROW * (level + 0.5)
                wide, high = 0.12 + 0.75 * (channels / most) ** 0.5, 0.08 + 0.6 * (rows / largest) ** 0.5
                boxes[side].append((WIDTH - x if side else x, y, wide, high))
        for side, shapes in enumerate((down, up)):
            for box, shape in zip(boxes[side], shapes, strict=True):
                _box(axes, box, _label(shape), "left" if side else "right")
            for first, second in zip(boxes[side][:-1], boxes[side][1:], strict=True):
                _arrow(axes, _edge(first, second), _edge(second, first))
        _arrow(axes, _edge(boxes[0][-1], boxes[1][0]), _edge(boxes[1][0], boxes[0][-1]))
        for (x, y, wide, _), (end, _, width, _) in zip(boxes[0][:-1], boxes[1][::-1], strict=True):
            _arrow(axes, (x + wide / 2, y), (end - width / 2, y), dashed=True)
        look: dict[str, Any] = {"ha": "center", "fontsize": 7, "color": QUIET}
        top = height - 0.2
        axes.text(LEFT, top, "way down: max-pooling", **look)
        axes.text(WIDTH / 2, top, "skips", **look)
        axes.text(WIDTH - LEFT, top, "way up: transposed convolution", **look)
        save(figure, path)
    return {"down": [_label(shape) for shape in down], "up": [_label(shape) for shape in up]}


def _label(shape: Shape) -> str:
    channels, height, width = shape
    return f"{channels} channels, {height} × {width}"


def _box(axes: Axes, box: Box, label: str, side: str) -> None:
    x, y, wide, high = box
    axes.add_patch(Rectangle((x - wide / 2, y - high / 2), wide, high, facecolor=PAINT, edgecolor="none"))
    at = x + (wide / 2 + 0.12) * (1 if side == "left" else -1)
    axes.text(at, y, label, ha=side, va="center", fontsize=7, color=INK)


def _edge(start: Box, end: Box) -> tuple[float, float]:
    """Where the arrow to `end` leaves a box: above or below."""
    x, y, _, high = start
    return x, y + (high / 2 if end[1] > y else -high / 2)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], dashed: bool = False) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 7, "color": QUIET, "linewidth": 0.9}
    style = (0, (4, 3)) if dashed else "-"
    axes.add_patch(FancyArrowPatch(start, end, shrinkA=2, shrinkB=2, linestyle=style, **look))
