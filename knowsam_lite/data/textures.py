"""Building blocks of the synthetic images: noise, blobs, light, and the last step to uint8.

Pictures are float32 (S, S, 3) in [0, 1], fields float32 (S, S); positions, lengths: fractions of the side.
"""

from functools import lru_cache

import cv2
import numpy as np

Rng = np.random.Generator
Point = tuple[float, float]
EVERYWHERE = (slice(None), slice(None))


@lru_cache(maxsize=8)
def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixel centres in [0, 1], both (S, S)."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = np.meshgrid(axis, axis)
    return x, y


def smooth_noise(rng: Rng, size: int, cells: tuple[float, float] | float) -> np.ndarray:
    """Noise with about `cells` (across, down) bumps per side, standard deviation about 1."""
    across, down = (cells, cells) if isinstance(cells, int | float) else cells
    shape = (max(2, round(down)) + 1, max(2, round(across)) + 1)
    coarse = rng.standard_normal(shape, dtype=np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) * 1.3


def fractal(rng: Rng, size: int, cells: float = 3.0, octaves: int = 4, gain: float = 0.6) -> np.ndarray:
    """Noise at several scales, each twice as fine and `gain` times as strong; standard deviation about 1."""
    field = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        if cells * 2**octave > size:
            break
        field += gain**octave * smooth_noise(rng, size, cells * 2**octave)
    return field / max(1e-6, float(field.std()))


def blob(
    rng: Rng,
    size: int,
    center: Point,
    radius: float,
    aspect: float = 1.0,
    rough: float = 0.12,
    window: tuple[slice, slice] = EVERYWHERE,
) -> np.ndarray:
    """A star-shaped outline as a field: 0 at the centre, 1 on the outline, growing outwards.

    `aspect` is length by width of the rotated ellipse; `rough` the strength of its random undulation; only
    the pixels in `window` (rows, columns) are computed.
    """
    x, y = (axis[window] for axis in grid(size))
    turn = rng.uniform(0, np.pi)
    dx, dy = x - center[0], y - center[1]
    u = (dx * np.cos(turn) + dy * np.sin(turn)) / np.float32(radius * np.sqrt(aspect))
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / np.float32(radius / np.sqrt(aspect))
    distance = np.hypot(u, v)
    direction = (u + 1j * v) / np.maximum(distance, 1e-6)  # exp(i angle): its powers are faster than cosines
    outline, wave = np.ones_like(distance), direction
    for waves in range(2, 7):
        wave = wave * direction
        phase = np.exp(1j * rng.uniform(0, 2 * np.pi))
        outline += (np.complex64(rough * rng.normal() / waves * phase) * wave).real
    return distance / np.maximum(outline, 0.35)


def window_around(size: int, center: Point, reach: float) -> tuple[slice, slice]:
    """Rows and columns within `reach` of `center` (x, y), cut to the picture; at least one pixel."""
    spans = []
    for middle in (center[1], center[0]):
        low = int(np.clip((middle - reach) * size, 0, size - 1))
        spans.append(slice(low, max(low + 1, int(np.clip((middle + reach) * size + 1, 0, size)))))
    return spans[0], spans[1]


def inside(field: np.ndarray, edge: float) -> np.ndarray:
    """How far each pixel is inside a blob: 1 inside, 0 outside, a ramp of `edge` blob radii between."""
    return np.clip((1 - field) / edge + 0.5, 0, 1)


def paint(image: np.ndarray, color: np.ndarray | tuple[float, float, float], weight: np.ndarray) -> None:
    """Blend `color`, one or (S, S, 3), into `image` in place where `weight` (S, S) is above 0."""
    image += weight[..., None].astype(np.float32) * (np.asarray(color, np.float32) - image)


def lines(
    rng: Rng, size: int, count: int, width: float, bend: float = 0.25, length: float = 1.2
) -> np.ndarray:
    """Curved strokes (hairs, vessels, fibres) as a weight in [0, 1]; `width`, `length`: parts of the side."""
    scale = 4  # drawn larger, for antialiasing
    canvas = np.zeros((size * scale, size * scale), np.uint8)
    for _ in range(count):
        start, angle = rng.uniform(-0.1, 1.1, 2), rng.uniform(0, 2 * np.pi)
        t = np.linspace(-0.5, 0.5, 16)[:, None] * length * rng.uniform(0.5, 1)
        along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        path = start + t * along + bend * rng.normal() * t**2 * across * 2
        thickness = max(1, round(width * rng.uniform(0.6, 1.4) * size * scale))
        points = np.round(path * size * scale).astype(np.int32)
        cv2.polylines(canvas, [points[:, None]], False, 255, thickness)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def specks(rng: Rng, size: int, count: int, radius: tuple[float, float]) -> np.ndarray:
    """Small filled ellipses (highlights, nuclei) as a weight in [0, 1]; `radius` bounds their half axes."""
    scale = 4
    canvas = np.zeros((size * scale, size * scale), np.uint8)
    places = rng.integers(0, size * scale, (count, 2)).tolist()
    axes = np.maximum(1, np.round(rng.uniform(*radius, (count, 2)) * size * scale)).astype(int).tolist()
    for place, axis, turn in zip(places, axes, rng.uniform(0, 180, count).tolist(), strict=True):
        cv2.ellipse(canvas, place, axis, turn, 0, 360, 255, -1)
    return cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def grains(rng: Rng, size: int, cells: float, share: float) -> np.ndarray:
    """Dense grains, about `cells` per side, covering about `share` of the area: a weight in [0, 1]."""
    return np.clip(smooth_noise(rng, size, min(cells, size / 2)) * 2 + 4 * (share - 0.5), 0, 1)


def plain(size: int, color: np.ndarray) -> np.ndarray:
    """A picture (S, S, 3) of one colour."""
    return np.full((size, size, 3), color, np.float32)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """A colour (3,) from hue in degrees, saturation and value in [0, 1]."""
    wheel = (np.array([5, 3, 1]) + hue / 60) % 6
    clipped = np.clip(np.minimum(wheel, 4 - wheel), 0, 1)
    return (value * (1 - saturation * clipped)).astype(np.float32)


def finish(rng: Rng, image: np.ndarray, blur: float, noise: float) -> np.ndarray:
    """Camera effects: blur (sigma in pixels), noise (standard deviation), rounding to uint8 (S, S, 3)."""
    if blur > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), blur)
    image = image + noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.clip(np.round(image * 255), 0, 255).astype(np.uint8)
