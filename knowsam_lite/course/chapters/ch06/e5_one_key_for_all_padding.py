"""Exercise 06.5, one key for all padding."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes

Merged = Callable[[Tensor, Tensor, Tensor, int], Tensor]


def _heads(m: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Queries (4, 6), keys and values (m, 6)."""
    return noise(4, 6, seed=seed), noise(m, 6, seed=seed + 10), noise(m, 6, seed=seed + 20)


def _spelled_out(q: Tensor, k: Tensor, v: Tensor, n: int) -> Tensor:
    """The oracle: PyTorch's attention with the first key and value repeated n times."""
    many_k, many_v = (torch.cat([t[:1].expand(n, -1), t[1:]])[None] for t in (k, v))
    return F.scaled_dot_product_attention(q[None], many_k, many_v)[0]


def _merge(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    change: Callable[[Tensor], Tensor],
    scale: float | None = None,
    dim: int = -1,
) -> Tensor:
    scores = q @ k.T * (k.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.cat([change(scores[:, :1]), scores[:, 1:]], dim=1)
    return scores.softmax(dim=dim) @ v


def _merged_probe(f: Merged) -> list[Tensor]:
    return [
        f(*_heads(), 1),
        f(*_heads(), 3),
        f(*_heads(7, 1), 588),
        *gradients(lambda q, k, v: f(q, k, v, 4), *_heads()),
    ]


MERGED = Exercise(
    "06.5",
    "one key for many",
    _merged_probe,
    (
        Property(
            "interface",
            "merged_attention(q, k, v, n) returns one tensor",
            lambda f: takes(f, 4) and isinstance(f(*_heads(), 2), Tensor),
        ),
        Property("shape", "(L, D) -> (L, D)", lambda f: f(*_heads(7), 2).shape == (4, 6)),
        Property(
            "one",
            "with n = 1 it is plain attention",
            lambda f: same(f(*_heads(), 1), _spelled_out(*_heads(), 1)),
        ),
        Property(
            "value",
            "with n = 2, 5 and 588 it is attention to keys written down n times",
            lambda f: all(same(f(*_heads(6, n), n), _spelled_out(*_heads(6, n), n)) for n in (2, 5, 588)),
        ),
        Property(
            "gradient",
            "and so is its gradient",
            lambda f: same(
                gradients(lambda q, k, v: f(q, k, v, 5), *_heads()),
                gradients(lambda q, k, v: _spelled_out(q, k, v, 5), *_heads()),
            ),
        ),
    ),
    (
        Mistake(
            "the score times n",
            "the score is multiplied by n; the softmax multiplies by n only what is added as a logarithm.",
            "hint 2: e to the power of (score + log n) is n times e to the score.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s * n),
        ),
        Mistake(
            "n added",
            "n itself is added to the score, not its logarithm.",
            "hint 2: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + n),
        ),
        Mistake(
            "added before the scaling",
            "log n is divided by the root of D, too: it was added too early.",
            "hint 1: first scale the scores, then add log n.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n) * k.shape[-1] ** -0.5),
        ),
        Mistake(
            "the value times n",
            "the value is multiplied by n after the softmax, so the weights no longer sum to 1.",
            "hint 2: the count enters before the softmax.",
            lambda q, k, v, n: _merge(q, k, torch.cat([n * v[:1], v[1:]]), lambda s: s),
        ),
        Mistake(
            "not scaled",
            "the scores are not divided by the root of D.",
            "hint 1: attention divides the products by the root of D.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=1.0),
        ),
        Mistake(
            "counted once",
            "n makes no difference: unused, or added to all keys of a query, which the softmax undoes.",
            "hint 2: log n is added to the first column of the scores.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s),
        ),
        Mistake(
            "softmax over the queries",
            "the softmax runs over the queries; each query shares its attention among the keys.",
            "hint 3: the keys lie on the last axis.",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), dim=0),
        ),
        Mistake(
            "base 2",
            "the logarithm is that to the base 2; the softmax works with e.",
            "hint 2: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log2(n)),
        ),
        Mistake(
            "base 10",
            "the logarithm is that to the base 10; the softmax works with e.",
            "hint 2: math.log(n).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log10(n)),
        ),
        Mistake(
            "scores and values",
            "the first value is multiplied by n, too; it counts n times already through its score.",
            "hint 2: the value stays as it is.",
            lambda q, k, v, n: _merge(q, k, torch.cat([n * v[:1], v[1:]]), lambda s: s + math.log(n)),
        ),
        Mistake(
            "the last key",
            "the last key was raised; the first one stands for n.",
            "hint 2: column 0.",
            lambda q, k, v, n: _merge(q, k.roll(1, 0), v.roll(1, 0), lambda s: s + math.log(n)),
        ),
        Mistake(
            "the number of queries as D",
            "the scores are divided by the root of the number of queries; D is the length of a query.",
            "hint 1: q.shape[-1].",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=q.shape[0] ** -0.5),
        ),
        Mistake(
            "divided by D",
            "the scores are divided by D; attention divides by its root.",
            "hint 1: math.sqrt(d).",
            lambda q, k, v, n: _merge(q, k, v, lambda s: s + math.log(n), scale=1 / q.shape[-1]),
        ),
    ),
    _spelled_out,
)
