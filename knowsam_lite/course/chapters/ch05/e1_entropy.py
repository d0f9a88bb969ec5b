"""Exercise 05.1, entropy."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.uncertainty import entropy_map

Entropy = Callable[[Tensor], Tensor]


def _certain(classes: int) -> Tensor:
    """Logits so sure that the softmax of all classes but one rounds to 0."""
    z = torch.zeros(1, classes, 2, 2)
    z[:, 1] = 200.0
    return z


def _entropy_probe(f: Entropy) -> list[Tensor]:
    z2, z3 = noise(2, 2, 4, 5), noise(2, 3, 4, 5, seed=1)
    below = (f(_certain(2)) < 0).float()  # too small to show in a comparison of values
    return [f(z2), f(z3), *gradients(f, z3), f(50 * z3), *gradients(f, 50 * z3), f(z2.bfloat16()), below]


def _entropy_ends(f: Entropy) -> bool:
    """1 and 0 at the extremes, and never below 0: a constant inside the logarithm shows there."""
    return all(
        same(f(torch.zeros(1, c, 2, 2)), torch.ones(1, 2, 2))
        and f(_certain(c)).min() >= 0
        and f(_certain(c)).max() < 1e-5
        for c in (2, 3, 5)
    )


def _entropy_value(f: Entropy) -> bool:
    """As close to double precision as float32 allows, and closer than a constant of 1e-6 would."""
    for classes in (2, 3, 5):
        z = noise(2, classes, 6, 5, seed=classes)
        p = z.double().softmax(dim=1)
        exact = -(p * p.log()).sum(dim=1) / math.log(classes)
        if not (f(z) - exact).abs().max() < 1.5e-6:
            return False
    return True


def _entropy_gradient(f: Entropy) -> bool:
    z, extreme = noise(2, 3, 4, 5, seed=3), noise(1, 3, 4, 5, seed=4, scale=500.0)
    return same(gradients(f, z), gradients(entropy_map, z)) and all(
        g.isfinite().all() for g in gradients(f, extreme)
    )


def _wrong_axis(z: Tensor) -> Tensor:
    log_p = z.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(z.shape[1])


def _only_along_the_width(z: Tensor) -> Tensor:
    log_p = z.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1) / math.log(z.shape[1])


def _careless(constant: float | None = None, divided: bool = True, full: bool = True) -> Entropy:
    """The entropy with a constant added to p in the logarithm, undivided, or in the logits' own precision."""

    def entropy(z: Tensor) -> Tensor:
        if full:
            z = z.float()
        p = z.softmax(dim=1)
        log_p = z.log_softmax(dim=1) if constant is None else (p + constant).log()
        return -(p * log_p).sum(dim=1) / (math.log(z.shape[1]) if divided else 1)

    return entropy


def _bits(z: Tensor) -> Tensor:
    return entropy_map(z) * math.log(z.shape[1]) / math.log(2)


def _no_minus(z: Tensor) -> Tensor:
    return -entropy_map(z)


def _class_mean(z: Tensor) -> Tensor:
    return entropy_map(z) / z.shape[1]


def _infinite_slope(z: Tensor) -> Tensor:
    p = z.float().softmax(dim=1)
    return -torch.special.xlogy(p, p).sum(dim=1) / math.log(z.shape[1])


def _logits_as_p(z: Tensor) -> Tensor:
    return -(z * z.float().log_softmax(dim=1)).sum(dim=1) / math.log(z.shape[1])


