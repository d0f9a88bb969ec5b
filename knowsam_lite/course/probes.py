"""Building blocks of the properties of all chapters: fixed inputs, gradients, and comparisons."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.alike import alike
from knowsam_lite.course.evidence import note


def noise(*shape: int, seed: int = 0, scale: float = 2.0) -> Tensor:
    """The same logits every time, large enough to stand for networks that are confident in places."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(a: Any, b: Any) -> bool:
    """True if two tensors, or two sequences of tensors, are alike: what was found, then what was expected."""
    found, expected = ([t] if isinstance(t, Tensor) else list(t) for t in (a, b))
    agree = alike(found, expected)
    if not agree:
        note(found, expected)
    return agree


def gradients(f: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    """d sum(w f) / d input for fixed random w, zeros where no gradient arrives."""
    leaves = [tensor.clone().requires_grad_() for tensor in inputs]
    out = f(*leaves)
    if not out.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad((out * noise(*out.shape, seed=9)).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def takes(answer: Any, count: int) -> bool:
    """True if something can be called with `count` positional arguments."""
    try:
        inspect.signature(answer).bind(*range(count))
    except TypeError:
        return False
    return True
