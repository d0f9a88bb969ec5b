"""Exercise 14.4, labels first."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.knowsam_plus import RISE, rise

Rise = Callable[[float, float], float]
TIMES = [(t / 40, first) for first in (0.0, 0.15, 0.3) for t in range(41)]


def _values(f: Rise, times: list[tuple[float, float]]) -> Tensor:
    return torch.tensor([float(f(*time)) for time in times], dtype=torch.float64)


def _made(
    since: Callable[[float, float], float] = lambda t, first: t - first,
    length: Callable[[float], float] = lambda first: RISE,
    curve: Callable[[float], float] = ramp,
    end: Callable[[float], float] = lambda x: min(x, 1),
    before: float = 0.0,
) -> Rise:
    """The rise, built from parts; each mistake replaces one."""

    def rise(progress: float, labels_first: float) -> float:
        x = since(progress, labels_first)
        return before if x < 0 else curve(end(x / length(labels_first)))

    return rise


FIRST = Exercise(
    "14.4",
    "labels first",
    lambda f: [_values(f, TIMES), torch.tensor(isinstance(f(0.2, 0.15), float))],
    (
        Property(
            "interface",
            "rise(progress, labels_first) returns a Python float",
            lambda f: takes(f, 2) and all(isinstance(f(t, 0.15), float) for t in (0.1, 0.2, 0.9)),
        ),
        Property(
            "silent",
            "exactly 0 as long as the labels have the word",
            lambda f: all(f(t, first) == 0 for t, first in TIMES if t < first),
        ),
        Property(
            "begins",
            "0.007 when their time is over, also where that is at once",
            lambda f: same(_values(f, [(0.15, 0.15), (0.0, 0.0)]), _values(rise, [(0.15, 0.15), (0.0, 0.0)])),
        ),
        Property(
            "rises",
            "as the ramp of chapter 04, over a quarter of the run",
            lambda f: same(_values(f, TIMES), _values(rise, TIMES)),
        ),
        Property("rests", "then 1 to the end", lambda f: all(f(t, 0.15) == 1 for t in (0.41, 0.6, 0.9, 1.0))),
    ),
    (
        Mistake(
            "no wait",
            "the rise begins at once; labels_first was not asked.",
            "hint 1: progress - labels_first.",
            _made(since=lambda t, first: t),
        ),
        Mistake(
            "the ramp of the whole run",
            "the rise takes as long as what is left of the run; here it takes a quarter of the run.",
            "hint 2: divide by RISE.",
            _made(length=lambda first: 1 - first),
        ),
        Mistake(
            "never at rest",
            "after its quarter the curve goes down again: the square does not know that it is over.",
            "hint 3: min(..., 1).",
            _made(end=lambda x: x),
        ),
        Mistake(
            "a straight line",
            "the weight rises in a straight line; the ramp lies below it for most of the time.",
            "hint 3: the exponential of -5 times a square.",
            _made(curve=lambda x: float(x)),
        ),
        Mistake(
            "a switch",
            "it jumps from 0 to 1: teachers that have waited shout.",
            "hint 3: the ramp, from 0.007 to 1.",
            _made(curve=lambda x: 1.0),
        ),
        Mistake(
            "never silent",
            "before its time the weight is 0.007 and not 0: SAM is heard from the first step on.",
            "hint 1: 0.0 as long as the difference is negative.",
            _made(before=ramp(0.0)),
        ),
        Mistake(
            "measured from the end",
            "the waiting time was added, so the rise is over before it has begun.",
            "hint 1: progress - labels_first.",
            _made(since=lambda t, first: t + first),
        ),
        Mistake(
            "no five",
            "the factor 5 is missing: the rise begins at 0.37.",
            "hint 3: -5 times the square.",
            _made(curve=lambda x: ramp(1 - (1 - x) / 5**0.5)),
        ),
        Mistake(
            "silent, then the run's time",
            "it waits, and then the ramp counts from the start of the run: the weight jumps.",
            "hint 2: since / RISE.",
            lambda t, first: 0.0 if t < first else ramp(min(t / RISE, 1)),
        ),
        Mistake(
            "no square",
            "the square is missing: the weight rises too early.",
            "hint 3: -5 times the *square*.",
            _made(curve=lambda x: ramp(1 - (1 - x) ** 0.5)),
        ),
        Mistake(
            "no minus",
            "the minus is missing: the weight begins at 148.",
            "hint 3: -5.",
            _made(curve=lambda x: 1 / ramp(x)),
        ),
        Mistake(
            "it falls",
            "the weight begins at 1 and falls: the square is that of t' and not of 1 - t'.",
            "hint 3: 1 minus what has passed.",
            _made(curve=lambda x: ramp(1 - x)),
        ),
        Mistake(
            "over at a quarter",
            "the rise is over at a quarter of the run, however long the wait was; it takes a quarter.",
            "hint 2: divide by RISE itself.",
            _made(length=lambda first: RISE - first or 1e-9),
        ),
        Mistake(
            "multiplied by a quarter",
            "the time since was multiplied by RISE; divide by it.",
            "hint 2: since / RISE.",
            _made(length=lambda first: 1 / RISE),
        ),
        Mistake(
            "silent for one step more",
            "at the very moment when the wait is over it is still 0; the ramp has begun.",
            "hint 1: 0.0 only as long as the difference is negative.",
            lambda t, first: 0.0 if t <= first else rise(t, first),
        ),
        Mistake(
            "from 0 over both",
            "the whole time was divided by wait and rise together: the ramp has been running while it was "
            "silent.",
            "hint 1: progress - labels_first.",
            lambda t, first: 0.0 if t < first else ramp(min(t / (first + RISE), 1)),
        ),
        Mistake(
            "the other way round",
            "1 minus the weight was returned: it begins at 1 and falls to 0.",
            "hint 1: 0.0 while the labels have the word.",
            lambda t, first: 1 - rise(t, first),
        ),
    ),
    rise,
)
