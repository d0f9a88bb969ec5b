"""Small multiples: pictures and maps side by side, and lines in one panel."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, color, save

CELL, GAP, TITLE, FOOT = 1.3, 0.08, 0.26, 0.42  # inches: a picture, the gap, and the margins above and below


def panels(
    rows: Sequence[Mapping[str, ArrayLike]], path: str | Path, ends: tuple[str, str] = ("0", "1")
) -> dict[str, list[float]]:
    """Draw one row of pictures per mapping title -> picture; all rows have the titles of the first.

    A picture is an image uint8 (H, W, 3), or a map (H, W) of numbers in [0, 1], drawn on one scale from dark
    (0) to light (1), whose `ends` are named underneath. Returns title -> mean of each row's map, images left
    out. Raises `UserError` for no row, rows with different titles, a picture of another shape or range.
    """
    titles = list(rows[0]) if rows else []
    if not titles or any(list(row) != titles for row in rows):
        raise UserError(
            f"found rows titled {[list(row) for row in rows]}, expected one or more with the same titles: "
            "name the pictures of all rows alike"
        )
    pictures = [[_picture(title, row[title]) for title in titles] for row in rows]
    width = len(titles) * (CELL + GAP) - GAP + 0.2
    maps = {t: [row[j] for row in pictures] for j, t in enumerate(titles) if pictures[0][j].ndim == 2}
    height = TITLE + len(rows) * (CELL + GAP) - GAP + (FOOT if maps else GAP)
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for i, row in enumerate(pictures):
            for j, picture in enumerate(row):
                x, y = 0.1 + j * (CELL + GAP), height - TITLE - (i + 1) * (CELL + GAP) + GAP
                axes = figure.add_axes((x / width, y / height, CELL / width, CELL / height))
                axes.imshow(picture, vmin=0, vmax=1, cmap="magma", interpolation="nearest")
                axes.set_axis_off()
                if i == 0:
                    name = titles[j]
                    axes.set_title(name, loc="center", color=COLORS.get(name, INK), pad=4, fontsize=8)
        if maps:
            _scale(figure, width, height, ends)
        save(figure, path)
    return {title: [float(m.mean()) for m in column] for title, column in maps.items()}


def _picture(title: str, picture: ArrayLike) -> Any:
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[2] == 3:
        return array
    if array.ndim != 2:
        raise UserError(
            f"found shape {array.shape} for {title!r}, expected an image (H, W, 3) or a map (H, W): index it"
        )
    array = array.astype(float)
    if not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
        raise UserError(f"found values outside [0, 1] in {title!r}, expected a map in [0, 1]: rescale it")
    return array


def _scale(figure: Figure, width: float, height: float, ends: tuple[str, str]) -> None:
    """The colour bar that all maps share, at the lower right."""
    left = 0.1 if width < 2 * CELL else width - 0.1 - 2 * CELL - GAP
    length = width - 0.1 - left
    bar = figure.add_axes((left / width, 0.24 / height, length / width, 0.08 / height))
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap="magma", extent=(0, 1, 0, 1))
    bar.set_axis_off()
    for x, side, word in ((0.0, "left", ends[0]), (1.0, "right", ends[1])):
        bar.text(x, -0.4, word, transform=bar.transAxes, ha=side, va="top", fontsize=6.5, color=QUIET)


def lines(
    x: ArrayLike, curves: Mapping[str, ArrayLike], path: str | Path, title: str, xlabel: str
) -> dict[str, list[float]]:
    """Draw named curves over `x` (K,) in one panel, each named at its peak.

    Returns name -> values. Raises `UserError` for no curve or one of another length than `x`.
    """
    at = np.asarray(x, dtype=float)
    drawn = {name: np.asarray(values, dtype=float) for name, values in curves.items()}
    odd = [name for name, values in drawn.items() if values.shape != at.shape]
    if not drawn or odd:
        raise UserError(
            f"found no curve or one of another length {odd}, expected {at.shape}: give one y per x"
        )
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.2, 2.5))
        axes = figure.add_axes((0.09, 0.18, 0.86, 0.68))
        for position, (name, values) in enumerate(drawn.items()):
            paint = color(name, position)
            axes.plot(at, values, color=paint)
            _name_peak(axes, at, values, name, paint)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.margins(x=0, y=0.16)
        save(figure, path)
    return {name: values.tolist() for name, values in drawn.items()}


def _name_peak(axes: Axes, x: Any, y: Any, name: str, paint: str) -> None:
    peak = int(np.argmax(y))
    dark = to_hex(tuple(0.7 * np.array(to_rgb(paint)) + 0.3 * np.array(to_rgb(INK))))
    look: dict[str, Any] = {"color": dark, "fontsize": 7.5, "fontweight": "bold", "ha": "center"}
    axes.annotate(name, (x[peak], y[peak]), xytext=(0, 4), textcoords="offset points", **look)
