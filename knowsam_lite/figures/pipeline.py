"""The method as a diagram, with the block that a chapter teaches highlighted."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, save

WIDTH, HEIGHT, SCALE = 10.4, 4.0, 0.72  # of the diagram, in its own units; inches per unit
BOX = (1.5, 0.72)  # width and height of a block
# Block -> centre, what it is, colour. A chapter highlights one or more of them by name.
BLOCKS: dict[str, tuple[float, float, str, str]] = {
    "images": (0.9, 2.0, "few labelled,\nmany not", QUIET),
    "U-Net": (3.2, 2.85, "subnet $F_a$", COLORS["U-Net"]),
    "V-Net": (3.2, 1.15, "subnet $F_b$", COLORS["V-Net"]),
    "HAM": (5.4, 2.0, "aggregation", COLORS["fused"]),
    "LPS": (7.5, 3.3, "learned prompts", COLORS["SAM"]),
    "SAM": (7.5, 2.0, "with adapters", COLORS["SAM"]),
    "SKD": (9.55, 2.0, "distillation", "#DD9C00"),
    "UGDA": (5.4, 0.45, "regions swapped", "#332288"),
}
# From, to, what flows, and the label's position relative to the middle of the arrow.
ARROWS: tuple[tuple[str, str, str, tuple[float, float]], ...] = (
    ("images", "U-Net", "$x$", (-0.12, 0.16)),
    ("images", "V-Net", "$x$", (-0.12, -0.16)),
    ("U-Net", "HAM", "$z_a$", (0.08, 0.18)),
    ("V-Net", "HAM", "$z_b$", (0.08, -0.18)),
    ("HAM", "SAM", "$z_f$", (0.0, 0.15)),
    ("LPS", "SAM", "tokens", (0.38, 0.0)),
    ("SAM", "SKD", "$z_s$", (0.0, 0.15)),
    ("HAM", "UGDA", "$h_f$", (0.2, 0.0)),
)


def pipeline(lit: str, path: str | Path) -> dict[str, list[str]]:
    """Draw the blocks of KnowSAM and what flows between them; those named in `lit` ("HAM", or "SAM, LPS")
    are highlighted.

    Returns {"blocks", "lit"}: the names. Raises `UserError` for an unknown block or an unwritable file.
    """
    names = [name.strip() for name in lit.split(",")]
    unknown = [name for name in names if name not in BLOCKS]
    if unknown:
        raise UserError(f"found block {unknown[0]!r}, expected one of {', '.join(BLOCKS)}: correct the name")
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH * SCALE, HEIGHT * SCALE))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        axes.set_axis_off()
        for start, end, word, shift in ARROWS:
            _arrow(axes, BLOCKS[start][:2], BLOCKS[end][:2], word, shift)
        _teach(axes)
        for name in BLOCKS:
            _block(axes, name, name in names)
        save(figure, path)
    return {"blocks": list(BLOCKS), "lit": names}


def _block(axes: Axes, name: str, lit: bool) -> None:
    x, y, says, paint = BLOCKS[name]
    corner = (x - BOX[0] / 2, y - BOX[1] / 2)
    look: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.1", "zorder": 3}
    face, edge, width = (paint, paint, 0.0) if lit else ("#F6F6F6", paint, 1.1)
    axes.add_patch(FancyBboxPatch(corner, *BOX, facecolor=face, edgecolor=edge, linewidth=width, **look))
    ink = "white" if lit else INK
    middle: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
    lines = says.count("\n")
    axes.text(x, y + 0.13 + 0.07 * lines, name, color=ink, fontsize=8.5, fontweight="bold", **middle)
    axes.text(x, y - 0.15 - 0.02 * lines, says, color=ink if lit else QUIET, fontsize=6.5, **middle)


def _arrow(
    axes: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    word: str,
    shift: tuple[float, float],
) -> None:
    """An arrow between the borders of two blocks, and the symbol of what flows."""
    a, b = _border(start, end), _border(end, start)
    look: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 8,
        "color": QUIET,
        "linewidth": 1.0,
        "zorder": 2,
    }
    axes.add_patch(FancyArrowPatch(a, b, shrinkA=1, shrinkB=1, **look))
    x, y = (a[0] + b[0]) / 2 + shift[0], (a[1] + b[1]) / 2 + shift[1]
    axes.text(x, y, word, ha="center", va="center", fontsize=7, style="italic", color=INK, zorder=4)


def _border(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Where the line from the middle of a block to another point leaves the block."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    reach = min(BOX[0] / 2 / abs(dx) if dx else 9, BOX[1] / 2 / abs(dy) if dy else 9)
    return start[0] + reach * dx, start[1] + reach * dy


def _teach(axes: Axes) -> None:
    """The feedback: SKD teaches both subnets (dashed, above), UGDA makes new images (dashed, below)."""
    look: dict[str, Any] = {"color": QUIET, "linewidth": 0.9, "linestyle": (0, (4, 3)), "zorder": 1}
    head: dict[str, Any] = {
        "arrowstyle": "-|>",
        "mutation_scale": 8,
        "color": QUIET,
        "linewidth": 0.9,
        "zorder": 2,
        "shrinkA": 0,
        "shrinkB": 1,
    }
    x, y = BLOCKS["SKD"][:2]
    (x_a, y_a), (x_b, y_b) = (BLOCKS[name][:2] for name in ("U-Net", "V-Net"))
    top, left = 3.84, x_b - BOX[0] / 2 - 0.3  # past the U-Net, on its left
    axes.plot([x, x, left, left], [y + BOX[1] / 2, top, top, y_b], **look)
    axes.add_patch(FancyArrowPatch((x_a, top), (x_a, y_a + BOX[1] / 2), **head))
    axes.add_patch(FancyArrowPatch((left, y_b), (x_b - BOX[0] / 2, y_b), **head))
    axes.text(5.4, top - 0.13, "teaches both subnets", ha="center", fontsize=6.5, color=QUIET, va="center")
    low = BLOCKS["UGDA"][1]
    axes.plot([5.4 - BOX[0] / 2, 0.9], [low, low], **look)
    axes.add_patch(FancyArrowPatch((0.9, low), (0.9, 2.0 - BOX[1] / 2), **head))
    axes.text(2.6, low - 0.13, "mixed images", ha="center", fontsize=6.5, color=QUIET, va="center")
