"""The four pictures of a case: the image, both outlines, where the prediction errs, and how unsure it was."""

import io
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from knowsam_lite.colors import CLASSES
from knowsam_lite.report.gather import Shown

SIDE = 256  # pixels of a picture's longer side
MISSED, ADDED, CONFUSED = "#E34A33", "#6A6AF5", "#FF9BE8"  # none of them is the colour of a class or network
Pixels = NDArray[np.uint8]


def tiles(shown: Shown, image: Pixels, paint: str) -> dict[str, bytes]:
    """JPEGs by name: "image", "outlines", "errors", "uncertainty", with a longer side of SIDE pixels.

    `image` uint8 (H, W, 3). `paint`: the colour #RRGGBB of the prediction's outline if there is one
    foreground class; several have a colour each, the same as in predictions.png.
    """
    picture = _fit(image, smooth=True)
    truth, found = _fit(shown.truth), _fit(shown.found)
    magma = matplotlib.colormaps["magma"](_fit(shown.uncertainty))[..., :3]
    pictures = {
        "image": picture,
        "outlines": _outlined(picture, truth, found, paint),
        "errors": _errors(picture, truth, found),
        "uncertainty": (255 * magma).round().astype(np.uint8),
    }
    return {name: _jpeg(array) for name, array in pictures.items()}


def class_paint(label: int) -> str:
    """The colour of foreground class 1, 2, ... where there are several."""
    return CLASSES[(label - 1) % len(CLASSES)]


def _fit(array: Pixels, smooth: bool = False) -> Pixels:
    """Resize (H, W) or (H, W, 3) so that the longer side is SIDE; classes keep their values."""
    height, width = array.shape[:2]
    scale = SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    shrinks = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    how = shrinks if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(np.ascontiguousarray(array), size, interpolation=how), np.uint8)


def _outlined(image: Pixels, truth: Pixels, found: Pixels, paint: str) -> Pixels:
    """A wide colored line around the prediction and a thin white one around the truth, with dark edges.

    Where both coincide, the white one lies within the colored one, so both remain visible.
    """
    drawn = image.copy()
    several = max(truth.max(), found.max()) > 1
    found_lines = _outlines(found)
    truth_lines = _outlines(truth)
    for lines, width in ((found_lines, 5), (truth_lines, 3)):
        for line in lines.values():
            cv2.drawContours(drawn, line, -1, (20, 20, 20), width, cv2.LINE_AA)
    for label, line in found_lines.items():
        color = _rgb(class_paint(label) if several else paint)
        cv2.drawContours(drawn, line, -1, color, 3, cv2.LINE_AA)
    for line in truth_lines.values():
        cv2.drawContours(drawn, line, -1, (255, 255, 255), 1, cv2.LINE_AA)
    return drawn


def _outlines(classes: Pixels) -> dict[int, Sequence[Any]]:
    """The outlines of each foreground class in OpenCV's form."""
    masks = {label: (classes == label).astype(np.uint8) for label in range(1, int(classes.max()) + 1)}
    how = cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    return {label: cv2.findContours(mask, *how)[0] for label, mask in masks.items()}


def _errors(image: Pixels, truth: Pixels, found: Pixels) -> Pixels:
    """The image in faint gray, wrong pixels in the colour of their kind, correct foreground lightened."""
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2) * 0.45
    gray[(truth > 0) & (truth == found)] += 110
    for where, color in (
        ((truth > 0) & (found == 0), MISSED),
        ((truth == 0) & (found > 0), ADDED),
        ((truth > 0) & (found > 0) & (truth != found), CONFUSED),
    ):
        gray[where] = _rgb(color)
    return gray.clip(0, 255).round().astype(np.uint8)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(color))
    return red, green, blue


def _jpeg(array: Pixels) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, "JPEG", quality=82, subsampling=0)
    return out.getvalue()
