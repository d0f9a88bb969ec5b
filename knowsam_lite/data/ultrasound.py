"""Synthetic breast ultrasound: a dark lesion in speckle among fat lobules, vessels, ribs and shadows."""

import cv2
import numpy as np

from knowsam_lite.data.textures import Point, Rng, blob, fractal, grid, inside, smooth_noise


def draw(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (S, S, 3), grey, and mask uint8 (S, S): 1 on the lesion, 0 elsewhere."""
    echo, depth = _tissue(rng, size)
    _fat_lobules(rng, size, echo)
    _vessels(rng, size, echo)
    mask, center, radius = _lesion(rng, size, echo)
    _shadows(rng, size, echo, center, radius)
    gain = rng.uniform(0.42, 0.8) * (1 - rng.uniform(0.15, 0.6) * depth**1.5)
    echo = np.clip(echo * gain, 0, 1.5)
    image = _speckle(rng, size, echo)
    return np.repeat(image[..., None], 3, axis=2), mask.astype(np.uint8)


def _tissue(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Skin, fat, gland and muscle as wavy layers of differing echo; also the depth in [0, 1]."""
    _, y = grid(size)
    depth = (
        y
        + rng.uniform(0.02, 0.05) * smooth_noise(rng, size, (3, 2))
        + rng.uniform(-0.15, 0.15) * (grid(size)[0] - 0.5)
    )
    bounds = np.cumsum([rng.uniform(0.04, 0.1), rng.uniform(0.08, 0.25), rng.uniform(0.3, 0.55)])
    levels = [rng.uniform(0.8, 1.0), rng.uniform(0.3, 0.5), rng.uniform(0.5, 0.85), rng.uniform(0.25, 0.5)]
    echo = np.full((size, size), levels[0], np.float32)
    for bound, level in zip(bounds, levels[1:], strict=True):
        weight = np.clip((depth - bound) / 0.03 + 0.5, 0, 1)
        echo += weight * (level - echo)
        echo += rng.uniform(0.1, 0.5) * np.exp(-(((depth - bound) / 0.012) ** 2))
    echo *= 1 + 0.22 * smooth_noise(rng, size, (5, 16)) + 0.15 * fractal(rng, size, 4, 3)
    return np.clip(echo, 0.05, 1.4), y


def _fat_lobules(rng: Rng, size: int, echo: np.ndarray) -> None:
    """Flat grey ellipses with a bright capsule: nearly as dark as a lesion, but bright at the border."""
    for _ in range(rng.integers(1, 6)):
        lobule = blob(rng, size, (rng.random(), rng.uniform(0.12, 0.8)), rng.uniform(0.05, 0.14), 1, 0.08)
        echo += inside(lobule, 0.3) * (rng.uniform(0.25, 0.42) - echo)
        echo += rng.uniform(0.05, 0.25) * np.exp(-(((lobule - 1.05) / 0.15) ** 2))


def _vessels(rng: Rng, size: int, echo: np.ndarray) -> None:
    """Small black discs and tubes with sharp walls."""
    for _ in range(rng.integers(0, 4)):
        aspect = rng.choice([1.2, 4.0])
        vessel = blob(rng, size, tuple(rng.uniform(0.1, 0.9, 2)), rng.uniform(0.02, 0.05), aspect, 0.05)
        echo *= 1 - rng.uniform(0.8, 0.97) * inside(vessel, 0.2)
        echo += 0.15 * np.exp(-(((vessel - 1.25) / 0.15) ** 2))


def _lesion(rng: Rng, size: int, echo: np.ndarray) -> tuple[np.ndarray, Point, float]:
    """A hypoechoic body with a blurred, often lobed border, and a shadow or enhancement below it."""
    x, y = grid(size)
    radius = float(np.exp(rng.uniform(np.log(0.075), np.log(0.23))))
    center = (rng.uniform(0.2, 0.8), rng.uniform(0.25, 0.62))
    rough = rng.choice([0.08, 0.25])
    outline = blob(rng, size, center, radius, rng.uniform(1, 1.8), rough)
    body = inside(outline, rng.uniform(0.15, 0.6))
    echo += body * (rng.uniform(0.07, 0.25) * (1 + 0.3 * fractal(rng, size, 10, 2)) - echo)
    below = (
        np.clip((y - center[1]) / 0.05, 0, 1)
        * np.exp(-(((x - center[0]) / (0.75 * radius)) ** 4))
        * (1 - body)
    )
    echo *= 1 + rng.uniform(-0.75, 0.7) * below
    return outline < 1, center, radius


def _shadows(rng: Rng, size: int, echo: np.ndarray, center: Point, radius: float) -> None:
    """Dark stripes from poor contact or ribs, down from the skin or from some depth."""
    x, y = grid(size)
    for _ in range(rng.integers(0, 3)):
        middle, width, start = rng.random(), rng.uniform(0.03, 0.12), rng.choice([0.0, rng.uniform(0.4, 0.8)])
        if start == 0.0 and abs(middle - center[0]) < width + radius:
            continue  # it would hide the lesion
        stripe = np.exp(-(((x - middle - 0.1 * (y - 0.5)) / width) ** 2)) * np.clip((y - start) / 0.1, 0, 1)
        echo *= 1 - rng.uniform(0.4, 0.85) * stripe


def _speckle(rng: Rng, size: int, echo: np.ndarray) -> np.ndarray:
    """Interference: Rayleigh noise, coarser across than along the beam, then the scanner's logarithm."""
    waves = rng.standard_normal((2, size, size), dtype=np.float32)
    across, along = rng.uniform(0.6, 1.1) * size / 64, rng.uniform(0.35, 0.6) * size / 64
    real, imaginary = (cv2.GaussianBlur(wave, (0, 0), sigmaX=across, sigmaY=along) for wave in waves)
    amplitude = np.hypot(real, imaginary)
    signal = echo * (amplitude / amplitude.mean()) ** rng.uniform(0.45, 0.85)
    shown = np.log1p(signal * (gain := rng.uniform(2, 6))) / np.log1p(gain)
    shown = cv2.GaussianBlur(shown, (0, 0), 0.45 * size / 64)
    return np.round(np.clip(shown, 0, 1) * 245).astype(np.uint8)
