"""UGDA before and after: two images, their uncertainty, the exchanged cells, and the targets' sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, save

HALVES = ("labelled", "unlabelled")
COLUMNS = ("image", "uncertainty", "mixed", "target")
# Inches: a cell, the gaps between cells and halves, and the margins.
CELL, GAP, BETWEEN, LEFT, RIGHT, TOP, FOOT = 0.88, 0.05, 0.12, 0.34, 0.06, 0.38, 0.3
# Kinds of target pixels and their colours: grey for labels, pink for SAM's pseudo-labels; the object darker.
PAINTS = {
    "label: background": "#DDDDDD",
    "label: object": INK,
    "SAM: background": "#F3DDEC",
    "SAM: object": COLORS["SAM"],
    "unknown": "#FFFFFF",
}


def exchange(
    rows: Sequence[Mapping[str, Any]], path: str | Path, halves_below: bool = False
) -> dict[str, list]:
    """Draw one row per exchange: for each half image, uncertainty, mixed image and mixed target; the halves
    side by side, or one below the other.

    A row holds "id" and, the labelled half first, pairs of: "image" and "mixed" uint8 (H, W, 3),
    "uncertainty" (g, g) in [0, 1], "regions" bool (g, g), framed in white, "target" (H, W) class indices, -1
    where unknown, and "pseudo" bool (H, W), true where the target is SAM's. Returns "rows": the ids, and
    "pseudo": the share of SAM's pixels in both targets of a row. Raises `UserError` for no row or an
    unwritable file.
    """
    if not rows:
        raise UserError("found no exchange to draw, expected at least one: pass one or more rows")
    half_width = len(COLUMNS) * (CELL + GAP) - GAP
    width = LEFT + (half_width if halves_below else 2 * half_width + BETWEEN) + RIGHT
    lines = [(row, halves) for row in rows for halves in ([(0,), (1,)] if halves_below else [(0, 1)])]
    foot = FOOT * (2 if halves_below else 1)  # two lines of the legend
    height = TOP + len(lines) * (CELL + GAP) - GAP + foot
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for i, (row, halves) in enumerate(lines):
            bottom = height - TOP - (i + 1) * (CELL + GAP) + GAP
            middle = (bottom + CELL / 2) / height
            look: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 6.5}
            name = HALVES[halves[0]] if halves_below else str(row["id"])
            figure.text(LEFT / 2 / width, middle, name, color=QUIET, **look)
            for place, half in enumerate(halves):
                start = LEFT + place * (half_width + BETWEEN)
                if i == 0 and not halves_below:
                    figure.text(start / width, 1 - 0.1 / height, HALVES[half], fontweight="bold", va="center")
                for j, column in enumerate(COLUMNS):
                    left = start + j * (CELL + GAP)
                    axes = figure.add_axes((left / width, bottom / height, CELL / width, CELL / height))
                    axes.set_axis_off()
                    _draw(axes, row, column, half)
                    if i == 0:
                        axes.set_title(column, loc="center", fontsize=7.5, fontweight="normal", pad=3)
        _legend(figure, width, height, foot)
        save(figure, path)
    shares = [[float(np.mean(mask)) for mask in row["pseudo"]] for row in rows]
    return {"rows": [str(row["id"]) for row in rows], "pseudo": shares}


def _draw(axes: Axes, row: Mapping[str, Any], column: str, half: int) -> None:
    height, width = np.shape(row["target"][half])
    extent = (0, width, height, 0)
    if column == "uncertainty":
        look: dict[str, Any] = {"vmin": 0, "vmax": 1, "cmap": "magma", "interpolation": "nearest"}
        axes.imshow(row["uncertainty"][half], extent=extent, **look)
    elif column == "target":
        axes.imshow(_painted(row["target"][half], row["pseudo"][half]), extent=extent)
        return  # its colours already show what was pasted
    else:
        axes.imshow(row[column][half], extent=extent)
    _frame(axes, np.asarray(row["regions"][half]), height, width)


def _painted(target: Any, pseudo: Any) -> np.ndarray:
    """Classes and their source, both (H, W) -> colours (H, W, 3)."""
    y = np.asarray(target)
    kind = np.where(y < 0, 4, 2 * np.asarray(pseudo, dtype=int) + (y > 0))
    return np.array([to_rgb(paint) for paint in PAINTS.values()])[kind]


def _frame(axes: Axes, regions: np.ndarray, height: int, width: int) -> None:
    """A white frame around each chosen cell, with a dark edge to show on any image."""
    tall, wide = height / regions.shape[0], width / regions.shape[1]
    for i, j in zip(*np.nonzero(regions), strict=True):
        box = Rectangle((j * wide, i * tall), wide, tall, fill=False, edgecolor="white", linewidth=0.8)
        box.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground=INK, alpha=0.55)])
        axes.add_patch(box)


def _legend(figure: Figure, width: float, height: float, foot: float) -> None:
    """Explains the target colours in the `foot` below the pictures, in as many lines as it takes."""
    says = [("target", None), *PAINTS.items()]
    left, line = LEFT, foot - FOOT + 0.09
    for word, paint in says:
        if left + 0.2 + 0.055 * len(word) > width:
            left, line = LEFT, line - 0.2
        if paint is not None:
            patch = figure.add_axes((left / width, line / height, 0.12 / width, 0.09 / height))
            patch.set(xticks=[], yticks=[], facecolor=paint)
            patch.spines[:].set_visible(True)
            left += 0.17
        figure.text(left / width, (line + 0.045) / height, word, va="center", fontsize=6.5, color=QUIET)
        left += 0.1 + 0.055 * len(word)
