"""What the answers of chapter 15 do."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random


def of(values: Any) -> Tensor:
    return torch.tensor([float(value) for value in values], dtype=torch.float64)


def smooth(channels: int, seed: int, size: tuple[int, int] = (16, 20)) -> Tensor:
    coarse = random(1, channels, 4, 5, seed=seed, scale=3.0)
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")[0]


def apart(f: Callable[[Tensor, Tensor], float]) -> Iterator[Tensor]:
    for classes in (2, 3, 4):
        for seed in range(3):
            yield of([f(smooth(classes, seed), smooth(classes, seed + 10))])
    nothing = torch.tensor([4.0, -4.0])[:, None, None].repeat(1, 5, 6)
    yield of([f(nothing, nothing), f(nothing, smooth(2, 4, (5, 6)))])


def k_center(f: Callable[..., list[int]]) -> Iterator[Tensor]:
    for seed, (m, labeled, n) in enumerate(((11, 2, 5), (25, 6, 8), (6, 1, 6), (14, 0, 4))):
        drawn = random(m + labeled, 5, seed=seed).numpy()
        yield of(f(drawn[:m], drawn[m:], n))
    yield of(f(random(9, 2, seed=5).numpy(), None, 4))
    copies = random(2, 3, seed=6).numpy().repeat(3, axis=0)
    yield of(f(copies, copies[:1] + 1, 5))


def next_click(f: Callable[..., Any]) -> Iterator[Tensor]:
    masks = [(smooth(1, seed, (21, 15))[0] > 0.4).numpy() for seed in range(12)]
    nothing = np.zeros((21, 15), bool)
    thin = nothing.copy()
    thin[2, 1:-1] = True
    spot = nothing.copy()
    spot[9:14, 5:10] = True
    cases = [*zip(masks[:6], masks[6:], strict=True), (nothing, ~nothing), (spot, thin), (thin, spot)]
    for found, truth in (*cases, (masks[0], masks[0])):
        click = f(found, truth)
        yield of([-1.0] if click is None else [*click.at, click.inside])


def resampling(f: Callable[[int, int], Tensor]) -> Iterator[Tensor]:
    for length, size in ((7, 3), (64, 32), (45, 32), (3, 8), (31, 32), (5, 5), (1, 2), (9, 1)):
        yield f(length, size).clone()


def limit_of_doubt(f: Callable[..., float]) -> Iterator[Tensor]:
    for seed, n in enumerate((6, 25, 12, 40)):
        risk, luck = random(2, n, seed=seed).sigmoid().double().numpy()
        doubt = (risk + luck).round(1)
        for allowed in (0.0, 0.2, 0.4, 0.6, 1.0):
            yield of([f(risk, doubt, allowed)])
    yield of([f(np.array([0.5, 0.5, 0.5]), np.array([3.0, 1.0, 3.0]), 0.5)])


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "15.1": apart,
    "15.2": k_center,
    "15.3": next_click,
    "15.4": resampling,
    "15.5": limit_of_doubt,
}
