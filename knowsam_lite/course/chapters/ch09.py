"""Chapter 09, UGDA: properties, catalogued mistakes, and the quiz's key."""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.errors import UserError
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.knowsam import KnowSam
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.mixing import Mixed, choose_regions, mix, uncertainty_map
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.students import StudentOutput
from knowsam_lite.uncertainty import entropy_map

# ---------------------------------------------------------------- 09.1 uncertainty of a region

Boards = Callable[..., Tensor]
SIZES = ((2, 8, 16, 4), (3, 24, 12, 4), (2, 6, 18, 3), (2, 5, 6, 1))  # classes, height, width, grid


def _board_probe(f: Boards) -> list[Tensor]:
    return [f(noise(2, 3, 8, 16)), *(f(noise(2, c, h, w, seed=c), g) for c, h, w, g in SIZES)]


def _board_value(f: Boards) -> bool:
    return all(
        same(f(noise(2, c, h, w, seed=h), g), uncertainty_map(noise(2, c, h, w, seed=h), g))
        for c, h, w, g in SIZES
    )


def _board_ends(f: Boards) -> bool:
    """One cell of no idea, all others sure."""
    z = torch.zeros(1, 3, 8, 16)
    z[:, 1] = 60.0
    z[:, :, 6:, 4:8] = 0
    expected = torch.zeros(1, 4, 4)
    expected[0, 3, 1] = 1
    return same(f(z), expected)


def _refuses(f: Boards) -> bool:
    for height, width in ((8, 10), (10, 8)):
        try:
            f(noise(1, 2, height, width), 4)
        except UserError:
            continue
        return False
    return True


def _board_mosaic(f: Boards) -> bool:
    """Exchanging the halves of the image exchanges the halves of the board."""
    z = noise(2, 3, 8, 16)
    return same(f(z.roll(8, dims=3)), f(z).roll(2, dims=2))


