"""What an answer does, looked at from further away than its check does: to tell whether a mutant differs.

One function per exercise: it takes the answer and returns everything worth comparing.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.aggregation import HybridAggregation


def random(*shape: int, seed: int, scale: float = 2.0) -> Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(1000 + seed))


def with_gradients(f: Callable[..., Any], *inputs: Tensor) -> Iterator[Tensor]:
    """The outputs, whether they carry a graph, and the gradient of each that does."""
    leaves = [t.clone().requires_grad_() for t in inputs]
    made = f(*leaves)
    for out in made if isinstance(made, tuple | list) else [made]:
        yield out.detach()
        yield torch.tensor(out.requires_grad)
        if out.requires_grad:
            weights = random(*out.shape, seed=7)
            found = torch.autograd.grad((out * weights).sum(), leaves, retain_graph=True, allow_unused=True)
            yield from (torch.zeros(()) if g is None else g for g in found)


def entropy(f: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 4, 7):
        for scale in (0.1, 3.0, 1000.0):
            yield from with_gradients(f, random(2, classes, 5, 6, seed=classes, scale=scale))
    yield f(random(1, 3, 4, 4, seed=0).bfloat16())


def disagreement(f: Callable[[Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        p_a, p_b = (random(2, classes, 5, 6, seed=classes + s).softmax(dim=1) for s in (0, 20))
        yield from with_gradients(f, p_a, p_b)
        yield f(p_a.double(), p_b.double())
        yield f(torch.full_like(p_a, 0.5), p_b)


def ham_inputs(f: Callable[[Tensor, Tensor], Any]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        yield from with_gradients(f, *(random(2, classes, 5, 6, seed=classes + s) for s in (0, 20)))


def ham(kind: Any) -> Iterator[Tensor]:
    yield torch.tensor([p.numel() for p in kind().parameters()])
    for classes in (2, 5):
        for train in (False, True):
            torch.manual_seed(3)
            reference = HybridAggregation(classes)
            made = kind(classes)
            made.load_state_dict(reference.state_dict())
            made.train(train)
            yield from with_gradients(made, *(random(2, classes, 8, 6, seed=classes + s) for s in (0, 20)))
            yield from (p.sum() for p in made.state_dict().values())


def ablate(f: Callable[[Any, str], Any]) -> Iterator[Tensor]:
    for name in ("agreement", "certainty", "logits"):
        torch.manual_seed(3)
        whole = HybridAggregation(3).eval()
        yield from with_gradients(f(whole, name), *(random(2, 3, 8, 6, seed=s) for s in (0, 20)))
        yield whole(*(random(2, 3, 8, 6, seed=s) for s in (0, 20))).detach()


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
        yield torch.stack(graphs)


def skd_terms(f: Callable[..., dict[str, Tensor]]) -> Iterator[Tensor]:
    logits = [random(2, 3, 5, 6, seed=seed) for seed in (1, 2, 3)]
    for weight, temperature in ((1.0, 10.0), (0.2, 3.0)):
        for name in ("a/distillation", "b/distillation"):
            yield from with_gradients(lambda *z, w=weight, t=temperature, k=name: f(*z, w, t)[k], *logits)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "05.1": entropy,
    "05.2": disagreement,
    "05.3": ham_inputs,
    "05.4": ham,
    "05.5": ablate,
    "08.1": soften,
    "08.2": kl_divergence,
    "08.3": distillation,
    "08.4": teacher_targets,
    "08.5": skd_terms,
}
