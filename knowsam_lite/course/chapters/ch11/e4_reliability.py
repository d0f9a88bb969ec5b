"""Exercise 11.4, reliability."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from knowsam_lite.calibration import reliability
from knowsam_lite.course.chapters.ch11.shared import Array, as_tensors, nearly
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes

Reliable = Callable[..., tuple[Array, Array, Array]]


def _answers(n: int = 200, seed: int = 0) -> tuple[Array, Array]:
    """Confidences, some exactly 0, 1 or on an edge of four bins, and whether they were right."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n) * 0.7 + 0.3
    confidence[:6] = [0.0, 1.0, 1.0, 0.25, 0.5, 0.75]
    return confidence, rng.random(n) < confidence**2


def _plane() -> tuple[Array, Array]:
    confidence, right = _answers(120, 3)
    return confidence.reshape(2, 6, 10), right.reshape(2, 6, 10)


def _low() -> tuple[Array, Array]:
    """Answers with low confidence: the last bins are empty."""
    confidence, right = _answers(60, 4)
    return confidence[6:] * 0.5, right[6:]


def _slow(confidence: Array, right: Array, bins: int) -> tuple[Array, Array, Array]:
    """The oracle: checks every answer against every bin."""
    sums = np.zeros((3, bins))
    for c, r in zip(confidence.ravel().tolist(), right.ravel().tolist(), strict=True):
        part = bins - 1 if c == 1 else next(b for b in range(bins) if b / bins <= c < (b + 1) / bins)
        sums[:, part] += [1, c, r]
    return sums[0], sums[1], sums[2]


def _reliable_probe(f: Reliable) -> list[Tensor]:
    given: list[tuple[Any, ...]] = [
        (*_answers(), 4),
        (*_answers(50, 1), 8),
        (*_plane(), 2),
        (*_low(), 8),
        (*_answers(80, 2),),
    ]
    return [tensor for arguments in given for tensor in as_tensors(f(*arguments))]


def _sums(f: Reliable, place: int) -> bool:
    return all(
        nearly(f(c, r, bins)[place], _slow(c, r, bins)[place])
        for c, r, bins in ((*_answers(), 4), (*_answers(60, 5), 8), (*_plane(), 4))
    )


def _adds_up(f: Reliable) -> bool:
    """Two halves add up to the whole: the function returns sums."""
    (c, r), half = _answers(90, 7), 40
    one, two, whole = f(c[:half], r[:half], 4), f(c[half:], r[half:], 4), f(c, r, 4)
    return all(nearly(a + b, w) for a, b, w in zip(one, two, whole, strict=True))


def _parts(
    part: Callable[[Array, int], Array] | None = None,
    change: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = lambda n, c, r: (n, c, r),
    minlength: bool = True,
    wrong: bool = False,
) -> Reliable:
    """The right answer with one piece replaced."""

    def made(confidence: Array, right: Array, bins: int = 10) -> tuple[Array, Array, Array]:
        if part is None:
            place = np.minimum((confidence * bins).astype(int), bins - 1).ravel()
        else:
            place = part(confidence, bins).ravel()
        least = bins if minlength else 0
        weights = (None, confidence.ravel(), (~right if wrong else right).ravel())
        n, c, r = (np.bincount(place, weights=w, minlength=least).astype(float) for w in weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            return change(n, c, r)

    return made


RELIABLE = Exercise(
    "11.4",
    "a reliability diagram",
    _reliable_probe,
    (
        Property(
            "interface",
            "reliability(confidence, right, bins) returns three arrays; bins is 10 if it is not given",
            lambda f: takes(f, 3) and len(f(*_answers(), 4)) == 3 and len(f(*_answers())[0]) == 10,
        ),
        Property(
            "shape",
            "(bins,) each, whatever the shape of the answers, and for empty parts too",
            lambda f: all(np.shape(a) == (8,) for given in (_plane(), _low()) for a in f(*given, 8)),
        ),
        Property("count", "each answer lies in one part; 1 lies in the last one", lambda f: _sums(f, 0)),
        Property("confidence", "the sums of the confidences", lambda f: _sums(f, 1)),
        Property("right", "the numbers of right answers", lambda f: _sums(f, 2)),
        Property("invariance", "the sums of two halves, added, are those of the whole", _adds_up),
    ),
    (
        Mistake(
            "a part too many",
            "a confidence of 1 fell into a part of its own, behind the last one.",
            "hint 1: np.minimum(..., bins - 1).",
            _parts(part=lambda c, bins: (c * bins).astype(int)),
        ),
        Mistake(
            "empty parts missing",
            "parts at the end in which no answer lies are missing, so the arrays are too short.",
            "hint 2: minlength=bins.",
            _parts(minlength=False),
        ),
        Mistake(
            "rounded",
            "the parts were found by rounding: each is shifted by half its width.",
            "hint 1: .astype(int) cuts off; do not round.",
            _parts(part=lambda c, bins: np.minimum(np.round(c * bins).astype(int), bins - 1)),
        ),
        Mistake(
            "edges belong to the part below",
            "a confidence on an edge was put into the part below it.",
            "the smallest example above exercise 11.4: the lower edge belongs to a part.",
            _parts(part=lambda c, bins: np.maximum(np.ceil(c * bins).astype(int) - 1, 0)),
        ),
        Mistake(
            "means in place of sums",
            "means were returned, not sums: means of two images cannot be added, and empty parts have none.",
            "hint 3: sums only; the means come later.",
            _parts(change=lambda n, c, r: (n, c / n, r / n)),
        ),
        Mistake(
            "means, and 0 for empty parts",
            "means were returned, not sums: the means of two images cannot be added.",
            "hint 3: sums only; the means come later.",
            _parts(change=lambda n, c, r: (n, c / np.maximum(n, 1), r / np.maximum(n, 1))),
        ),
        Mistake(
            "the wrong ones counted",
            "the wrong answers were counted in place of the right ones.",
            "hint 2: weights=right.",
            _parts(wrong=True),
        ),
        Mistake(
            "another order",
            "the number of right answers came before the sum of the confidences.",
            "the text: how many, the sum of their confidences, how many are right.",
            _parts(change=lambda n, c, r: (n, r, c)),
        ),
        Mistake(
            "the middle of each part",
            "the middle of the part stands for its confidences; within a part they are not spread evenly.",
            "hint 2: sum the confidences themselves.",
            _parts(change=lambda n, c, r: (n, n * (np.arange(len(n)) + 0.5) / len(n), r)),
        ),
        Mistake(
            "always ten parts",
            "the number of parts is always ten; bins is not used.",
            "hint 1: confidence * bins.",
            lambda confidence, right, bins=10: reliability(confidence, right, 10),
        ),
    ),
    reliability,
)
