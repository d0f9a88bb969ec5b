"""Exercise 15.2, images that differ."""

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor

from knowsam_lite.course.chapters.ch15.shared import Array, numbers
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.suggest.choose import k_center

Choose = Callable[[Array, Array | None, int], Any]


def _features(m: int, labeled: int | None, seed: int = 0) -> tuple[Array, Array | None]:
    """Features (M, 3), and those of the labelled images."""
    drawn = noise(m + (labeled or 0), 3, seed=seed).numpy()
    return drawn[:m], None if labeled is None else drawn[m:]


def _twins() -> Array:
    """Six images, of which two and three are the same."""
    return np.repeat(_features(3, None, 7)[0], (1, 2, 3), axis=0)


CASES = (
    (*_features(9, 3, 1), 4),
    (*_features(20, 1, 2), 6),
    (*_features(12, 5, 3), 1),
    (*_features(8, 2, 9), 8),
    (*_features(10, None, 4), 5),
    (*_features(7, 0, 5), 3),
    (_twins(), _features(2, None, 8)[0], 6),
)


def _probe(f: Choose) -> list[Tensor]:
    return [numbers(f(*case)) for case in CASES]


def _value(f: Choose, *which: int) -> bool:
    return same([numbers(f(*CASES[i])) for i in which], [numbers(k_center(*CASES[i])) for i in which])


def _chosen(
    features: Array,
    taken: Array | None,
    n: int,
    score: Callable[[Array], Array] = lambda distances: distances.min(axis=1),
    pick: Callable[[Array], int] = lambda score: int(score.argmax()),
    begin: Callable[[Array], int] = lambda features: 0,
    once: bool = True,
    grows: bool = True,
) -> list[int]:
    """Greedy k-center, built from parts; each mistake replaces one."""
    none = taken is None or not len(taken)
    chosen = [begin(features)] if none else []
    while len(chosen) < n:
        new = features[chosen if grows or none else []]
        all_taken = new if none else np.concatenate([taken, new])
        far = score(np.linalg.norm(features[:, None] - all_taken[None], axis=2))  # (M,)
        if once:
            far[chosen] = -1.0
        chosen.append(pick(far))
    return chosen


def _ones_once(score: Array) -> int:
    return int(np.where(score < 0, np.inf, score).argmin())


def _with(
    features: Array,
    taken: Array | None,
    n: int,
    renew: Callable[[Array, Array], Array] = np.minimum,
    order: Callable[[Array], int] = lambda nearest: int(nearest.argmax()),
    away: Callable[[Array, Array], Array] = lambda x, new: np.linalg.norm(x - new, axis=1),
) -> list[int]:
    """The same with one list of distances that is renewed; each mistake replaces one part."""
    first = features[:1] if taken is None or not len(taken) else taken
    chosen = [0] if first is not taken else []
    nearest = np.linalg.norm(features[:, None] - first[None], axis=2).min(axis=1)
    while len(chosen) < n:
        nearest[chosen] = -1.0
        chosen.append(order(nearest))
        nearest = renew(nearest, away(features, features[chosen[-1]]))
    return chosen


