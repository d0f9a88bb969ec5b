"""Synthetic colonoscopy: one or two polyps on pink mucosa among folds, debris, bubbles and highlights."""

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
    smooth_noise,
    specks,
)


def draw(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (S, S, 3) and mask uint8 (S, S): 1 on the polyp, 0 elsewhere."""
    hue, saturation = rng.uniform(2, 24), rng.uniform(0.4, 0.68)
    light = np.array([np.cos(a := rng.uniform(0, 2 * np.pi)), np.sin(a)], np.float32)
    image = _mucosa(rng, size, hue, saturation)
    for _ in range(rng.integers(1, 3)):
        _fold(rng, size, image)
    _debris(rng, size, image)
    mask = np.zeros((size, size), bool)
    for _ in range(1 if rng.random() < 0.85 else 2):
        mask |= _polyp(rng, size, image, light, hue, saturation)
    _bubbles(rng, size, image)
    wet = np.clip(fractal(rng, size, 5), 0, 1)
    paint(
        image,
        (1.0, 0.97, 0.95),
        0.9 * specks(rng, size, int(rng.integers(3, 14)), (0.006, 0.02)) * (0.4 + 0.6 * wet),
    )
    _vignette(rng, size, image)
    image *= np.float32(rng.uniform(0.75, 1.1))
    return finish(rng, image, rng.uniform(0.2, 0.7) * size / 64, rng.uniform(0.005, 0.02)), mask.astype(
        np.uint8
    )


def _mucosa(rng: Rng, size: int, hue: float, saturation: float) -> np.ndarray:
    """The wall: uneven pink, lit from near the middle, perhaps with the dark lumen in the distance."""
    image = plain(size, hsv(hue, saturation, 0.8))
    paint(
        image,
        hsv(hue + rng.uniform(-12, 15), saturation * 0.8, 0.9),
        np.clip(0.5 * fractal(rng, size, 2), 0, 1),
    )
    paint(
        image,
        (0.55, 0.08, 0.1),
        rng.uniform(0.1, 0.3) * lines(rng, size, int(rng.integers(2, 8)), 0.009, bend=0.8),
    )
    lamp = blob(
        rng, size, tuple(rng.uniform(0.25, 0.75, 2)), rng.uniform(0.6, 1.0), rng.uniform(1, 1.6), 0.05
    )
    image *= np.clip(1.12 - 0.4 * lamp**1.5, 0.25, 1.1)[..., None]
    if rng.random() < 0.55:
        lumen = blob(
            rng, size, tuple(rng.uniform(0.1, 0.9, 2)), rng.uniform(0.08, 0.22), rng.uniform(1, 1.8), 0.15
        )
        paint(image, (0.12, 0.02, 0.02), 0.9 * inside(lumen, rng.uniform(0.5, 1.2)))
    image *= 1 + 0.06 * fractal(rng, size, 8, 3)[..., None]
    return image


def _fold(rng: Rng, size: int, image: np.ndarray) -> None:
    """A ridge of the wall: an arc, bright on its crest, dark behind; it looks like a polyp's rim."""
    x, y = grid(size)
    center, radius = rng.uniform(-0.4, 1.4, 2), rng.uniform(0.3, 0.8)
    distance = np.hypot(x - center[0], y - center[1]) + 0.03 * smooth_noise(rng, size, 3) - radius
    width = rng.uniform(0.025, 0.07)
    ends = np.clip(0.8 + fractal(rng, size, 1.5, 2), 0, 1)
    image *= (1 + rng.uniform(0.12, 0.3) * ends * np.exp(-((distance / width) ** 2)))[..., None]
    image *= (1 - rng.uniform(0.25, 0.55) * ends * np.exp(-(((distance + 1.6 * width) / width) ** 2)))[
        ..., None
    ]


def _polyp(
    rng: Rng, size: int, image: np.ndarray, light: np.ndarray, hue: float, saturation: float
) -> np.ndarray:
    """A dome in nearly the wall's own colour: shaded from one side, a rim, a shadow, a finer texture."""
    x, y = grid(size)
    radius = float(np.exp(rng.uniform(np.log(0.11), np.log(0.3))))
    center = tuple(rng.uniform(0.22, 0.78, 2))
    outline = blob(rng, size, center, radius, rng.uniform(1, 1.7), 0.16)
    body = inside(outline, rng.uniform(0.08, 0.3))
    shift = (light * radius * 0.5 * size).astype(np.float32)
    moved = cv2.warpAffine(body, np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]], np.float32), (size, size))
    image *= (1 - rng.uniform(0.2, 0.5) * cv2.GaussianBlur(moved, (0, 0), 0.03 * size))[..., None]
    color = hsv(
        hue + rng.normal(-5, 6), np.clip(saturation + rng.normal(0.08, 0.1), 0.2, 0.9), rng.uniform(0.8, 1)
    )
    slope = ((x - center[0]) * light[0] + (y - center[1]) * light[1]) / radius
    dome = 0.68 + 0.4 * np.sqrt(np.clip(1 - outline**2, 0, 1)) + 0.22 * slope
    texture = 1 + rng.uniform(0.03, 0.12) * fractal(rng, size, rng.uniform(9, 16), 2)
    paint(image, color * (dome * texture)[..., None], body * rng.uniform(0.85, 1.0))
    paint(image, (1.0, 0.96, 0.92), 0.8 * body * specks(rng, size, 12, (0.01, 0.025)))
    return outline < 1


def _debris(rng: Rng, size: int, image: np.ndarray) -> None:
    """Stool and mucus: yellow to brown patches, flat, with ragged borders; and patches of redness."""
    for _ in range(rng.integers(0, 4)):
        patch = blob(rng, size, tuple(rng.random(2)), rng.uniform(0.04, 0.16), rng.uniform(1, 2.2), 0.4)
        hue, saturation, value = rng.uniform(24, 48), rng.uniform(0.35, 0.8), rng.uniform(0.4, 0.85)
        color = hsv(hue, saturation, value) if rng.random() < 0.6 else hsv(rng.uniform(0, 10), 0.65, 0.65)
        paint(image, color, rng.uniform(0.4, 0.9) * inside(patch, rng.uniform(0.1, 0.9)))


def _bubbles(rng: Rng, size: int, image: np.ndarray) -> None:
    """Foam: rings with a bright rim through which the wall shows; as round as a polyp, without its body."""
    if rng.random() < 0.4:
        where = rng.random(2)
        for _ in range(rng.integers(2, 8)):
            ring = blob(rng, size, tuple(where + rng.normal(0, 0.1, 2)), rng.uniform(0.02, 0.07), 1.0, 0.0)
            paint(image, (0.95, 0.9, 0.85), 0.5 * np.exp(-(((ring - 1) / 0.22) ** 2)))


def _vignette(rng: Rng, size: int, image: np.ndarray) -> None:
    """The endoscope's round field of view, and its dark far end."""
    x, y = grid(size)
    if rng.random() < 0.6:
        distance = np.hypot(x - 0.5, y - 0.5)
        image *= np.clip((rng.uniform(0.55, 0.66) - distance) * size / 2, 0, 1)[..., None]
    image *= (1 - rng.uniform(0, 0.5) * np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8)) ** 2)[
        ..., None
    ]