def _pooled(h: Tensor, grid: int, pool: Callable[..., Tensor] = F.avg_pool2d) -> Tensor:
    height, width = h.shape[-2:]
    return pool(h.unsqueeze(1), (height // grid, width // grid)).squeeze(1)


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
            "hint 2 of exercise 09.1: a cell is H / grid pixels high and W / grid pixels wide.",
            lambda z, grid=4: F.avg_pool2d(entropy_map(z).unsqueeze(1), grid).squeeze(1),
        ),
        Mistake(
            "the largest pixel",
            "each cell has the entropy of its worst pixel; the mean over the cell is wanted.",
            "hint 2 of exercise 09.1: avg_pool2d, not max_pool2d.",
            lambda z, grid=4: _pooled(entropy_map(z), grid, F.max_pool2d),
        ),
        Mistake(
            "sum over the cell",
            "the entropies of a cell were added up, so a cell of larger images looks less certain.",
            "hint 2 of exercise 09.1: the mean over the cell.",
            lambda z, grid=4: uncertainty_map(z, grid) * (z.shape[-2] * z.shape[-1] / grid**2),
        ),
        Mistake(
            "entropy of the mean",
            "the logits of a cell were averaged before the entropy; averages of sure pixels look unsure.",
            "hint 1 of exercise 09.1: first the entropy of each pixel, then the mean.",
            _late_entropy,
        ),
        Mistake(
            "confidence",
            "your map holds the probability of the winner, which is large where the network is sure.",
            "hint 1 of exercise 09.1: the entropy of each pixel.",
            _confidence,
        ),
        Mistake(
            "an axis too many",
            "the values are right, but the axis added for avg_pool2d is still there: (N, 1, grid, grid).",
            "hint 3 of exercise 09.1: take the axis away again.",
            _kept_axis,
        ),
        Mistake(
            "any grid",
            "the values are right, but a grid that does not divide the image is not refused.",
            "hint 4 of exercise 09.1: look at the two remainders first, and raise UserError.",
            lambda z, grid=4: F.adaptive_avg_pool2d(entropy_map(z).unsqueeze(1), grid).squeeze(1),
        ),
        Mistake(
            "square cells",
            "each cell is as wide as it is high; an image that is wider than high has wider cells.",
            "hint 2 of exercise 09.1: height // grid and width // grid.",
            lambda z, grid=4: F.avg_pool2d(entropy_map(z), z.shape[-2] // grid),
        ),
        Mistake(
            "height and width exchanged",
            "height and width of a cell are exchanged.",
            "hint 2 of exercise 09.1: (height // grid, width // grid), in this order.",
            lambda z, grid=4: F.avg_pool2d(entropy_map(z), (z.shape[-1] // grid, z.shape[-2] // grid)),
        ),
        Mistake(
            "certainty",
            "your board holds 1 minus the entropy: large where the students are sure.",
            "the equation of exercise 09.1: the mean of h.",
            lambda z, grid=4: 1 - uncertainty_map(z, grid),
        ),
        Mistake(
            "not divided by log C",
            "the entropy is not divided by log C, so it does not end at 1.",
            "hint 1 of exercise 09.1: entropy_map divides.",
            lambda z, grid=4: uncertainty_map(z, grid) * math.log(z.shape[1]),
        ),
        Mistake(
            "softmax before the entropy",
            "entropy_map takes logits; it was given probabilities, which are softened once more.",
            "hint 1 of exercise 09.1: entropy_map(z).",
            lambda z, grid=4: uncertainty_map(z.softmax(dim=1), grid),
        ),
    ),
)


# ---------------------------------------------------------------- 09.2 which regions

Choice = Callable[..., Tensor]
CHOICES: tuple[tuple[int, Literal["uncertain", "certain"]], ...] = (
    (1, "uncertain"),
    (3, "certain"),
    (5, "uncertain"),
    (7, "certain"),
    (16, "uncertain"),
)


def _cells(seed: int = 0, grid: int = 4) -> Tensor:
    """Three boards whose levels differ, so that the extremes of all boards together lie in one of them."""
    return noise(3, grid, grid, seed=seed).sigmoid() / 3 + torch.arange(3).view(3, 1, 1) / 3


def _choice_probe(f: Choice) -> list[Tensor]:
    tie = torch.full((2, 4, 4), 0.5)
    made = [f(_cells(1)), *(f(_cells(2), count, most) for count, most in CHOICES)]
    return [*made, f(_cells(3, 6), 4), f(tie, 3).flatten(1).sum(dim=1)]  # of a tie only the count is sure


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
    """The 5 most certain and the 11 most uncertain cells are all of a board."""
    return same(f(_cells(6), 5, "certain"), ~f(_cells(6), 11, "uncertain"))


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
            'hint 2 of exercise 09.2: the largest values where `most` is "uncertain".',
            lambda u, count=5, most="uncertain": choose_regions(
                u, count, "certain" if most == "uncertain" else "uncertain"
            ),
        ),
        Mistake(
            "most is not used",
            "your choice is the most uncertain cells, whatever `most` says.",
            "hint 2 of exercise 09.2: `largest` is true for one of the two words only.",
            lambda u, count=5, most="uncertain": choose_regions(u, count),
        ),
        Mistake(
            "all boards together",
            "the cells of all images were ranked together, so some images get many and others none.",
            "hint 1 of exercise 09.2: flatten from axis 1 on, so that each image keeps its own row.",
            _over_all,
        ),
        Mistake(
            "a threshold",
            "you compare with the last chosen value, so equal cells are all chosen: too many.",
            "hint 3 of exercise 09.2: mark the places that topk gives, not the values.",
            _at_least,
        ),
        Mistake(
            "the best of each row",
            "topk ran along one row of the board; it has to see all cells of the board.",
            "hint 1 of exercise 09.2: flatten the board first.",
            _each_row,
        ),
        Mistake(
            "numbers in place of marks",
            "you return the numbers of the cells; a board of True and False is wanted.",
            "hint 3 of exercise 09.2: scatter writes True at these numbers.",
            _numbers,
        ),
        Mistake(
            "left as numbers",
            "the right cells are marked, but with 1 and 0 instead of True and False.",
            "hint 3 of exercise 09.2: the empty board has the type torch.bool.",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).float(),
        ),
        Mistake(
            "all the others",
            "for 'certain' you take all cells but the most uncertain ones; exactly `count` are wanted.",
            "hint 2 of exercise 09.2: topk with largest=False.",
            _all_but,
        ),
        Mistake(
            "always five",
            "five cells are marked whatever `count` says.",
            "hint 1 of exercise 09.2: topk(count, dim=1).",
            lambda u, count=5, most="uncertain": choose_regions(u, 5, most),
        ),
        Mistake(
            "a fixed threshold",
            "cells above or below one half are marked, so their number changes from image to image.",
            "hint 1 of exercise 09.2: topk(count, dim=1).",
            lambda u, count=5, most="uncertain": u > 0.5 if most == "uncertain" else u < 0.5,
        ),
        Mistake(
            "board turned",
            "rows and columns of the board are exchanged.",
            "hint 3 of exercise 09.2: .view_as(u).",
            lambda u, count=5, most="uncertain": choose_regions(u, count, most).mT,
        ),
    ),
)


