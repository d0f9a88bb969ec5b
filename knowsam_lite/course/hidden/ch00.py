"""What the answers of chapter 00 do."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random
from knowsam_lite.data import Record
from knowsam_lite.students import Students


def dice_per_class(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z, y = random(4, classes, 7, 5, seed=classes), random(4, classes, 7, 5, seed=classes + 20).argmax(1)
        z[0, 1:], z[1, -1], y[3] = -50.0, -50.0, 0
        y[0], y[1][y[1] == classes - 1] = 0, 0
        yield f(z, y).clone()


def choose_patients(f: Callable[[list[Record], int], list[str]]) -> Iterator[Tensor]:
    splits = ("train", "val", "train", "train", "test", "train")
    for order in range(4):
        turns = random(20, seed=order).argsort().tolist()
        records = [
            Record(f"i{i}", Path(f"{i}.png"), Path(f"{i}m.png"), f"g{i % 6}", splits[i % 6]) for i in turns
        ]
        for wanted in range(1, 15):
            chosen = f(records, wanted)
            yield torch.tensor([float(record.id in chosen) for record in records] + [float(len(chosen))])


def box_of(f: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    for seed in range(6):
        yield f(random(11, 17, seed=seed) > 3.0 + seed / 3)
    yield f(torch.zeros(5, 8, dtype=torch.bool))
    yield f(torch.ones(5, 8, dtype=torch.bool))


def who_learns(f: Callable[[Tensor, dict[str, nn.Module]], set[str]]) -> Iterator[Tensor]:
    torch.manual_seed(3)
    names = ("a", "b", "frozen", "both", "unused")
    nets: dict[str, nn.Module] = {name: nn.Linear(4, 4) for name in names} | {"empty": nn.Identity()}
    nets["frozen"].requires_grad_(False)
    nets["both"].requires_grad_(False).bias.requires_grad_()
    before = {p: torch.full_like(p, 0.5) for name in ("a", "both") for p in nets[name].parameters()}
    for p, grad in before.items():
        p.grad = grad.clone()  # between a backward pass and its step
    x = random(3, 4, seed=1)
    unused: Any = nets["unused"]
    losses = [
        nets["a"](x).square().mean(),
        nets["frozen"](nets["a"](x) + nets["b"](x).detach()).square().mean(),
        nets["both"](nets["b"](x)).mean() + 0 * nets["unused"](x).mean(),
        -nets["b"](x).exp().sum() + unused.weight[0, 0],
    ]
    for loss in (*losses, *losses):
        told = f(loss, nets)
        yield torch.tensor([float(name in told) for name in nets] + [float(len(told))])
    for p in (p for net in nets.values() for p in net.parameters()):
        kept = p.grad is None if p not in before else p.grad is not None and p.grad.equal(before[p])
        yield torch.tensor(kept)


def segment(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for height, width, size in ((20, 34, 16), (48, 30, 32), (64, 64, 64)):
            torch.manual_seed(classes)
            nets = [
                nn.Sequential(nn.Conv2d(3, classes, 3, padding=1), nn.BatchNorm2d(classes)) for _ in range(2)
            ]
            students = Students(classes, *nets).train()
            coarse = random(1, 3, 6, 5, seed=height).sigmoid()
            smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
            image = (255 * smooth[0].movedim(0, -1)).byte().numpy()
            graphs: list[float] = []
            students.ham.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
            yield f(students, image, size)
            yield torch.tensor(graphs)
            yield f(students, image)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "00.1": dice_per_class,
    "00.2": choose_patients,
    "00.3": box_of,
    "00.4": who_learns,
    "00.5": segment,
}
