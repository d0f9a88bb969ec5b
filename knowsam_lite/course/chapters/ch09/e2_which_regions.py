"""Exercise 09.2, which regions."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.mixing import choose_regions

Choice = Callable[..., Tensor]
CHOICES: tuple[tuple[int, Literal["uncertain", "certain"]], ...] = (
    (1, "uncertain"),
    (3, "certain"),
    (5, "uncertain"),
    (7, "certain"),
    (16, "uncertain"),
)


def _cells(seed: int = 0, grid: int = 4) -> Tensor:
    """Three boards at different levels, so that the extremes over all boards lie in one of them."""
    return noise(3, grid, grid, seed=seed).sigmoid() / 3 + torch.arange(3).view(3, 1, 1) / 3


def _choice_probe(f: Choice) -> list[Tensor]:
    tie = torch.full((2, 4, 4), 0.5)
    made = [f(_cells(1)), *(f(_cells(2), count, most) for count, most in CHOICES)]
    return [*made, f(_cells(3, 6), 4), f(tie, 3).flatten(1).sum(dim=1)]  # for a tie only the count is fixed


def _choice_value(f: Choice) -> bool:
    return all(
        same(f(_cells(4, grid), count, most), choose_regions(_cells(4, grid), count, most))
        for grid in (4, 6)
        for count, most in CHOICES
    )


def _choice_count(f: Choice) -> bool:
    boards = (_cells(5), torch.full((3, 4, 4), 0.5), torch.eye(4).expand(3, 4, 4))
    return all(f(u, n, most).sum(dim=(1, 2)).tolist() == [n] * 3 for u in boards for n, most in CHOICES)


def _choice_opposites(f: Choice) -> bool:
    """The 5 most certain and the 11 most uncertain cells make up the whole board."""
    return same(f(_cells(6), 5, "certain"), f(_cells(6), 11, "uncertain").logical_not())


def _over_all(u: Tensor, count: int = 5, most: Any = "uncertain") -> Tensor:
    return choose_regions(u.reshape(1, -1, u.shape[-1]), count * len(u), most).view_as(u)


def _at_least(u: Tensor, count: int = 5, most: str = "uncertain") -> Tensor:
    sign = 1 if most == "uncertain" else -1
    ordered = (sign * u).flatten(1).sort(dim=1, descending=True).values
    return sign * u >= ordered[:, count - 1].view(-1, 1, 1)


def _each_row(u: Tensor, count: int = 5, most: str = "uncertain") -> Tensor:
    best = u.topk(min(count, u.shape[-1]), dim=-1, largest=most == "uncertain").indices
    return torch.zeros_like(u, dtype=torch.bool).scatter(-1, best, True)


def _numbers(u: Tensor, count: int = 5, most: str = "uncertain") -> Tensor:
    return u.flatten(1).topk(count, dim=1, largest=most == "uncertain").indices


def _all_but(u: Tensor, count: int = 5, most: str = "uncertain") -> Tensor:
    chosen = choose_regions(u, count)
    return chosen if most == "uncertain" else ~chosen


CHOOSE = Exercise(
    "09.2",
    "which regions",
    _choice_probe,
    (
        Property(
            "interface",
            'choose_regions(u, count, most), which are 5 and "uncertain" if not given',
            lambda f: takes(f, 3) and same(f(_cells()), f(_cells(), 5, "uncertain")),
        ),
        Property(
            "shape",
            "(N, grid, grid) -> (N, grid, grid)",
            lambda f: all(f(_cells(0, g)).shape == (3, g, g) for g in (4, 6)),
        ),
        Property("dtype", "bool", lambda f: f(_cells()).dtype == torch.bool),
        Property("count", "exactly `count` cells in each board, even where all are equal", _choice_count),
        Property("value", "the cells of largest u, or of smallest, for several counts", _choice_value),
        Property(
            "invariance", "the most certain cells are those that the uncertain ones leave", _choice_opposites
        ),
    ),
    (
        Mistake(
            "the other end",
            "uncertain and certain are exchanged: large entropy means uncertain.",
            'hint 2: the largest values where `most` is "uncertain".',
            lambda u, count=5, most="uncertain": choose_regions(
                u, count, "certain" if most == "uncertain" else "uncertain"
            ),
        ),
        Mistake(
            "most is not used",
            "your choice is the most uncertain cells, whatever `most` says.",
            "hint 2: `largest` is true for one of the two words only.",
            lambda u, count=5, most="uncertain": choose_regions(u, count),
        ),
        Mistake(
            "always the most certain",
            "your choice is the most certain cells, whatever `most` says.",
            "hint 2: `largest` is true for one of the two words only.",
            lambda u, count=5, most="uncertain": choose_regions(u, count, "certain"),
        ),
        Mistake(
            "all boards together",
            "the cells of all images were ranked together, so some images get many and others none.",
            "hint 1: flatten from axis 1 on, so that each image keeps its own row.",
            _over_all,
        ),
        Mistake(
            "a threshold",
            "you compare with the last chosen value, so equal cells are all chosen: too many.",
            "hint 3: mark the places that topk gives, not the values.",
            _at_least,
        ),
        Mistake(
            "the best of each row",
            "topk ran along one row of the board; it has to see all cells of the board.",
            "hint 1: flatten the board first.",
            _each_row,
        ),
        Mistake(
            "numbers in place of marks",
            "you return the numbers of the cells; a board of True and False is wanted.",
            "hint 3: scatter writes True at these numbers.",
            _numbers,
        ),
        Mistake(
            "left as numbers",
            "the right cells are marked, but with 1 and 0 instead of True and False.",
            "hint 3: the empty board has the type torch.bool.",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).float(),
        ),
        Mistake(
            "left as integers",
            "the right cells are marked, but with the integers 1 and 0 instead of True and False.",
            "hint 3: the empty board has the type torch.bool.",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).long(),
        ),
        Mistake(
            "a row in place of a board",
            "the right cells are marked, but in one row for each image; boards of the shape of u are wanted.",
            "hint 3: .view_as(u).",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).flatten(1),
        ),
        Mistake(
            "one cell too many",
            "each board has count + 1 cells marked.",
            "hint 1: topk(count, dim=1).",
            lambda u, count=5, most="uncertain": choose_regions(u, count + 1, most),
        ),
        Mistake(
            "all the others",
            "for 'certain' you take all cells but the most uncertain ones; exactly `count` are wanted.",
            "hint 2: topk with largest=False.",
            _all_but,
        ),
        Mistake(
            "always five",
            "five cells are marked whatever `count` says.",
            "hint 1: topk(count, dim=1).",
            lambda u, count=5, most="uncertain": choose_regions(u, 5, most),
        ),
        Mistake(
            "a fixed threshold",
            "cells above or below one half are marked, so their number changes from image to image.",
            "hint 1: topk(count, dim=1).",
            lambda u, count=5, most="uncertain": u > 0.5 if most == "uncertain" else u < 0.5,
        ),
        Mistake(
            "board turned",
            "rows and columns of the board are exchanged.",
            "hint 3: .view_as(u).",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).mT,
        ),
    ),
    choose_regions,
)
