"""Exercise 10.6, the paired bootstrap."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes

Interval = Callable[[Tensor, Tensor, Tensor], tuple[Any, Any, Any]]


def right_interval(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of a - b (images,) and the 95 % interval of its means over `draws` (repetitions, images)."""
    means = (a - b)[draws].mean(dim=1)
    return (a - b).mean(), means.quantile(0.025), means.quantile(0.975)


def scores(seed: int, images: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Dice of two methods on the same images (hard images are hard for both), and 200 draws."""
    generator = torch.Generator().manual_seed(seed)
    ease = torch.rand(images, generator=generator)
    a, b = ((ease + 0.1 * torch.randn(images, generator=generator) + gain).clamp(0, 1) for gain in (0.05, 0))
    return a, b, torch.randint(0, images, (200, images), generator=generator)


def _interval_probe(f: Interval) -> list[Tensor]:
    made = [torch.stack([torch.as_tensor(v).float() for v in f(*scores(s, n))]) for s, n in ((0, 24), (1, 9))]
    return made


def _one(f: Interval, place: int) -> bool:
    return all(
        same(torch.as_tensor(f(*scores(s, n))[place]).float(), right_interval(*scores(s, n))[place])
        for s, n in ((0, 24), (1, 9), (2, 60))
    )


def _opposite(f: Interval) -> bool:
    a, b, draws = scores(4)
    there, back = (torch.stack([torch.as_tensor(v).float() for v in f(*p, draws)]) for p in ((a, b), (b, a)))
    return same(there, -back[[0, 2, 1]])


def _shift(f: Interval) -> bool:
    """If a is b plus a constant, the interval has no width, however different the images are."""
    _, b, draws = scores(5)
    difference, low, high = (float(v) for v in f(b + 0.25, b, draws))
    return max(abs(difference - 0.25), abs(low - 0.25), abs(high - 0.25)) < 1e-5


def _of_means(means: Callable[[Tensor, Tensor, Tensor], Tensor], low: float = 0.025) -> Interval:
    """The interval of different means, or with different ends."""

    def interval(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = means(a, b, draws)
        return (a - b).mean(), found.quantile(low), found.quantile(1 - low)

    return interval


def _bell(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    middle, spread = (a - b).mean(), (a - b)[draws].mean(dim=1).std()
    return middle, middle - 1.96 * spread, middle + 1.96 * spread


def _of_the_draws(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, low, high = right_interval(a, b, draws)
    return (a - b)[draws].mean(), low, high


INTERVAL = Exercise(
    "10.6",
    "a paired bootstrap interval",
    _interval_probe,
    (
        Property(
            "interface",
            "paired_interval(a, b, draws) returns the difference, its low and its high end",
            lambda f: takes(f, 3) and len(f(*scores(0))) == 3,
        ),
        Property("value", "the difference is the mean of a - b", lambda f: _one(f, 0)),
        Property("low", "the low end leaves 2.5 % of the means below it", lambda f: _one(f, 1)),
        Property("high", "the high end leaves 2.5 % of the means above it", lambda f: _one(f, 2)),
        Property("pairs", "if a is b plus a constant, the interval has no width", _shift),
        Property("invariance", "exchanging the methods turns the interval round", _opposite),
    ),
    (
        Mistake(
            "not paired",
            "the two methods are drawn apart, so the luck of hard images counts twice.",
            "hint 1: first the difference of each image, then the draws.",
            _of_means(lambda a, b, d: a[d].mean(dim=1) - b[d.flip(0)].mean(dim=1)),
        ),
        Mistake(
            "b minus a",
            "the sign is turned round: a is the new method, b the baseline.",
            "the equation above: a minus b.",
            lambda a, b, d: right_interval(b, a, d),
        ),
        Mistake(
            "90 %",
            "5 % are cut off at each end, which leaves 90 %.",
            "hint 3: 2.5 % at each end.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=1), 0.05),
        ),
        Mistake(
            "spread of the images",
            "these are the ends of the single images, not of their mean.",
            "hint 2: the mean of each draw first, then the ends.",
            _of_means(lambda a, b, d: a - b),
        ),
        Mistake(
            "mean over the draws",
            "the mean was taken over the repetitions, image by image.",
            "hint 2: the images lie on axis 1 of draws.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=0)),
        ),
        Mistake(
            "mean and deviations",
            "the ends are the mean and 1.96 deviations, which supposes a bell curve; the draws know better.",
            "hint 3: quantile asks the draws themselves.",
            _bell,
        ),
        Mistake(
            "smallest and largest",
            "the ends are the extremes of all draws, which grow with their number.",
            "hint 3: quantile.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=1), 0.0),
        ),
        Mistake(
            "no mean of the draws",
            "all drawn differences were thrown into one heap; each repetition has a mean of its own.",
            "hint 2: the mean of each draw first, then the ends.",
            _of_means(lambda a, b, d: (a - b)[d].flatten()),
        ),
        Mistake(
            "medians of the draws",
            "the median of each draw was taken; the interval is that of means.",
            "hint 2: .mean(dim=1).",
            _of_means(lambda a, b, d: (a - b)[d].median(dim=1).values),
        ),
        Mistake(
            "high before low",
            "the two ends change places: the low one comes first.",
            "the text: the low and the high end.",
            lambda a, b, d: tuple(right_interval(a, b, d)[i] for i in (0, 2, 1)),
        ),
        Mistake(
            "the mean of the means",
            "the difference is that of the images themselves; yours is the mean over the draws.",
            "the equation above: delta is the mean over the n images.",
            _of_the_draws,
        ),
        Mistake(
            "without a sign",
            "the differences lost their signs: no method could ever be behind.",
            "hint 1: a - b.",
            lambda a, b, draws: right_interval((a - b).abs(), torch.zeros_like(a), draws),
        ),
        Mistake(
            "the middle half",
            "the interval holds half of the means, from 25 % to 75 %; it should hold 95 %.",
            "hint 3: 0.025.",
            _of_means(lambda a, b, draws: (a - b)[draws].mean(dim=1), 0.25),
        ),
    ),
    right_interval,
)
