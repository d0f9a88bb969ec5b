"""Exercise 11.5, risk and coverage."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.calibration import risk_coverage
from knowsam_lite.course.chapters.ch11.shared import Array, as_tensors, nearly
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes

Curve = Callable[[Array, Array], tuple[Array, Array]]


def _doubts(n: int = 12, seed: int = 0) -> tuple[Array, Array]:
    """Risks and doubts; two of the doubts are equal."""
    rng = np.random.default_rng(seed)
    risk = rng.random(n)
    doubt = risk + 0.5 * rng.random(n)
    doubt[n // 2] = doubt[0]
    return risk, doubt


def _inputs_kept(f: Curve) -> bool:
    given, fresh = _doubts(12, 6), _doubts(12, 6)
    f(*given)
    return all(np.array_equal(a, b) for a, b in zip(given, fresh, strict=True))


def _curve_probe(f: Curve) -> list[Tensor]:
    curves = [f(*_doubts(n, seed)) for n, seed in ((12, 0), (5, 1), (1, 2), (30, 3))]
    return [t for curve in curves for t in as_tensors(curve)] + [torch.tensor([_inputs_kept(f)])]


def _curve_value(f: Curve) -> bool:
    for n, seed in ((12, 4), (7, 5)):
        risk, doubt = _doubts(n, seed)
        ranked = sorted(range(n), key=lambda i: (doubt[i], i))
        wanted = [sum(risk[i] for i in ranked[:k]) / k for k in range(1, n + 1)]
        if not nearly(f(risk, doubt)[1], np.array(wanted)):
            return False
    return True


def _curve_with(
    order: Callable[[Array, Array], Array] = lambda risk, doubt: np.argsort(doubt, kind="stable"),
    value: Callable[[Array], Array] = lambda r: np.cumsum(r) / np.arange(1, len(r) + 1),
    first: int = 1,
) -> Curve:
    def curve(risk: Array, doubt: Array) -> tuple[Array, Array]:
        kept = np.arange(first, len(risk) + first)
        return kept / len(risk), value(risk[order(risk, doubt)])

    return curve


def _sorted_in_place(risk: Array, doubt: Array) -> tuple[Array, Array]:
    risk[:] = risk[np.argsort(doubt, kind="stable")]
    return _curve_with(order=lambda risk, doubt: np.arange(len(risk)))(risk, doubt)


CURVE = Exercise(
    "11.5",
    "risk and coverage",
    _curve_probe,
    (
        Property(
            "interface",
            "risk_coverage(risk, doubt) returns two arrays",
            lambda f: takes(f, 2) and len(f(*_doubts())) == 2,
        ),
        Property("shape", "as long as the risks", lambda f: all(np.shape(a) == (12,) for a in f(*_doubts()))),
        Property(
            "coverage",
            "from 1 / n, when one answer is kept, to 1",
            lambda f: nearly(f(*_doubts(8))[0], np.arange(1, 9) / 8),
        ),
        Property(
            "end",
            "when all are kept, the risk is the mean risk",
            lambda f: nearly(np.array(f(*_doubts())[1][-1:]), np.array([_doubts()[0].mean()])),
        ),
        Property("value", "the mean risk of the k answers of least doubt", _curve_value),
        Property(
            "invariance",
            "only the ranking of the doubts counts",
            lambda f: nearly(f(_doubts()[0], np.exp(3 * _doubts()[1])), f(*_doubts())),
        ),
        Property("quiet", "risks and doubts are left as they were", _inputs_kept),
    ),
    (
        Mistake(
            "the most doubtful first",
            "the answers of most doubt are kept first: the curve is the wrong way round.",
            "hint 1: argsort puts the smallest doubt first.",
            _curve_with(order=lambda risk, doubt: np.argsort(-doubt, kind="stable")),
        ),
        Mistake(
            "turned round",
            "the order was turned round: the answers of most doubt are kept first.",
            "hint 1: argsort already puts the smallest doubt first.",
            _curve_with(order=lambda risk, doubt: np.argsort(doubt, kind="stable")[::-1]),
        ),
        Mistake(
            "coverage is k",
            "the coverage is the number of kept answers; it should be their share.",
            "the equation above: the coverage is k / n.",
            lambda risk, doubt: (np.arange(1.0, len(risk) + 1), risk_coverage(risk, doubt)[1]),
        ),
        Mistake(
            "sorted by risk",
            "the answers were sorted by their risk, which nobody knows without the truth.",
            "hint 1: sort by doubt.",
            _curve_with(order=lambda risk, doubt: np.argsort(risk, kind="stable")),
        ),
        Mistake(
            "not sorted",
            "the answers were kept in the order in which they came.",
            "hint 1: sort by doubt.",
            _curve_with(order=lambda risk, doubt: np.arange(len(risk))),
        ),
        Mistake(
            "sum for mean",
            "the risks were added up and not divided by the number of kept answers.",
            "hint 2: divide by k.",
            _curve_with(value=np.cumsum),
        ),
        Mistake(
            "divided by all",
            "the sum of the kept risks was divided by the number of all answers.",
            "hint 2: divide by k, the number of those that are kept.",
            _curve_with(value=lambda r: np.cumsum(r) / len(r)),
        ),
        Mistake(
            "the risk of the last one",
            "the value is the risk of the k-th answer, not the mean of all that are kept.",
            "hint 2: a cumulative sum.",
            _curve_with(value=lambda r: r),
        ),
        Mistake(
            "coverage from 0",
            "the coverage starts at 0: no answer kept has no risk.",
            "hint 3: k from 1 to n.",
            _curve_with(first=0),
        ),
        Mistake(
            "doubt averaged",
            "the doubts of the kept answers were averaged, not their risks.",
            "hint 2: the risks, in the order of the doubts.",
            lambda risk, doubt: risk_coverage(doubt, doubt),
        ),
        Mistake(
            "outputs exchanged",
            "the mean risks came first and the coverage second.",
            "the text: the coverage, and the mean risk.",
            lambda risk, doubt: risk_coverage(risk, doubt)[::-1],
        ),
        Mistake(
            "equals turned round",
            "of equal doubts the later answer was kept first.",
            'hint 1: np.argsort(doubt, kind="stable").',
            _curve_with(order=lambda risk, doubt: np.argsort(-doubt, kind="stable")[::-1]),
        ),
        Mistake(
            "inputs changed",
            "the curve is right, but an array that was handed in has changed; whoever uses it next is wrong.",
            "hint 2: risk[order] is a new array; do not write into the old one.",
            _sorted_in_place,
        ),
    ),
    risk_coverage,
)


def half_and_half(gains: Array, repetitions: int, seed: int) -> Iterator[tuple[float, float]]:
    """Gains (variants, images): mean of the best variant on a random half, and its mean on the other half."""
    rng = np.random.default_rng(seed)
    images = gains.shape[1]
    for _ in range(repetitions):
        order = rng.permutation(images)
        chosen, others = order[: images // 2], order[images // 2 :]
        best = gains[:, chosen].mean(axis=1).argmax()
        yield float(gains[best, chosen].mean()), float(gains[best, others].mean())
