"""What a model predicts, case by case: image, truth, one column per view, and the uncertainty."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import matplotlib
import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from knowsam_lite.colors import INK
from knowsam_lite.errors import UserError
from knowsam_lite.figures.look import CLASSES, COLORS, QUIET, RC, color, save

WHITE = "#FFFFFF"
# Inches: cell width, gap between cells, margins for ids, titles and legend, height of a line of text.
CELL, GAP, LEFT, RIGHT, TOP, BOTTOM, LINE = 1.3, 0.06, 0.26, 0.12, 0.28, 0.42, 0.17


def prediction_sheet(
    cases: Sequence[Mapping[str, Any]],
    path: str | Path,
    classes: Sequence[str] | None = None,
    number: str = "Dice of the case",
    of: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, list[str]]:
    """Draw one row per case: image, truth, each of the case's maps and, if given, the uncertainty.

    A case holds "id", "image" uint8 (H, W, 3), "truth" uint8 (H, W), "maps" {view: uint8 (H, W)} and, if
    wanted, "uncertainty" (H, W) in [0, 1] and "dice" {view: number}, printed in the view's corner; the
    caption says what this `number` is. Masks hold class indices; several foreground classes get a colour
    each, named by `classes` (background first); `of` says of which network a view is whose name is not a
    network's. A white line outlines the truth. Returns {"columns", "rows"}: the titles and the ids, as drawn.
    Raises `UserError` for no case, cases with different columns, maps of different sizes, an unwritable file.
    """
    columns = _columns(cases)
    top = max(int(np.max(mask)) for case in cases for mask in (case["truth"], *case["maps"].values()))
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        pictures = columns.index("uncertainty") if "uncertainty" in columns else len(columns)
        ratios = [case["image"].shape[0] / case["image"].shape[1] for case in cases]
        grid = _Grid(len(columns), ratios, legend_lines=-(-top // pictures) if top > 1 else 0)
        for i, case in enumerate(cases):
            grid.label_row(i, str(case["id"]))
            for j, name in enumerate(columns):
                axes = grid.cell(i, j)
                if i == 0:
                    axes.set_title(name, color=COLORS.get(of.get(name, name), INK), loc="center", pad=4)
                _draw_cell(axes, case, name, CLASSES if top > 1 else (_paint(of.get(name, name)),))
        _draw_caption(grid, several=top > 1, number=number if any(case.get("dice") for case in cases) else "")
        if top > 1:
            _draw_classes(grid, top, pictures, classes)
        if pictures < len(columns):
            _draw_scale(grid, pictures)
        save(grid.figure, path)
    return {"columns": columns, "rows": [str(case["id"]) for case in cases]}


class _Grid:
    """Cells of equal width, rows as high as their images need, all placed in inches."""

    def __init__(self, columns: int, ratios: Sequence[float], legend_lines: int) -> None:
        # A very tall or flat image keeps its shape inside a cell of limited height.
        self.heights = [CELL * min(max(ratio, 0.5), 1.6) for ratio in ratios]
        self.width = LEFT + columns * (CELL + GAP) - GAP + RIGHT
        self.height = TOP + sum(self.heights) + GAP * (len(ratios) - 1) + BOTTOM + LINE * legend_lines
        self.caption = BOTTOM - LINE + LINE * legend_lines  # height of the line of text under the pictures
        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes at (x, y) of this size, in inches from the lower left corner."""
        return self.figure.add_axes(
            (x / self.width, y / self.height, width / self.width, height / self.height)
        )

    def cell(self, row: int, column: int) -> Axes:
        axes = self.axes(self.left(column), self.bottom(row), CELL, self.heights[row])
        axes.set_axis_off()
        return axes

    def left(self, column: int) -> float:
        return LEFT + column * (CELL + GAP)

    def bottom(self, row: int) -> float:
        return self.height - TOP - sum(self.heights[: row + 1]) - GAP * row

    def label_row(self, row: int, text: str) -> None:
        room = int(self.heights[row] * 17)  # characters of 6.5 points that fit into an inch
        if len(text) > room:
            text = f"{text[: room // 2]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - room // 2 + 1 :]}"
        middle = (self.bottom(row) + self.heights[row] / 2) / self.height
        look: dict[str, Any] = {
            "rotation": 90,
            "ha": "center",
            "va": "center",
            "fontsize": 6.5,
            "color": QUIET,
        }
        self.figure.text(LEFT / 2 / self.width, middle, text, **look)


