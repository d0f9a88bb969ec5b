"""What the answers of chapter 01 do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Stream
from knowsam_lite.errors import UserError


def warp(f: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    for seed, (height, width) in enumerate(((9, 14), (16, 16))):
        coarse = random(3, 5, 4, 4, seed=seed)
        y = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").argmax(dim=1) - 1
        theta = torch.eye(2, 3) + random(3, 2, 3, seed=seed, scale=0.25)
        yield from f(random(3, 3, height, width, seed=seed).sigmoid(), y, theta)


def step_records(f: Callable[..., list[Record]]) -> Iterator[Tensor]:
    walks = []
    for name, size in enumerate((4, 11)):
        records = [Record(str(i), Path(str(i)), None, str(i), "train") for i in range(size)]
        walks.append(Stream(records, 5, name))
    for step in (6, 0, 1, 250):
        for sizes in ((1, 1), (2, 5), (5, 2), (3, 0)):
            yield torch.tensor([int(record.id) for record in f(*walks, step, *sizes)])


def iou_two_ways(f: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    for seed in range(4):
        pred, true = random(5, 6, 8, seed=seed) > 1, random(5, 6, 8, seed=seed + 9) > 2
        pred[0], true[0], pred[1] = False, False, False
        yield from (made.clone() for made in f(pred, true))
    nothing = torch.zeros(3, 4, 4, dtype=torch.bool)
    yield from (made.clone() for made in f(nothing, nothing))


def hd95(f: Callable[..., float]) -> Iterator[Tensor]:
    for seed in range(6):
        coarse = random(2, 1, 5, 4, seed=seed)
        smooth = torch.nn.functional.interpolate(coarse, (25, 17), mode="bilinear")[:, 0].numpy()
        yield torch.tensor(float(f(smooth[0] > 1, smooth[1] > 0.5)))
    some, nothing = smooth[0] > 0, smooth[0] > 99
    for pair in ((some, nothing), (nothing, some), (nothing, nothing), (some, some)):
        yield torch.tensor(float(f(*pair)))


def splits(f: Callable[..., dict[str, str]]) -> Iterator[Tensor]:
    names = [f"g{i}" for i in (4, 0, 7, 2, 2, 4, 11, 9, 5, 0, 1, 3, 3)]
    parts = ("train", "val", "test")
    for val in (-0.2, 0.0, 0.04, 0.3, 0.55, 1.0):
        for test in (-0.2, 0.0, 0.04, 0.3, 0.55, 1.0):
            for seed in (0, 3):
                try:
                    made = f(names, val, test, seed)
                    yield torch.tensor([float(parts.index(made[name])) for name in names] + [len(made)])
                except UserError:
                    yield torch.tensor(-1.0)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "01.1": splits,
    "01.2": warp,
    "01.3": step_records,
    "01.4": iou_two_ways,
    "01.5": hd95,
}
