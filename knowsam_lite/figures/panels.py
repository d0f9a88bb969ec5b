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
from knowsam_lite.figures.look import CLASSES, COLORS, QUIET, RC, color, save

# Inches: a picture, the gap, the margins left (of named rows), above and below, and a line of a legend.
CELL, GAP, LEFT, TITLE, FOOT, LINE = 1.3, 0.08, 0.22, 0.26, 0.42, 0.2
UNKNOWN, OBJECT = "#8A8A8A", "#FFFFFF"  # of class -1, and of a single foreground class


def panels(
    rows: Sequence[Mapping[str, ArrayLike]],
    path: str | Path,
    ends: tuple[str, str] = ("0", "1"),
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> dict[str, list[float]]:
    """Draw one row of pictures per mapping title -> picture, named by `names`; all rows have the titles of
    the first.

    A picture is an image uint8 (H, W, 3); a mask bool (H, W), white on black; class indices int (H, W), -1
    where unknown, in colours that are named underneath by `classes`, background first; or a map (H, W) of
    numbers in [0, 1], drawn on one scale from dark (0) to light (1), whose `ends` are named underneath.
    Returns title -> mean of each row's mask or map. Raises `UserError` for no row, rows with different titles
    or too few names, a picture of another shape or range.
    """
    titles = list(rows[0]) if rows else []
    if not titles or any(list(row) != titles for row in rows) or len(names) not in (0, len(rows)):
        raise UserError(
            f"found rows titled {[list(row) for row in rows]} and names {list(names)}, expected one or more "
            "rows with the same titles, and no name or one for each: name all rows alike"
        )
    pictures = [[_picture(title, row[title]) for title in titles] for row in rows]
    flat = [picture for row in pictures for picture in row]
    left = 0.1 + (LEFT if names else 0)
    width = left + len(titles) * (CELL + GAP) - GAP + 0.1
    scale = any(picture.dtype.kind == "f" for picture in flat)
    height = (
        TITLE
        + len(rows) * (CELL + GAP)
        - GAP
        + (FOOT + LINE * bool(scale and classes) if scale or classes else GAP)
    )
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for i, row in enumerate(pictures):
            y = height - TITLE - (i + 1) * (CELL + GAP) + GAP
            if names:
                look: dict[str, Any] = {"rotation": 90, "ha": "center", "va": "center", "fontsize": 7}
                figure.text(0.18 / width, (y + CELL / 2) / height, names[i], color=QUIET, **look)
            for j, picture in enumerate(row):
                x = left + j * (CELL + GAP)
                axes = figure.add_axes((x / width, y / height, CELL / width, CELL / height))
                axes.imshow(_colored(picture, classes), vmin=0, vmax=1, cmap="magma", interpolation="nearest")
                axes.set_axis_off()
                if i == 0:
                    name = titles[j]
                    axes.set_title(name, loc="center", color=COLORS.get(name, INK), pad=4, fontsize=8)
        if classes:
            unknown = any(picture.dtype.kind == "i" and picture.min() < 0 for picture in flat)
            _legend(figure, (left, LINE * scale + 0.22, width, height), classes, unknown)
        if scale:
            _scale(figure, width, height, ends)
        save(figure, path)
    of_one = {t: [row[j] for row in pictures] for j, t in enumerate(titles)}
    shown = {t: column for t, column in of_one.items() if all(p.dtype.kind in "bf" for p in column)}
    return {title: [float(m.mean()) for m in column] for title, column in shown.items()}


def _picture(title: str, picture: ArrayLike) -> Any:
    """The picture as an array of kind "u" (an image), "b" (a mask), "i" (classes) or "f" (a map)."""
    array = np.asarray(picture)
    if array.ndim == 3 and array.shape[2] == 3:
        return array.astype(np.uint8)
    if array.ndim != 2:
        raise UserError(
            f"found shape {array.shape} for {title!r}, expected an image (H, W, 3) or a map (H, W): index it"
        )
    if array.dtype.kind in "biu":
        return array if array.dtype == bool else array.astype(int)
    array = array.astype(float)
    if not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
        raise UserError(f"found values outside [0, 1] in {title!r}, expected a map in [0, 1]: rescale it")
    return array


def _paints(count: int) -> list[str]:
    """The colours of so many classes, background first."""
    return [INK, OBJECT] if count <= 2 else [INK, *(CLASSES[c % len(CLASSES)] for c in range(count - 1))]


def _colored(picture: Any, classes: Sequence[str]) -> Any:
    """Masks and classes (H, W) as colours (H, W, 3); anything else as it is."""
    if picture.dtype.kind not in "bi":
        return picture
    labels = picture.astype(int)
    count = 2 if picture.dtype == bool else max(len(classes), int(labels.max()) + 1)
    paints = [*_paints(count), UNKNOWN]  # -1 is the last
    return np.array([to_rgb(paint) for paint in paints])[labels]


def _legend(
    figure: Figure, at: tuple[float, float, float, float], classes: Sequence[str], unknown: bool
) -> None:
    """A patch and a name for each class; `at`: the line's left end, its height, the figure's size; inches."""
    x, y, width, height = at
    entries = [
        *zip(_paints(len(classes)), classes, strict=True),
        *([(UNKNOWN, "unknown")] if unknown else []),
    ]
    for paint, name in entries:
        patch = figure.add_axes((x / width, y / height, 0.12 / width, 0.09 / height))
        patch.set(xticks=[], yticks=[], facecolor=paint)
        patch.spines[:].set_visible(True)
        figure.text((x + 0.17) / width, (y + 0.045) / height, name, va="center", fontsize=7, color=INK)
        x += 0.36 + 0.06 * len(name)


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
