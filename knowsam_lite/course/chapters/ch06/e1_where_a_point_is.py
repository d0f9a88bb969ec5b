"""Exercise 06.1, where a point is."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.sam.modeling import PositionEmbeddingRandom

Encode = Callable[[Tensor, int, Tensor], Tensor]


def _clicks() -> Tensor:
    """Four points, a fresh tensor each time: an answer may modify its input."""
    return torch.tensor([[0.0, 0.0], [5.0, 40.0], [40.0, 5.0], [63.0, 31.0]])


def _waves(d: int = 8, seed: int = 0) -> Tensor:
    return noise(2, d // 2, seed=seed, scale=1.0)


def _encode(points: Tensor, size: int, waves: Tensor) -> Tensor:
    """The oracle, from segment_anything."""
    layer = PositionEmbeddingRandom(waves.shape[1])
    layer.positional_encoding_gaussian_matrix = waves
    return layer.forward_with_coords(points[None] + 0.5, (size, size))[0]


def _by_hand(
    points: Tensor,
    size: int,
    waves: Tensor,
    half: float = 0.5,
    turns: float = 2 * math.pi,
    centred: bool = True,
) -> Tensor:
    u = (points + half) / size
    angle = turns * (2 * u - 1 if centred else u) @ waves
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def _encode_probe(f: Encode) -> list[Tensor]:
    given = _clicks()
    first = f(given, 64, _waves())
    return [first, f(_clicks()[:1], 128, _waves(16, 1)), *gradients(_for_waves(f), _waves()), given]


def _for_waves(f: Encode) -> Callable[[Tensor], Tensor]:
    return lambda waves: f(_clicks(), 64, waves)


def _encode_scale(f: Encode) -> bool:
    """A pixel's centre in a small image is a corner of four pixels in one twice as large."""
    return same(f(_clicks(), 64, _waves()), f(2 * _clicks() + 0.5, 128, _waves()))


def _encode_unharmed(f: Encode) -> bool:
    given = _clicks()
    f(given, 64, _waves())
    return same(given, _clicks())


def _woven(points: Tensor, size: int, waves: Tensor) -> Tensor:
    sines, cosines = _by_hand(points, size, waves).chunk(2, dim=-1)
    return torch.stack([sines, cosines], dim=-1).flatten(1)


def _moves_points(points: Tensor, size: int, waves: Tensor) -> Tensor:
    code = _by_hand(points, size, waves)
    points += 0.5
    return code


POINT = Exercise(
    "06.1",
    "where a point is",
    _encode_probe,
    (
        Property(
            "interface",
            "encode_points(points, size, waves) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(_clicks(), 64, _waves()), Tensor),
        ),
        Property("shape", "(P, 2) -> (P, D)", lambda f: f(_clicks(), 64, _waves(12)).shape == (4, 12)),
        Property("range", "between -1 and 1", lambda f: bool(f(_clicks(), 64, _waves()).abs().max() <= 1)),
        Property(
            "value",
            "the sines, then the cosines, of 2 pi u G, at 64 and at 96 pixels",
            lambda f: all(
                same(f(_clicks(), s, _waves(16, s)), _encode(_clicks(), s, _waves(16, s))) for s in (64, 96)
            ),
        ),
        Property("invariance", "the same place in a larger image gets the same code", _encode_scale),
        Property("unharmed", "the points that were given stay as they are", _encode_unharmed),
    ),
    (
        Mistake(
            "corner of the pixel",
            "you encoded the corner of each pixel, not its middle.",
            "hint 1: one half is added before the division.",
            lambda points, size, waves: _by_hand(points, size, waves, half=0.0),
        ),
        Mistake(
            "not centred",
            "your places run from 0 to 1; SAM's run from -1 to 1.",
            "hint 1: times two, minus one.",
            lambda points, size, waves: _by_hand(points, size, waves, centred=False),
        ),
        Mistake(
            "places from 0 to 1, by their corners",
            "two things: your places run from 0 to 1 and not from -1 to 1, and they are the pixels' corners.",
            "hint 1: one half is added, and after the division times two, minus one.",
            lambda points, size, waves: _by_hand(points, size, waves, half=0.0, centred=False),
        ),
        Mistake(
            "no full turn",
            "the factor 2 pi is missing, so every wave is about six times too long.",
            "hint 2: the angle is 2 pi times u G.",
            lambda points, size, waves: _by_hand(points, size, waves, turns=1.0),
        ),
        Mistake(
            "rows and columns exchanged",
            "x and y change places: the first number is the column.",
            "hint 2: points come as (x, y) and the rows of G expect them so.",
            lambda points, size, waves: _encode(points.flip(-1), size, waves),
        ),
        Mistake(
            "cosine first",
            "the halves are exchanged: SAM's weights expect the sines first.",
            "hint 3: sin, then cos.",
            lambda points, size, waves: _encode(points, size, waves).roll(waves.shape[1], dims=-1),
        ),
        Mistake(
            "pixels, not shares",
            "the places were not divided by the size of the image.",
            "hint 1: divide by size, so that the image runs from 0 to 1.",
            lambda points, size, waves: _encode(points, 1, waves),
        ),
        Mistake(
            "half a turn",
            "the angle has the factor pi; a whole turn is 2 pi.",
            "hint 2: the angle is 2 pi times u G.",
            lambda points, size, waves: _by_hand(points, size, waves, turns=math.pi),
        ),
        Mistake(
            "divided by the last pixel's number",
            "you divided by size - 1; pixels have an extent, and the square ends at the last one's far edge.",
            "hint 1: (points + 0.5) / size.",
            lambda points, size, waves: _by_hand(points, size - 1, waves, half=0.0),
        ),
        Mistake(
            "the middle of each pixel, divided by size - 1",
            "you added one half and then divided by size - 1; the square is as wide as all pixels.",
            "hint 1: (points + 0.5) / size.",
            lambda points, size, waves: _by_hand(points, size - 1, waves),
        ),
        Mistake(
            "sines and cosines by turns",
            "sine and cosine of each wave stand side by side; all sines come first.",
            "hint 3: torch.cat joins the two halves.",
            _woven,
        ),
        Mistake(
            "stacked below each other",
            "the codes of all points are (2 P, D/2): they were joined along the wrong axis.",
            "hint 3: dim=-1.",
            lambda points, size, waves: torch.cat(_by_hand(points, size, waves).chunk(2, dim=-1), dim=0),
        ),
        Mistake(
            "points changed in place",
            "the codes are right, but the points that you were given have moved.",
            "hint 1: points + 0.5 makes a new tensor, points += 0.5 does not.",
            _moves_points,
        ),
    ),
    _encode,
)
