"""Class indices as mask files in the data set's own form."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from knowsam_lite.data.masks import as_rgb
from knowsam_lite.files import write_aside
from knowsam_lite.runs.classes import Classes


def as_picture(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Class indices (H, W) -> a mask in the data set's form: uint8 or uint16 (H, W), or painted (H, W, 3)."""
    if classes.painted:
        return np.array([as_rgb(value) for value in classes.values], np.uint8)[labels]
    return as_numbers(labels, classes)


def as_numbers(labels: np.ndarray, classes: Classes) -> np.ndarray:
    """Class indices of any shape -> the data set's mask values, uint8 or uint16; painted classes, which a
    volume cannot hold, stay class indices.
    """
    if classes.painted:
        return labels
    return np.asarray(classes.values, np.uint8 if max(classes.values) < 256 else np.uint16)[labels]


def save_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture, as `as_picture` makes them, as PNG; raises UserError if that fails."""
    save: Any = Image.fromarray(picture).save
    write_aside(path, lambda file: save(file, format="PNG"))
