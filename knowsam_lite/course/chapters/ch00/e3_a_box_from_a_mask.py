"""Exercise 00.3, a box from a mask."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch00.shared import attempt
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Box = Callable[[Tensor], Tensor]


def _rough(top: int, left: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A ragged mask (12, 9) of known extent; its first and last pixels are not in its outermost columns."""
    mask = torch.zeros(12, 9, dtype=torch.bool)
    inner = noise(height, width, seed=seed) > 0.5
    inner[0, 0] = inner[-1, -1] = False
    inner[0, -1] = inner[-1, 0] = True
    mask[top : top + height, left : left + width] = inner
    return mask


MASKS = (
    _rough(2, 1, 5, 7),
    _rough(0, 3, 12, 2, seed=1),
    _rough(7, 4, 1, 1, seed=2),
    _rough(3, 0, 8, 4, seed=3),
)
EMPTY = torch.zeros(12, 9, dtype=torch.bool)


def right_box(mask: Tensor) -> Tensor:
    """x0, y0, x1, y1 of the smallest box around a mask (H, W); the whole image if it is empty."""
    height, width = mask.shape
    if not mask.any():
        return torch.tensor([0.0, 0.0, width - 1.0, height - 1.0])
    columns, rows = mask.any(dim=0).nonzero().flatten(), mask.any(dim=1).nonzero().flatten()
    return torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).float()


def _box_probe(f: Box) -> list[Tensor]:
    """The boxes of four masks and, only if those are right, the box of the empty one."""
    boxes = [attempt(f, mask) for mask in MASKS]
    return boxes if not same(boxes, [right_box(mask) for mask in MASKS]) else [*boxes, attempt(f, EMPTY)]


def _changed_box(change: Callable[[Tensor, Tensor], Tensor]) -> Box:
    """A wrong answer computed from the right box and the mask."""
    return lambda mask: change(right_box(mask), mask)


def _for_empty(answer: Callable[[Tensor], Tensor]) -> Box:
    """An answer that is wrong only for empty masks."""
    return lambda mask: right_box(mask) if mask.any() else answer(mask)


def _middle_rows(mask: Tensor) -> Tensor:
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs[0], ys[0], xs[-1], ys[-1]]).float()


BOX = Exercise(
    "00.3",
    "a box from a mask",
    _box_probe,
    (
        Property(
            "interface",
            "box_of(mask) returns one tensor",
            lambda f: takes(f, 1) and isinstance(f(MASKS[0]), Tensor),
        ),
        Property("shape", "(H, W) -> (4,)", lambda f: f(MASKS[0]).shape == (4,)),
        Property(
            "dtype", "float32, as SAM's prompt encoder wants it", lambda f: f(MASKS[0]).dtype == torch.float32
        ),
        Property(
            "value",
            "x0, y0, x1, y1 of the outermost pixels",
            lambda f: all(same(f(m), right_box(m)) for m in MASKS),
        ),
        Property(
            "empty", "the whole image where the mask is empty", lambda f: same(f(EMPTY), right_box(EMPTY))
        ),
        Property(
            "invariance",
            "turning rows into columns exchanges x and y",
            lambda f: all(same(f(m.T), f(m)[[1, 0, 3, 2]]) for m in MASKS),
        ),
    ),
    (
        Mistake(
            "y before x",
            "rows come first in a tensor, but SAM's boxes begin with x, the column.",
            "hint 2: x0, y0, x1, y1.",
            _changed_box(lambda box, mask: box[[1, 0, 3, 2]]),
        ),
        Mistake(
            "width and height",
            "the last two numbers are width and height; SAM wants the opposite corner.",
            "the equation above: the last two are the largest column and row.",
            _changed_box(lambda box, mask: torch.cat([box[:2], box[2:] - box[:2]])),
        ),
        Mistake(
            "one too far",
            "the far corner lies one pixel outside; a slice ends there, a box does not.",
            "the equation above: the largest column of the mask itself.",
            _changed_box(lambda box, mask: box + torch.tensor([0.0, 0.0, 1.0, 1.0])),
        ),
        Mistake(
            "parts of the image",
            "the coordinates were divided by the image's size; SAM counts in pixels.",
            "hint 2: nothing is divided.",
            _changed_box(lambda box, mask: box / torch.tensor([*mask.shape[::-1], *mask.shape[::-1]])),
        ),
        Mistake(
            "whole numbers",
            "the box is right but of an integer type.",
            "hint 2: .float() at the end.",
            _changed_box(lambda box, mask: box.long()),
        ),
        Mistake(
            "an error where the mask is empty",
            "an empty mask has no smallest column, and your code stops there.",
            "hint 3: look first whether mask.any().",
            _for_empty(lambda mask: mask.nonzero(as_tuple=True)[1].min()),
        ),
        Mistake(
            "one too far where the mask is empty",
            "counted from 0, the last column of the image is its width minus 1.",
            "hint 3 gives the last column and row.",
            _for_empty(lambda mask: torch.tensor([0.0, 0.0, *map(float, mask.T.shape)])),
        ),
        Mistake(
            "the first and the last pixel",
            "you took the first and the last pixel in reading order, which need not be the outermost ones.",
            "hint 1: the smallest and the largest, of rows and of columns.",
            _middle_rows,
        ),
    ),
    right_box,
)
