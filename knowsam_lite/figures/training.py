"""Learning curves of a run: loss terms and validation Dice, from the rows of log.jsonl."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, OTHERS, QUIET, RC, color, save

FloatArray = NDArray[np.float64]
Series = dict[str, tuple[FloatArray, FloatArray]]
End = tuple[float, str, str]  # last value, name, colour
PARTS = {"a": "U-Net", "b": "V-Net", "fused": "fused", "sam": "SAM"}  # first part of a term's name -> whose


def curves(rows: Iterable[Mapping[str, Any]], path: str | Path) -> dict[str, Series]:
    """Draw a run's weighted loss terms (log axis) and the validation Dice of each view.

    Where the terms are too many to tell apart, those of U-Net, V-Net and fused map are added up by kind.

    Rows of kind "train" hold "step", "losses" {name: value} and "total"; rows of kind "val" hold "step" and
    "dice" {view: value in [0, 1]}; other rows are ignored. Returns {"losses", "dice"}, each a dict
    name -> (steps, values), before smoothing.
    Raises `UserError` for no training row or a file that cannot be written.
    """
    kept = [row for row in rows if row.get("kind") in ("train", "val")]
    train = [row for row in kept if row["kind"] == "train"]
    if not train:
        raise UserError(
            "found no training row in the log, expected at least one: train on until log_every steps"
        )
    losses = _series(train, "losses")
    losses["total"] = (_column(train, "step"), _column(train, "total"))
    scores = _series([row for row in kept if row["kind"] == "val"], "dice")
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9.6, 3.4))
        left = figure.add_axes((0.06, 0.14, 0.34, 0.74))
        right = figure.add_axes((0.635, 0.14, 0.255, 0.74))
        for axes in (left, right):
            axes.set_xlim(0, max(row["step"] for row in kept) or 1)
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
            axes.set_xlabel("step")
        _draw_losses(left, by_kind(losses))
        _draw_dice(right, scores)
        save(figure, path)
    return {"losses": losses, "dice": scores}


def by_kind(losses: Series) -> Series:
    """The terms if each network has one; else "a/x", "b/x" and "fused/x" added up as "x"."""
    owned = [looks for name, looks in term_looks(losses).items() if _owner(name)]
    if len(owned) == len(set(owned)):
        return losses
    found: Series = {}
    for name, (steps, values) in losses.items():
        kind = re.sub(r"(?<![^/])(a|b|fused)/", "", name)
        if kind in found and not np.array_equal(found[kind][0], steps):
            kind = name  # a term that began at another time is not added up
        found[kind] = (steps, values + found[kind][1] if kind in found else values)
    return found


def _draw_losses(axes: Axes, losses: Series) -> None:
    axes.set_title("Loss terms, weighted")
    axes.set_yscale("log")
    ends: list[End] = []
    painted = term_looks(losses)
    for name, (steps, values) in losses.items():
        # A log axis cannot show zero: a term that has not started has no line yet.
        positive = np.where(np.isfinite(values) & (values > 0), values, np.nan)
        if np.isnan(positive).all():
            continue
        whole = name == "total"
        paint, dashes = painted[name]
        mark = "." if len(steps) < 3 else ""
        if len(steps) > 40:
            axes.plot(steps, positive, color=paint, alpha=0.16, linewidth=0.7)
        line = smooth(positive)
        axes.plot(
            steps, line, dashes, marker=mark, color=paint, linewidth=2.0 if whole else 1.3, clip_on=not mark
        )
        ends.append((float(line[~np.isnan(line)][-1]), name, paint))
    axes.autoscale_view(scalex=False)
    name_ends(axes, ends)


def _owner(term: str) -> str | None:
    """The network of a loss term such as "a/supervised" or "mixed/b/entropy", if it is of one."""
    return PARTS.get(term.removeprefix("mixed/").split("/")[0])


def term_looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Loss term -> its colour, and "-" or "--": a network's term has the network's colour, any other that of
    its kind; on mixed images ("mixed/x") it is dashed.
    """
    looks: dict[str, tuple[str, str]] = {"total": (INK, "-")}
    kinds: list[str] = []
    for name in names:
        if name == "total":
            continue
        owner, kind = _owner(name), name.removeprefix("mixed/")
        if owner is None and kind not in kinds:
            kinds.append(kind)
        paint = COLORS[owner] if owner else OTHERS[kinds.index(kind) % len(OTHERS)]
        looks[name] = (paint, "-" if kind == name else "--")
    return looks


