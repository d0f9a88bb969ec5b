"""Exercise 00.1, Dice."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.metrics import dice

Score = Callable[[Tensor, Tensor], Tensor]


def _answers(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (3, C, 8, 6) and labels (3, 8, 6); the last image has no class 1, true or predicted."""
    z = noise(3, classes, 8, 6, seed=seed)
    y = noise(3, classes, 8, 6, seed=seed + 50).argmax(dim=1)
    z[2, 1], y[2][y[2] == 1] = -99.0, 0
    return z, y


def library_scores(z: Tensor, y: Tensor) -> Tensor:
    """Dice per image and foreground class, from the library's metric: (N, C - 1)."""
    labels = z.argmax(dim=1)
    rows = [[dice(p == c, t == c) for c in range(1, z.shape[1])] for p, t in zip(labels, y, strict=True)]
    return torch.tensor(rows)


def _counts(z: Tensor, y: Tensor, first: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel counts of overlap, prediction and truth for the classes from `first` on: (N, C - first) each."""
    classes = range(first, z.shape[1])
    p = torch.stack([z.argmax(dim=1) == c for c in classes], dim=1)
    t = torch.stack([y == c for c in classes], dim=1)
    return (p & t).sum((2, 3)), p.sum((2, 3)), t.sum((2, 3))


def _with_background(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y, first=0)
    return torch.where(p + t > 0, 2 * both / (p + t), 1.0)


def _intersection_over_union(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y)
    return torch.where(p + t > 0, both / (p + t - both), 1.0)


def _empty_is(value: float) -> Score:
    def score(z: Tensor, y: Tensor) -> Tensor:
        both, p, t = _counts(z, y)
        return torch.where(p + t > 0, 2 * both / (p + t), value)

    return score


def _half(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y)
    return torch.where(p + t > 0, both / (p + t), 1.0)


def _whole_batch(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = (count.sum(dim=0) for count in _counts(z, y))
    return torch.where(p + t > 0, 2 * both / (p + t), 1.0)


def _one_half(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(dim=1)[:, 1:] > 0.5
    t = torch.stack([y == c for c in range(1, z.shape[1])], dim=1)
    both, sizes = (p & t).sum((2, 3)), p.sum((2, 3)) + t.sum((2, 3))
    return torch.where(sizes > 0, 2 * both / sizes, 1.0)


def _soft(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(dim=1)[:, 1:]
    t = torch.stack([y == c for c in range(1, z.shape[1])], dim=1)
    return 2 * (p * t).sum((2, 3)) / (p.sum((2, 3)) + t.sum((2, 3)))


def _empty_images(f: Score) -> bool:
    z, y = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    z[:, 0] = 5
    missed = y.clone()
    missed[:, 0, 0] = 1
    return same(f(z, y), torch.ones(1, 1)) and same(f(z, missed), torch.zeros(1, 1))


DICE = Exercise(
    "00.1",
    "Dice of each class",
    lambda f: [f(*_answers(c, c)) for c in (2, 3, 4)],
    (
        Property(
            "interface",
            "dice_per_class(z, y) takes logits and labels and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_answers(2)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) and (N, H, W) -> (N, C - 1): the background is left out",
            lambda f: all(f(*_answers(c)).shape == (3, c - 1) for c in (2, 4)),
        ),
        Property("dtype", "float32", lambda f: f(*_answers(3)).dtype == torch.float32),
        Property(
            "value",
            "the library's Dice, image by image and class by class, for 2 to 5 classes",
            lambda f: all(same(f(*_answers(c, c)), library_scores(*_answers(c, c))) for c in (2, 3, 4, 5)),
        ),
        Property("empty", "1 where neither has the class, 0 where only one has it", _empty_images),
        Property(
            "invariance",
            "adding one number to all logits of a pixel changes nothing",
            lambda f: same(f(*_answers(3)), f(_answers(3)[0] + noise(3, 1, 8, 6, seed=7), _answers(3)[1])),
        ),
    ),
    (
        Mistake(
            "the background counts",
            "class 0 has a column, too; it is large and easy, and would hide every failure.",
            "hint 2: the classes begin at 1.",
            _with_background,
        ),
        Mistake(
            "IoU",
            "you divided by the union: that is IoU, always the smaller of the two.",
            "the equation above: below the line stand both sizes, added.",
            _intersection_over_union,
        ),
        Mistake(
            "the 2 is missing",
            "a perfect answer gets one half instead of 1.",
            "the equation above begins with a 2.",
            _half,
        ),
        Mistake(
            "nan where both are empty",
            "where neither mask has the class you divided 0 by 0.",
            "hint 3: torch.where chooses 1 there.",
            _empty_is(torch.nan),
        ),
        Mistake(
            "0 where both are empty",
            "an image without the class, rightly left empty, got the worst score.",
            "hint 3: two empty masks agree perfectly.",
            _empty_is(0.0),
        ),
        Mistake(
            "one number for the batch",
            "the pixels of all images were counted together: one image can no longer be told from another.",
            "hint 2: sum over height and width, not over the images.",
            _whole_batch,
        ),
        Mistake(
            "mean over the images",
            "you averaged over the images, and one number for each class is left; each image keeps its own.",
            "the text: one number per image and foreground class.",
            lambda z, y: library_scores(z, y).mean(dim=0),
        ),
        Mistake(
            "more than one half",
            "a class was taken where it has more than one half; with three classes the winner may have less.",
            "hint 1: argmax finds the winner.",
            _one_half,
        ),
        Mistake(
            "probabilities in place of a mask",
            "you added up probabilities; that is a loss to train with, but a mask says yes or no.",
            "hint 1: first logits become labels.",
            _soft,
        ),
    ),
    library_scores,
)
