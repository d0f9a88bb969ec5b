"""Exercise 15.4, a resize as a matrix."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.predict.export import resampling

Matrix = Callable[[int, int], Tensor]
SHRINK = ((6, 3), (5, 2), (50, 32), (33, 8))  # (length, size)
GROW = ((2, 4), (3, 7), (20, 32), (1, 3))
SAME = (4, 4)


def _probe(f: Matrix) -> list[Tensor]:
    return [f(*case) for case in (*SHRINK, *GROW, SAME)]


def _value(f: Matrix, *cases: tuple[int, int]) -> bool:
    return same([f(*case) for case in cases], [resampling(*case) for case in cases])


def _area(length: int, size: int) -> Tensor:
    step = length / size
    i, j = torch.arange(size).float()[:, None], torch.arange(length).float()[None]
    return (torch.minimum(j + 1, (i + 1) * step) - torch.maximum(j, i * step)).clamp(min=0) / step


def _bilinear(
    length: int, size: int, clamp: bool = True, half: float = 0.5, last: int | None = None
) -> Tensor:
    center = (torch.arange(size).float()[:, None] + half) * (length / size) - half
    center = center.clamp(0, length - 1 if last is None else last) if clamp else center
    return (1 - (torch.arange(length).float()[None] - center).abs()).clamp(min=0)


def _either(shrink: Matrix = _area, grow: Matrix = _bilinear) -> Matrix:
    """The matrix, built from parts; each mistake replaces one."""
    return lambda length, size: (shrink if length > size else grow)(length, size)


def _nearest(length: int, size: int) -> Tensor:
    taken = ((torch.arange(size) + 0.5) * (length / size)).long()
    return torch.nn.functional.one_hot(taken, length).float()


def _corners(length: int, size: int) -> Tensor:
    center = torch.linspace(0, length - 1, size)[:, None]
    return (1 - (torch.arange(length).float()[None] - center).abs()).clamp(min=0)


def _open(length: int, size: int) -> Tensor:
    step = length / size
    i, j = torch.arange(size).float()[:, None], torch.arange(length).float()[None]
    return (torch.minimum(j + 1, (i + 1) * step) - torch.maximum(j, i * step)) / step


def _centers(center: Callable[[Tensor, float], Tensor], weight: Callable[[Tensor], Tensor]) -> Matrix:
    def grow(length: int, size: int) -> Tensor:
        c = center(torch.arange(size).float()[:, None], length / size).clamp(0, length - 1)
        return weight((torch.arange(length).float()[None] - c).abs())

    return grow


def _stepped(length: int, size: int) -> Tensor:
    s = size / length
    i, j = torch.arange(size).float()[:, None], torch.arange(length).float()[None]
    if length > size:
        return (torch.minimum(j + 1, (i + 1) * s) - torch.maximum(j, i * s)).clamp(min=0) / s
    return (1 - (j - ((i + 0.5) * s - 0.5).clamp(0, length - 1)).abs()).clamp(min=0)


RESIZE = Exercise(
    "15.4",
    "a resize as a matrix",
    _probe,
    (
        Property(
            "interface",
            "resampling(length, size) returns a tensor",
            lambda f: takes(f, 2) and isinstance(f(5, 2), Tensor),
        ),
        Property("shape", "(size, length)", lambda f: f(5, 2).shape == (2, 5) and f(2, 4).shape == (4, 2)),
        Property("dtype", "float32", lambda f: f(5, 2).dtype == torch.float32),
        Property(
            "rows",
            "each row sums to 1: an even picture stays even",
            lambda f: same(
                [f(*c).sum(dim=1) for c in SHRINK + GROW], [torch.ones(size) for _, size in SHRINK + GROW]
            ),
        ),
        Property(
            "shrink",
            "area averages: each pixel by the length of it that lies inside",
            lambda f: _value(f, *SHRINK),
        ),
        Property("grow", "bilinear between the two nearest middles", lambda f: _value(f, *GROW)),
        Property("same", "the identity if nothing changes", lambda f: same(f(*SAME), torch.eye(4))),
    ),
    (
        Mistake(
            "nearest",
            "every new pixel copies one old pixel; all others are lost.",
            "the equation: a shrunken pixel is an average over all that it covers.",
            _nearest,
        ),
        Mistake(
            "always bilinear",
            "a shrunken pixel looks at two old pixels only, and skips those between.",
            "hint 2: area averages where the length shrinks.",
            _either(shrink=_bilinear),
        ),
        Mistake(
            "always by area",
            "a grown pixel copies the old pixel that it lies in: the picture gets steps.",
            "hint 3: between the two nearest middles where the length grows.",
            _either(grow=_area),
        ),
        Mistake(
            "not divided",
            "the overlaps were not divided by the length of a new pixel, so the picture gets brighter.",
            "hint 2: divide by the step.",
            _either(shrink=lambda length, size: _area(length, size) * (length / size)),
        ),
        Mistake(
            "ends meet ends",
            "the first and last middles were laid on each other; it is the pixels' edges that meet.",
            "hint 3: add half a pixel, scale, take half a pixel away.",
            _either(grow=_corners),
        ),
        Mistake(
            "half a pixel off",
            "the middles of the pixels were taken for their left edges, so the picture moves.",
            "hint 3: add half a pixel, scale, take half a pixel away.",
            _either(grow=lambda length, size: _bilinear(length, size, half=0.0)),
        ),
        Mistake(
            "dark edges",
            "a middle beyond the outermost one was kept there; the weight of its missing neighbour is lost.",
            "hint 3: clamp the places.",
            _either(grow=lambda length, size: _bilinear(length, size, clamp=False)),
        ),
        Mistake(
            "lying",
            "the matrix is turned: it has a row for each old pixel.",
            "the text: (size, length).",
            lambda length, size: resampling(length, size).T,
        ),
        Mistake(
            "shrink and grow exchanged",
            "it averages where the picture grows and interpolates where it shrinks.",
            "hint 4: it shrinks if length > size.",
            lambda length, size: (_bilinear if length > size else _area)(length, size),
        ),
        Mistake(
            "half a pixel twice",
            "half a pixel was added twice: the last ½ is taken away.",
            "hint 3: (i + ½) s - ½.",
            _either(grow=_centers(lambda i, s: (i + 0.5) * s + 0.5, lambda d: (1 - d).clamp(min=0))),
        ),
        Mistake(
            "weights below 0",
            "old pixels that are farther than 1 away got negative weights.",
            "hint 3: not below 0.",
            _either(grow=_centers(lambda i, s: (i + 0.5) * s - 0.5, lambda d: 1 - d)),
        ),
        Mistake(
            "overlaps below 0",
            "stretches that do not meet got a negative overlap.",
            "hint 2: not below 0.",
            _either(shrink=_open),
        ),
        Mistake(
            "the step upside down",
            "the step is length / size; you divided size by length.",
            "the text: the step s = length / size.",
            _stepped,
        ),
        Mistake(
            "clamped one too far",
            "places were clamped to the length; the last old pixel has number length - 1.",
            "hint 3: clamped to 0 and length - 1.",
            _either(grow=lambda length, size: _bilinear(length, size, last=length)),
        ),
    ),
    resampling,
)
