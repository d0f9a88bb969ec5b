"""The prompts given to a promptable network, drawn on the image with its answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from knowsam_lite.colors import INK, PROMPT
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import COLORS, QUIET, RC, save
from knowsam_lite.figures.sheet import WHITE, outline, tinted
from knowsam_lite.metrics import dice

CELL, GAP, TITLE, FOOT = 1.5, 0.1, 0.24, 0.4  # inches: a picture, the gap, the margins above and below
SINGLE = 400 / 110  # inches of a picture alone: 400 pixels on the screen
CASED: dict[str, Any] = {"path_effects": [patheffects.withStroke(linewidth=3.2, foreground=INK)]}


def questions(cases: Sequence[Mapping[str, Any]], path: str | Path) -> dict[str, list[float]]:
    """Draw one picture per case, three in a row, with its Dice: the image in grey, the prompt, the answer
    tinted, the truth outlined.

    A case holds "id", "image" uint8 (H, W, 3), "answer" and "truth" bool (H, W), and the prompts given: any
    of "points" [(x, y, inside)], "box" (x0, y0, x1, y1), both in pixels, and "mask" bool (H, W). Returns
    {"dice": that of each answer with the truth}. Raises `UserError` for no case.
    """
    if not cases:
        raise UserError("found no case, expected at least one: pass one or more questions with answers")
    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    width = max(columns * (CELL + GAP) - GAP + 0.2, 3.0)
    height = rows * (CELL + TITLE + GAP) + FOOT
    scores = [dice(np.asarray(case["answer"]), np.asarray(case["truth"])) for case in cases]
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(width, height))
        for i, case in enumerate(cases):
            row, column = divmod(i, columns)
            x, y = 0.1 + column * (CELL + GAP), height - (row + 1) * (CELL + TITLE + GAP) + GAP
            axes = figure.add_axes((x / width, y / height, CELL / width, CELL / height))
            axes.set_title(f"{case['id']}   {scores[i]:.2f}", loc="center", pad=4, fontsize=8)
            _draw(axes, case)
        says = "Purple: SAM's answer.  White: the truth.\nNumber: their Dice.  Light blue: the prompt."
        figure.text(0.1 / width, 0.2 / height, says, fontsize=6.5, color=QUIET, va="center")
        save(figure, path)
    return {"dice": scores}


def question(case: Mapping[str, Any], path: str | Path) -> float:
    """Draw one case (see `questions`) without margins: the picture is the image, all of it. Its Dice, which
    is returned, stands in the lower right corner.
    """
    score = dice(np.asarray(case["answer"]), np.asarray(case["truth"]))
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        height, width = np.shape(case["truth"])
        figure = Figure(figsize=(SINGLE, SINGLE * height / width))
        axes = figure.add_axes((0, 0, 1, 1))
        _draw(axes, case)
        axes.set_aspect("auto")
        box = {"boxstyle": "round,pad=0.25", "facecolor": INK, "edgecolor": "none", "alpha": 0.75}
        look: dict[str, Any] = {
            "color": WHITE,
            "fontsize": 10,
            "fontweight": "bold",
            "bbox": box,
            "zorder": 7,
        }
        axes.text(0.97, 0.03, f"{score:.2f}", transform=axes.transAxes, ha="right", va="bottom", **look)
        save(figure, path)
    return score


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image (H, W, 3) without its colours: a purple answer would be invisible on purple tissue."""
    luminance = (image @ np.array([0.299, 0.587, 0.114])).round().astype(np.uint8)
    return np.repeat(luminance[..., None], 3, axis=2)


def _draw(axes: Axes, case: Mapping[str, Any]) -> None:
    answer = np.asarray(case["answer"], dtype=bool)
    axes.imshow(tinted(_grey(case["image"]), answer.astype(np.uint8), (COLORS["SAM"],)))
    axes.set_axis_off()
    outline(axes, answer, COLORS["SAM"], 1.6, halo=WHITE)
    outline(axes, np.asarray(case["truth"], dtype=bool), WHITE, 1.0)
    if case.get("mask") is not None:
        outline(axes, np.asarray(case["mask"], dtype=bool), PROMPT, 1.2)
    if case.get("box") is not None:
        x0, y0, x1, y1 = (float(side) for side in case["box"])
        # Around its pixels; a side on the picture's edge is drawn inside, where the whole line is seen.
        inset = 0.012 * max(answer.shape)
        left, top = max(x0 - 0.5, inset - 0.5), max(y0 - 0.5, inset - 0.5)
        right = min(x1 + 0.5, answer.shape[1] - 0.5 - inset)
        bottom = min(y1 + 0.5, answer.shape[0] - 0.5 - inset)
        look: dict[str, Any] = {"fill": False, "edgecolor": PROMPT, "linewidth": 1.6, "zorder": 5, **CASED}
        axes.add_patch(Rectangle((left, top), right - left, bottom - top, **look))
    for x, y, inside in case.get("points", ()):
        axes.plot(
            x, y, "o" if inside else "x", color=PROMPT, markersize=5, markeredgewidth=1.8, zorder=6, **CASED
        )
    height, length = answer.shape
    axes.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5))