ENTROPY = Exercise(
    "05.1",
    "entropy map",
    _entropy_probe,
    (
        Property(
            "interface",
            "entropy_map(z) takes logits and returns one tensor",
            lambda f: takes(f, 1) and isinstance(f(noise(2, 2, 4, 5)), Tensor),
        ),
        Property("shape", "(N, C, H, W) -> (N, H, W)", lambda f: f(noise(2, 3, 4, 5)).shape == (2, 4, 5)),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 4, 4).bfloat16()).dtype == torch.float32,
        ),
        Property(
            "range",
            "equal logits give 1, a sure pixel 0 and nothing below, for every number of classes",
            _entropy_ends,
        ),
        Property("value", "- sum p log p / log C, for 2, 3 and 5 classes", _entropy_value),
        Property("gradient", "that of the formula, and finite where a probability is 0", _entropy_gradient),
        Property(
            "invariance",
            "adding one number to all logits of a pixel changes nothing",
            lambda f: same(f(noise(2, 3, 4, 5)), f(noise(2, 3, 4, 5) + noise(2, 1, 4, 5, seed=7))),
        ),
    ),
    (
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 1: which axis of (N, C, H, W) holds the alternatives?",
            _wrong_axis,
        ),
        Mistake(
            "everything over the wrong axis",
            "softmax and sum run along the image's width, and the classes are left.",
            "hint 1: which axis of (N, C, H, W) holds the alternatives?",
            _only_along_the_width,
        ),
        Mistake(
            "not divided by log C",
            "the entropy is in natural units: its maximum is log C instead of 1.",
            "hint 3: divide by the entropy of the uniform guess.",
            _careless(divided=False),
        ),
        Mistake(
            "always divided by log 2",
            "the divisor is log 2 whatever C is: right for two classes alone.",
            "hint 3: C is z.shape[1].",
            _bits,
        ),
        Mistake(
            "the minus sign is missing",
            "log p is negative, so without the minus the map is negative.",
            "the equation above begins with a minus.",
            _no_minus,
        ),
        Mistake(
            "mean over the classes",
            "the classes were averaged instead of summed, so the maximum is 1 / C.",
            "the equation above: the sign is a sum.",
            _class_mean,
        ),
        Mistake(
            "log of 0",
            "where a probability underflows to 0, 0 times log 0 became nan.",
            "hint 2: log_softmax never takes the logarithm of 0.",
            _careless(constant=0.0),
        ),
        *(
            Mistake(
                f"log(p + {constant:g})",
                f"a constant such as {constant:g} inside the logarithm prevents nan, but moves every value: "
                "a certain pixel falls below 0.",
                "hint 2: log_softmax never takes the logarithm of 0 and needs no constant.",
                _careless(constant),
            )
            for constant in (1e-6, 1e-5, 1e-4, 1e-3)
        ),
        Mistake(
            "the authors' formula",
            "two things at once: the entropy is not divided by log C, and a constant inside the logarithm "
            "takes a certain pixel below 0.",
            "hints 2 and 3: log_softmax needs no constant; divide by log C.",
            _careless(1e-6, divided=False),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision map.",
            "hint 3: .float() first.",
            _careless(full=False),
        ),
        Mistake(
            "log of 0, not divided",
            "two things at once: where a probability underflows to 0 the map is nan, and its maximum is "
            "log C instead of 1.",
            "hints 2 and 3: log_softmax; divide by log C.",
            _careless(0.0, divided=False),
        ),
        Mistake(
            "log of 0, in half precision",
            "two things at once: where a probability underflows to 0 the map is nan, and half-precision "
            "logits give a half-precision map.",
            "hints 2 and 3: .float() first, and log_softmax.",
            _careless(0.0, full=False),
        ),
        Mistake(
            "not divided, in half precision",
            "two things at once: the maximum is log C instead of 1, and half-precision logits give a "
            "half-precision map.",
            "hint 3: .float() first, and divide by log C.",
            _careless(divided=False, full=False),
        ),
        Mistake(
            "nothing but the textbook",
            "three things at once: where a probability underflows to 0 the map is nan; its maximum is log C "
            "instead of 1; half-precision logits give a half-precision map.",
            "hints 2 and 3: .float() first, log_softmax, and divide by log C.",
            _careless(0.0, divided=False, full=False),
        ),
        Mistake(
            "nan on the way back",
            "the map is right, but where a probability underflows to 0 its gradient is nan.",
            "hint 2: log_softmax survives on the way back, too.",
            _infinite_slope,
        ),
        Mistake(
            "logits in place of p",
            "the weights in the sum are the logits themselves, not probabilities.",
            "hint 2: p is the exponential of log p.",
            _logits_as_p,
        ),
        Mistake(
            "log2 below the line",
            "the divisor is the logarithm to base 2; above the line it is the natural one.",
            "hint 3: math.log.",
            lambda z: entropy_map(z) * (math.log(z.shape[1]) / math.log2(z.shape[1])),
        ),
    ),
    entropy_map,
)
