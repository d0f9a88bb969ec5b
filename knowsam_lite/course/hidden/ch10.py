"""What the answers of chapter 10 do."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Batch
from knowsam_lite.students import StudentOutput


def joint_losses(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 0.7), (4, 3, 0.2)):
        torch.manual_seed(classes)
        net_a, net_b, sam = (torch.nn.Conv2d(i, classes, 1) for i in (3, 3, 3 + classes))

        def students(x: Tensor, a: Any = net_a, b: Any = net_b) -> StudentOutput:
            return StudentOutput(a(x), b(x), a(x) - b(x))

        told: list[tuple[bool, Tensor]] = []

        def teacher(x: Tensor, z_f: Tensor, sam: Any = sam, told: Any = told) -> Tensor:
            told.append((torch.is_grad_enabled(), z_f.detach().clone()))
            return sam(torch.cat([x, z_f.detach()], dim=1))

        y = random(n + 2, classes, 16, 16, seed=3).argmax(dim=1)
        y[n:] = -1
        terms = f(students, teacher, Batch(random(n + 2, 3, 16, 16, seed=4), y, n, []), w)
        yield from (terms[name].detach() for name in sorted(terms))
        torch.stack(list(terms.values())).sum().backward()
        yield from (p.grad for net in (net_a, net_b, sam) for p in net.parameters() if p.grad is not None)
        for graph, z_f in sorted(told, key=lambda call: not call[0]):  # either half may be asked first
            yield from (torch.tensor(graph), z_f)


def training_step(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    start = [random(4, seed=seed) for seed in (1, 2, 3, 4)]
    weights = [torch.nn.Parameter(t.clone()) for t in start]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.SGD(weights[:2], 0.05, momentum=0.8, weight_decay=0.2),
        torch.optim.AdamW(weights[2:3], 0.1),
        torch.optim.SGD(weights[3:], 0.3),
    ]
    for step in range(5):
        goal = random(4, seed=50 + step)
        terms = {f"t{i}": (i + 1) * (w - goal).square().mean() for i, w in enumerate(weights)}
        if step % 2:
            del terms["t1"]
        told = f(terms, optimizers)
        yield from (w.detach().clone() for w in weights)
        yield torch.tensor([w.grad is None for w in weights])
        yield torch.tensor([len(told), *(t.requires_grad for t in told.values())])
        yield from (t.detach() for t in told.values())


def stream(kind: Any) -> Iterator[Tensor]:
    for count, seed, name in ((1, 0, 0), (3, 7, 1), (10, 2, 0), (10, 3, 1)):
        records = [Record(str(i), Path(str(i)), None, str(i), "train") for i in range(count)]
        made = kind(records, seed, name)
        yield torch.tensor([int(made[i].id) for i in (*range(5 * count), 1000, 0)])


def save(f: Callable[..., object]) -> Iterator[Tensor]:
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1))
    optimizer = torch.optim.AdamW(net.parameters(), 0.1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.pt"
        for step in range(3):
            net(random(5, 3, seed=step)).square().sum().backward()
            optimizer.step()
            f(path, net, optimizer, step)
            found = torch.load(path, weights_only=True)
            yield torch.tensor([len(list(Path(folder).iterdir())), len(found), found["step"]])
            yield found["random"]
            yield from found["net"].values()
            yield from (t for state in found["optimizer"]["state"].values() for t in state.values())


def choose(f: Callable[..., int]) -> Iterator[Tensor]:
    for seed in range(10):
        values = (random(9, 2, seed=seed).sigmoid() * 5).round() / 5  # coarse, so that there are ties
        rows: list[dict[str, Any]] = [
            {"kind": ("val", "test")[i % 3 == 2], "step": 10 * i + 10, "dice": {"a": float(a), "b": float(b)}}
            for i, (a, b) in enumerate(values)
        ]
        rows.insert(seed, {"kind": "train", "step": 5, "total": 1.0})
        yield torch.tensor([f(rows, "a"), f(rows, "b")])
    nothing = [{"kind": "val", "step": step, "dice": {"a": 0.0}} for step in (10, 20)]
    yield torch.tensor(f(nothing, "a"))


def paired_interval(f: Callable[..., Any]) -> Iterator[Tensor]:
    for images in (3, 17, 50):
        a, b = (random(images, seed=seed).sigmoid() for seed in (images, images + 1))
        draws = torch.randint(0, images, (99, images), generator=torch.Generator().manual_seed(images))
        yield from (torch.as_tensor(value) for value in f(a, b, draws))


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "10.1": joint_losses,
    "10.2": training_step,
    "10.3": stream,
    "10.4": save,
    "10.5": choose,
    "10.6": paired_interval,
}
