"""A forest plot: a dot for each seed, a tick for the mean, a bar for the interval, a line at no effect."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import QUIET, RC, save

ROW, LEFT, WIDTH = 0.27, 1.45, 5.6  # inches: row height, space for the names, figure width
TIE, SURE = "#88CCEE", "#44AA99"  # an interval that contains the line, and one that does not

Row = tuple[Sequence[float], float, float]  # dots, low and high end of the interval


def forest(
    rows: Mapping[str, Row], path: str | Path, title: str, xlabel: str, zero: float | None = None
) -> dict[str, str]:
    """Draw name -> (dots, low, high), one below the other; the tick is the mean of the dots.

    With `zero` a line is drawn there, and intervals that contain it are paler than the others. Returns
    name -> "tie", "better" or "worse" ("" without `zero`). Raises `UserError` for no row, a row without dots
    or numbers that are not finite.
    """
    odd = [
        name for name, (dots, *ends) in rows.items() if not len(dots) or not np.isfinite([*dots, *ends]).all()
    ]
    if not rows or odd:
        raise UserError(f"found no row or rows without finite numbers {odd}, expected some: leave them out")
    height = ROW * len(rows) + 0.85
    said = {name: _side(low, high, zero) for name, (_, low, high) in rows.items()}
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.add_axes((LEFT / WIDTH, 0.45 / height, 1 - (LEFT + 0.15) / WIDTH, 1 - 0.8 / height))
        for place, (name, (dots, low, high)) in enumerate(rows.items()):
            paint = SURE if said[name] in ("better", "worse") else TIE
            bar: dict[str, Any] = {"color": paint, "linewidth": 5, "alpha": 0.75, "solid_capstyle": "butt"}
            axes.plot([low, high], [place, place], **bar)
            axes.plot(
                dots, [place] * len(dots), "o", color=INK, markersize=3.2, markeredgewidth=0, alpha=0.75
            )
            axes.plot([np.mean(dots)], [place], "|", color=INK, markersize=11, markeredgewidth=1.6)
        if zero is not None:
            axes.axvline(zero, color=QUIET, linewidth=1)
        axes.set_yticks(range(len(rows)), list(rows), fontsize=8, color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        save(figure, path)
    return said


def _side(low: float, high: float, zero: float | None) -> str:
    if zero is None:
        return ""
    return "tie" if low <= zero <= high else ("better" if low > zero else "worse")
