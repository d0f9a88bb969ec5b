"""What the answers of chapter 09 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.errors import UserError
from knowsam_lite.students import StudentOutput


def uncertainty_board(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, height, width, grid in ((2, 12, 8, 4), (3, 10, 20, 5), (5, 6, 6, 1)):
        yield from with_gradients(lambda z, g=grid: f(z, g), random(2, classes, height, width, seed=classes))
    yield f(random(3, 2, 8, 16, seed=4))
    yield f(random(3, 2, 8, 16, seed=5).bfloat16())
    for height, width in ((9, 12), (12, 9)):
        try:
            f(random(1, 2, height, width, seed=6), 4)
        except UserError:
            yield torch.tensor([height, width])


def choose_regions(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for seed, grid in enumerate((3, 4, 7)):
        u = random(4, grid, grid, seed=seed)
        for count in (1, 4, 9):
            for most in ("uncertain", "certain"):
                yield f(u, count, most)
        yield f(u)


def pseudo_labels(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z = random(3, classes, 9, 7, seed=classes)
        yield f(z)
        for least in (0.3, 0.55, 0.8, 0.99):
            yield f(z, least)
            yield f(z.bfloat16(), least)


def mix(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n_l, n_u, grid in ((2, 2, 4), (3, 7, 2), (5, 2, 8)):
        x_l, x_u = (random(n, 3, 16, 24, seed=n + s) for n, s in ((n_l, 0), (n_u, 30)))
        y_l, y_u = (random(n, 4, 16, 24, seed=n + s).argmax(dim=1) - 1 for n, s in ((n_l, 1), (n_u, 31)))
        regions_l, regions_u = (random(n, grid, grid, seed=n + s) > 0.5 for n, s in ((n_l, 2), (n_u, 32)))
        yield from (made.clone() for made in f(x_l, y_l, x_u, y_u, regions_l, regions_u))
        yield from (x_l, y_l, x_u, y_u)


def mixed_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 1.0), (3, 2, 0.2), (4, 3, 0.0)):
        y = random(4, classes + 1, 5, 6, seed=classes).argmax(dim=1) - 1
        logits = [random(4, classes, 5, 6, seed=seed) for seed in (1, 2, 3)]
        for name in sorted(f(StudentOutput(*logits), y, n, w)):
            yield from with_gradients(
                lambda *z, k=name, y=y, n=n, w=w: f(StudentOutput(*z), y, n, w)[k], *logits
            )


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "09.1": uncertainty_board,
    "09.2": choose_regions,
    "09.3": pseudo_labels,
    "09.4": mix,
    "09.5": mixed_terms,
}
