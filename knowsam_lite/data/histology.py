"""Synthetic histology (H&E): many glands, some touching, in fibrous stroma among nuclei, fat and vessels."""

from dataclasses import dataclass

import numpy as np

from knowsam_lite.data.textures import (
    Rng,
    blob,
    finish,
    fractal,
    grains,
    hsv,
    inside,
    lines,
    paint,
    plain,
    specks,
    window_around,
)


@dataclass(frozen=True)
class Look:
    """What the glands of one image share: colours, then shares in [0, 1], then lengths in gland radii."""

    eosin: np.ndarray
    nuclei: np.ndarray
    mucus: float  # paleness of the epithelium
    solid: float  # share of degenerate glands, without a lumen
    dark: float  # how dark the nuclear ring is
    lumen: float
    ring: float


def draw(rng: Rng, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 (S, S, 3) and mask uint8 (S, S): 1 on glands (epithelium and lumen), 0 elsewhere."""
    eosin = hsv(rng.uniform(285, 355), rng.uniform(0.15, 0.55), rng.uniform(0.7, 0.97))
    nuclei = hsv(rng.uniform(235, 300), rng.uniform(0.35, 0.75), rng.uniform(0.25, 0.6))
    shares = rng.uniform(0, 0.9), rng.uniform(0, 0.7), rng.uniform(0.15, 1)
    look = Look(eosin, nuclei, *shares, lumen=rng.uniform(0.15, 0.8), ring=rng.uniform(0.1, 0.3))
    image = _stroma(rng, size, eosin, nuclei)
    mask = np.zeros((size, size), bool)
    spacing, fakes = rng.uniform(0.2, 0.42), rng.uniform(0, 0.55)
    aspect, rough, grain = rng.uniform(1, 1.9), rng.uniform(0.06, 0.25), grains(rng, size, 30, 0.62)
    for place in _places(rng, spacing):
        radius = spacing * rng.uniform(0.34, 0.56)
        window = window_around(size, place, 2.2 * radius)
        outline = blob(rng, size, place, radius, rng.uniform(1, aspect), rough, window)
        if rng.random() < fakes:
            _lookalike(rng, image[window], outline * 1.15, grain[window], look)
        else:
            _gland(rng, image[window], outline, grain[window], look)
            mask[window] |= outline < 1
    image *= 1 + 0.06 * fractal(rng, size, 2, 2)[..., None]
    image = finish(rng, image, rng.uniform(0.2, 0.9) * size / 64, rng.uniform(0.01, 0.04))
    return image, mask.astype(np.uint8)


def _stroma(rng: Rng, size: int, eosin: np.ndarray, nuclei: np.ndarray) -> np.ndarray:
    """Pink background, pale and dense areas, fibres, and scattered nuclei."""
    image = plain(size, eosin)
    paint(image, (0.96, 0.92, 0.95), np.clip(rng.uniform(0.1, 0.6) * fractal(rng, size, 4), 0, 0.8))
    paint(
        image,
        eosin * 0.75,
        rng.uniform(0.1, 0.45) * lines(rng, size, int(rng.integers(6, 24)), 0.012, bend=0.5),
    )
    crowd = np.clip(0.4 + 0.5 * fractal(rng, size, 3, 2), 0, 1)
    paint(image, nuclei, 0.8 * crowd * specks(rng, size, int(rng.integers(40, 320)), (0.006, 0.016)))
    return image


def _lookalike(rng: Rng, image: np.ndarray, outline: np.ndarray, grain: np.ndarray, look: Look) -> None:
    """Something round that is not a gland: a fat cell or tear, a vessel, a cluster of lymphocytes."""
    body, rim = inside(outline, 0.15), np.exp(-(((outline - 0.95) / 0.12) ** 2))
    kind = rng.integers(3)
    if kind == 0:
        paint(image, (0.97, 0.95, 0.97), 0.95 * body)
        paint(image, look.nuclei, 0.5 * rng.random() * rim)
    elif kind == 1:
        paint(image, look.eosin * rng.uniform(0.65, 0.9), 0.9 * body)
        paint(image, look.nuclei, 0.7 * rim * grain * body)
        paint(image, (0.95, 0.93, 0.95), 0.9 * inside(outline / 0.6, 0.3))
        paint(image, hsv(rng.uniform(340, 360), 0.65, 0.8), inside(outline / 0.6, 0.3) * grain * rng.random())
    else:
        paint(image, look.nuclei, rng.uniform(0.5, 0.9) * inside(outline, 0.6) * grain)


def _places(rng: Rng, spacing: float) -> list[tuple[float, float]]:
    """Centres on a turned, jittered triangular lattice with holes; parts of some images stay empty."""
    turn, keep = rng.uniform(0, np.pi), rng.uniform(0.45, 1.0)
    border, side = rng.uniform(0.3, 1.6), rng.uniform(0, 2 * np.pi)  # glands end at a line in some images
    places = []
    reach = int(1 / spacing) + 2
    for row in range(-reach, reach + 1):
        for column in range(-reach, reach + 1):
            u, v = (column + 0.5 * (row % 2)) * spacing, row * spacing * 0.87
            x = 0.5 + u * np.cos(turn) - v * np.sin(turn) + rng.normal(0, 0.1 * spacing)
            y = 0.5 + u * np.sin(turn) + v * np.cos(turn) + rng.normal(0, 0.1 * spacing)
            behind = (x - 0.5) * np.cos(side) + (y - 0.5) * np.sin(side) > border - 0.5
            near = -spacing / 2 < x < 1 + spacing / 2 and -spacing / 2 < y < 1 + spacing / 2
            if near and not behind and rng.random() < keep:
                places.append((float(x), float(y)))
    return places


def _gland(rng: Rng, image: np.ndarray, outline: np.ndarray, grain: np.ndarray, look: Look) -> None:
    """Paints epithelium with nuclei at its base around a pale lumen; the arrays are the gland's window."""
    body = inside(outline, 0.12)
    cleft = inside(outline / 1.18, 0.15) * (1 - body)
    paint(image, (0.97, 0.94, 0.97), cleft * rng.uniform(0, 0.7))
    pale = np.array([0.88, 0.8, 0.93], np.float32)
    paint(image, (look.eosin * 0.6 + look.nuclei * 0.3) * (1 - look.mucus) + pale * look.mucus, body)
    if rng.random() > look.solid:
        paint(image, (0.97, 0.95, 0.98), 0.85 * inside(outline / look.lumen, 0.3))
    ring = np.exp(-(((outline - 0.95 + look.ring) / look.ring) ** 2))
    paint(image, look.nuclei, look.dark * ring * body * (0.25 + 0.7 * grain))
