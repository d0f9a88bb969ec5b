"""Exercise 11.2, seeds and images, drawn."""

from collections.abc import Callable

import numpy as np
from torch import Tensor

from knowsam_lite.course.chapters.ch11.shared import Array, as_tensors, nearly
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.metrics import drawn_means

Drawn = Callable[[Array, Array, Array], Array]


def _drawing(
    seeds: int = 3, images: int = 6, repetitions: int = 20, seed: int = 0
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=(seeds, images))
    sizes = (repetitions, seeds), (repetitions, images)
    return delta, rng.integers(0, seeds, sizes[0]), rng.integers(0, images, sizes[1])


DRAWINGS = ((3, 6, 20, 0), (2, 9, 5, 1), (5, 4, 7, 2), (1, 8, 6, 3), (4, 4, 6, 4))


def _drawn_probe(f: Drawn) -> list[Tensor]:
    return [tensor for sizes in DRAWINGS for tensor in as_tensors(f(*_drawing(*sizes)))]


def _every_pair(delta: Array, rows: Array, columns: Array) -> list[float]:
    """The oracle: every drawn seed with every drawn image, one at a time."""
    return [
        sum(delta[s, i] for s in seeds for i in images) / (len(seeds) * len(images))
        for seeds, images in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _orders(f: Drawn) -> bool:
    """Reordering within a draw changes nothing; reordering the repetitions reorders the means."""
    delta, rows, columns = _drawing(3, 6, 8, 5)
    made = as_tensors(f(delta, rows, columns))[0]
    return same(as_tensors(f(delta, rows[:, ::-1], columns[:, ::-1]))[0], made) and same(
        as_tensors(f(delta, rows[::-1], columns[::-1]))[0], made.flip(0)
    )


DRAWN = Exercise(
    "11.2",
    "seeds and images, drawn",
    _drawn_probe,
    (
        Property(
            "interface",
            "drawn_means(delta, rows, columns) returns an array",
            lambda f: takes(f, 3) and isinstance(f(*_drawing()), np.ndarray),
        ),
        Property(
            "shape",
            "one mean for each repetition: (R,)",
            lambda f: all(np.shape(f(*_drawing(*sizes))) == (sizes[2],) for sizes in DRAWINGS),
        ),
        Property(
            "identity",
            "when everything is drawn once, it is the plain mean",
            lambda f: nearly(
                f(_drawing()[0], np.arange(3)[None], np.arange(6)[None]), _drawing()[0].mean()[None]
            ),
        ),
        Property(
            "value",
            "every drawn seed meets every drawn image",
            lambda f: all(
                nearly(f(*_drawing(*sizes)), np.array(_every_pair(*_drawing(*sizes)))) for sizes in DRAWINGS
            ),
        ),
        Property("invariance", "the order within a draw does not matter", _orders),
    ),
    (
        Mistake(
            "only images drawn",
            "the seeds are not drawn: the interval would not know that seeds differ.",
            "hint 1: both index arrays are used.",
            lambda d, rows, columns: d.mean(axis=0)[columns].mean(axis=1),
        ),
        Mistake(
            "only seeds drawn",
            "the images are not drawn: the interval would not know that images differ.",
            "hint 1: both index arrays are used.",
            lambda d, rows, columns: d.mean(axis=1)[rows].mean(axis=1),
        ),
        Mistake(
            "one seed for each repetition",
            "only the first drawn seed of each repetition is used.",
            "hint 2: np.ix_ crosses all drawn seeds with all drawn images.",
            lambda d, rows, columns: d[rows[:, :1], columns].mean(axis=1),
        ),
        Mistake(
            "a seed for each image",
            "each drawn image has a seed of its own, as if every score were an independent trial.",
            "hint 2: all images of a repetition meet the same drawn seeds.",
            lambda d, rows, columns: np.array(
                [d[np.resize(s, len(i)), i].mean() for s, i in zip(rows, columns, strict=True)]
            ),
        ),
        Mistake(
            "one mean for all",
            "all repetitions were averaged into one number; the interval needs their spread.",
            "hint 3: one mean for each repetition.",
            lambda d, rows, columns: np.array(drawn_means(d, rows, columns).mean()),
        ),
        Mistake(
            "sum for mean",
            "the drawn differences were added up, not averaged.",
            "hint 3: a mean for each repetition.",
            lambda d, rows, columns: drawn_means(d, rows, columns) * d.size,
        ),
        Mistake(
            "median",
            "the median of the drawn scores was taken; the difference to be judged is a mean.",
            "the equation above: a sum over seeds and images, divided by their number.",
            lambda d, rows, columns: np.array(
                [np.median(d[np.ix_(s, i)]) for s, i in zip(rows, columns, strict=True)]
            ),
        ),
        Mistake(
            "tables in place of means",
            "you return the drawn tables themselves; one mean for each repetition is wanted.",
            "hint 3: one .mean() for each repetition.",
            lambda d, rows, columns: np.array([d[np.ix_(s, i)] for s, i in zip(rows, columns, strict=True)]),
        ),
        Mistake(
            "an index array too far",
            "an index ran out of its axis, or two index arrays did not fit each other.",
            "hint 2: seeds index axis 0, images axis 1, and np.ix_ crosses them.",
            lambda d, rows, columns: np.array([d[s, i].mean() for s, i in zip(rows, columns, strict=True)]),
        ),
    ),
    drawn_means,
)
