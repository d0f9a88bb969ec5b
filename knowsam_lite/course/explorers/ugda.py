"""The UGDA explorer: choose which cells, how fine the grid and how many, and see the mixed pair."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from knowsam_lite.course.explorers.attended import attended
from knowsam_lite.course.explorers.layout import beside, still
from knowsam_lite.course.show import picture, show
from knowsam_lite.figures import exchange
from knowsam_lite.mixing import choose_regions, mix, uncertainty_map

GRIDS = (2, 4, 8, 16)
SAYS = "Framed: the cells that are exchanged. Target: grey and black from the labels, pink from SAM."


@dataclass(frozen=True)
class Setting:
    """The settings: which cells of a grid x grid board are exchanged, and how many of them."""

    most: Literal["uncertain", "certain"] = "uncertain"
    grid: int = 4
    count: int = 5

    def __str__(self) -> str:
        return f"{self.count} most {self.most}\nof {self.grid} × {self.grid}"


# Drawn where widgets do not run: the method's setting first, then one change at a time.
SETTINGS = (Setting(), Setting("certain"), Setting(grid=8, count=20), Setting(count=1), Setting(count=16))


@dataclass(frozen=True)
class Pairs:
    """Pairs to mix: images x (N, 3, H, W) in [0, 1], labels y and pseudo-labels (N, H, W), logits z (N, C, H,
    W) of the students; `l` labelled, `u` unlabelled.
    """

    x_l: Tensor
    y_l: Tensor
    z_l: Tensor
    x_u: Tensor
    pseudo: Tensor
    z_u: Tensor


def row(pairs: Pairs, setting: Setting, i: int = 0) -> dict[str, Any]:
    """Pair number `i`, mixed at this setting, as `knowsam_lite.figures.exchange` draws it."""
    here = slice(i, i + 1)
    x_l, y_l, x_u, y_u = pairs.x_l[here], pairs.y_l[here], pairs.x_u[here], pairs.pseudo[here]
    u = uncertainty_map(torch.cat([pairs.z_l[here], pairs.z_u[here]]), setting.grid)
    regions = choose_regions(u, setting.count, setting.most)
    mixed = mix(x_l, y_l, x_u, y_u, regions[:1], regions[1:])
    # The same exchange once more, with marks in place of classes: 1 for SAM's pseudo-labels.
    marks = mix(x_l, torch.zeros_like(y_l), x_u, torch.ones_like(y_u), regions[:1], regions[1:])
    return {
        "id": str(setting),
        "image": _pictures(torch.cat([x_l, x_u])),
        "uncertainty": u.numpy(),
        "regions": regions.numpy(),
        "mixed": _pictures(mixed.x),
        "target": mixed.y.numpy(),
        "pseudo": marks.y.bool().numpy(),
    }


def _pictures(x: Tensor) -> Any:
    return (x * 255).round().byte().movedim(1, -1).numpy()  # (N, 3, H, W) -> (N, H, W, 3)


def explore(pairs: Pairs, alt: str) -> None:
    """Show the controls and the exchange below them, or, where widgets do not run, five settings of pair 0,
    which `alt` describes.
    """
    if attended("ipywidgets"):
        from IPython.display import display

        display(panel(pairs))
    else:
        show(exchange, [row(pairs, setting) for setting in SETTINGS], alt=alt)


def panel(pairs: Pairs) -> Any:
    """The widgets: the picture, and four controls on its right."""
    import ipywidgets as widgets

    knobs = {
        "pair": widgets.IntSlider(0, 0, len(pairs.x_l) - 1, description="pair"),
        "most": widgets.ToggleButtons(
            options=("uncertain", "certain"),
            description="cells",
            style={"button_width": "84px"},
        ),
        "grid": widgets.SelectionSlider(options=GRIDS, value=4, description="grid"),
        "count": widgets.IntSlider(5, 1, 16, description="count"),
    }

    def limit(change: dict[str, Any]) -> None:
        knobs["count"].max = change["new"] ** 2

    knobs["grid"].observe(limit, names="value")

    drawn = still()

    def turn(_: object = None) -> None:
        pair, most, grid, count = (knob.value for knob in knobs.values())
        setting = Setting(most, grid, min(count, grid**2))  # the grid may change before the count follows
        rows = [row(pairs, setting, pair)]
        drawn.value = picture(exchange, rows, halves_below=True, alt="")[1]["image/png"]

    for knob in knobs.values():
        knob.observe(turn, "value")
    turn()
    return beside(drawn, list(knobs.values()), SAYS)