# ---------------------------------------------------------------- 09.3 pseudo-labels

Labels = Callable[..., Tensor]
LEAST = (0.0, 0.4, 0.7, 0.95)
CERTAIN = torch.tensor([0.0, 200.0]).view(1, 2, 1, 1)  # a probability of exactly 1


def _pseudo(z: Tensor, least: float = 0.0) -> Tensor:
    p, y = z.float().softmax(dim=1).max(dim=1)
    return torch.where(p >= least, y, -1)


def _pseudo_probe(f: Labels) -> list[Tensor]:
    return [f(noise(2, c, 6, 5, seed=c), least) for c in (2, 4) for least in LEAST] + [
        f(noise(2, 3, 6, 5)),
        f(CERTAIN, 1.0),
    ]


def _pseudo_value(f: Labels) -> bool:
    return all(
        same(f(noise(2, c, 6, 5, seed=c + 9), t), _pseudo(noise(2, c, 6, 5, seed=c + 9), t))
        for c in (2, 3, 5)
        for t in LEAST
    )


def _pseudo_half(f: Labels) -> bool:
    """In half precision the logits are coarse, but their softmax must not be."""
    z = noise(4, 3, 16, 16, seed=2).bfloat16()
    least = _edge(z)
    return same(f(z, least), _pseudo(z, least))


def _edge(z: Tensor) -> float:
    """A probability between what float32 and what half precision make of one pixel."""
    fine, coarse = (t.softmax(dim=1).max(dim=1).values.float() for t in (z.float(), z))
    gap = (fine - coarse).abs().flatten().argmax()
    return float((fine.flatten()[gap] + coarse.flatten()[gap]) / 2)


def _pseudo_edge(f: Labels) -> bool:
    """A pixel that has just the threshold's probability keeps its label."""
    return bool((f(CERTAIN, 1.0) == 1).all())


def _pseudo_nested(f: Labels) -> bool:
    """A higher threshold leaves more pixels out and changes no other."""
    low, high = (f(noise(2, 3, 6, 5, seed=5), t) for t in (0.5, 0.9))
    return bool(((high == low) | (high == -1)).all()) and bool((high == -1).sum() > (low == -1).sum())


def _winner(z: Tensor) -> Tensor:
    return z.float().softmax(dim=1).amax(dim=1)


def _pseudo_over_width(z: Tensor, least: float = 0.0) -> Tensor:
    p, y = z.float().softmax(dim=-1).max(dim=1)
    return torch.where(p >= least, y, -1)


