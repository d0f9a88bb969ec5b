"""SAM drawn: its three parts, and one block with its two adapters."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Polygon

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, save

SCALE = 0.72  # inches per unit of the drawings
FROZEN, TRAINED = "#F2F2F2", COLORS["SAM"]
Point = tuple[float, float]
# Part -> its centre and how often it runs.
PARTS: dict[str, tuple[float, float, str]] = {
    "image encoder": (3.2, 3.2, "runs once for an image"),
    "prompt encoder": (3.2, 0.95, "runs for each question"),
    "mask decoder": (7.65, 3.2, "runs for each question"),
}
PART = (2.3, 1.1)  # width and height of a part
# Data flows: path, label and the label's position.
FLOWS: tuple[tuple[tuple[Point, ...], str, Point], ...] = (
    (((1.3, 3.2), (2.05, 3.2)), "image\n(N, 3, S, S)", (0.68, 3.2)),
    (((1.3, 1.15), (2.05, 1.15)), "points, boxes\nin pixels", (0.68, 1.22)),
    (((1.3, 0.6), (2.05, 0.6)), "a rough mask\n(N, K, 4g, 4g)", (0.68, 0.58)),
    (((4.35, 3.2), (6.5, 3.2)), "embedding $E(x)$\n(N, D, g, g)", (5.42, 3.48)),
    (((4.35, 1.15), (7.3, 1.15), (7.3, 2.65)), "sparse: tokens (N, K, T, D)", (5.7, 1.31)),
    (((4.35, 0.6), (8.0, 0.6), (8.0, 2.65)), "dense: a map (N, K, D, g, g), added to $E(x)$", (6.2, 0.42)),
    (((8.8, 3.2), (9.45, 3.2)), "mask logits $z$\n(N, K, 4g, 4g)", (10.05, 3.2)),
)


def sam_parts(weights: Mapping[str, tuple[int, int]], path: str | Path) -> dict[str, str]:
    """Draw SAM's three parts with their inputs and outputs; what is trained is purple.

    `weights`: "image encoder", "prompt encoder" and "mask decoder" -> how many weights are frozen and how
    many belong to adapters. Returns part -> the text in its box. Raises `UserError` for other parts.
    """
    if set(weights) != set(PARTS):
        raise UserError(f"found parts {sorted(weights)}, expected {', '.join(PARTS)}: give all three")
    said = {}
    with matplotlib.rc_context(RC):
        figure, axes = _sheet(10.7, 4.2)
        for points, word, (x, y) in FLOWS:
            _arrow(axes, *points)
            axes.text(x, y, word, ha="center", va="center", fontsize=7)
        for name, (x, y, often) in PARTS.items():
            frozen, new = (f"{round(count / 1e3):,} thousand" for count in weights[name])
            learns = f"adapters: {new}" if weights[name][1] else ""
            _box(axes, (x, y), PART, FROZEN)
            axes.text(x, y + 0.33, name, ha="center", va="center", fontsize=8.5, fontweight="bold")
            axes.text(x, y + 0.07, f"frozen: {frozen}", ha="center", va="center", fontsize=7)
            if learns:
                _box(axes, (x, y - 0.28), (2.0, 0.34), TRAINED, learns, "white")
            axes.text(x, y + 0.68, often, ha="center", va="center", fontsize=6.5, color=QUIET)
            said[name] = f"frozen: {frozen}, {learns}" if learns else f"frozen: {frozen}"
        _legend(axes, 8.45, 1.3)
        save(figure, path)
    return said


def adapted_block(path: str | Path) -> dict[str, list[str]]:
    """Draw a transformer block with its two adapters: frozen in grey, trained in purple.

    Returns {"frozen", "trained"}: the layers of each kind, in the order in which a token passes them.
    """
    with matplotlib.rc_context(RC):
        figure, axes = _sheet(10.9, 3.6)
        y, low, over = 2.05, 0.8, 3.15
        _arrow(axes, (0.4, y), (5.07, y))
        _arrow(axes, (0.7, y), (0.7, over), (5.2, over), (5.2, y + 0.13))
        _arrow(axes, (5.33, y), (9.67, y))
        _arrow(axes, (5.7, y), (5.7, over), (9.8, over), (9.8, y + 0.13))
        _arrow(axes, (6.9, y), (6.9, low), (9.8, low), (9.8, y - 0.13))
        _arrow(axes, (9.93, y), (10.5, y))
        _arrow(axes, (3.18, y), (3.18, y + 0.65), (4.72, y + 0.65), (4.72, y + 0.09), color=TRAINED)
        for x, size, edge in ((5.2, 0.13, INK), (9.8, 0.13, INK), (4.72, 0.09, TRAINED)):
            axes.add_patch(Circle((x, y), size, facecolor="white", edgecolor=edge, linewidth=0.9, zorder=4))
            axes.text(x, y, "+", ha="center", va="center", fontsize=70 * size, zorder=5)
        for x, word, wide in ((1.25, "$\\mathrm{LN}_1$", 0.7), (2.4, "attention", 1.2)):
            _box(axes, (x, y), (wide, 0.64), FROZEN, word)
        for x, word, wide in ((6.35, "$\\mathrm{LN}_2$", 0.7), (8.2, "MLP", 1.2)):
            _box(axes, (x, y), (wide, 0.64), FROZEN, word)
        _bottleneck(axes, (3.95, y), "space adapter $A$\nwith a skip")
        _bottleneck(axes, (8.2, low), "MLP adapter $A'$, without a skip")
        for at, word in (
            ((2.95, over + 0.14), "residual"),
            ((7.75, over + 0.14), "residual"),
            ((2.3, y - 0.55), "tokens look\nat each other"),
            ((8.2, y - 0.45), "each token alone"),
        ):
            axes.text(*at, word, ha="center", va="center", fontsize=6.5, color=QUIET)
        for at, word in (((0.22, y), "$x$"), ((5.5, y + 0.17), "$x$"), ((10.68, y), "$x$")):
            axes.text(*at, word, ha="center", va="center", fontsize=9)
        axes.text(9.4, low + 0.17, "× ½", ha="center", va="center", fontsize=8)
        _legend(axes, 0.4, 0.7)
        save(figure, path)
    return {"frozen": ["LN 1", "attention", "LN 2", "MLP"], "trained": ["space adapter", "MLP adapter"]}


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty sheet with axes in the drawing's units."""
    figure = Figure(figsize=(width * SCALE, height * SCALE))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, at: Point, size: Point, face: str, word: str = "", ink: str = INK) -> None:
    corner = (at[0] - size[0] / 2, at[1] - size[1] / 2)
    look: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.08", "linewidth": 0.8, "zorder": 3}
    edge = QUIET if face == FROZEN else "none"
    axes.add_patch(FancyBboxPatch(corner, *size, facecolor=face, edgecolor=edge, **look))
    axes.text(*at, word, ha="center", va="center", fontsize=7.5, color=ink, zorder=4)


