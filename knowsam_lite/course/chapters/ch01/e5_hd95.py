"""Exercise 01.5, HD95."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.metrics import BoolArray, hd95, surface

Distance = Callable[[Any, Any], float]


def _pairs() -> list[tuple[BoolArray, BoolArray]]:
    """Masks that tell the definitions apart: blobs, a distant speck, a ring, one at the edge, empty ones."""
    rows, columns = np.mgrid[:24, :31]
    disc = (rows - 10) ** 2 + (columns - 11) ** 2 <= 49
    oval = (rows - 12) ** 2 / 2 + (columns - 14) ** 2 <= 40
    speck = disc.copy()
    speck[19:22, 26:29] = True
    ring = disc & ((rows - 10) ** 2 + (columns - 11) ** 2 > 9)
    edge = (rows < 6) & (columns > 17)
    half = disc & (columns < 9)
    nothing = np.zeros_like(disc)
    return [
        (disc, oval),
        (speck, disc),
        (disc, speck),
        (ring, disc),
        (edge, oval),
        (half, disc),
        (disc, disc),
        (nothing, disc),
        (disc, nothing),
        (nothing, nothing),
    ]


FULL, EMPTY = _pairs()[:7], _pairs()[7:]


def _numbers(f: Distance, pairs: Sequence[tuple[BoolArray, BoolArray]]) -> Tensor:
    return torch.tensor([float(f(p, t)) for p, t in pairs])


def _distance_probe(f: Distance) -> list[Tensor]:
    return [_numbers(f, FULL), _numbers(f, EMPTY)]


def border_distances(
    p: BoolArray, t: BoolArray, edge: Callable[[BoolArray], BoolArray] = surface
) -> list[np.ndarray]:
    """Distance from each border pixel of one mask (H, W) to the nearest of the other, both ways."""
    between = np.linalg.norm(np.argwhere(edge(p))[:, None] - np.argwhere(edge(t))[None], axis=2)
    return [between.min(axis=1), between.min(axis=0)]


def _other_distance(measure: Callable[[BoolArray, BoolArray], float]) -> Distance:
    """A wrong distance for non-empty masks, with the library's rule for empty ones."""
    return lambda p, t: float(measure(p, t)) if p.any() and t.any() else hd95(p, t)


def _other_rule(one: float, both: float) -> Distance:
    """The library's distance, with other values if one mask or both are empty."""

    def wrong(p: BoolArray, t: BoolArray) -> float:
        if p.any() and t.any():
            return hd95(p, t)
        return one if p.any() or t.any() else both

    return wrong


def _unready(p: BoolArray, t: BoolArray) -> float:
    """No rule for empty masks: numpy raises, having no minimum to take."""
    return float(np.percentile(np.concatenate(border_distances(p, t)), 95))


def _along_axes(p: BoolArray, t: BoolArray) -> float:
    between = np.abs(np.argwhere(surface(p))[:, None] - np.argwhere(surface(t))[None]).sum(axis=2)
    return float(np.percentile(np.concatenate([between.min(axis=1), between.min(axis=0)]), 95))


def _farthest(p: BoolArray, t: BoolArray) -> float:
    between = np.linalg.norm(np.argwhere(surface(p))[:, None] - np.argwhere(surface(t))[None], axis=2)
    return float(np.percentile(np.concatenate([between.max(axis=1), between.max(axis=0)]), 95))


def _all_pairs(p: BoolArray, t: BoolArray) -> float:
    between = np.linalg.norm(np.argwhere(surface(p))[:, None] - np.argwhere(surface(t))[None], axis=2)
    return float(np.percentile(between, 95))


