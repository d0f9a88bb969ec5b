"""What the answers of chapter 05 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.course.hidden.shared import random, with_gradients


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
        inputs = [random(2, 3, 8, 6, seed=s) for s in (0, 20)]
        quiet = f(whole, name)
        yield from with_gradients(quiet, *inputs)
        with torch.no_grad():  # as after training: the branch stays silent, the original unchanged
            for p in quiet.parameters():
                p.add_(0.1)
            yield quiet(*inputs)
            yield whole(*inputs)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "05.1": entropy,
    "05.2": disagreement,
    "05.3": ham_inputs,
    "05.4": ham,
    "05.5": ablate,
}
