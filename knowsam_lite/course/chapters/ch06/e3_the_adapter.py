"""Exercise 06.3, the adapter."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch06.shared import Kind, stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same
from knowsam_lite.sam.adapter import Adapter


def _loaded(kind: Kind, skip: bool, seed: int = 0) -> nn.Module:
    """The learner's adapter with the library adapter's weights."""
    made = kind(8, skip)
    made.load_state_dict(stirred(Adapter(8, skip), seed).state_dict())
    return made


def _adapter_probe(kind: Kind) -> list[Tensor]:
    made = [torch.tensor([p.numel() for p in kind(16, True).parameters()])]
    for skip in (True, False):
        fresh, x = kind(8, skip), noise(2, 3, 8)
        made += [  # a random start can only be tested for what it is not
            torch.tensor([same(fresh(x), x), same(fresh(x), torch.zeros_like(x))]),
            torch.tensor([bool(p.any()) for p in fresh.parameters()]),
        ]
        made += [torch.tensor([bool(g.any()) for g in _weights(fresh, x)])]
        stirred(fresh)
        made += [fresh(x), *gradients(fresh, x), fresh(x[0, 0])]
    return made


def _weights(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients of a net's parameters."""
    out = (net(x) * noise(*x.shape, seed=9)).sum()
    found = torch.autograd.grad(out, list(net.parameters()), allow_unused=True)
    return [torch.zeros(()) if g is None else g for g in found]


def _adapter_value(kind: Kind) -> bool:
    x = noise(2, 3, 5, 8)
    return all(
        same(_loaded(kind, skip, seed)(x), stirred(Adapter(8, skip), seed)(x))
        for skip in (True, False)
        for seed in (0, 1)
    )


def _adapter_start(kind: Kind) -> bool:
    x = noise(2, 3, 8)
    return same(kind(8, True)(x), x) and same(kind(8, False)(x), torch.zeros_like(x))


def _adapter_learns(kind: Kind) -> bool:
    """The weights of both layers have changed after two steps."""
    net, x = kind(8, True), noise(6, 8)
    start = [p.detach().clone() for p in net.parameters()]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (net(x) - x.roll(1, dims=-1)).square().mean().backward()
        optimizer.step()
    return not any(torch.equal(p, q) for p, q in zip(net.parameters(), start, strict=True))


def _adapter(start: Callable[[Any], Any], forward: Callable[[Any, Tensor], Tensor] | None = None) -> Kind:
    """An adapter whose layers `start` changes, optionally with a different forward pass."""

    class Other(Adapter):
        def __init__(self, dim: int, skip: bool):
            super().__init__(dim, skip)
            self.dim = dim
            start(self)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if forward is None else forward(self, x)

    return Other


def _as_is(net: Any) -> None:
    pass


def _random_start(net: Any) -> None:
    net.up.reset_parameters()


def _bias_left(net: Any) -> None:
    nn.init.constant_(net.up.bias, 0.1)


def _both_zero(net: Any) -> None:
    nn.init.zeros_(net.down.weight)
    nn.init.zeros_(net.down.bias)


def _zero_down(net: Any) -> None:
    net.up.reset_parameters()
    _both_zero(net)


def _full_width(net: Any) -> None:
    net.down, net.up = nn.Linear(net.dim, net.dim), nn.Linear(net.dim, net.dim)
    nn.init.zeros_(net.up.weight)
    nn.init.zeros_(net.up.bias)


