"""Exercise 11.1, an ablation table."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch11.shared import Array
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes

Rung = tuple[str, float, float, float]
Table = Callable[[dict[str, Array]], list[Rung]]


def right_rungs(scores: dict[str, Array]) -> list[Rung]:
    """Name, mean, deviation over the seeds and gain over the previous rung, for each variant in order."""
    rows: list[Rung] = []
    for name, dices in scores.items():
        seeds = dices.mean(axis=1)
        gain = seeds.mean() - rows[-1][1] if rows else 0.0
        rows.append((name, float(seeds.mean()), float(seeds.std(ddof=1)), float(gain)))
    return rows


def _scores(seed: int, variants: int = 4, seeds: int = 3, images: int = 7) -> dict[str, Array]:
    """Scores in which seeds, images and variants vary by different amounts; the names are not sorted."""
    rng = np.random.default_rng(seed)
    return {
        f"{'zqab'[i]}{i}": 0.4
        + 0.1 * rng.random()
        + 0.05 * rng.random((seeds, 1))
        + 0.2 * rng.random((1, images))
        + 0.1 * rng.random((seeds, images))
        for i in range(variants)
    }


def _rungs_probe(f: Table) -> list[Tensor]:
    found = []
    for seed, seeds in ((0, 3), (1, 2), (2, 5)):
        given = _scores(seed, seeds=seeds)
        rows = f(given)
        found += [torch.tensor([list(given).index(row[0]) for row in rows])]
        found += [torch.tensor([[float(number) for number in row[1:]] for row in rows])]
    return found


def _column(f: Table, place: int) -> bool:
    return all(
        same(
            torch.tensor([float(row[place]) for row in f(_scores(seed, seeds=seeds))]),
            torch.tensor([row[place] for row in right_rungs(_scores(seed, seeds=seeds))]),
        )
        for seed, seeds in ((3, 3), (4, 2), (5, 6))
    )


def _table_with(
    spread: Callable[[Array], float] | None = None, gain: Callable[[list[float]], float] | None = None
) -> Table:
    """The right table with a different spread of (seeds, images), or gain from the means so far."""

    def rungs(scores: dict[str, Array]) -> list[Rung]:
        rows, means = [], []
        for name, _, deviation, more in right_rungs(scores):
            means.append(float(scores[name].mean()))
            rows.append(
                (
                    name,
                    means[-1],
                    float(spread(scores[name])) if spread else deviation,
                    float(gain(means)) if gain else more,
                )
            )
        return rows

    return rungs


RUNGS = Exercise(
    "11.1",
    "an ablation table",
    _rungs_probe,
    (
        Property(
            "interface",
            "rungs(scores) returns a list of tuples of four: a name and three numbers",
            lambda f: takes(f, 1) and all(len(row) == 4 and isinstance(row[0], str) for row in f(_scores(0))),
        ),
        Property(
            "order",
            "one row for each variant, in the order given",
            lambda f: [row[0] for row in f(_scores(0))] == list(_scores(0)),
        ),
        Property("mean", "the mean over seeds and images", lambda f: _column(f, 1)),
        Property("deviation", "the deviation of the seeds' means, with n - 1", lambda f: _column(f, 2)),
        Property("first", "the first rung gains nothing", lambda f: float(f(_scores(0))[0][3]) == 0),
        Property("gain", "each gain is taken over the rung just before", lambda f: _column(f, 3)),
    ),
    (
        Mistake(
            "divided by n",
            "the deviation divides by n, not by n - 1: with three seeds it is a fifth too small.",
            "hint 2: .std(ddof=1).",
            _table_with(spread=lambda d: d.mean(axis=1).std()),
        ),
        Mistake(
            "deviation over everything",
            "the deviation is that of all scores, so the images' difficulty is taken for the seeds' luck.",
            "hint 2: first the mean of each seed, then the deviation of these means.",
            _table_with(spread=lambda d: d.std(ddof=1)),
        ),
        Mistake(
            "deviation over the images",
            "the deviation is that of the images, averaged over the seeds: axis 0 was averaged first.",
            "hint 1: the images lie on axis 1.",
            _table_with(spread=lambda d: d.mean(axis=0).std(ddof=1)),
        ),
        Mistake(
            "standard error",
            "the deviation is divided by the root of the number of seeds: that is the mean's standard error.",
            "the equation above: the deviation of the seeds, not of their mean.",
            _table_with(spread=lambda d: d.mean(axis=1).std(ddof=1) / len(d) ** 0.5),
        ),
        Mistake(
            "gain over the first",
            "each gain is taken over the first rung, so later parts are credited with all earlier ones.",
            "hint 3: the row before is rows[-1].",
            _table_with(gain=lambda m: m[-1] - m[0]),
        ),
        Mistake(
            "gain with the wrong sign",
            "the gain is the rung before minus this one: improvements come out negative.",
            "hint 3: this mean minus the mean before.",
            _table_with(gain=lambda m: m[-2] - m[-1] if len(m) > 1 else 0.0),
        ),
        Mistake(
            "the first gains its mean",
            "the first rung gains its whole mean; there is nothing before it, so it gains 0.",
            "hint 3: no rung before, no gain.",
            _table_with(gain=lambda m: m[-1] - (m[-2] if len(m) > 1 else 0.0)),
        ),
    ),
    right_rungs,
)
