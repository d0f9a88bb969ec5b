"""Named curves, each over its own x, named where it ends."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import QUIET, RC, color, save
from knowsam_lite.figures.training import End, name_ends

FEW = 12  # up to this many points, each is also drawn as a dot
LETTER = 0.0135  # share of the width that a letter of a name takes


def trends(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    path: str | Path,
    title: str,
    xlabel: str,
    log: Literal["", "x", "y", "xy"] = "",
    of: Mapping[str, str] = MappingProxyType({}),
    references: Collection[str] = (),
) -> dict[str, list[float]]:
    """Draw curves name -> (x, y), both (K,), in one panel; `log` says which axes are logarithmic.

    `of` says of which network a curve is whose name is not a network's; `references`, with which the others
    are compared, are grey dashes. Returns name -> y. Raises `UserError` for no curve, for x and y of unequal
    or no length, and for a number that is not finite or, on a logarithmic axis, not above 0.
    """
    drawn = {name: _checked(name, xy, log) for name, xy in curves.items()}
    if not drawn:
        raise UserError("found no curve, expected at least one: pass name -> (x, y)")
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.6, 2.7))
        room = LETTER * max(map(len, drawn))  # for the names at the right
        axes = figure.add_axes((0.085, 0.165, min(0.66, 0.885 - room), 0.7))
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        ends: list[End] = []
        for position, (name, (x, y)) in enumerate(drawn.items()):
            dots: dict[str, Any] = {"markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.5}
            look = "--" if name in references else "o-" if len(x) <= FEW else "-"
            paint = QUIET if name in references else color(of.get(name, name), position)
            axes.plot(x, y, look, color=paint, clip_on=False, zorder=3, **dots)
            ends.append((float(y[-1]), name, paint))
        for axis, letter in ((axes.xaxis, "x"), (axes.yaxis, "y")):
            if letter in log:
                axis.set_major_formatter("{x:g}")  # 0.01, not a power of ten
        if "x" not in log and all((x == x.round()).all() for x, _ in drawn.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.autoscale_view()
        name_ends(axes, ends, gap=0.095)
        save(figure, path)
    return {name: y.tolist() for name, (_, y) in drawn.items()}


def _checked(name: str, xy: tuple[ArrayLike, ArrayLike], log: str) -> tuple[Any, Any]:
    x, y = (np.asarray(values, dtype=float) for values in xy)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise UserError(
            f"found x {x.shape} and y {y.shape} in {name!r}, expected lists of one length: give one y per x"
        )
    for axis, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all() or (axis in log and values.min() <= 0):
            wanted = "numbers above 0 on a logarithmic axis" if axis in log else "finite numbers"
            raise UserError(f"found other {axis} in {name!r}, expected {wanted}: leave such points out")
    return x, y
