"""Exercise 15.5, when to refuse."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from knowsam_lite.course.chapters.ch15.shared import Array, numbers
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Limit = Callable[[Array, Array, float], Any]
NEVER = -np.inf


def right_limit(risk: Array, doubt: Array, allowed: float) -> float:
    """The largest doubt up to which answers may be kept so that their mean risk is at most `allowed`."""
    limits = [limit for limit in np.unique(doubt) if risk[doubt <= limit].mean() <= allowed]
    return float(limits[-1]) if limits else NEVER


def _cases(n: int, seed: int) -> tuple[Array, Array]:
    """Risks in [0, 1] and doubts that go with them, some of them equal."""
    drawn = noise(2, n, seed=seed).sigmoid().double().numpy()
    return drawn[0].round(2), (0.7 * drawn[0] + 0.5 * drawn[1]).round(1)


PLAIN = (np.array([0.1, 0.2, 0.6, 0.9]), np.array([1.0, 2.0, 3.0, 4.0]), 0.3)
BUMP = (np.array([0.1, 0.9, 0.0, 0.0, 0.9]), np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 0.25)  # 0.5 at the second
EQUAL = (np.array([0.1, 0.2, 0.7]), np.array([1.0, 2.0, 2.0]), 0.2)
EXACT = (np.array([0.25, 0.75, 0.5]), np.array([1.0, 2.0, 3.0]), 0.5)
NONE = (np.array([0.6, 0.1]), np.array([1.0, 2.0]), 0.2)
TURNED = (PLAIN[0][::-1].copy(), PLAIN[1][::-1].copy(), 0.3)
DRAWN = tuple((*_cases(n, seed), allowed) for n, seed, allowed in ((15, 0, 0.3), (30, 1, 0.45), (9, 2, 0.5)))
CASES = (PLAIN, BUMP, EQUAL, EXACT, NONE, TURNED, *DRAWN)


def _probe(f: Limit) -> list[Tensor]:
    return [numbers([f(*case)]) for case in CASES]


def _value(f: Limit, *cases: tuple[Array, Array, float]) -> bool:
    return same(numbers(f(*case) for case in cases), numbers(right_limit(*case) for case in cases))


def _kept_as_they_were(f: Limit) -> bool:
    risk, doubt = _cases(15, 4)
    f(risk, doubt, 0.3)
    return all(np.array_equal(a, b) for a, b in zip((risk, doubt), _cases(15, 4), strict=True))


def _sorted(risk: Array, doubt: Array) -> Iterator[tuple[float, float]]:
    """Doubt of the k-th answer in order, and the mean risk of the first k."""
    order = np.argsort(doubt, kind="stable")
    yield from zip(doubt[order], np.cumsum(risk[order]) / np.arange(1, len(risk) + 1), strict=True)


def _first_failure(risk: Array, doubt: Array, allowed: float) -> float:
    best = NEVER
    for limit in np.unique(doubt):
        if risk[doubt <= limit].mean() > allowed:
            break
        best = float(limit)
    return best


def _ties_cut(risk: Array, doubt: Array, allowed: float) -> float:
    return max((limit for limit, mean in _sorted(risk, doubt) if mean <= allowed), default=NEVER)


def _each_alone(risk: Array, doubt: Array, allowed: float) -> float:
    return float(doubt[risk <= allowed].max(initial=NEVER))


def _limits(
    risk: Array,
    doubt: Array,
    allowed: float,
    holds: Callable[[Array, float], bool] = lambda kept, allowed: kept.mean() <= allowed,
    keep: Callable[[Array, float], Array] = lambda doubt, limit: doubt <= limit,
    which: int = -1,
    never: float = NEVER,
) -> float:
    """The rule, built from parts; each mistake replaces one."""
    limits = [u for u in np.unique(doubt) if keep(doubt, u).any() and holds(risk[keep(doubt, u)], allowed)]
    return float(limits[which]) if limits else never


def _share(risk: Array, doubt: Array, allowed: float) -> float:
    return float(np.mean(doubt <= right_limit(risk, doubt, allowed)))


REFUSE = Exercise(
    "15.5",
    "when to refuse",
    _probe,
    (
        Property(
            "interface",
            "limit_of_doubt(risk, doubt, allowed) returns a float",
            lambda f: takes(f, 3) and isinstance(f(*PLAIN), float),
        ),
        Property(
            "value", "the mean risk of what is kept is at most what is allowed", lambda f: _value(f, PLAIN)
        ),
        Property(
            "largest",
            "the largest such limit, even if a smaller one breaks the rule",
            lambda f: _value(f, BUMP),
        ),
        Property("equal", "answers of equal doubt are kept or refused together", lambda f: _value(f, EQUAL)),
        Property("exact", "exactly what is allowed is allowed", lambda f: _value(f, EXACT)),
        Property("never", "minus infinity if no limit will do", lambda f: _value(f, NONE)),
        Property("order", "the same, in whatever order the answers come", lambda f: _value(f, TURNED)),
        Property("drawn", "the same limits for drawn risks and doubts", lambda f: _value(f, *DRAWN)),
        Property("quiet", "risks and doubts are left as they were", _kept_as_they_were),
    ),
    (
        Mistake(
            "stops at the first failure",
            "the search ended at the first limit that breaks the rule, though a larger one keeps it.",
            "hint 3: go through all limits.",
            _first_failure,
        ),
        Mistake(
            "equals torn apart",
            "of answers with equal doubt some were counted and some not; no limit can do that.",
            "hint 2: all answers with doubt <= limit.",
            _ties_cut,
        ),
        Mistake(
            "each answer alone",
            "each answer's own risk was compared, not the mean of all that are kept.",
            "hint 2: the mean risk of the kept.",
            _each_alone,
        ),
        Mistake(
            "less than allowed",
            "a mean risk of exactly what is allowed was refused.",
            "the text: at most.",
            lambda r, d, a: _limits(r, d, a, holds=lambda kept, allowed: kept.mean() < allowed),
        ),
        Mistake(
            "the limit itself refused",
            "answers whose doubt is the limit were not counted among the kept.",
            "hint 2: all answers with doubt <= limit.",
            lambda r, d, a: _limits(r, d, a, keep=lambda doubt, limit: doubt < limit),
        ),
        Mistake(
            "the doubtful kept",
            "the answers of most doubt were kept.",
            "hint 2: all answers with doubt <= limit.",
            lambda r, d, a: _limits(r, d, a, keep=lambda doubt, limit: doubt >= limit),
        ),
        Mistake(
            "the smallest limit",
            "the smallest limit was returned: it keeps the rule and refuses nearly everybody.",
            "hint 3: the last one that keeps the rule.",
            lambda r, d, a: _limits(r, d, a, which=0),
        ),
        Mistake(
            "the worst answer",
            "the largest risk among the kept was compared, not the mean.",
            "hint 2: the mean risk of the kept.",
            lambda r, d, a: _limits(r, d, a, holds=lambda kept, allowed: kept.max() <= allowed),
        ),
        Mistake(
            "0 for never",
            "where no limit will do the answer was 0, which keeps every answer without doubt.",
            "hint 4: minus infinity keeps nobody.",
            lambda r, d, a: _limits(r, d, a, never=0.0),
        ),
        Mistake(
            "a share",
            "the share of the kept was returned, not the limit.",
            "the text: the limit is a doubt.",
            _share,
        ),
        Mistake(
            "divided by all",
            "the risk of the kept was divided by the number of all answers: who refuses looks better.",
            "hint 2: the mean of the kept.",
            lambda risk, doubt, allowed: max(
                (float(u) for u in np.unique(doubt) if risk[doubt <= u].sum() / len(risk) <= allowed),
                default=NEVER,
            ),
        ),
        Mistake(
            "the last one to come",
            "the last answer in the given order was taken, not the one of the largest doubt.",
            "hint 1: np.unique(doubt), sorted.",
            lambda risk, doubt, allowed: [
                NEVER,
                *(float(u) for u in doubt if risk[doubt <= u].mean() <= allowed),
            ][-1],
        ),
        Mistake(
            "all for none",
            "where no limit will do it is plus infinity: everything would be kept.",
            "hint 4: *minus* infinity.",
            lambda risk, doubt, allowed: (
                right_limit(risk, doubt, allowed) if right_limit(risk, doubt, allowed) > NEVER else np.inf
            ),
        ),
        Mistake(
            "how many limits hold",
            "the number of limits that hold was returned, not the largest one.",
            "hint 3: the last that holds.",
            lambda risk, doubt, allowed: float(
                sum(risk[doubt <= u].mean() <= allowed for u in np.unique(doubt)) or NEVER
            ),
        ),
        Mistake(
            "the share that is kept",
            "you return how many are kept; the limit itself is asked for.",
            "hint 3: return the last that holds.",
            lambda risk, doubt, allowed: (
                float((doubt <= right_limit(risk, doubt, allowed)).mean())
                if right_limit(risk, doubt, allowed) > NEVER
                else NEVER
            ),
        ),
    ),
    right_limit,
)
