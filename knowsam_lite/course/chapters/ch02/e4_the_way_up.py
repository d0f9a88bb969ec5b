"""Exercise 02.4, the way up."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.chapters.ch02.shared import filled
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.subnets import make_decoder

Up = Callable[[nn.ModuleList, nn.ModuleList, list[Tensor]], list[Tensor]]


def _ladder() -> tuple[nn.ModuleList, nn.ModuleList]:
    up, decoder = make_decoder((4, 6, 8))
    filled(up, 1), filled(decoder, 2)
    return up, decoder


def _maps(seed: int = 0) -> list[Tensor]:
    sizes = ((4, 16, 24), (6, 8, 12), (8, 4, 6))
    return [noise(2, *size, seed=seed + i) for i, size in enumerate(sizes)]


def _left(f: Up) -> Tensor:
    features = _maps()
    f(*_ladder(), features)
    return torch.tensor([len(features)])


def _up_probe(f: Up) -> list[Tensor]:
    last = lambda *maps: f(*_ladder(), list(maps))[-1]  # noqa: E731
    return [*f(*_ladder(), _maps()), _left(f), *gradients(last, *_maps())]


def _up_gradient(f: Up) -> bool:
    def last(g: Up) -> list[Tensor]:
        return gradients(lambda *maps: g(*_ladder(), list(maps))[-1], *_maps(3))

    return same(last(f), last(subnets.decode))


def _rise(join: Callable[[Tensor, Tensor], Sequence[Tensor]]) -> Up:
    """A wrong way up that joins the skip and the enlarged map differently."""

    def decode(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
        *skips, x = features
        found = []
        for enlarge, block in zip(up, decoder, strict=True):
            x = block(torch.cat(list(join(skips.pop(), enlarge(x))), dim=1))
            found.append(x)
        return found

    return decode


def _from_the_front(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    found = []
    for skip, enlarge, block in zip(skips, up, decoder, strict=True):
        x = block(torch.cat([skip, enlarge(x)], dim=1))
        found.append(x)
    return found


def _empties(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    found = subnets.decode(up, decoder, features)
    features.clear()
    return found


def _joined(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    found = []
    for enlarge, block in zip(up, decoder, strict=True):
        found.append(torch.cat([skips.pop(), enlarge(x)], dim=1))
        x = block(found[-1])
    return found


def _added(up: nn.ModuleList, decoder: nn.ModuleList, features: list[Tensor]) -> list[Tensor]:
    *skips, x = features
    for enlarge, block in zip(up, decoder, strict=True):
        x = block(skips.pop() + enlarge(x))
    return [x]


CLIMB = Exercise(
    "02.4",
    "the way up",
    _up_probe,
    (
        Property(
            "interface",
            "decode(up, decoder, features) returns one map per block",
            lambda f: takes(f, 3) and len(f(*_ladder(), _maps())) == 2,
        ),
        Property(
            "shape",
            "coarsest first, the last one at full size",
            lambda f: [tuple(t.shape) for t in f(*_ladder(), _maps())] == [(2, 6, 8, 12), (2, 4, 16, 24)],
        ),
        Property(
            "value",
            "each block sees its skip and behind it the doubled map",
            lambda f: all(
                same(f(*_ladder(), _maps(s)), subnets.decode(*_ladder(), _maps(s))) for s in (1, 2)
            ),
        ),
        Property("gradient", "every map of the way down gets its gradient", _up_gradient),
        Property("no trace", "the list that was given keeps its three maps", lambda f: int(_left(f)) == 3),
    ),
    (
        Mistake(
            "the skip behind",
            "the enlarged map stands before the skip; the block's weights expect the skip first.",
            "hint 2: skip, then enlarged map.",
            _rise(lambda skip, x: (x, skip)),
        ),
        Mistake(
            "skips in the wrong order",
            "the skips are taken finest first; the way up begins with the coarsest, and sizes do not fit.",
            "hint 1: skips.pop() takes the last one.",
            _from_the_front,
        ),
        Mistake(
            "no skip",
            "the enlarged map stands twice and the skip is not used.",
            "hint 2: skip, then enlarged map.",
            _rise(lambda skip, x: (x, x)),
        ),
        Mistake(
            "a detached skip",
            "the skip is detached: the way down would learn only through the deepest map.",
            "hint 2: the skip goes in as it is.",
            _rise(lambda skip, x: (skip.detach(), x)),
        ),
        Mistake(
            "only the last",
            "only the map at full size came back; one map per block is wanted.",
            "hint 3: a list, one map per block.",
            lambda up, decoder, features: subnets.decode(up, decoder, features)[-1:],
        ),
        Mistake(
            "full size first",
            "the maps are right, but in the wrong order: coarsest first.",
            "hint 3: append in the order of the blocks.",
            lambda up, decoder, features: subnets.decode(up, decoder, features)[::-1],
        ),
        Mistake(
            "the list is used up",
            "the maps are right, but the list that you were given lost its entries.",
            "hint 1: *skips, x = features makes a list of its own.",
            _empties,
        ),
        Mistake(
            "the deepest map in the list",
            "the list begins with the map that you were given; it should hold what the blocks return.",
            "hint 3: what a block returns is kept.",
            lambda up, decoder, features: [features[-1], *subnets.decode(up, decoder, features)],
        ),
        Mistake(
            "kept before the block",
            "the joined maps were kept, before their block had mixed them.",
            "hint 3: what a block returns is kept.",
            _joined,
        ),
        Mistake(
            "the skip added",
            "skip and enlarged map were added; the block expects them side by side, with twice the channels.",
            "hint 2: torch.cat along axis 1.",
            _added,
        ),
    ),
    subnets.decode,
)
