"""Degraded masks that imitate a student's imperfect map, for training and testing mask prompts."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import Generator
from torch import Tensor


def spoil(mask: np.ndarray, rng: Generator, strength: float) -> np.ndarray:
    """Erode a mask, punch holes into it and add false islands: bool (H, W) -> bool (H, W).

    `strength` >= 0: 0 changes nothing; the radius of the erosion, the number of holes and of islands grow
    with it.
    """
    height, width = mask.shape
    scale = np.sqrt(mask.sum() + 1.0)
    result: np.ndarray = mask.astype(np.uint8)
    radius = round(0.05 * strength * scale)
    if radius:
        result = cv2.erode(result, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2))
    inside = np.argwhere(mask)
    for _ in range(rng.poisson(1.5 * strength) if len(inside) else 0):
        y, x = inside[rng.integers(len(inside))]
        cv2.circle(result, (int(x), int(y)), max(1, round(rng.uniform(0.04, 0.14) * scale)), 0, -1)
    for _ in range(rng.poisson(1.5 * strength)):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(result, (x, y), max(1, round(rng.uniform(0.05, 0.2) * scale)), 1, -1)
    return result.astype(bool)


def spoil_to(mask: np.ndarray, rng: Generator, dice: float) -> np.ndarray:
    """The spoiled mask whose Dice with `mask` is nearest to `dice`, out of 24 increasing strengths."""
    tries = [spoil(mask, rng, strength) for strength in np.linspace(0.5, 5, 24)]
    scores = [2 * (mask & t).sum() / max(mask.sum() + t.sum(), 1) for t in tries]
    return tries[int(np.abs(np.array(scores) - dice).argmin())]


def wobble(masks: Tensor, generator: torch.Generator) -> Tensor:
    """Mask logits as an uncertain network would give them: (M, H, W) in {0, 1} -> (M, H, W) float.

    A blurred mask, shifted towards growing or shrinking, plus smooth noise (which makes holes and islands),
    times a random sharpness: fast enough to be drawn for every prompt of every step.
    """
    count, height, width = masks.shape

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator)

    noise = torch.zeros(count, height, width)
    for cell in (4, 8, 16):
        coarse = torch.randn(count, 1, height // cell + 1, width // cell + 1, generator=generator)
        noise += (
            uniform(0, 0.45)
            * F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[:, 0]
        )
    blurred = masks.unsqueeze(1).float()
    for _ in range(2):
        blurred = F.avg_pool2d(blurred, 5, stride=1, padding=2, count_include_pad=False)
    return uniform(2, 16) * (blurred[:, 0] - uniform(0.2, 0.8) + uniform(0, 1) * noise)