def _columns(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """The titles of the columns, after checking that every case can fill them."""
    if not cases:
        raise UserError(
            "found no case for the prediction sheet, expected at least one: pass one or more cases"
        )
    expected: list[str] = []
    for case in cases:
        fields = {"truth": case["truth"], **case["maps"]}
        if "uncertainty" in case:
            fields["uncertainty"] = case["uncertainty"]
        expected = expected or ["image", *fields]
        if ["image", *fields] != expected:
            raise UserError(
                f"found columns {['image', *fields]} in case {case['id']}, expected {expected}: "
                "give all cases the same maps"
            )
        size = case["image"].shape[:2]
        for name, field in fields.items():
            if np.shape(field) != size:
                raise UserError(
                    f"found shape {np.shape(field)} for {name} of case {case['id']}, expected the image's "
                    f"{size}: resize it to the image"
                )
    return expected


def _paint(network: str) -> str:
    return WHITE if network == "truth" else color(network)


def _draw_cell(axes: Axes, case: Mapping[str, Any], name: str, paints: Sequence[str]) -> None:
    if name == "uncertainty":
        axes.imshow(case["uncertainty"], vmin=0, vmax=1, cmap="magma", interpolation="nearest")
        return
    if name == "image":
        axes.imshow(case["image"])
        return
    truth = np.asarray(case["truth"])
    mask = truth if name == "truth" else np.asarray(case["maps"][name])
    axes.imshow(tinted(case["image"], mask, paints))
    for label in range(1, int(mask.max()) + 1):
        # A network's colour may be the tissue's; around each of several classes a halo would hide the next.
        halo = INK if name == "truth" or len(paints) > 1 else WHITE
        outline(axes, mask == label, paints[(label - 1) % len(paints)], 1.4, halo)
    if name != "truth":
        outline(axes, truth > 0, WHITE, 0.8)
    score = case.get("dice", {}).get(name)
    if score is not None:
        box = {"boxstyle": "round,pad=0.22", "facecolor": INK, "edgecolor": "none", "alpha": 0.75}
        look: dict[str, Any] = {"color": WHITE, "fontsize": 7, "fontweight": "bold", "bbox": box}
        axes.text(0.965, 0.04, f"{score:.2f}", transform=axes.transAxes, ha="right", va="bottom", **look)


def tinted(image: NDArray[np.uint8], mask: NDArray[Any], paints: Sequence[str]) -> NDArray[np.float64]:
    """The image (H, W, 3) in [0, 1] with each foreground class of `mask` (H, W) tinted in its colour."""
    blended = image.astype(float) / 255
    for label in range(1, int(mask.max()) + 1):
        here = mask == label
        blended[here] = 0.58 * blended[here] + 0.42 * np.array(to_rgb(paints[(label - 1) % len(paints)]))
    return blended


def outline(axes: Axes, mask: NDArray[np.bool_], paint: str, width: float, halo: str = INK) -> None:
    """A line around a boolean mask (H, W), with an edge, the `halo`, to show on any image."""
    if not mask.any():
        return
    height, length = mask.shape
    padded = np.pad(mask.astype(float), 1)  # so that an object at the image's edge gets a closed line
    x, y = np.arange(-1, length + 1), np.arange(-1, height + 1)
    line = axes.contour(x, y, padded, levels=[0.5], colors=[paint], linewidths=width)
    dark = halo == INK
    edge = patheffects.withStroke(
        linewidth=width + (0.8 if dark else 1.2), foreground=halo, alpha=0.55 if dark else 0.9
    )
    line.set_path_effects([edge])
    axes.set_xlim(-0.5, length - 0.5)
    axes.set_ylim(height - 0.5, -0.5)


def _draw_caption(grid: _Grid, several: bool, number: str) -> None:
    says = f"Colour: the {'class' if several else 'prediction'}.  White line: outline of the truth."
    says += f"  Number: {number}." if number else ""
    grid.figure.text(
        LEFT / grid.width, grid.caption / grid.height, says, va="center", fontsize=7, color=QUIET
    )


def _draw_classes(grid: _Grid, top: int, per_line: int, classes: Sequence[str] | None) -> None:
    """Under the caption, a patch and a name for each foreground class, aligned with the columns."""
    for position in range(top):
        line, column = divmod(position, per_line)
        y = grid.caption - LINE * (line + 1) - 0.02
        patch = grid.axes(grid.left(column), y - 0.045, 0.12, 0.09)
        patch.set(xticks=[], yticks=[], facecolor=CLASSES[position % len(CLASSES)])
        patch.spines[:].set_visible(True)
        label = position + 1
        name = classes[label] if classes and label < len(classes) else f"class {label}"
        x = (grid.left(column) + 0.17) / grid.width
        grid.figure.text(x, y / grid.height, name, va="center", fontsize=7)


def _draw_scale(grid: _Grid, column: int) -> None:
    """The colour bar of the uncertainty, under its column."""
    bar = grid.axes(grid.left(column), grid.caption + 0.03, CELL, 0.07)
    bar.imshow(np.linspace(0, 1, 256)[None], aspect="auto", cmap="magma", extent=(0, 1, 0, 1))
    bar.set_axis_off()
    for x, side, word in ((0.0, "left", "0 certain"), (1.0, "right", "1 uncertain")):
        look: dict[str, Any] = {"ha": side, "va": "top", "fontsize": 6.5, "color": QUIET}
        bar.text(x, -0.4, word, transform=bar.transAxes, **look)
