"""`shapes`: the pretraining pictures of `sam_mini`. Random polygons, blobs and Voronoi cells over procedural
textures.

Nothing here imitates an organ or a device, so sam_mini can learn about the five task kinds only from their
labels.
"""

import cv2
import numpy as np
from numpy.random import Generator


def noise(rng: Generator, size: int, cell: float) -> np.ndarray:
    """Smooth noise (size, size) float32 with unit variance, whose features are about `cell` pixels wide."""
    coarse = max(2, round(size / cell) + 1)
    field = cv2.resize(
        rng.standard_normal((coarse, coarse), dtype=np.float32), (size, size), interpolation=cv2.INTER_CUBIC
    )
    return (field - field.mean()) / (field.std() + 1e-6)


def stripes(rng: Generator, size: int) -> np.ndarray:
    """A wavy grating (size, size) float32 with unit amplitude."""
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    angle, waves = rng.uniform(0, np.pi), rng.uniform(2, 12)
    bend = rng.uniform(0, 0.08) * noise(rng, size, size / 3)
    return np.sin(2 * np.pi * (waves * (x * np.cos(angle) + y * np.sin(angle) + bend)))


def texture(rng: Generator, size: int, color: np.ndarray, contrast: float) -> np.ndarray:
    """A surface of one color (3,) in 0..1 with a random pattern of the given contrast: (size, size, 3)
    float32.
    """
    pattern = noise(rng, size, rng.uniform(1, 12)) if rng.random() < 0.7 else stripes(rng, size)
    tint = color * 0.7 + rng.uniform(-0.5, 0.5, 3).astype(np.float32) * 0.6
    shade = contrast * rng.uniform(0.2, 1.0) * pattern + rng.uniform(0, 0.08) * noise(rng, size, size / 2)
    return (color + shade[..., None] * (0.4 + tint)).astype(np.float32)


def polygon(rng: Generator, size: int) -> np.ndarray:
    """A random star-shaped polygon: bool (size, size)."""
    corners = rng.integers(3, 10)
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = size * rng.uniform(0.08, 0.34) * rng.uniform(0.5, 1, corners)
    center = rng.uniform(0.1, 0.9, 2) * size
    stretch = rng.uniform(0.6, 1.4)
    points = center + np.stack([radius * np.cos(angles) * stretch, radius * np.sin(angles) / stretch], axis=1)
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 1, shift=4)
    return mask.astype(bool)


def blob(rng: Generator, size: int) -> np.ndarray:
    """A round shape with a wavy outline: bool (size, size)."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    cx, cy = rng.uniform(0.1, 0.9, 2) * size
    angle, stretch = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    u = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
    v = ((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) / stretch
    theta = np.arctan2(v, u)
    outline = np.ones_like(theta)
    for k in range(2, 7):
        outline += rng.uniform(0, 0.22) / (k - 1) * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    return np.hypot(u, v) < size * rng.uniform(0.06, 0.33) * outline


def cells(rng: Generator, size: int) -> list[np.ndarray]:
    """Objects taken from the cells of a Voronoi tiling with bent walls: list of bool (size, size)."""
    count = rng.integers(4, 14)
    seeds = rng.uniform(0, size, (count, 2)).astype(np.float32)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    x = x + rng.uniform(0, 0.06) * size * noise(rng, size, size / 5)
    y = y + rng.uniform(0, 0.06) * size * noise(rng, size, size / 5)
    nearest = ((x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2).argmin(-1)
    chosen = rng.permutation(count)[: rng.integers(1, 5)]
    return [nearest == i for i in chosen]


def objects(rng: Generator, size: int) -> list[np.ndarray]:
    """One to five objects, later ones in front: list of bool (size, size)."""
    if rng.random() < 0.25:
        return cells(rng, size)
    return [(polygon if rng.random() < 0.4 else blob)(rng, size) for _ in range(rng.integers(1, 6))]


def scene(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture and its objects: image uint8 (size, size, 3), objects int64 (size, size), 0 for the
    background, 1, 2, ... for the objects.
    """
    base = rng.uniform(0.1, 0.9, 3).astype(np.float32)
    contrast = rng.uniform(0.02, 0.16)
    image = texture(rng, size, base, contrast)
    which = np.zeros((size, size), np.int64)
    family = np.clip(base + rng.uniform(-0.5, 0.5, 3), 0, 1).astype(
        np.float32
    )  # objects of one picture often look alike
    for mask in objects(rng, size):
        own = (
            family
            if rng.random() < 0.5
            else np.clip(base + rng.uniform(-0.5, 0.5, 3), 0, 1).astype(np.float32)
        )
        far = np.abs(own - base).mean()
        if far < 0.07:  # keep every shape visible
            own = np.clip(base + np.sign(own - base) * 0.12, 0, 1)
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), rng.uniform(0.4, 1.6))[..., None]
        image = image * (1 - soft) + texture(rng, size, own, contrast) * soft
        which[mask] = which.max() + 1
    light = 1 + rng.uniform(0, 0.18) * noise(rng, size, size)
    image = image * light[..., None] + rng.uniform(0, 0.06) * rng.standard_normal((size, size, 3))
    if rng.random() < 0.3:
        image = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), which


def draw(rng: Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """One picture and its mask: image uint8 (size, size, 3), mask uint8 (size, size), 1 on every object."""
    image, which = scene(rng, size)
    return image, (which > 0).astype(np.uint8)
