"""Colors shared by pictures and figures, and an overlay of classes in color."""

import numpy as np

INK = "#1A1A1A"  # text, borders, the truth
QUIET = "#6B6B6B"  # what is said beside, and references
# A network has its color in every picture and curve; EMA is the moving average of a student.
NETWORKS = {"U-Net": "#0072B2", "V-Net": "#D55E00", "fused": "#009E73", "SAM": "#B8559A", "EMA": "#882255"}
PROMPT = "#88CCEE"  # points, boxes and rough masks
# Foreground classes, where one color per network is not enough; none is a network's. From Okabe and Ito
# (2008) and Tol's muted set, which are safe for color-blind readers.
CLASSES = ("#56B4E9", "#F0E442", "#E69F00", "#44AA99", "#CC6677", "#DDCC77", "#AA4499", "#BBBBBB")


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The picture uint8 (H, W, 3) with each foreground class tinted, its border in the full color."""
    shown = image.astype(np.float32)
    inner = np.zeros(labels.shape, bool)  # all four neighbors are of the same class
    inner[1:-1, 1:-1] = True
    for axis in (0, 1):
        for step in (1, -1):
            inner &= np.roll(labels, step, axis) == labels
    for c in range(1, int(labels.max(initial=0)) + 1):
        color = CLASSES[(c - 1) % len(CLASSES)]
        paint = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
        here = labels == c
        shown[here & inner] = 0.6 * shown[here & inner] + 0.4 * paint
        shown[here & ~inner] = paint
    return shown.round().astype(np.uint8)
