"""What the answers of chapter 04 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random, with_gradients


def consistency(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 6):
        z, z_other = random(2, classes, 5, 6, seed=classes), random(2, classes, 5, 6, seed=40, scale=4.0)
        yield from with_gradients(f, z, z_other)
        yield f(z.bfloat16(), z_other.bfloat16())


def mutual_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, w, v in ((2, 1.0, 1.0), (3, 0.1, 0.7), (5, 2.0, 0.0)):
        logits = [random(2, classes, 5, 6, seed=classes + s) for s in (0, 20)]
        for name in sorted(f(*logits, w, v)):
            yield from with_gradients(lambda *z, k=name, w=w, v=v: f(*z, w, v)[k], *logits)


def ramp(f: Callable[[float], float]) -> Iterator[Tensor]:
    yield torch.tensor([f(t / 40) for t in range(41)])


def batch_norm_net(seed: int, classes: int) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, classes, 1))
    for i, p in enumerate(net.parameters()):
        p.data = random(*p.shape, seed=10 * seed + i, scale=0.5)
    return net


def follow(f: Callable[[nn.Module, nn.Module, int], None]) -> Iterator[Tensor]:
    teacher, student = (batch_norm_net(seed, 2) for seed in (1, 2))
    for step in (0, 1, 2, 30, 99, 100, 101, 2000):
        student(random(2, 3, 6, 6, seed=step))
        for i, p in enumerate(student.parameters()):
            p.data = random(*p.shape, seed=step + 50 * i)
        f(teacher, student, step)
        for net in (teacher, student):
            yield from (t.clone() for t in net.state_dict().values())
            yield torch.tensor([p.is_leaf and p.grad is None for p in net.parameters()])


def mean_teacher_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    for classes, n, w in ((2, 1, 1.0), (3, 3, 0.1)):
        x, y = random(5, 3, 8, 8, seed=n).sigmoid(), random(5, classes, 6, 6, seed=n).argmax(dim=1)
        y[n:] = -1
        net, teacher = (batch_norm_net(seed, classes) for seed in (3, 4))
        torch.manual_seed(n)
        terms = f(net, teacher, x, y, n, w)
        weights = [*net.parameters(), *teacher.parameters()]
        for name in sorted(terms):
            yield terms[name].detach().clone()
            yield torch.tensor(terms[name].requires_grad)
            if terms[name].requires_grad:
                found = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
                yield from (torch.zeros(()) if g is None else g for g in found)
        yield from (t.clone() for part in (net, teacher) for t in part.buffers())
        yield torch.tensor([net.training, teacher.training])


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "04.1": consistency,
    "04.2": mutual_terms,
    "04.3": ramp,
    "04.4": follow,
    "04.5": mean_teacher_terms,
}
