"""The networks' input: the five task kinds, and augmented versions of one image."""

from pathlib import Path

import numpy as np

from knowsam_lite.colors import overlay
from knowsam_lite.data import Synthetic
from knowsam_lite.data.transforms import Augment
from knowsam_lite.figures.panels import panels

TASKS = ("colonoscopy", "ultrasound", "dermoscopy", "cardiac", "histology")


def tasks(path: Path) -> dict[str, list[float]]:
    """The five synthetic kinds, in the spirit of the paper's five tasks: image, and truth over it."""
    rows: list[dict[str, np.ndarray]] = [{}, {}]
    for kind in TASKS:
        data = Synthetic(kind, seed=3, n=10, size=128)
        record = max(data.records, key=lambda r: np.count_nonzero(data.mask(r)))
        rows[0][kind] = data.image(record)
        rows[1][kind] = overlay(data.image(record), data.mask(record))
    return panels(rows, path)


def augmentation(path: Path) -> dict[str, list[float]]:
    """Weak augmentation moves the picture and its mask alike; strong augmentation also changes its look."""
    data = Synthetic("dermoscopy", seed=1, n=4, size=128)
    record = data.records[1]
    image, mask = data.image(record), data.mask(record)
    row = {}
    for title, kind, seed in (
        ("as it is", "none", 0),
        ("weak", "weak", 3),
        ("weak again", "weak", 4),
        ("strong", "strong", 3),
        ("strong again", "strong", 4),
    ):
        x, y = Augment(kind, 128)(image, mask, seed)
        assert y is not None
        shown = (255 * x.numpy().transpose(1, 2, 0)).astype(np.uint8)
        row[title] = overlay(shown, y.numpy().astype(np.uint8))
    return panels([row], path)
