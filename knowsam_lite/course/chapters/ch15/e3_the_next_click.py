"""Exercise 15.3, the next click."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage
from torch import Tensor

from knowsam_lite.course.chapters.ch15.shared import Mask, mask, numbers
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.web.clicks import Prompt
from knowsam_lite.web.person import next_click

Click = Callable[[Mask, Mask], Any]


def _rectangles(*corners: tuple[int, int, int, int]) -> Mask:
    """A mask (16, 24) of rectangles: first row, row after the last, first column, column after the last."""
    drawn = np.zeros((16, 24), bool)
    for top, bottom, left, right in corners:
        drawn[top:bottom, left:right] = True
    return drawn


SQUARE = _rectangles((3, 10, 2, 9))
MISSED = (_rectangles(), SQUARE)  # nothing found
ADDED = (SQUARE | _rectangles((9, 14, 14, 19)), SQUARE)
# A long thin stripe was missed, and a small round spot is too much: fewer pixels, but a deeper middle.
STRIPE = (_rectangles((8, 13, 4, 9)), _rectangles((2, 3, 1, 23)))
BENT = (_rectangles(), _rectangles((1, 15, 2, 5), (11, 15, 2, 20)))  # an angle: its middle is not inside
EDGE = (_rectangles(), _rectangles((0, 9, 0, 5)))
TOUCHING = (_rectangles((4, 11, 2, 9)), _rectangles((4, 11, 7, 14)))  # missed and added lie side by side
RIGHT = (SQUARE, SQUARE)
DRAWN = tuple((mask(seed), mask(seed + 30)) for seed in range(6))
CASES = (MISSED, ADDED, STRIPE, BENT, EDGE, TOUCHING, RIGHT, *DRAWN)


def _told(click: Any) -> list[float]:
    """x, y and whether inside; for no click -1."""
    return [-1.0] * 3 if click is None else [*click.at, float(click.inside)]


def _probe(f: Click) -> list[Tensor]:
    return [numbers(_told(f(*case))) for case in CASES]


def _value(f: Click, *cases: tuple[Mask, Mask]) -> bool:
    return same([numbers(_told(f(*c))) for c in cases], [numbers(_told(next_click(*c))) for c in cases])


def _deepest(area: Mask) -> tuple[float, float, float]:
    depth = ndimage.distance_transform_edt(np.pad(area, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return x + 0.5, y + 0.5, float(depth.max())


def _unpadded(area: Mask) -> tuple[float, float, float]:
    depth = ndimage.distance_transform_edt(area)
    y, x = np.unravel_index(depth.argmax(), depth.shape)
    return x + 0.5, y + 0.5, float(depth.max())


def _center(area: Mask) -> tuple[float, float, float]:
    y, x = np.nonzero(area)
    return (x.mean() + 0.5, y.mean() + 0.5, _deepest(area)[2]) if area.any() else (0.5, 0.5, 0.0)


def _counted(area: Mask) -> tuple[float, float, float]:
    return *_deepest(area)[:2], float(area.sum())


def _clicked(
    found: Mask,
    truth: Mask,
    middle: Callable[[Mask], tuple[float, float, float]] = _deepest,
    inside: Callable[[float, float], bool] = lambda missed, added: missed >= added,
    place: Callable[[float, float], tuple[float, float]] = lambda x, y: (x, y),
    nothing: bool = True,
) -> Prompt | None:
    """The click, built from parts; each mistake replaces one."""
    missed, added = middle(truth & ~found), middle(found & ~truth)
    x, y, depth = max(missed, added, key=lambda each: each[2])
    return Prompt(place(x, y), inside(missed[2], added[2])) if depth > 0 or not nothing else None


def _all_wrong(found: Mask, truth: Mask) -> Prompt | None:
    x, y, depth = _deepest(found ^ truth)
    return Prompt((x, y), bool(truth[int(y), int(x)])) if depth > 0 else None


def _only_missed(found: Mask, truth: Mask) -> Prompt | None:
    return _clicked(found & truth, truth)


def _both_wrong(found: Mask, truth: Mask) -> Prompt | None:
    return _clicked(np.zeros_like(truth), found ^ truth)


def _padded(area: Mask) -> tuple[float, float, float]:
    x, y, depth = _deepest(np.pad(area, 1))
    return x, y, depth


def _shallow(found: Mask, truth: Mask) -> Prompt | None:
    missed, added = _deepest(truth & ~found), _deepest(found & ~truth)
    x, y, depth = min(missed, added, key=lambda each: each[2])
    return Prompt((x, y), missed[2] >= added[2]) if depth > 0 else None


CLICK = Exercise(
    "15.3",
    "the next click",
    _probe,
    (
        Property(
            "interface",
            "next_click(found, truth) returns a Prompt",
            lambda f: takes(f, 2) and isinstance(f(*MISSED), Prompt) and len(f(*MISSED).at) == 2,
        ),
        Property("missed", "inside, in the middle of what was missed", lambda f: _value(f, MISSED)),
        Property("added", "outside, in the middle of what is too much", lambda f: _value(f, ADDED)),
        Property(
            "largest", "where the middle is deepest, not where most pixels are", lambda f: _value(f, STRIPE)
        ),
        Property("bent", "the click lies in the wrong region, whatever its shape", lambda f: _value(f, BENT)),
        Property("edge", "the picture's edge is a border", lambda f: _value(f, EDGE)),
        Property(
            "apart", "what was missed and what is too much are two regions", lambda f: _value(f, TOUCHING)
        ),
        Property("value", "the same clicks on drawn masks", lambda f: _value(f, *DRAWN)),
        Property("none", "None if nothing is wrong", lambda f: f(*RIGHT) is None),
    ),
    (
        Mistake(
            "center of mass",
            "the click lies at the mean of the region's pixels, which in a bent region lies outside.",
            "hint 1: the pixel farthest from the border.",
            lambda found, truth: _clicked(found, truth, middle=_center),
        ),
        Mistake(
            "most pixels",
            "the mistake with most pixels was clicked, a thin rim as soon as it is long.",
            "hint 3: compare how deep the middles lie.",
            lambda found, truth: _clicked(found, truth, middle=_counted),
        ),
        Mistake(
            "always inside",
            "every click says inside: what is too much is never taken away.",
            "hint 3: inside where the deeper middle is that of what was missed.",
            lambda found, truth: _clicked(found, truth, inside=lambda missed, added: True),
        ),
        Mistake(
            "in and out exchanged",
            "a missed place was called outside, and one too much inside.",
            "hint 3: inside where the deeper middle is that of what was missed.",
            lambda found, truth: _clicked(found, truth, inside=lambda missed, added: missed < added),
        ),
        Mistake(
            "row before column",
            "the place is (y, x); a prompt wants x, the column, first.",
            "hint 2: np.unravel_index gives row and column.",
            lambda found, truth: _clicked(found, truth, place=lambda x, y: (y, x)),
        ),
        Mistake(
            "the pixel's corner",
            "the click lies on the corner of the pixel, half a pixel from its middle.",
            "hint 2: add 0.5.",
            lambda found, truth: _clicked(found, truth, place=lambda x, y: (x - 0.5, y - 0.5)),
        ),
        Mistake(
            "one region of mistakes",
            "missed and added pixels were taken for one region, so the click may fall on the line between.",
            "hint 3: two regions, each with its own middle.",
            _all_wrong,
        ),
        Mistake(
            "only what was missed",
            "only missed pixels were looked at.",
            "hint 3: two regions, each with its own middle.",
            _only_missed,
        ),
        Mistake(
            "no border at the edge",
            "a region at the picture's edge was taken to go on beyond it, so the click lies on the edge.",
            "hint 1: pad with one row and column of False.",
            lambda found, truth: _clicked(found, truth, middle=_unpadded),
        ),
        Mistake(
            "a click on nothing",
            "a mask without any mistake still gets a click, in the upper left corner.",
            "hint 4: a depth of 0 means that nothing is wrong.",
            lambda found, truth: _clicked(found, truth, nothing=False),
        ),
        Mistake(
            "one region, always inside",
            "missed and added pixels were taken for one region, and every click says inside.",
            "hint 3: truth & ~found was missed, found & ~truth is too much.",
            _both_wrong,
        ),
        Mistake(
            "missed and added exchanged",
            "found & ~truth was called missed: it is what is too much.",
            "hint 3: truth & ~found was missed.",
            lambda found, truth: _clicked(truth, found),
        ),
        Mistake(
            "beside by the rim",
            "the rim that np.pad adds is still there: each click lies one pixel too far right and down.",
            "hint 1: [1:-1, 1:-1].",
            lambda found, truth: _clicked(found, truth, middle=_padded),
        ),
        Mistake(
            "the smaller mistake",
            "the click went to the shallower of the two, and to none where only one is wrong.",
            "hint 3: the one whose middle is deeper.",
            _shallow,
        ),
        Mistake(
            "outside where they are equal",
            "of two equally deep mistakes the click called the missed one too much.",
            "hint 3: of equal ones what was missed.",
            lambda found, truth: _clicked(found, truth, inside=lambda missed, added: missed > added),
        ),
        Mistake(
            "row before column, by the corner",
            "x and y are exchanged, and the half pixel is missing.",
            "hint 2: row and column are y and x; add 0.5.",
            lambda found, truth: _clicked(found, truth, place=lambda x, y: (y - 0.5, x - 0.5)),
        ),
        Mistake(
            "always outside",
            "every click says outside: what was missed is never added.",
            "hint 3: inside where the deeper middle is that of what was missed.",
            lambda found, truth: _clicked(found, truth, inside=lambda missed, added: False),
        ),
        Mistake(
            "all of the object",
            "the middle of the whole object was taken for that of what was missed.",
            "hint 3: truth & ~found.",
            lambda found, truth: (
                _clicked(np.zeros_like(found), truth)
                if _deepest(truth)[2] >= _deepest(found & ~truth)[2]
                else _clicked(found | truth, truth)
            ),
        ),
        Mistake(
            "half a pixel in y alone",
            "the half pixel was added to y and not to x.",
            "hint 2: to both.",
            lambda found, truth: _clicked(found, truth, place=lambda x, y: (x - 0.5, y)),
        ),
    ),
    next_click,
)