CENTER = Exercise(
    "15.2",
    "images that differ",
    _probe,
    (
        Property(
            "interface",
            "k_center(features, taken, n) returns a list of n places",
            lambda f: takes(f, 3) and isinstance(f(*CASES[0]), list) and len(f(*CASES[0])) == 4,
        ),
        Property("first", "first the image that is farthest from all labelled ones", lambda f: _value(f, 2)),
        Property(
            "value",
            "then again and again the one farthest from all that are taken",
            lambda f: _value(f, 0, 1),
        ),
        Property(
            "none",
            "without labelled images the first image is the first one taken",
            lambda f: _value(f, 4, 5),
        ),
        Property("once", "no image twice, even if several are the same", lambda f: _value(f, 6)),
        Property(
            "all", "as many as there are can be chosen", lambda f: sorted(f(*CASES[3])) == list(range(8))
        ),
    ),
    (
        Mistake(
            "closest first",
            "the image that is closest to what is taken was chosen: more of what is known already.",
            "hint 3: argmax.",
            lambda f, t, n: _chosen(f, t, n, pick=_ones_once),
        ),
        Mistake(
            "mean distance",
            "the mean distance to all taken images was used; a copy of one of them is yet far from the rest.",
            "hint 2: the distance to the nearest one.",
            lambda f, t, n: _chosen(f, t, n, score=lambda d: d.mean(axis=1)),
        ),
        Mistake(
            "largest distance",
            "the distance to the farthest taken image was used; nearly every image is far from one of them.",
            "hint 2: the distance to the nearest one.",
            lambda f, t, n: _chosen(f, t, n, score=lambda d: d.max(axis=1)),
        ),
        Mistake(
            "away from the last one",
            "only the distance to the image taken last was asked for: the choice runs to and fro.",
            "hint 4: the smaller of the old distance and that to the new one.",
            lambda f, t, n: _chosen(f, t, n, score=lambda d: d[:, -1]),
        ),
        Mistake(
            "what was chosen is forgotten",
            "the distances were not renewed after each choice, so the images chosen may be neighbours.",
            "hint 4: after each choice the new one is taken, too.",
            lambda f, t, n: _chosen(f, t, n, grows=False),
        ),
        Mistake(
            "labelled ones ignored",
            "the labelled images were not asked: what is chosen may be there already.",
            "hint 1: begin with the distances to `taken`.",
            lambda f, t, n: _chosen(f, None, n),
        ),
        Mistake(
            "the same image again",
            "an image was chosen twice: where only copies are left all distances are 0.",
            "hint 3: the distance of a chosen one is -1.",
            lambda f, t, n: _chosen(f, t, n, once=False),
        ),
        Mistake(
            "begins far out",
            "without labelled images the first one taken was the one farthest from the mean.",
            "the text: the first image, place 0.",
            lambda f, t, n: _chosen(
                f, t, n, begin=lambda x: int(np.linalg.norm(x - x.mean(axis=0), axis=1).argmax())
            ),
        ),
        Mistake(
            "the larger distance kept",
            "after a choice the larger of the two distances was kept: what is taken seems far.",
            "hint 4: np.minimum.",
            lambda f, t, n: _with(f, t, n, renew=np.maximum),
        ),
        Mistake(
            "all at once",
            "the most distant ones were taken at once; after each choice the distances are others.",
            "hint 4: renew them in each turn.",
            lambda f, t, n: _with(f, t, n, renew=lambda old, new: old),
        ),
        Mistake(
            "one norm for all",
            "the norm has no axis: one number for all images, so the distances are not renewed.",
            "hint 4: axis=1.",
            lambda f, t, n: _with(
                f, t, n, away=lambda x, new: np.full(len(x), np.linalg.norm(x - new), x.dtype)
            ),
        ),
        Mistake(
            "city blocks",
            "distances to the new one were added up along the axes; they are lengths.",
            "hint 4: np.linalg.norm.",
            lambda f, t, n: _with(f, t, n, away=lambda x, new: np.abs(x - new).sum(axis=1)),
        ),
        Mistake(
            "in order of place",
            "the places were sorted; they stand in the order in which they were chosen.",
            "the text: in the order in which they are chosen.",
            lambda f, t, n: sorted(k_center(f, t, n)),
        ),
        Mistake(
            "the smallest again",
            "the smallest distance was chosen, and what is taken has -1: the same image again and again.",
            "hint 3: argmax.",
            lambda f, t, n: _with(f, t, n, order=lambda nearest: int(nearest.argmin())),
        ),
        Mistake(
            "one too many",
            "image 0 was chosen, and n more after it.",
            "the text: n images, the first one counted.",
            lambda f, t, n: k_center(f, t, n + (t is None or not len(t))),
        ),
        Mistake(
            "only the newest counts",
            "after a choice only the distance to the newest one was kept; the others are forgotten.",
            "hint 4: np.minimum of the old distance and the new one.",
            lambda f, t, n: _with(f, t, n, renew=lambda old, new: new),
        ),
        Mistake(
            "image 0 in any case",
            "image 0 was chosen first though there are labelled ones.",
            "the text: only if taken is None or empty.",
            lambda f, t, n: [
                0,
                *k_center(f, t if t is None or not len(t) else np.concatenate([t, f[:1]]), n),
            ][:n],
        ),
    ),
    k_center,
)
