"""Exercise 13.4, warm-up and decay of the learning rates."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.methods.base import rate_factor

Factor = Callable[[int, int, float], float]
WARM = [(step, steps, w) for steps, w in ((40, 0.25), (30, 0.1), (25, 0.1)) for step in range(steps)]
COLD = [(step, 25, 0.0) for step in range(25)]


def _values(f: Factor, cases: list[tuple[int, int, float]]) -> Tensor:
    return torch.tensor([float(f(*case)) for case in cases], dtype=torch.float64)


def _probe(f: Factor) -> list[Tensor]:
    return [_values(f, WARM), _values(f, COLD), torch.tensor(isinstance(f(3, 40, 0.25), float))]


def _made(
    fall: Callable[[int, int], float] = lambda t, steps: 1 - max(t - 1, 0) / steps,
    rise: Callable[[int, float], float] = lambda t, length: min(1.0, (t + 1) / max(length, 1)),
    joined: Callable[[float, float], float] = lambda a, b: a * b,
) -> Factor:
    """The factor, built from parts; each mistake replaces one."""
    return lambda step, steps, warm_up: joined(fall(step, steps), rise(step, warm_up * steps))


def _waiting(step: int, steps: int, warm_up: float) -> float:
    length = max(warm_up * steps, 1)
    return (step + 1) / length if step + 1 < length else 1 - max(step - 1, 0) / steps


WARM_UP = Exercise(
    "13.4",
    "the warm-up",
    _probe,
    (
        Property(
            "interface",
            "rate_factor(step, steps, warm_up) returns a number",
            lambda f: takes(f, 3) and isinstance(f(3, 40, 0.25), float),
        ),
        Property(
            "first",
            "the first step moves something, but little",
            lambda f: same(
                _values(f, [(0, 40, 0.25), (0, 200, 0.1)]), torch.tensor([0.1, 0.05], dtype=torch.float64)
            ),
        ),
        Property(
            "rise",
            "it rises in equal steps over the warm-up, while the decay has begun",
            lambda f: same(_values(f, WARM), _values(rate_factor, WARM)),
        ),
        Property(
            "cold",
            "without a warm-up it is the decay alone, from 1 on",
            lambda f: same(_values(f, COLD), _values(rate_factor, COLD)),
        ),
    ),
    (
        Mistake(
            "no warm-up",
            "nothing rises: the first steps have the full rate. The warm-up is missing, or warm_up was "
            "taken as a number of steps; it is a fraction of the run.",
            "hint 1: the warm-up lasts warm_up * steps.",
            _made(rise=lambda t, length: 1.0),
        ),
        Mistake(
            "no decay",
            "the rate rises and then stays; it has to fall to the end of the run.",
            "the equation above: its first factor.",
            _made(fall=lambda t, steps: 1.0),
        ),
        Mistake(
            "from zero",
            "the first step has the rate 0 and is lost: step counts from 0.",
            "hint 1: step + 1.",
            _made(rise=lambda t, length: min(1.0, t / max(length, 1))),
        ),
        Mistake(
            "never at rest",
            "the warm-up goes on rising beyond 1.",
            "hint 2: no more than 1.",
            _made(rise=lambda t, length: (t + 1) / max(length, 1)),
        ),
        Mistake(
            "the larger one",
            "you took the larger one of 1 and the rise: it begins at 1 and grows.",
            "hint 2: min, not max.",
            _made(rise=lambda t, length: max(1.0, (t + 1) / max(length, 1))),
        ),
        Mistake(
            "one step early",
            "the decay begins one step early: the second step, t = 1, still has 1.",
            "hint 3: max(step - 1, 0).",
            _made(fall=lambda t, steps: 1 - t / steps),
        ),
        Mistake(
            "more than 1",
            "at t = 0 the decay gives more than 1.",
            "hint 3: max(step - 1, 0).",
            _made(fall=lambda t, steps: 1 - (t - 1) / steps),
        ),
        Mistake(
            "added",
            "the two factors were added; they are multiplied.",
            "the equation above: a product.",
            _made(joined=lambda a, b: a + b),
        ),
        Mistake(
            "the smaller one",
            "you took the smaller one of decay and rise; they are multiplied.",
            "the equation above: a product.",
            _made(joined=min),
        ),
        Mistake(
            "division by zero",
            "without a warm-up its length is 0, and you divide by it.",
            "hint 2: at least one step.",
            _made(rise=lambda t, length: min(1.0, (t + 1) / length)),
        ),
        Mistake(
            "zero at the last step",
            "the decay was divided by steps - 1; it is 0 only after the last step.",
            "the equation above: t_max itself.",
            _made(fall=lambda t, steps: 1 - max(t - 1, 0) / (steps - 1)),
        ),
        Mistake(
            "a whole number of steps",
            "the length of the warm-up was rounded; w t_max need not be whole.",
            "hint 2: max(warm_up * steps, 1) as it is.",
            _made(rise=lambda t, length: min(1.0, (t + 1) / max(int(length), 1))),
        ),
        Mistake(
            "either or",
            "during the warm-up the rate only rises; it decays all the while.",
            "the equation above: always both factors.",
            _waiting,
        ),
        Mistake(
            "the decay waits",
            "the decay begins when the warm-up is over; it begins with the run.",
            "the equation above: its first factor has no w.",
            lambda t, steps, w: (1 - max(t - w * steps, 0) / steps) * min(1.0, (t + 1) / max(w * steps, 1)),
        ),
        Mistake(
            "two steps early",
            "the decay counts step + 1: two steps early.",
            "hint 3: max(step - 1, 0).",
            _made(fall=lambda t, steps: 1 - (t + 1) / steps),
        ),
    ),
    rate_factor,
)
