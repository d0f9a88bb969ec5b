"""What the metrics see and what they miss: shifted discs, and single wrong pixels."""

from pathlib import Path

import numpy as np
from scipy.spatial.distance import directed_hausdorff

from knowsam_lite.figures.trends import trends
from knowsam_lite.metrics import asd, dice, hd95, iou

SIZE = 160  # pixels a side


def disc(radius: float, x: float = SIZE / 2) -> np.ndarray:
    """A filled circle, bool (S, S)."""
    at = np.arange(SIZE) + 0.5
    found: np.ndarray = (at[:, None] - SIZE / 2) ** 2 + (at[None] - x) ** 2 <= radius**2
    return found


def small_objects(path: Path) -> dict[str, list[float]]:
    """A shift of two pixels: harmless for the overlap of a large object, ruinous for a small one."""
    radii = np.arange(2, 61)
    pairs = [(disc(r), disc(r, SIZE / 2 + 2)) for r in radii.tolist()]
    return trends(
        {
            "Dice": (radii, [dice(p, t) for p, t in pairs]),
            "IoU": (radii, [iou(p, t) for p, t in pairs]),
        },
        path,
        "A disc that is 2 pixels off: overlap by its size",
        "radius in pixels",
    )


def outliers(path: Path) -> dict[str, list[float]]:
    """Stray pixels far away: the largest distance jumps at the first, HD95 at one in 20 border pixels."""
    truth = disc(30)
    strays = np.arange(0, 41)
    scores: dict[str, list[float]] = {"largest distance": [], "HD95": [], "mean distance": []}
    for n in strays:
        found = truth.copy()
        for k in range(n):  # every other pixel, so that each is a border of its own
            found[8 + 2 * (k // 10), 8 + 2 * (k % 10)] = True
        scores["largest distance"].append(largest(found, truth))
        scores["HD95"].append(hd95(found, truth))
        scores["mean distance"].append(asd(found, truth))
    return trends(
        {name: (strays, values) for name, values in scores.items()},
        path,
        "A perfect disc and stray pixels in the corner: distance in pixels",
        "stray pixels",
    )


def largest(pred: np.ndarray, true: np.ndarray) -> float:
    """The Hausdorff distance: the largest distance of a pixel of one mask from the other."""
    p, t = np.argwhere(pred), np.argwhere(true)
    return max(directed_hausdorff(p, t)[0], directed_hausdorff(t, p)[0])
