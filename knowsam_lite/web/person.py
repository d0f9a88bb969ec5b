"""A careful person, simulated: where the first prompt goes, and where each correcting click."""

from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from knowsam_lite.metrics import BoolArray
from knowsam_lite.web.clicks import Prompt


def innermost(area: BoolArray) -> tuple[float, float, float]:
    """x and y of the pixel of an area bool (H, W) that is farthest from its border, and how far: 0 if empty.

    In pixels; x and y are those of the pixel's middle. The picture's edge is a border, too.
    """
    depth = distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return float(x) + 0.5, float(y) + 0.5, float(depth.max())


def next_click(found: BoolArray, truth: BoolArray) -> Prompt | None:
    """The click that corrects a mask: in the middle of the largest mistake, None if there is none.

    `found` and `truth` bool (H, W). Of two mistakes the larger one is that with the deeper middle; a click
    is inside the object where it was missed, outside where too much was marked.
    """
    missed, added = innermost(truth & ~found), innermost(found & ~truth)
    x, y, depth = max(missed, added, key=lambda place: place[2])
    return Prompt((x, y), inside=missed[2] >= added[2]) if depth > 0 else None


def first_prompt(start: Literal["box", "click"], truth: BoolArray) -> Prompt:
    """The first prompt of a person: a box around the object (H, W), or a click in its middle."""
    if start == "click":
        return Prompt(innermost(truth)[:2])
    y, x = np.nonzero(truth)
    return Prompt((float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)))
