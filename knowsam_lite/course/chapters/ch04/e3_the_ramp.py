"""Exercise 04.3, the ramp."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes
from knowsam_lite.methods.base import ramp

Ramp = Callable[[float], float]
TIMES = (0.0, 0.1, 0.24, 0.5, 0.63, 0.9, 1.0)


def _ramp_probe(f: Ramp) -> list[Tensor]:
    return [torch.tensor([float(f(t)) for t in TIMES]), torch.tensor(isinstance(f(0.5), float))]


def _ramp_rises(f: Ramp) -> bool:
    values = [f(t / 50) for t in range(51)]
    return all(a < b for a, b in pairwise(values))


RAMP = Exercise(
    "04.3",
    "the ramp",
    _ramp_probe,
    (
        Property(
            "interface",
            "ramp(progress) takes a number and returns a Python float",
            lambda f: takes(f, 1) and isinstance(f(0.5), float),
        ),
        Property(
            "range",
            "0.007 at the start, 1 at the end",
            lambda f: abs(f(0.0) - math.exp(-5)) < 1e-6 and abs(f(1.0) - 1) < 1e-6,
        ),
        Property("rises", "from each moment to the next", _ramp_rises),
        Property(
            "value",
            "e to the power of -5 times the square of what is left of the run",
            lambda f: all(abs(f(t) - ramp(t)) < 1e-6 for t in TIMES),
        ),
    ),
    (
        Mistake(
            "it falls",
            "the ramp falls from 1 to 0.007: you squared the progress, not what is left of the run.",
            "hint 1: what is left of the run is 1 - progress.",
            lambda progress: math.exp(-5 * progress**2),
        ),
        Mistake(
            "no square",
            "the bracket is not squared, so the ramp rises too fast at its end.",
            "hint 2: the square of the bracket.",
            lambda progress: math.exp(-5 * (1 - progress)),
        ),
        Mistake(
            "the square inside",
            "the progress was squared, and then subtracted; the whole bracket is squared.",
            "hint 2: (1 - progress) ** 2, with the brackets.",
            lambda progress: math.exp(-5 * (1 - progress**2)),
        ),
        Mistake(
            "no five",
            "the factor 5 is missing: your ramp begins at 0.37, where early guesses already teach.",
            "hint 2: -5 times the square.",
            lambda progress: math.exp(-((1 - progress) ** 2)),
        ),
        Mistake(
            "no minus",
            "the minus is missing: your ramp begins at 148 and falls to 1.",
            "hint 2: -5 times the square.",
            lambda progress: math.exp(5 * (1 - progress) ** 2),
        ),
        Mistake(
            "the five inside the square",
            "the five was squared along with the bracket: your ramp stays near 0 for most of the run.",
            "hint 2: first the square of the bracket, then times 5.",
            lambda progress: math.exp(-((5 * (1 - progress)) ** 2)),
        ),
        Mistake(
            "the exponent alone",
            "you return the exponent: it is never above 0, and the ramp never below.",
            "hint 3: math.exp of that.",
            lambda progress: -5 * (1 - progress) ** 2,
        ),
        Mistake(
            "the brackets forgotten",
            "without brackets Python squares the progress alone and subtracts it from -5.",
            "hint 2: -5 * (1 - progress) ** 2, with the brackets.",
            lambda progress: math.exp(-5 * 1 - progress**2),
        ),
        Mistake(
            "a tensor",
            "the values are right, but you return a tensor; the weight of a loss is a plain number here.",
            "hint 3: math.exp, not torch.exp.",
            lambda progress: torch.exp(torch.tensor(-5 * (1 - progress) ** 2)),
        ),
        Mistake(
            "the exponential squared",
            "the exponential of -5 times what is left was squared; the square belongs inside.",
            "hint 2: the bracket is squared, then multiplied, and math.exp comes last.",
            lambda progress: math.exp(-5 * (1 - progress)) ** 2,
        ),
        Mistake(
            "a straight line",
            "this is the progress itself; the ramp lies below it for most of the run.",
            "hint 3: math.exp.",
            lambda progress: float(progress),
        ),
    ),
    ramp,
)
