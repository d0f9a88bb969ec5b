"""What the answers of chapter 11 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random


def rungs(f: Callable[..., list[tuple]]) -> Iterator[Tensor]:
    for seeds, images, variants in ((2, 5, 3), (4, 9, 1), (6, 3, 4)):
        scores = {
            f"v{(3 * i) % 5}": random(seeds, images, seed=10 * seeds + i).sigmoid().numpy()
            for i in range(variants)
        }
        rows = f(scores)
        yield torch.tensor([list(scores).index(row[0]) for row in rows])
        yield torch.tensor([[float(number) for number in row[1:]] for row in rows])


def drawn_means(f: Callable[..., Any]) -> Iterator[Tensor]:
    for seeds, images in ((2, 7), (5, 5), (1, 4)):
        generator = torch.Generator().manual_seed(seeds)
        rows = torch.randint(0, seeds, (11, seeds), generator=generator).numpy()
        columns = torch.randint(0, images, (11, images), generator=generator).numpy()
        yield torch.as_tensor(f(random(seeds, images, seed=seeds).numpy(), rows, columns))


def failure_kind(f: Callable[..., str]) -> Iterator[Tensor]:
    names: list[str] = []
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    truth = ((y - 12) ** 2 + (x - 12) ** 2 < 40).numpy()
    nothing = truth & ~truth
    for radius in (0, 2, 4, 5, 6, 7, 8, 10, 14):
        for away in (0, 2, 4, 6, 9, 14):
            pred = ((y - 12) ** 2 + (x - 12 + away) ** 2 < radius**2).numpy()
            names += [f(pred, truth), f(pred, nothing), f(truth, pred)]
    names.append(f(nothing, nothing))
    yield torch.tensor([float(sum(map(ord, name))) for name in names])


def reliability(f: Callable[..., Any]) -> Iterator[Tensor]:
    for bins in (1, 4, 16):
        confidence = random(3, 8, 9, seed=bins).sigmoid().numpy()
        confidence[0, 0, :5] = (0.0, 1.0, 0.25, 0.5, 0.75)
        right = (random(3, 8, 9, seed=bins + 1) > 0).numpy()
        yield from (torch.as_tensor(part) for part in f(confidence, right, bins))
    yield from (torch.as_tensor(part) for part in f(confidence, right))
    yield from (torch.as_tensor(part) for part in f(0.5 * confidence, right, 9))


def risk_coverage(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n in (1, 6, 25):
        risk, doubt = random(n, seed=n).sigmoid().numpy(), random(n, seed=n + 1).round().numpy()
        yield from (torch.as_tensor(part) for part in f(risk, doubt))


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "11.1": rungs,
    "11.2": drawn_means,
    "11.3": failure_kind,
    "11.4": reliability,
    "11.5": risk_coverage,
}