HD95 = Exercise(
    "01.5",
    "HD95",
    _distance_probe,
    (
        Property(
            "interface",
            "hd95_by_hand(pred, true) returns a float",
            lambda f: takes(f, 2) and isinstance(f(*FULL[0]), float),
        ),
        Property(
            "value",
            "the 95th percentile of the heap: blobs, a far speck, a ring, a mask at the edge",
            lambda f: same(_numbers(f, FULL), _numbers(hd95, FULL)),
        ),
        Property("identity", "0 for a mask and itself", lambda f: f(*FULL[6]) == 0),
        Property(
            "one empty",
            "the diagonal of the image, whichever of the two is empty",
            lambda f: same(_numbers(f, EMPTY[:2]), torch.full((2,), math.hypot(24, 31))),
        ),
        Property("both empty", "0: nothing is wrong", lambda f: f(*EMPTY[2]) == 0),
        Property(
            "invariance",
            "prediction and truth may change places, axes too",
            lambda f: all(
                same(_numbers(f, FULL), _numbers(g, FULL))
                for g in (lambda p, t: f(t, p), lambda p, t: f(p.T, t.T))
            ),
        ),
    ),
    (
        Mistake(
            "the largest distance",
            "this is the Hausdorff distance itself: a single far pixel decides.",
            "hint 3: the 95th percentile of the heap.",
            _other_distance(lambda p, t: np.concatenate(border_distances(p, t)).max()),
        ),
        Mistake(
            "0.95 times the largest",
            "the largest distance times 0.95 is no percentile: a single far pixel still decides.",
            "hint 3: np.percentile(heap, 95).",
            _other_distance(lambda p, t: 0.95 * np.concatenate(border_distances(p, t)).max()),
        ),
        Mistake(
            "a percentile of each direction",
            "you took the larger of two percentiles, one per direction: another definition of HD95.",
            "hint 3: one heap of both directions.",
            _other_distance(lambda p, t: max(np.percentile(way, 95) for way in border_distances(p, t))),
        ),
        Mistake(
            "one direction only",
            "only the way from prediction to truth counts, so half of the truth may be missed for nothing.",
            "hint 3: both directions.",
            _other_distance(lambda p, t: np.percentile(border_distances(p, t)[0], 95)),
        ),
        Mistake(
            "whole masks in place of borders",
            "distances between all pixels of the masks: each shared pixel is a 0 that hides the border.",
            "hint 2: np.argwhere of the surfaces.",
            _other_distance(
                lambda p, t: np.percentile(np.concatenate(border_distances(p, t, lambda mask: mask)), 95)
            ),
        ),
        Mistake(
            "the mean",
            "this is the average surface distance, the mean of the heap.",
            "hint 3: np.percentile(heap, 95).",
            _other_distance(lambda p, t: np.concatenate(border_distances(p, t)).mean()),
        ),
        Mistake(
            "an empty mask is free",
            "a prediction that finds nothing gets 0, the best there is.",
            "the text: one empty mask costs the diagonal.",
            _other_rule(0.0, 0.0),
        ),
        Mistake(
            "both empty is punished",
            "nothing to find and nothing found is right, and costs 0.",
            "hint 1: see to both empty masks before the one.",
            _other_rule(math.hypot(24, 31), math.hypot(24, 31)),
        ),
        Mistake(
            "no rule for empty masks",
            "an empty mask has no border, and the smallest of no distances is an error.",
            "hint 1: see to the empty masks first.",
            _unready,
        ),
        Mistake(
            "the mean of two percentiles",
            "you took one percentile per direction and their mean.",
            "hint 3: one heap of both directions.",
            _other_distance(lambda p, t: np.mean([np.percentile(way, 95) for way in border_distances(p, t)])),
        ),
        Mistake(
            "not 95 per cent",
            "np.percentile counts in per cent: 0.95 asks for the smallest hundredth.",
            "hint 3: np.percentile(heap, 95).",
            _other_distance(lambda p, t: np.percentile(np.concatenate(border_distances(p, t)), 0.95)),
        ),
        Mistake(
            "steps along the axes",
            "your distances count rows plus columns; the straight line between two pixels is shorter.",
            "hint 2: np.linalg.norm.",
            _other_distance(_along_axes),
        ),
        Mistake(
            "all pairs",
            "the heap holds the distances of all pairs of border pixels; only the nearest partner counts.",
            "hint 2: min along an axis.",
            _other_distance(_all_pairs),
        ),
        Mistake(
            "nan for an empty mask",
            "an empty mask gives nan; one empty costs the diagonal, both empty nothing.",
            "the text: the rule for empty masks.",
            _other_rule(math.nan, math.nan),
        ),
        Mistake(
            "infinity for an empty mask",
            "an empty mask is infinitely far; then one miss makes every mean infinite.",
            "the text: one empty mask costs the diagonal.",
            _other_rule(math.inf, 0.0),
        ),
        Mistake(
            "the farthest pixel",
            "for each border pixel the farthest one of the other border was taken.",
            "the text: the distance to the nearest.",
            _other_distance(_farthest),
        ),
    ),
    hd95,
)
