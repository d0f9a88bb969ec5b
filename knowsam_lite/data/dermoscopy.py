"""Synthetic dermoscopy: a pigmented lesion on skin among hairs, ink, freckles, rulers and bubbles."""

import cv2
import numpy as np

from knowsam_lite.data.textures import (
    Rng,
    blob,
    finish,
    fractal,
    grid,
    hsv,
    inside,
    lines,
    paint,
    plain,
    specks,
)


def draw(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (S, S, 3) and mask uint8 (S, S): 1 on the lesion, 0 elsewhere."""
    tone = hsv(rng.uniform(8, 32), rng.uniform(0.12, 0.5), rng.uniform(0.6, 0.95))
    image = plain(size, tone)
    image *= 1 + 0.05 * fractal(rng, size, 3)[..., None]
    paint(
        image,
        hsv(rng.uniform(-5, 15), 0.45, 0.8),
        np.clip(rng.uniform(0.05, 0.35) * fractal(rng, size, 2, 2), 0, 1),
    )
    _freckles(rng, size, image)
    mask = _lesion(rng, size, image, tone)
    _marks(rng, size, image)
    if rng.random() < 0.45:
        color = rng.choice([hsv(20, 0.6, 0.15), hsv(30, 0.5, 0.4)])
        paint(
            image, color, rng.uniform(0.5, 0.95) * lines(rng, size, int(rng.integers(3, 16)), 0.012, bend=0.5)
        )
    _gel(rng, size, image)
    x, y = grid(size)
    distance = np.hypot(x - 0.5, y - 0.5)
    image *= (1 - rng.uniform(0, 0.5) * distance**2)[..., None]
    if rng.random() < 0.25:
        image *= np.clip((rng.uniform(0.52, 0.66) - distance) * size / 3, 0, 1)[..., None]
    return finish(rng, image, rng.uniform(0.2, 0.8) * size / 64, rng.uniform(0.004, 0.02)), mask.astype(
        np.uint8
    )


def _freckles(rng: Rng, size: int, image: np.ndarray) -> None:
    """Small brown spots and one larger faint patch, coloured like a lesion but not one."""
    if rng.random() < 0.5:
        spots = specks(rng, size, int(rng.integers(2, 12)), (0.008, 0.03))
        paint(image, hsv(rng.uniform(15, 28), 0.6, 0.5), rng.uniform(0.3, 0.7) * spots)
    if rng.random() < 0.4:
        patch = blob(rng, size, tuple(rng.random(2)), rng.uniform(0.1, 0.25), rng.uniform(1, 2), 0.3)
        paint(image, hsv(rng.uniform(-5, 20), 0.55, 0.75), rng.uniform(0.25, 0.5) * inside(patch, 1.2))


def _lesion(rng: Rng, size: int, image: np.ndarray, tone: np.ndarray) -> np.ndarray:
    """An irregular patch of one to three pigments, faint pink to black, with a fading border."""
    radius = float(np.exp(rng.uniform(np.log(0.1), np.log(0.36))))
    center = tuple(0.5 + rng.normal(0, 0.1, 2))
    outline = blob(rng, size, center, radius, rng.uniform(1, 1.7), rng.uniform(0.08, 0.3))
    outline = outline + rng.uniform(0.02, 0.1) * fractal(rng, size, 7, 3)
    body = inside(outline, rng.uniform(0.1, 0.6))
    family = rng.choice(["brown", "black", "pink", "blue"], p=[0.5, 0.2, 0.2, 0.1])
    base = {
        "brown": hsv(rng.uniform(12, 28), rng.uniform(0.5, 0.75), rng.uniform(0.35, 0.65)),
        "black": hsv(rng.uniform(0, 30), rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.25)),
        "pink": hsv(rng.uniform(-8, 12), rng.uniform(0.4, 0.6), rng.uniform(0.6, 0.8)),
        "blue": hsv(rng.uniform(200, 230), rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.5)),
    }[family]
    color = plain(size, base)
    second = hsv(rng.uniform(0, 30), rng.uniform(0.2, 0.7), rng.uniform(0.15, 0.8))
    paint(color, second, np.clip(rng.uniform(0, 0.8) * fractal(rng, size, 3, 3), 0, 1))
    if rng.random() < 0.3:  # regression: a skin-coloured scar
        paint(color, tone, np.clip(fractal(rng, size, 2.5, 2) - 0.3, 0, 0.9))
    color *= 1 + rng.uniform(0.05, 0.2) * fractal(rng, size, rng.uniform(10, 20), 2)[..., None]
    paint(image, color, body * rng.uniform(0.55, 1.0))
    return outline < 1


def _marks(rng: Rng, size: int, image: np.ndarray) -> None:
    """Man-made marks: a ruler's ticks, violet ink, a coloured sticker at the border."""
    what = rng.random()
    if what < 0.2:
        edge, tick = int(rng.uniform(0.02, 0.12) * size), max(1, size // 64)
        for place in range(0, size, max(3, size // 14)):
            length = int(size * (0.09 if place % 2 else 0.05))
            cv2.line(image, (place, edge), (place, edge + length), (0.15, 0.12, 0.12), tick)
    elif what < 0.4:
        strokes = lines(rng, size, int(rng.integers(1, 3)), 0.035, bend=1.0, length=0.6)
        paint(image, hsv(rng.uniform(230, 280), 0.55, 0.4), 0.7 * strokes)
    elif what < 0.55:
        corner = tuple(rng.choice([-0.02, 1.02], 2))
        sticker = blob(rng, size, corner, rng.uniform(0.15, 0.3), 1.0, 0.0)
        paint(image, hsv(rng.choice([50.0, 120.0, 210.0]), 0.7, 0.8), inside(sticker, 0.08))


def _gel(rng: Rng, size: int, image: np.ndarray) -> None:
    """Air bubbles under the glass: pale rings and a glare."""
    for _ in range(rng.integers(0, 5)):
        bubble = blob(rng, size, tuple(rng.random(2)), rng.uniform(0.015, 0.05), 1.0, 0.02)
        paint(image, (0.97, 0.97, 0.97), 0.45 * np.exp(-(((bubble - 1) / 0.25) ** 2)))
    if rng.random() < 0.3:
        glare = blob(rng, size, tuple(rng.random(2)), rng.uniform(0.08, 0.2), 1.5, 0.1)
        paint(image, (1, 1, 1), 0.35 * np.exp(-(glare**2)))