PSEUDO = Exercise(
    "09.3",
    "pseudo-labels, -1 where unsure",
    _pseudo_probe,
    (
        Property(
            "interface",
            "pseudo_labels(z, least) takes logits and a probability, which is 0 if not given",
            lambda f: takes(f, 2) and same(f(noise(2, 3, 6, 5)), f(noise(2, 3, 6, 5), 0.0)),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, H, W)", lambda f: f(noise(2, 3, 6, 5), 0.5).shape == (2, 6, 5)
        ),
        Property("dtype", "int64", lambda f: f(noise(2, 3, 6, 5), 0.5).dtype == torch.int64),
        Property(
            "range",
            "no pixel is left out at 0, all are above 1",
            lambda f: f(noise(2, 3, 6, 5)).min() >= 0 and bool((f(noise(2, 3, 6, 5), 1.1) == -1).all()),
        ),
        Property(
            "value", "the winner where it is sure enough, else -1, for 2, 3 and 5 classes", _pseudo_value
        ),
        Property("edge", "a probability of just `least` is enough", _pseudo_edge),
        Property("precision", "the softmax of half-precision logits is computed in float32", _pseudo_half),
        Property("invariance", "a higher threshold only takes labels away", _pseudo_nested),
    ),
    (
        Mistake(
            "unsure means background",
            "pixels below the threshold became class 0, so the students are taught that they are background.",
            "hint 3 of exercise 09.3: unknown is -1; 0 is a class.",
            lambda z, least=0.0: _pseudo(z, least).clamp(min=0),
        ),
        Mistake(
            "logits in place of probabilities",
            "the threshold is compared with the logits, which are no probabilities.",
            "hint 1 of exercise 09.3: softmax first.",
            lambda z, least=0.0: torch.where(z.amax(dim=1) >= least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "more than the threshold",
            "a pixel of just the threshold's probability lost its label; at least means that it keeps it.",
            "hint 2 of exercise 09.3: >= in place of >.",
            lambda z, least=0.0: torch.where(_winner(z) > least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "more than the threshold, else background",
            "two things: a pixel of just the threshold's probability is left out, and unsure became class 0.",
            "hints 2 and 3 of exercise 09.3: at least, and unknown is -1.",
            lambda z, least=0.0: torch.where(_winner(z) > least, z.argmax(dim=1), 0),
        ),
        Mistake(
            "the unsure ones are kept",
            "the comparison is reversed: sure pixels became unknown.",
            "hint 2 of exercise 09.3: keep where the probability is at least the threshold.",
            lambda z, least=0.0: torch.where(_pseudo(z, least) < 0, z.argmax(dim=1), -1),
        ),
        Mistake(
            "the wrong axis",
            "the winner was looked for along the width of the image.",
            "hint 1 of exercise 09.3: the classes lie on axis 1.",
            lambda z, least=0.0: _pseudo(z.movedim(-1, 1), least),
        ),
        Mistake(
            "the threshold is not used",
            "every pixel has a label, however unsure it is.",
            "hint 2 of exercise 09.3: the second argument decides who keeps a label.",
            lambda z, least=0.0: z.argmax(dim=1),
        ),
        Mistake(
            "real numbers",
            "the values are right, but labels have to be integers, or cross-entropy refuses them.",
            "hint 3 of exercise 09.3: torch.where of the winner and the number -1 stays int64.",
            lambda z, least=0.0: _pseudo(z, least).float(),
        ),
        Mistake(
            "softmax over the width",
            "the softmax runs along the last axis, the width; the classes lie on axis 1.",
            "hint 1 of exercise 09.3: softmax(dim=1).",
            _pseudo_over_width,
        ),
        Mistake(
            "a sigmoid for each class",
            "each class has a sigmoid of its own; the classes exclude each other.",
            "hint 1 of exercise 09.3: softmax over axis 1.",
            lambda z, least=0.0: torch.where(z.sigmoid().amax(dim=1) >= least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "one pixel decides for all",
            "a whole batch keeps or loses its labels together.",
            "hint 2 of exercise 09.3: each pixel for itself.",
            lambda z, least=0.0: (
                z.argmax(dim=1) if _winner(z).min() >= least else torch.full_like(z.argmax(dim=1), -1)
            ),
        ),
    ),
)


# ---------------------------------------------------------------- 09.4 two-way copy and paste

Mixing = Callable[..., Any]
HALVES = ((3, 3), (2, 5), (4, 1))  # labelled, unlabelled


def _halves(n_l: int, n_u: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Images, labels and chosen cells of both halves; every image and label carries its number."""
    generator = torch.Generator().manual_seed(seed)
    x_l, x_u = (noise(n, 3, 8, 12, seed=seed + n).sigmoid() for n in (n_l, n_u + 10))
    y_l = torch.arange(n_l).view(-1, 1, 1).expand(-1, 8, 12)
    y_u = 100 + torch.arange(n_u).view(-1, 1, 1).expand(-1, 8, 12)
    regions = torch.stack([torch.randperm(16, generator=generator) < 5 for _ in range(n_l + n_u)])
    regions = regions.view(-1, 4, 4)
    return x_l, y_l, x_u[:n_u], y_u, regions[:n_l], regions[n_l:]


def _mix_probe(f: Mixing) -> list[Tensor]:
    kept = torch.tensor(_mix_harmless(f))
    return [*(t for n_l, n_u in HALVES for t in f(*_halves(n_l, n_u, n_l))), kept]


def _mix_value(f: Mixing) -> bool:
    return all(same(f(*_halves(n_l, n_u, 7)), mix(*_halves(n_l, n_u, 7))) for n_l, n_u in HALVES)


def _mix_labels(f: Mixing) -> bool:
    """Pixels that are painted with their label still carry it."""
    for n_l, n_u in HALVES:
        _, y_l, _, y_u, *regions = _halves(n_l, n_u, 3)
        x_l, x_u = (y.unsqueeze(1).expand(-1, 3, -1, -1).float() for y in (y_l, y_u))
        x, y = f(x_l, y_l, x_u, y_u, *regions)
        if not same(x, y.unsqueeze(1).expand(-1, 3, -1, -1).float()):
            return False
    return True


def _mix_ends(f: Mixing) -> bool:
    """No cell chosen: nothing changes. All chosen: the images change places."""
    x_l, y_l, x_u, y_u, r_l, r_u = _halves(3, 3)
    nothing = f(x_l, y_l, x_u, y_u, torch.zeros_like(r_l), torch.zeros_like(r_u))
    all_ = f(x_l, y_l, x_u, y_u, torch.ones_like(r_l), torch.ones_like(r_u))
    return same(nothing, [torch.cat([x_l, x_u]), torch.cat([y_l, y_u])]) and same(
        all_, [torch.cat([x_u, x_l]), torch.cat([y_u, y_l])]
    )


def _mix_harmless(f: Mixing) -> bool:
    given = [t.clone() for t in _halves(3, 3)]
    f(*given)
    return same(given, _halves(3, 3))


def _images_only(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    return Mixed(mix(x_l, y_l, x_u, y_u, r_l, r_u).x, torch.cat([y_l, y_u]))


def _one_after_the_other(
    x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor
) -> Mixed:
    n = len(x_l)
    first = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    second = mix(first.x[:n], first.y[:n], x_u, y_u, r_l, r_u)
    return Mixed(torch.cat([first.x[:n], second.x[n:]]), torch.cat([first.y[:n], second.y[n:]]))


def _one_board(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    return mix(x_l, y_l, x_u, y_u, r_l, r_l[torch.arange(len(x_u)) % len(x_l)])


def _swapped_boards(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    to_u, to_l = torch.arange(len(x_l)) % len(x_u), torch.arange(len(x_u)) % len(x_l)
    return mix(x_l, y_l, x_u, y_u, r_u[to_u], r_l[to_l])


def _last_partner(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    """Where the partners run out, the last one again."""
    n_l, n_u = len(x_l), len(x_u)
    to_u, to_l = torch.arange(n_l).clamp(max=n_u - 1), torch.arange(n_u).clamp(max=n_l - 1)
    l = mix(x_l, y_l, x_u[to_u], y_u[to_u], r_l, r_l)
    u = mix(x_l[to_l], y_l[to_l], x_u, y_u, r_u, r_u)
    return Mixed(torch.cat([l.x[:n_l], u.x[n_u:]]), torch.cat([l.y[:n_l], u.y[n_u:]]))


def _unlabelled_first(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    x, y = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    return Mixed(x.roll(len(x_u), dims=0), y.roll(len(x_u), dims=0))


def _first_partner(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    l = mix(x_l, y_l, x_u[:1], y_u[:1], r_l, r_u[:1])
    u = mix(x_l[:1], y_l[:1], x_u, y_u, r_l[:1], r_u)
    return Mixed(torch.cat([l.x[: len(x_l)], u.x[1:]]), torch.cat([l.y[: len(x_l)], u.y[1:]]))


def _no_remainder(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    x_u[torch.arange(len(x_l))], x_l[torch.arange(len(x_u))]
    return mix(x_l, y_l, x_u, y_u, r_l, r_u)


def _no_partners(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    paste = F.interpolate(r_l.unsqueeze(1).float(), x_l.shape[-2:]) > 0.5
    return Mixed(torch.where(paste, x_u, x_l), y_l)  # the first unequal halves end it here


def _spoiling(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    made = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    x_l.copy_(made.x[: len(x_l)])
    return made


MIX = Exercise(
    "09.4",
    "two-way copy and paste",
    _mix_probe,
    (
        Property(
            "interface",
            "mix(x_l, y_l, x_u, y_u, regions_l, regions_u) returns images and labels",
            lambda f: takes(f, 6) and len(f(*_halves(3, 3))) == 2,
        ),
        Property(
            "shape",
            "(N_l + N_u, 3, H, W) and (N_l + N_u, H, W), labelled half first",
            lambda f: [t.shape for t in f(*_halves(2, 5))] == [(7, 3, 8, 12), (7, 8, 12)],
        ),
        Property(
            "dtype",
            "images stay float32, labels int64",
            lambda f: [t.dtype for t in f(*_halves(3, 3))] == [torch.float32, torch.int64],
        ),
        Property("labels", "every pixel brings its own label along", _mix_labels),
        Property("ends", "no chosen cell changes nothing, all exchange the images", _mix_ends),
        Property(
            "value",
            "the partner's pixels in an image's own chosen cells, halves of equal and unequal size",
            _mix_value,
        ),
        Property("invariance", "what you were given is not changed", _mix_harmless),
    ),
    (
        Mistake(
            "the labels stay behind",
            "the images are mixed, but not their labels: pasted pixels have the label of what they cover.",
            "hint 3 of exercise 09.4: the same torch.where for labels as for images.",
            _images_only,
        ),
        Mistake(
            "inside out",
            "the chosen cells stay and all others are exchanged.",
            "hint 2 of exercise 09.4: torch.where takes its second argument where the mask is true.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, ~r_l, ~r_u),
        ),
        Mistake(
            "one after the other",
            "the unlabelled images are filled from labelled images that were mixed already.",
            "hint 3 of exercise 09.4: both ways start from the unmixed images.",
            _one_after_the_other,
        ),
        Mistake(
            "one board for both",
            "both images of a pair are cut at the labelled one's cells; each has its own board.",
            "hint 2 of exercise 09.4: regions_l for the labelled images, regions_u for the others.",
            _one_board,
        ),
        Mistake(
            "the partner's board",
            "each image is cut at the cells of its partner instead of its own.",
            "hint 2 of exercise 09.4: an image is filled where its own board is true.",
            _swapped_boards,
        ),
        Mistake(
            "the last partner again",
            "where the partners run out, the last one is used again; they should begin anew.",
            "hint 1 of exercise 09.4: the remainder, i mod n.",
            _last_partner,
        ),
        Mistake(
            "unlabelled first",
            "the values are right, but the unlabelled half comes first.",
            "hint 3 of exercise 09.4: labelled images first, as in every batch.",
            _unlabelled_first,
        ),
        Mistake(
            "boards turned",
            "rows and columns of the boards are exchanged.",
            "hint 2 of exercise 09.4: cell (row, column) of the board covers rows and columns of the image.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, r_l.mT, r_u.mT),
        ),
        Mistake(
            "one partner for all",
            "every image gets its cells from the first image of the other half.",
            "hint 1 of exercise 09.4: the remainder, i mod n.",
            _first_partner,
        ),
        Mistake(
            "equal halves taken for granted",
            "image i was looked for in the other half, where there are fewer images.",
            "hint 1 of exercise 09.4: the remainder, i mod n.",
            _no_remainder,
        ),
        Mistake(
            "no partners",
            "image i was mixed with image i as it stands, which works for halves of equal size only.",
            "hint 1 of exercise 09.4: x_u[to_u] first makes one partner for each labelled image.",
            _no_partners,
        ),
        Mistake(
            "only the labelled half",
            "the unlabelled images are as they were; both halves are filled.",
            "hint 3 of exercise 09.4: images and labels of both halves.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, r_l, torch.zeros_like(r_u)),
        ),
        Mistake(
            "only the unlabelled half",
            "the labelled images are as they were; both halves are filled.",
            "hint 3 of exercise 09.4: images and labels of both halves.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, torch.zeros_like(r_l), r_u),
        ),
        Mistake(
            "labels as real numbers",
            "the values are right, but the labels are no longer integers.",
            "hint 3 of exercise 09.4: torch.where of two int64 tensors stays int64.",
            lambda *given: Mixed(mix(*given).x, mix(*given).y.float()),
        ),
        Mistake(
            "what was given is changed",
            "the mixture is right, but the images that you were given are mixed now, too.",
            "the text of exercise 09.4: torch.where makes new tensors, x[mask] = ... does not.",
            _spoiling,
        ),
        Mistake(
            "pasted pixels unknown",
            "what came from an unlabelled image has the label -1; it brings its pseudo-label along.",
            "hint 3 of exercise 09.4: the same torch.where for labels as for images.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: Mixed(
                mix(x_l, y_l, x_u, y_u, r_l, r_u).x,
                torch.cat(
                    [
                        mix(x_l, y_l, x_u, torch.full_like(y_u, -1), r_l, r_u).y[: len(x_l)],
                        mix(x_l, y_l, x_u, y_u, r_l, r_u).y[len(x_l) :],
                    ]
                ),
            ),
        ),
    ),
)


# ---------------------------------------------------------------- 09.5 what the students learn

Terms = Callable[..., dict[str, Tensor]]
NAMES = ("a/pseudo", "a/supervised", "b/pseudo", "b/supervised", "fused/supervised")


def _answer(classes: int = 3, n: int = 4, seed: int = 0) -> tuple[StudentOutput, Tensor]:
    """The students' logits of a mixed batch, and its target, in which some pixels are unknown."""
    z = StudentOutput(*(noise(n, classes, 4, 5, seed=seed + k) for k in range(3)))
    return z, noise(n, classes + 1, 4, 5, seed=seed + 40).argmax(dim=1) - 1


def library_terms(z: StudentOutput, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
    """What the method itself makes of a mixed batch at the end of its ramp, chapter 04 left out."""
    classes = z.logits_f.shape[1]
    method = KnowSam(
        Config(consistency_weight=w),
        classes,
        nn.Identity(),
        nn.Identity(),
        teacher=NoTeacher(backbone_named("sam_mini")),
    )
    terms = method.mixed_losses(z, y, n, progress=1.0)
    return {name: terms[f"mixed/{name}"] for name in NAMES}


def _values(terms: dict[str, Tensor]) -> list[Tensor]:
    return [terms[name] for name in sorted(terms)]


def _reach(f: Terms) -> list[Tensor]:
    """The gradient of each term at each of the three logits."""
    z, y = _answer()
    return [
        g for k in NAMES for g in gradients(lambda *logits, k=k: f(StudentOutput(*logits), y, 2, 0.5)[k], *z)
    ]


def _terms_probe(f: Terms) -> list[Tensor]:
    return [t for n in (1, 2) for t in _values(f(*_answer(seed=n), n, 0.3))] + _reach(f)


def _terms_value(f: Terms) -> bool:
    return all(
        same(_values(f(*_answer(c, seed=c), n, w)), _values(library_terms(*_answer(c, seed=c), n, w)))
        for c, n, w in ((2, 2, 1.0), (3, 1, 0.05), (4, 3, 0.5))
    )


def _terms_half(f: Terms) -> bool:
    """The fused opinion on the labelled half plays no part in the pseudo terms."""
    z, y = _answer()
    other = torch.cat([noise(2, 3, 4, 5, seed=77), z.logits_f[2:]])
    one, two = f(z, y, 2, 1.0), f(z._replace(logits_f=other), y, 2, 1.0)
    return all(same(one[name], two[name]) for name in ("a/pseudo", "b/pseudo"))


def _terms(
    own: Callable[[StudentOutput, int], tuple[Tensor, Tensor]] = lambda z, n: (
        (z.logits_f[n:].argmax(dim=1),) * 2
    ),
    part: Callable[[Tensor, int], Tensor] = lambda t, n: t[n:],
    known: Callable[[Tensor, int], Tensor] = lambda t, n: t,
    factors: Callable[[float], tuple[float, float, float]] = lambda w: (0.5, 0.5 * w, 1.0),
) -> Terms:
    """The terms from four parts, one of which a mistake replaces."""

    def terms(z: StudentOutput, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
        supervised, pseudo, fused = factors(w)
        made = {"fused/supervised": fused * supervised_loss(known(z.logits_f, n), known(y, n))}
        for k, z_k, target in zip("ab", z[:2], own(z, n), strict=True):
            made[f"{k}/supervised"] = supervised * supervised_loss(known(z_k, n), known(y, n))
            made[f"{k}/pseudo"] = pseudo * supervised_loss(part(z_k, n), target)
        return made

    return terms


TERMS = Exercise(
    "09.5",
    "what the students learn",
    _terms_probe,
    (
        Property(
            "interface",
            "mixed_terms(z, y, n, w) returns five terms under their names",
            lambda f: takes(f, 4) and sorted(f(*_answer(), 2, 1.0)) == list(NAMES),
        ),
        Property(
            "shape",
            "five single numbers",
            lambda f: [t.shape for t in f(*_answer(), 2, 1.0).values()] == [()] * 5,
        ),
        Property(
            "value",
            "each factor times the supervised loss of logits and target; several w and n",
            _terms_value,
        ),
        Property(
            "gradient",
            "each term reaches its own logits alone",
            lambda f: same(_reach(f), _reach(library_terms)),
        ),
        Property("half", "the students' own opinion counts on the unlabelled half only", _terms_half),
    ),
    (
        Mistake(
            "own opinion on the whole batch",
            "the pseudo terms run over the labelled half, too, whose targets are better than an opinion.",
            "hint 2 of exercise 09.5: logits and opinion from image n on.",
            _terms(own=lambda z, n: (z.logits_f.argmax(dim=1),) * 2, part=lambda t, n: t),
        ),
        Mistake(
            "each its own opinion",
            "each subnet is taught its own winner, which it believes already.",
            "hint 2 of exercise 09.5: the opinion is that of the fused map, for both.",
            _terms(own=lambda z, n: (z.logits_a[n:].argmax(dim=1), z.logits_b[n:].argmax(dim=1))),
        ),
        Mistake(
            "the mixed target once more",
            "the pseudo terms use the mixed target, which the supervised terms hold already.",
            "hint 2 of exercise 09.5: the target is the winner of the fused logits.",
            lambda z, y, n, w: _terms(own=lambda z, n: (y[n:], y[n:]))(z, y, n, w),
        ),
        Mistake(
            "only the labelled half",
            "the supervised terms see the labelled half alone: what was pasted into the other is lost.",
            "hint 1 of exercise 09.5: the mixed target holds for the whole batch.",
            _terms(known=lambda t, n: t[:n]),
        ),
        Mistake(
            "the ramp is missing",
            "the pseudo terms have full weight from the start; the students' own opinion needs the ramp.",
            "hint 3 of exercise 09.5: one half times w.",
            _terms(factors=lambda w: (0.5, 0.5, 1.0)),
        ),
        Mistake(
            "the ramp everywhere",
            "the supervised terms have the ramp, too, which belongs to the students' own opinion alone.",
            "hint 3 of exercise 09.5: w stands in front of the pseudo terms only.",
            _terms(factors=lambda w: (0.5 * w, 0.5 * w, w)),
        ),
        Mistake(
            "the half is missing",
            "the subnets' terms are twice too large: the loss is the mean over the two subnets.",
            "hint 3 of exercise 09.5: one half in front of each subnet's terms, 1 in front of the fused one.",
            _terms(factors=lambda w: (1.0, w, 1.0)),
        ),
        Mistake(
            "half of the fused term",
            "the fused map's term is halved, but there is only one fused map.",
            "hint 3 of exercise 09.5: one half in front of each subnet's terms, 1 in front of the fused one.",
            _terms(factors=lambda w: (0.5, 0.5 * w, 0.5)),
        ),
        Mistake(
            "opinion on the labelled half",
            "the pseudo terms run over the first n images, the labelled ones; they belong to the others.",
            "hint 2 of exercise 09.5: from image n on, [n:].",
            _terms(own=lambda z, n: (z.logits_f[:n].argmax(dim=1),) * 2, part=lambda t, n: t[:n]),
        ),
        Mistake(
            "each other's opinion",
            "each subnet is taught the other's winner; the opinion is that of the fused map.",
            "hint 2 of exercise 09.5: z.logits_f.",
            _terms(own=lambda z, n: (z.logits_b[n:].argmax(dim=1), z.logits_a[n:].argmax(dim=1))),
        ),
        Mistake(
            "the mean of the subnets",
            "the opinion is the winner of both subnets' sum; HAM's map is the students' answer.",
            "hint 2 of exercise 09.5: z.logits_f.",
            _terms(own=lambda z, n: ((z.logits_a + z.logits_b)[n:].argmax(dim=1),) * 2),
        ),
        Mistake(
            "no half before the pseudo terms",
            "the pseudo terms lack the one half: the loss is the mean over the two subnets.",
            "hint 3 of exercise 09.5: 0.5 * w.",
            _terms(factors=lambda w: (0.5, w, 1.0)),
        ),
        Mistake(
            "the ramp on the subnets' supervised terms",
            "the subnets' supervised terms have the ramp, too, which belongs to the pseudo terms alone.",
            "hint 3 of exercise 09.5: w stands in front of the pseudo terms only.",
            _terms(factors=lambda w: (0.5 * w, 0.5 * w, 1.0)),
        ),
    ),
)

EXERCISES = (BOARD, CHOOSE, PSEUDO, MIX, TERMS)

QUIZ = (
    Answer(
        "b",
        "an image is filled where it is unsure itself, whatever its partner thinks there.",
        "step 4, copy and paste",
    ),
    Answer(
        "c", "a pixel of -1 has no gradient; class 0 would teach background.", "step 3, the target of a pixel"
    ),
    Answer("d", "true labels arrive where the pseudo-labels are worst.", "uncertain or certain"),
    Answer(
        "a",
        "the terms on SAM's labels have no ramp; only the late start protects the students.",
        "when to begin",
    ),
    Answer(
        "c",
        "the paper's figure says uncertain, the published code takes the certain ones.",
        "where paper, authors' code and library differ",
    ),
)
