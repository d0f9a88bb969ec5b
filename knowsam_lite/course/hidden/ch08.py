"""What the answers of chapter 08 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random, with_gradients


def soften(f: Callable[[Tensor, float], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        for temperature in (0.3, 1.0, 7.0):
            z = random(2, classes, 5, 6, seed=classes)
            yield from with_gradients(lambda x, t=temperature: f(x, t), z)
            yield f(z.bfloat16(), temperature)


def kl_divergence(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        logs = [random(2, classes, 5, 6, seed=classes + s).log_softmax(dim=1) for s in (0, 20)]
        yield from with_gradients(f, *logs)


def distillation(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        z, z_s = random(2, classes, 5, 6, seed=classes), random(2, classes, 5, 6, seed=30, scale=5.0)
        yield f(z, z_s)
        yield f(z.bfloat16(), z_s.bfloat16())
        for temperature in (1.0, 3.0, 12.0):
            yield from with_gradients(lambda a, b, t=temperature: f(a, b, t), z, z_s)


def teacher_targets(f: Callable[..., Any]) -> Iterator[Tensor]:
    for n in (1, 3):
        graphs: list[Tensor] = []

        def teacher(x: Tensor, z_f: Tensor, weight: Tensor, graphs: list[Tensor] = graphs) -> Tensor:
            graphs.append(torch.tensor([len(x), torch.is_grad_enabled()]))
            return x.mean(dim=1, keepdim=True) * weight + z_f.square()

        def asked(x: Tensor, z_f: Tensor, weight: Tensor, n: int = n, teacher: Any = teacher) -> Any:
            return f(lambda x, z_f: teacher(x, z_f, weight), x, z_f, n)

        x, z_f, weight = random(4, 3, 5, 6, seed=1), random(4, 2, 5, 6, seed=2), random(1, 2, 1, 1, seed=3)
        yield from with_gradients(asked, x, z_f, weight)
        yield torch.stack(sorted(graphs, key=lambda call: -int(call[1])))  # either may be asked first


def skd_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    logits = [random(2, 3, 5, 6, seed=seed) for seed in (1, 2, 3)]
    for weight, temperature in ((1.0, 10.0), (0.2, 3.0)):
        for name in ("a/distillation", "b/distillation"):
            yield from with_gradients(lambda *z, w=weight, t=temperature, k=name: f(*z, w, t)[k], *logits)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "08.1": soften,
    "08.2": kl_divergence,
    "08.3": distillation,
    "08.4": teacher_targets,
    "08.5": skd_terms,
}
