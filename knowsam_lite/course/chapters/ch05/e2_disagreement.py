"""Exercise 05.2, disagreement."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.uncertainty import disagreement_map


def _probabilities(classes: int, seed: int) -> tuple[Tensor, Tensor]:
    return (
        noise(2, classes, 6, 5, seed=seed).softmax(dim=1),
        noise(2, classes, 6, 5, seed=seed + 50).softmax(dim=1),
    )


def _disagreement_probe(f: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    half = torch.full((1, 2, 2, 2), 0.5)
    sure = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    return [f(*_probabilities(3, 1)), f(*_probabilities(2, 2)), f(half, sure), f(sure, half)]


def _threshold(f: Callable[[Tensor, Tensor], Tensor]) -> bool:
    tie = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    sure = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    torn = torch.tensor([0.4, 0.35, 0.25]).view(1, 3, 1, 1)
    other = torch.tensor([0.25, 0.4, 0.35]).view(1, 3, 1, 1)
    return f(tie, sure).flatten().tolist() == [1, 0] and f(torn, other).flatten().tolist() == [0, 0, 0]


def _agreement(p_a: Tensor, p_b: Tensor) -> Tensor:
    return 1 - disagreement_map(p_a, p_b)


def _either(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_or(p_a > 0.5, p_b > 0.5).to(p_a.dtype)


def _both(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_and(p_a > 0.5, p_b > 0.5).to(p_a.dtype)


def _left_boolean(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_xor(p_a > 0.5, p_b > 0.5)


def _gap(p_a: Tensor, p_b: Tensor) -> Tensor:
    return (p_a - p_b).abs()


def _argmax(p_a: Tensor, p_b: Tensor) -> Tensor:
    return (p_a.argmax(dim=1) != p_b.argmax(dim=1)).to(p_a.dtype)


def _winners(p_a: Tensor, p_b: Tensor) -> Tensor:
    a, b = (nn.functional.one_hot(p.argmax(dim=1), p.shape[1]).movedim(-1, 1) for p in (p_a, p_b))
    return (a != b).to(p_a.dtype)


def _every_class(p_a: Tensor, p_b: Tensor) -> Tensor:
    return _argmax(p_a, p_b).unsqueeze(1).expand_as(p_a)


def _at_least_half(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_xor(p_a >= 0.5, p_b >= 0.5).to(p_a.dtype)


DISAGREEMENT = Exercise(
    "05.2",
    "disagreement map",
    _disagreement_probe,
    (
        Property(
            "interface",
            "disagreement_map(p_a, p_b) takes two probability maps and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_probabilities(2, 0)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) -> (N, C, H, W): one map per class",
            lambda f: f(*_probabilities(3, 0)).shape == (2, 3, 6, 5),
        ),
        Property(
            "dtype",
            "the type of p_a: float32 gives float32, float64 gives float64",
            lambda f: all(
                f(p.to(t), q.to(t)).dtype == t
                for t in (torch.float32, torch.float64)
                for p, q in [_probabilities(2, 0)]
            ),
        ),
        Property(
            "value",
            "1 where exactly one network gives the class more than one half, else 0, for 2, 3, 5 classes",
            lambda f: all(
                same(f(*_probabilities(c, c)), disagreement_map(*_probabilities(c, c))) for c in (2, 3, 5)
            ),
        ),
        Property(
            "threshold", "a class speaks when it has more than one half; a tie does not speak", _threshold
        ),
        Property(
            "gradient",
            "none: the map is a constant",
            lambda f: not f(*(p.requires_grad_() for p in _probabilities(2, 3))).requires_grad,
        ),
        Property(
            "invariance",
            "exchanging the two networks changes nothing",
            lambda f: same(f(*_probabilities(3, 4)), f(*reversed(_probabilities(3, 4)))),
        ),
    ),
    (
        Mistake(
            "agreement",
            "your map is 1 where the networks agree; it should be 1 where they do not.",
            "hint 2: exclusive or is true when exactly one side is.",
            _agreement,
        ),
        Mistake(
            "or in place of exclusive or",
            "your map is also 1 where both networks say yes.",
            "hint 2: exactly one, not at least one.",
            _either,
        ),
        Mistake(
            "and in place of exclusive or",
            "your map is 1 where both networks say yes, which is agreement.",
            "hint 2: exactly one, not both.",
            _both,
        ),
        Mistake(
            "left boolean",
            "the map is right but still of type bool: 1 minus it would fail.",
            "hint 3: give it the type of p_a.",
            _left_boolean,
        ),
        Mistake(
            "difference of probabilities",
            "your map is the gap between the probabilities, which is soft.",
            "hint 1: first let each network decide, then compare decisions.",
            _gap,
        ),
        Mistake(
            "argmax",
            "you compared winners, which gives one map for all classes instead of one per class.",
            "hint 1: a class speaks above one half; compare per class.",
            _argmax,
        ),
        Mistake(
            "argmax, with the axis of the classes kept",
            "you compared winners, which gives one channel in place of one per class.",
            "hint 1: a class speaks above one half; compare per class.",
            lambda p_a, p_b: _argmax(p_a, p_b).unsqueeze(1),
        ),
        Mistake(
            "argmax, for every class",
            "you compared winners and gave the answer to every class, also to those that nobody chose.",
            "hint 1: a class speaks above one half; compare per class.",
            _every_class,
        ),
        Mistake(
            "each network's winner",
            "in each network the winner speaks, also with one half or less of the probability.",
            "hint 1: the decision is p > 0.5, not argmax.",
            _winners,
        ),
        Mistake(
            "a tie speaks",
            "with >= both classes of a tie count as chosen.",
            "hint 1: more than one half.",
            _at_least_half,
        ),
    ),
    disagreement_map,
)
