"""Exercise 10.5, which checkpoint."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes

Rows = list[dict[str, Any]]
Choose = Callable[[Rows, str], int]


def right_choice(rows: Rows, view: str) -> int:
    """The step with the best val Dice of a view; the first on a tie."""
    best, chosen = -1.0, 0
    for row in rows:
        if row["kind"] == "val" and row["dice"][view] > best:
            best, chosen = row["dice"][view], row["step"]
    return chosen


def histories() -> Iterator[Rows]:
    """Logs with rows of all kinds: random ones, one with a tie, one that only falls, one all zeros."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        yield _history(*(rng.integers(30, 90, (3, 7)) / 100))
    rise = [0.1, 0.5, 0.7, 0.7, 0.6, 0.7, 0.2]
    yield _history(rise, rise[::-1], [0.3, 0.2, 0.1, 0.5, 0.9, 0.95, 0.97])
    yield _history([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], rise, rise)
    yield _history([0.0] * 7, rise, rise)


def _history(fused: Any, sam: Any, test: Any) -> Rows:
    rows: Rows = []
    for i, (f, s, t) in enumerate(zip(fused, sam, test, strict=True)):
        step = 20 * (i + 1)
        rows.append({"kind": "train", "step": step, "losses": {}, "total": 1 / step})
        rows.append({"kind": "test", "step": step, "dice": {"SAM": float(t) / 2, "fused": float(t)}})
        rows.append({"kind": "val", "step": step, "dice": {"SAM": float(s), "fused": float(f)}})
    return rows


def _choose_probe(f: Choose) -> list[Tensor]:
    return [torch.tensor(int(f(rows, view))) for rows in histories() for view in ("fused", "SAM")]


def _chooses(f: Choose, numbers: Sequence[int], view: str) -> bool:
    rows = [h for i, h in enumerate(histories()) if i in numbers]
    return all(f(h, view) == right_choice(h, view) for h in rows)


def _by(key: Callable[[dict[str, Any], str], float], kind: str = "val", last: bool = False) -> Choose:
    """The step of the row of this kind with the largest key; on a tie the first, or the last."""

    def choose(rows: Rows, view: str) -> int:
        kept = [row for row in rows if row["kind"] == kind]
        return max(reversed(kept) if last else kept, key=lambda row: key(row, view))["step"]

    return choose


def _without_test(rows: Rows) -> Rows:
    return [row for row in rows if row["kind"] != "test"]


CHOICE = Exercise(
    "10.5",
    "which checkpoint",
    _choose_probe,
    (
        Property(
            "interface",
            "choose(rows, view) returns the step of one of the rows",
            lambda f: takes(f, 2) and f(next(histories()), "fused") in range(20, 141, 20),
        ),
        Property("value", "the step of the best val Dice", lambda f: _chooses(f, range(6), "fused")),
        Property("view", "of the view that was asked for", lambda f: _chooses(f, range(6), "SAM")),
        Property("tie", "of equals the first", lambda f: _chooses(f, (6, 8), "fused")),
        Property("early", "it may be the first row of all", lambda f: _chooses(f, (7,), "fused")),
        Property(
            "honest",
            "the test rows do not matter: without them the choice is the same",
            lambda f: all(f(_without_test(h), v) == f(h, v) for h in histories() for v in ("fused", "SAM")),
        ),
    ),
    (
        Mistake(
            "chosen on the test images",
            "you chose by the test Dice: the result would then be a best case, and no estimate.",
            "hint 1: rows of kind val.",
            lambda rows, view: _by(lambda r, v: r["dice"][v], "test" if _has_test(rows) else "val")(
                rows, view
            ),
        ),
        Mistake(
            "val and test alike",
            "rows of both kinds compete, so a lucky test row can win.",
            "hint 1: rows of kind val only.",
            lambda rows, view: max((r for r in rows if "dice" in r), key=lambda r: r["dice"][view])["step"],
        ),
        Mistake(
            "the last row",
            "you took the last validation, whatever its Dice.",
            "hint 2: remember the best so far.",
            _by(lambda r, v: r["step"]),
        ),
        Mistake(
            "the worst",
            "you took the smallest Dice; unlike a loss it should be large.",
            "hint 2: larger is better.",
            _by(lambda r, v: -r["dice"][v]),
        ),
        Mistake(
            "the last of equals",
            "among equal scores you took the last; a file is replaced only by a better one.",
            "hint 3: larger than, not at least.",
            _by(lambda r, v: r["dice"][v], last=True),
        ),
        Mistake(
            "a best of 0",
            "the search begins with a best of 0, so a run whose Dice is 0 throughout has no checkpoint.",
            "hint 3: begin with a best of -1.",
            lambda rows, view: (
                right_choice(rows, view) if any(r["dice"][view] for r in rows if r["kind"] == "val") else 0
            ),
        ),
        Mistake(
            "the place in the list",
            "you return the place of the row among the validations; its step is wanted.",
            "hint 2: remember the step as well.",
            lambda rows, view: [r["step"] for r in rows if r["kind"] == "val"].index(
                right_choice(rows, view)
            ),
        ),
        Mistake(
            "the score itself",
            "you return the best Dice; the step at which it was reached is wanted.",
            "hint 2: remember the step as well.",
            lambda rows, view: max(r["dice"][view] for r in rows if r["kind"] == "val"),
        ),
        Mistake(
            "any view",
            "the best of all views was taken; SAM's score says nothing about the map that you deploy.",
            "hint 2: row['dice'][view].",
            _by(lambda r, v: max(r["dice"].values())),
        ),
    ),
    right_choice,
)


def _has_test(rows: Rows) -> bool:
    return any(row["kind"] == "test" for row in rows)