def _draw_dice(axes: Axes, scores: Series) -> None:
    axes.set_title("Dice on the validation images")
    axes.set_ylim(0, 1)
    ends: list[End] = []
    for position, (name, (steps, values)) in enumerate(scores.items()):
        paint = color(name, position)
        dots: dict[str, Any] = {"markersize": 3.4, "markeredgecolor": "white", "markeredgewidth": 0.5}
        axes.plot(steps, values, "o-", color=paint, clip_on=False, zorder=3, **dots)
        ends.append((float(values[-1]), f"{name}  {values[-1]:.2f}", paint))
    if not scores:
        axes.text(0.5, 0.5, "not validated yet", transform=axes.transAxes, ha="center", color=QUIET)
    name_ends(axes, ends)


def name_ends(axes: Axes, ends: Sequence[End], gap: float = 0.066) -> None:
    """Write each line's name right of the panel at the height where it ends, `gap` of the panel apart."""
    to_panel = axes.transData + axes.transAxes.inverted()
    ordered = sorted((float(to_panel.transform((1.0, value))[1]), name, paint) for value, name, paint in ends)
    # Half a line below the top, so that no name stands beside the title.
    heights = spread([min(height, 1 - gap / 2) for height, _, _ in ordered], gap=gap, top=1 - gap / 2)
    for (exact, name, paint), height in zip(ordered, heights, strict=True):
        place: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
        axes.plot([1.012, 1.038], [exact, height], color=paint, linewidth=0.8, **place)
        dark = to_hex(tuple(0.7 * np.array(to_rgb(paint)) + 0.3 * np.array(to_rgb(INK))))  # pale names fade
        axes.text(1.046, height, name, color=dark, va="center", fontsize=7.5, fontweight="bold", **place)


def spread(heights: Sequence[float], gap: float, top: float = 1.0) -> list[float]:
    """Move sorted heights in [0, `top`] as little as keeps them `gap` apart and inside (least squares).

    With h_i - i gap in place of h_i, "apart" means "not falling": this is isotonic regression, solved by
    pooling neighbours that fall until none does. If they cannot all fit, the gap shrinks.
    """
    if len(heights) > 1:
        gap = min(gap, top / (len(heights) - 1))
    pools: list[list[float]] = []
    for i, height in enumerate(heights):
        pools.append([height - i * gap])
        while len(pools) > 1 and np.mean(pools[-2]) > np.mean(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    room = top - gap * (len(heights) - 1)
    flat = [min(max(float(np.mean(pool)), 0.0), room) for pool in pools for _ in pool]
    return [height + i * gap for i, height in enumerate(flat)]


def smooth(values: FloatArray) -> FloatArray:
    """Moving mean over a twentieth of the run; nan stays nan and is left out of the mean."""
    half = len(values) // 40
    shown = ~np.isnan(values)
    window = np.ones(2 * half + 1)
    total = np.convolve(np.where(shown, values, 0.0), window)[half : half + len(values)]
    count = np.convolve(shown.astype(float), window)[half : half + len(values)]
    return np.where(shown, total / np.maximum(count, 1), np.nan)


def _column(rows: Sequence[Mapping[str, Any]], name: str) -> FloatArray:
    return np.array([row[name] for row in rows], dtype=float)


def _series(rows: Sequence[Mapping[str, Any]], field: str) -> Series:
    """name -> (steps, values) of a field that holds {name: value}; a name may start later than others."""
    found: Series = {}
    for name in dict.fromkeys(name for row in rows for name in row[field]):
        held = [row for row in rows if name in row[field]]
        found[name] = (_column(held, "step"), _column([row[field] for row in held], name))
    return found