def _half_width(net: Any) -> None:
    net.down, net.up = nn.Linear(net.dim, net.dim // 2), nn.Linear(net.dim // 2, net.dim)
    nn.init.zeros_(net.up.weight)
    nn.init.zeros_(net.up.bias)


def _bent(net: Any, x: Tensor) -> Tensor:
    out: Tensor = net.up(F.gelu(net.down(x)))
    return out


ADAPTER = Exercise(
    "06.3",
    "the adapter",
    _adapter_probe,
    (
        Property(
            "interface",
            "Adapter(dim, skip) has the layers down and up",
            lambda k: sorted(k(8, True).state_dict()) == ["down.bias", "down.weight", "up.bias", "up.weight"],
        ),
        Property(
            "size",
            "dim -> dim / 4 -> dim",
            lambda k: (
                [tuple(p.shape) for p in (k(16, True).down.weight, k(16, True).up.weight)]
                == [(4, 16), (16, 4)]
            ),
        ),
        Property(
            "shape",
            "(..., D) -> (..., D), with any number of axes",
            lambda k: all(
                k(8, s)(torch.ones(*a, 8)).shape == (*a, 8) for s in (True, False) for a in ((), (2, 3))
            ),
        ),
        Property("start", "with a skip the identity, without one zero", _adapter_start),
        Property(
            "zero",
            "up starts at zero, weight and bias, and down does not",
            lambda k: (
                [bool(p.any()) for p in (*k(8, True).up.parameters(), *k(8, True).down.parameters())]
                == [False, False, True, True]
            ),
        ),
        Property("value", "up of GELU of down of x, and x itself added only with a skip", _adapter_value),
        Property("learning", "both layers have moved after two steps", _adapter_learns),
    ),
    (
        Mistake(
            "random start",
            "the last layer starts at random, so SAM is disturbed before anything is learned.",
            "hint 2: up.weight and up.bias start at zero.",
            _adapter(_random_start),
        ),
        Mistake(
            "the bias forgotten",
            "up.bias does not start at zero: the adapter adds a constant from the first step on.",
            "hint 2: the bias, too.",
            _adapter(_bias_left),
        ),
        Mistake(
            "both layers at zero",
            "both layers start at zero: then neither weight gets a gradient, and only up.bias can learn.",
            "hint 2: zero is the last layer alone.",
            _adapter(_both_zero),
        ),
        Mistake(
            "the first layer at zero",
            "the wrong layer starts at zero: it is the last one that must, and the first starts at random.",
            "hint 2: up, the last layer.",
            _adapter(_zero_down),
        ),
        Mistake(
            "no bottleneck",
            "the inner layer is as wide as the outer ones: four times the parameters.",
            "hint 1: dim // 4.",
            _adapter(_full_width),
        ),
        Mistake(
            "ReLU",
            "the values are those of a ReLU; the adapter uses GELU.",
            "hint 3: F.gelu.",
            _adapter(
                _as_is,
                lambda net, x: (x if net.skip else 0) + net.up(F.relu(net.down(x))),
            ),
        ),
        Mistake(
            "always a skip",
            "the skip is added even if skip is False: an MLP adapter would then add its input once more.",
            "hint 3: x is added only if self.skip.",
            _adapter(_as_is, lambda net, x: x + net.up(F.gelu(net.down(x)))),
        ),
        Mistake(
            "random start, always a skip",
            "two things: the last layer starts at random, and the skip is added even if skip is False.",
            "hints 2 and 3: up starts at zero, and x is added only if self.skip.",
            _adapter(_random_start, lambda a, x: x + _bent(a, x)),
        ),
        Mistake(
            "never a skip",
            "the skip is never added: with a fresh adapter the attention's answer would vanish.",
            "hint 3: x is added if self.skip.",
            _adapter(_as_is, lambda net, x: net.up(F.gelu(net.down(x)))),
        ),
        Mistake(
            "the skip the wrong way round",
            "x is added where skip is False and left out where it is True.",
            "hint 3: x is added if self.skip.",
            _adapter(_as_is, lambda a, x: _bent(a, x) if a.skip else x + _bent(a, x)),
        ),
        Mistake(
            "GELU at the end",
            "GELU bends the adapter's answer; it stands between the two layers.",
            "hint 3: down, GELU, up.",
            _adapter(_as_is, lambda a, x: a.skip * x + F.gelu(a.up(a.down(x)))),
        ),
        Mistake(
            "GELU on the input",
            "GELU bends the token before it is squeezed; it stands between the two layers.",
            "hint 3: down, GELU, up.",
            _adapter(_as_is, lambda a, x: a.skip * x + a.up(a.down(F.gelu(x)))),
        ),
        Mistake(
            "half the width",
            "the inner width is one half of dim; it should be a quarter.",
            "hint 1: dim // 4.",
            _adapter(_half_width),
        ),
        Mistake(
            "no GELU",
            "nothing bends between the layers, so both together are one linear map.",
            "hint 3: F.gelu.",
            _adapter(_as_is, lambda a, x: a.skip * x + a.up(a.down(x))),
        ),
    ),
    Adapter,
)