def _bottleneck(axes: Axes, at: Point, word: str) -> None:
    """Down to a quarter of the channels, GELU, and up again: a layer's height shows its channels."""
    x, y = at
    for side, layer in ((-1, "down"), (1, "up")):
        corners = [(0.58, -0.34), (0.58, 0.34), (0.1, 0.09), (0.1, -0.09)]
        shape = [(x + side * across, y + up) for across, up in corners]
        axes.add_patch(Polygon(shape, facecolor=TRAINED, edgecolor="none", zorder=3))
        axes.text(x + 0.37 * side, y, layer, ha="center", va="center", fontsize=6, color="white", zorder=4)
    axes.text(x, y + 0.24, "GELU", ha="center", va="center", fontsize=6)
    says: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": 7, "color": TRAINED}
    axes.text(x, y - 0.42, word, fontweight="bold", **says)


def _arrow(axes: Axes, *points: Point, color: str = QUIET) -> None:
    """A polyline that ends in an arrowhead."""
    *start, before, end = points
    look: dict[str, Any] = {"color": color, "linewidth": 1.0, "zorder": 2}
    if start:
        axes.plot(*zip(*start, before, strict=True), solid_capstyle="butt", **look)
    head: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(before, end, **head, **look))


def _legend(axes: Axes, x: float, y: float) -> None:
    for row, (face, word) in enumerate(((FROZEN, "pretrained and frozen"), (TRAINED, "new: learns"))):
        _box(axes, (x + 0.12, y - 0.3 * row), (0.24, 0.18), face)
        axes.text(x + 0.34, y - 0.3 * row, word, va="center", fontsize=7)
