"""Exercise 11.3, kinds of failure."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch11.shared import Array
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes
from knowsam_lite.metrics import dice

Kind = Callable[[Array, Array], str]
KINDS = ("good", "nothing found", "false alarm", "elsewhere", "too small", "too large", "wrong shape")


def right_kind(pred: Array, true: Array) -> str:
    """What is wrong with a prediction, judged by the pixels it hit, added and missed."""
    hit = np.count_nonzero(pred & true)
    added, missed = np.count_nonzero(pred & ~true), np.count_nonzero(~pred & true)
    if dice(pred, true) >= 0.8:
        return "good"
    if not pred.any():
        return "nothing found"
    if not true.any():
        return "false alarm"
    if hit == 0:
        return "elsewhere"
    if missed > 2 * added:
        return "too small"
    return "too large" if added > 2 * missed else "wrong shape"


def _box(rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    mask = np.zeros((20, 20), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


TRUTH = _box((5, 15), (5, 15))  # 100 pixels
EMPTY = np.zeros_like(TRUTH)
CASES: tuple[tuple[Array, Array, str], ...] = (
    (TRUTH, TRUTH, "good"),
    (EMPTY, EMPTY, "good"),
    (_box((6, 15), (5, 15)), TRUTH, "good"),
    (_box((3, 18), (5, 15)), TRUTH, "good"),  # Dice is exactly 0.8
    (_box((5, 15), (8, 15)), TRUTH, "good"),  # Dice is 0.82, IoU 0.7
    (EMPTY, TRUTH, "nothing found"),
    (TRUTH, EMPTY, "false alarm"),
    (_box((0, 4), (0, 4)), TRUTH, "elsewhere"),
    (_box((16, 19), (2, 18)), TRUTH, "elsewhere"),
    (_box((7, 12), (7, 12)), TRUTH, "too small"),
    (_box((3, 10), (6, 12)), TRUTH, "too small"),  # also adds a little
    (_box((9, 15), (5, 15)) | _box((15, 17), (5, 13)), TRUTH, "too small"),  # 40 missed, 16 added
    (_box((7, 20), (5, 15)), TRUTH, "too large"),  # 20 missed, 50 added
    (_box((5, 15), (0, 19)), TRUTH, "too large"),
    (_box((0, 20), (0, 14)), TRUTH, "too large"),
    (_box((5, 15), (9, 19)), TRUTH, "wrong shape"),  # as many added as missed
    (_box((2, 13), (2, 13)), TRUTH, "wrong shape"),
    (_box((5, 15), (7, 19)) & ~_box((5, 15), (7, 9)), TRUTH, "wrong shape"),
    (_box((0, 15), (8, 14)), TRUTH, "wrong shape"),
    (_box((10, 20), (5, 15)) & ~_box((15, 20), (5, 10)), TRUTH, "wrong shape"),  # missed is twice the added
    (_box((0, 15), (5, 15)) & ~_box((5, 8), (5, 10)) & ~_box((0, 2), (5, 10)), TRUTH, "too large"),
    (_box((5, 20), (5, 15)) & ~_box((5, 10), (5, 10)), TRUTH, "wrong shape"),  # added is twice the missed
)


def _kinds(f: Kind) -> list[str]:
    return [f(pred, true) for pred, true, _ in CASES]


def _kinds_probe(f: Kind) -> list[Tensor]:
    return [torch.tensor([KINDS.index(kind) if kind in KINDS else -1 for kind in _kinds(f)])]


def _says(*wanted: str) -> Callable[[Kind], bool]:
    return lambda f: all(f(pred, true) == kind for pred, true, kind in CASES if kind in wanted)


def _rules(
    order: tuple[str, ...] = KINDS, ratio: float = 2.0, **tests: Callable[[Array, Array], bool]
) -> Kind:
    """Tests the kinds one by one, in a given order, some with a replaced test."""

    def count(pred: Array, true: Array) -> tuple[int, int, int]:
        return tuple(int(np.count_nonzero(m)) for m in (pred & true, pred & ~true, ~pred & true))  # type: ignore

    asked: dict[str, Callable[[Array, Array], bool]] = {
        "good": lambda p, t: dice(p, t) >= 0.8,
        "nothing found": lambda p, t: not p.any(),
        "false alarm": lambda p, t: not t.any(),
        "elsewhere": lambda p, t: count(p, t)[0] == 0,
        "too small": lambda p, t: count(p, t)[2] > ratio * count(p, t)[1],
        "too large": lambda p, t: count(p, t)[1] > ratio * count(p, t)[2],
        "wrong shape": lambda p, t: True,
    }
    asked |= {name.replace("_", " "): test for name, test in tests.items()}
    return lambda pred, true: next(name for name in order if asked[name](pred, true))


KIND = Exercise(
    "11.3",
    "kinds of failure",
    _kinds_probe,
    (
        Property(
            "interface",
            "failure_kind(pred, true) returns one of the seven names",
            lambda f: takes(f, 2) and all(kind in KINDS for kind in _kinds(f)),
        ),
        Property("good", "Dice of at least 0.8 is good, two empty masks as well", _says("good")),
        Property(
            "empty",
            "an empty prediction and an empty truth are told apart",
            _says("nothing found", "false alarm"),
        ),
        Property("elsewhere", "no common pixel, though neither is empty", _says("elsewhere")),
        Property("too small", "more than twice as many missed pixels as added ones", _says("too small")),
        Property("too large", "more than twice as many added pixels as missed ones", _says("too large")),
        Property("shape", "all the rest", _says("wrong shape")),
    ),
    (
        Mistake(
            "elsewhere asked first",
            "a prediction of nothing also has no common pixel: it was called elsewhere.",
            "hint 1: the order of the questions is that of the list.",
            _rules(("good", "elsewhere", "nothing found", "false alarm", *KINDS[4:])),
        ),
        Mistake(
            "empty asked first",
            "two empty masks agree; they were called a failure.",
            "hint 1: ask for good first.",
            _rules(("nothing found", "false alarm", "good", *KINDS[3:])),
        ),
        Mistake(
            "added and missed exchanged",
            "too small and too large have changed places.",
            "hint 2: added is pred and not true, missed is true and not pred.",
            _rules(
                (*KINDS[:4], "too large", "too small", "wrong shape"),
                too_small=lambda p, t: int((p & ~t).sum()) > 2 * int((t & ~p).sum()),
                too_large=lambda p, t: int((t & ~p).sum()) > 2 * int((p & ~t).sum()),
            ),
        ),
        Mistake(
            "areas compared",
            "the areas of the masks were compared; what counts is what was missed against what was added.",
            "hint 3: missed > 2 * added.",
            _rules(
                too_small=lambda p, t: t.sum() > 2 * p.sum(), too_large=lambda p, t: p.sum() > 2 * t.sum()
            ),
        ),
        Mistake(
            "larger or smaller",
            "every failure with common pixels was called too small or too large.",
            "hint 3: only if one is more than twice the other; the rest is wrong shape.",
            _rules(too_small=lambda p, t: p.sum() < t.sum(), too_large=lambda p, t: True),
        ),
        Mistake(
            "any difference is enough",
            "more missed than added was already called too small: the factor of two is missing.",
            "hint 3: more than twice as many.",
            _rules(ratio=1.0),
        ),
        Mistake(
            "equal is enough",
            "exactly twice as many was already enough; it has to be more.",
            "hint 3: > and not >=.",
            _rules(
                too_small=lambda p, t: (t & ~p).sum() >= 2 * (p & ~t).sum(),
                too_large=lambda p, t: (p & ~t).sum() >= 2 * (t & ~p).sum(),
            ),
        ),
        Mistake(
            "good only above 0.8",
            "a Dice of exactly 0.8 was called a failure.",
            "the list above exercise 11.3: at least 0.8.",
            _rules(good=lambda p, t: dice(p, t) > 0.8),
        ),
        Mistake(
            "IoU for Dice",
            "the IoU was asked to be at least 0.8, not the Dice: it is smaller, so good masks are failures.",
            "hint 1: dice(pred, true).",
            _rules(good=lambda p, t: not (p | t).any() or (p & t).sum() / (p | t).sum() >= 0.8),
        ),
        Mistake(
            "empty ones exchanged",
            "nothing found and false alarm have changed places.",
            "the list above exercise 11.3: nothing found is an empty prediction, false alarm an empty truth.",
            _rules(nothing_found=lambda p, t: not t.any(), false_alarm=lambda p, t: not p.any()),
        ),
        Mistake(
            "elsewhere not asked",
            "a prediction without a common pixel was judged by its size; it is elsewhere.",
            "the list above exercise 11.3: elsewhere is asked before too small.",
            _rules(tuple(kind for kind in KINDS if kind != "elsewhere")),
        ),
    ),
    right_kind,
)
