"""The metric explorer: move and deform a mask, and watch Dice, IoU and HD95."""

from typing import Any

import numpy as np
from scipy import ndimage

from knowsam_lite.course.explorers.attended import attended
from knowsam_lite.course.explorers.layout import beside, still
from knowsam_lite.course.show import picture, show
from knowsam_lite.figures import overlaps
from knowsam_lite.metrics import BoolArray

LARGE = 3.4  # inches of the picture that the sliders change
SAYS = "All in pixels. The bar joins two border pixels that are about HD95 apart."
SIDE, FAR = 64, 12  # pixels: the image, and from the object to the speck
# Title -> what is done to the mask, where widgets do not run.
SHOWN: dict[str, dict[str, int]] = {
    "6 pixels right": {"right": 6},
    "3 pixels larger": {"grow": 3},
    "3 pixels smaller": {"grow": -3},
    "a hole": {"hole": 4},
    "a speck of 2 x 2": {"speck": 2},
    "a speck of 5 x 5": {"speck": 5},
    "small, 1 right": {"radius": 3, "right": 1},
    "empty": {"grow": -SIDE},
}
ALT = (
    "Eight predictions laid over one ellipse, with Dice, IoU and HD95: a shift by 6 pixels, 3 pixels larger, "
    "3 smaller, a hole, a far speck of 2 x 2 and of 5 x 5 pixels, a small ellipse shifted by 1, and nothing."
)


def ellipse(radius: int) -> BoolArray:
    """The true object, bool (64, 64): an ellipse of this half-width, in the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE // 2
    return (x / radius) ** 2 + (y / (0.7 * radius)) ** 2 <= 1


def deform(
    true: BoolArray, right: int = 0, down: int = 0, grow: int = 0, hole: int = 0, speck: int = 0
) -> BoolArray:
    """A prediction (H, W) made of the truth, all in pixels: shifted, grown (below 0: shrunk), with a round
    hole of this radius in the middle, and a square speck of this side, `FAR` pixels to the right of it.
    """
    pred = ndimage.shift(true, (down, right), order=0)
    if grow:
        change = ndimage.binary_dilation if grow > 0 else ndimage.binary_erosion
        pred = change(pred, iterations=abs(grow))
    rows, columns = np.nonzero(true)
    y, x = np.ogrid[: true.shape[0], : true.shape[1]]
    middle = (y - rows.mean().round() - down) ** 2 + (x - columns.mean().round() - right) ** 2
    pred = pred & (middle >= hole**2)
    if speck:
        top, left = int(rows.mean()) - speck // 2, columns.max() + FAR
        pred[top : top + speck, left : left + speck] = True
    return pred


def explore() -> Any:
    """Show the explorer with sliders, or eight settings side by side where widgets do not run.

    Returns what it shows: the panel of widgets, or title -> {"dice", "iou", "hd95"}.
    """
    if attended("ipywidgets"):
        from IPython.display import display

        shown = panel()
        display(shown)
        return shown
    pairs = {}
    for title, changes in SHOWN.items():
        true = ellipse(changes.get("radius", 14))
        pairs[title] = deform(true, **{k: v for k, v in changes.items() if k != "radius"}), true
    return show(overlaps, pairs, alt=ALT)


def panel() -> Any:
    """The widgets: a slider for each change, and the picture that follows them."""
    import ipywidgets as widgets

    ranges = {
        "radius": (14, 2, 20),
        "right": (3, -16, 16),
        "down": (0, -16, 16),
        "grow": (0, -14, 8),
        "hole": (0, 0, 8),
        "speck": (0, 0, 10),
    }
    sliders = {
        name: widgets.IntSlider(value, low, high, description=name, continuous_update=False)
        for name, (value, low, high) in ranges.items()
    }
    drawn = still()

    def draw(_: Any = None) -> None:
        at = {name: slider.value for name, slider in sliders.items()}
        true = ellipse(at.pop("radius"))
        _, content, _ = picture(overlaps, {"prediction": (deform(true, **at), true)}, cell=LARGE, alt="")
        drawn.value = content["image/png"]

    for slider in sliders.values():
        slider.observe(draw, "value")
    draw()
    return beside(drawn, list(sliders.values()), SAYS)
