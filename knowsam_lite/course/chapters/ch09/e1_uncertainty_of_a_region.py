"""Exercise 09.1, uncertainty of a region."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.errors import UserError
from knowsam_lite.mixing import uncertainty_map
from knowsam_lite.uncertainty import entropy_map

Boards = Callable[..., Tensor]
SIZES = ((2, 8, 16, 4), (3, 24, 12, 4), (2, 6, 18, 3), (2, 5, 6, 1))  # classes, height, width, grid


def _board_probe(f: Boards) -> list[Tensor]:
    boards = [f(noise(2, 3, 8, 16)), *(f(noise(2, c, h, w, seed=c), g) for c, h, w, g in SIZES)]
    return [*boards, torch.tensor([float(how) for how in _refusals(f)])]


def _board_value(f: Boards) -> bool:
    return all(
        same(f(noise(2, c, h, w, seed=h), g), uncertainty_map(noise(2, c, h, w, seed=h), g))
        for c, h, w, g in SIZES
    )


def _board_ends(f: Boards) -> bool:
    """One cell completely uncertain, all others certain."""
    z = torch.zeros(1, 3, 8, 16)
    z[:, 1] = 60.0
    z[:, :, 6:, 4:8] = 0
    expected = torch.zeros(1, 4, 4)
    expected[0, 3, 1] = 1
    return same(f(z), expected)


def _refusals(f: Boards) -> list[int]:
    """For two images that the grid does not divide: 0 refused, 1 taken, 2 another exception."""
    found = []
    for height, width in ((8, 10), (10, 8)):
        try:
            f(noise(1, 2, height, width), 4)
            found.append(1)
        except UserError:
            found.append(0)
        except Exception:
            found.append(2)
    return found


def _refuses(f: Boards) -> bool:
    return _refusals(f) == [0, 0]


def _another_error(z: Tensor, grid: int = 4) -> Tensor:
    if z.shape[-2] % grid or z.shape[-1] % grid:
        raise ValueError
    return uncertainty_map(z, grid)


def _height_alone(z: Tensor, grid: int = 4) -> Tensor:
    if z.shape[-2] % grid:
        raise UserError("the grid does not divide the height")
    return F.adaptive_avg_pool2d(entropy_map(z).unsqueeze(1), grid).squeeze(1)


def _board_mosaic(f: Boards) -> bool:
    """Swapping the halves of the image swaps the halves of the board."""
    z = noise(2, 3, 8, 16)
    return same(f(z.roll(8, dims=3)), f(z).roll(2, dims=2))


def _pooled(h: Tensor, grid: int, pool: Callable[..., Tensor] = F.avg_pool2d) -> Tensor:
    height, width = h.shape[-2:]
    return pool(h.unsqueeze(1), (height // grid, width // grid)).squeeze(1)


def _refusing(f: Boards) -> Boards:
    """The same, but it refuses what the grid does not divide, as the right answer does."""

    def board(z: Tensor, grid: int = 4) -> Tensor:
        if z.shape[-2] % grid or z.shape[-1] % grid:
            raise UserError("the grid does not divide the map")
        return f(z, grid)

    return board


def _late_entropy(z: Tensor, grid: int = 4) -> Tensor:
    return entropy_map(F.adaptive_avg_pool2d(z, grid))


def _confidence(z: Tensor, grid: int = 4) -> Tensor:
    return _pooled(z.softmax(dim=1).max(dim=1).values, grid)


def _kept_axis(z: Tensor, grid: int = 4) -> Tensor:
    return uncertainty_map(z, grid).unsqueeze(1)


BOARD = Exercise(
    "09.1",
    "uncertainty of each region",
    _board_probe,
    (
        Property(
            "interface",
            "uncertainty_map(z, grid) takes logits and a number, which is 4 if not given",
            lambda f: takes(f, 2) and same(f(noise(2, 2, 8, 16)), f(noise(2, 2, 8, 16), 4)),
        ),
        Property(
            "shape",
            "(N, C, H, W) -> (N, grid, grid), also where H and W differ",
            lambda f: all(f(noise(2, c, h, w), g).shape == (2, g, g) for c, h, w, g in SIZES),
        ),
        Property("dtype", "float32", lambda f: f(noise(1, 2, 8, 8).bfloat16()).dtype == torch.float32),
        Property("range", "a cell of equal logits gives 1, a cell of sure pixels gives 0", _board_ends),
        Property("value", "the mean entropy of each cell, for several sizes and grids", _board_value),
        Property("error", "a UserError where the grid does not divide H or W", _refuses),
        Property("invariance", "halves of the image that change places do so on the board", _board_mosaic),
    ),
    (
        Mistake(
            "the number of cells as their size",
            "the grid was used as the size of a cell: you made cells of 4 x 4 pixels instead of 4 x 4 cells.",
            "hint 2: a cell is H / grid pixels high and W / grid pixels wide.",
            _refusing(lambda z, grid=4: F.avg_pool2d(entropy_map(z).unsqueeze(1), grid).squeeze(1)),
        ),
        Mistake(
            "the largest pixel",
            "each cell has the entropy of its worst pixel; the mean over the cell is wanted.",
            "hint 2: avg_pool2d, not max_pool2d.",
            _refusing(lambda z, grid=4: _pooled(entropy_map(z), grid, F.max_pool2d)),
        ),
        Mistake(
            "sum over the cell",
            "the entropies of a cell were added up, so a cell of larger images looks less certain.",
            "hint 2: the mean over the cell.",
            lambda z, grid=4: uncertainty_map(z, grid) * (z.shape[-2] * z.shape[-1] / grid**2),
        ),
        Mistake(
            "entropy of the mean",
            "the logits of a cell were averaged before the entropy; averages of sure pixels look unsure.",
            "hint 1: first the entropy of each pixel, then the mean.",
            _refusing(_late_entropy),
        ),
        Mistake(
            "confidence",
            "your map holds the probability of the winner, which is large where the network is sure.",
            "hint 1: the entropy of each pixel.",
            _refusing(_confidence),
        ),
        Mistake(
            "an axis too many",
            "the values are right, but the axis added for avg_pool2d is still there: (N, 1, grid, grid).",
            "hint 3: take the axis away again.",
            _kept_axis,
        ),
        Mistake(
            "any grid",
            "the values are right, but a grid that does not divide the image is not refused.",
            "hint 4: look at the two remainders first, and raise UserError.",
            lambda z, grid=4: F.adaptive_avg_pool2d(entropy_map(z).unsqueeze(1), grid).squeeze(1),
        ),
        Mistake(
            "another exception",
            "the board is right, and what does not divide is refused, but not with a UserError.",
            "hint 4: look at the two remainders first, and raise UserError.",
            _another_error,
        ),
        Mistake(
            "one side alone",
            "the height is looked at and the width is not: an image that the grid does not divide is taken.",
            "hint 4: look at the two remainders first, and raise UserError.",
            _height_alone,
        ),
        Mistake(
            "square cells",
            "each cell is as wide as it is high; an image that is wider than high has wider cells.",
            "hint 2: height // grid and width // grid.",
            _refusing(lambda z, grid=4: F.avg_pool2d(entropy_map(z), z.shape[-2] // grid)),
        ),
        Mistake(
            "height and width exchanged",
            "height and width of a cell are exchanged.",
            "hint 2: (height // grid, width // grid), in this order.",
            _refusing(
                lambda z, grid=4: F.avg_pool2d(entropy_map(z), (z.shape[-1] // grid, z.shape[-2] // grid))
            ),
        ),
        Mistake(
            "certainty",
            "your board holds 1 minus the entropy: large where the students are sure.",
            "the equation: the mean of h.",
            lambda z, grid=4: 1 - uncertainty_map(z, grid),
        ),
        Mistake(
            "not divided by log C",
            "the entropy is not divided by log C, so it does not end at 1.",
            "hint 1: entropy_map divides.",
            lambda z, grid=4: uncertainty_map(z, grid) * math.log(z.shape[1]),
        ),
        Mistake(
            "softmax before the entropy",
            "entropy_map takes logits; it was given probabilities, which are softened once more.",
            "hint 1: entropy_map(z).",
            lambda z, grid=4: uncertainty_map(z.softmax(dim=1), grid),
        ),
    ),
    uncertainty_map,
)
