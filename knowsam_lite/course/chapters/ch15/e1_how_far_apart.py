"""Exercise 15.1, how far two masks are apart."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch15.shared import blobs, numbers
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.suggest.scores import apart

Apart = Callable[[Tensor, Tensor], Any]
SURE = 9.0  # logits of a certain pixel


def _certain(*marked: int, classes: int = 2) -> Tensor:
    """Certain logits (C, 2, 4): of eight pixels those in `marked` are class 1, the rest background."""
    labels = torch.zeros(8, dtype=torch.int64)
    labels[list(marked)] = 1
    return SURE * (2 * torch.nn.functional.one_hot(labels, classes).T.reshape(classes, 2, 4).float() - 1)


def _unsure() -> Tensor:
    """Three classes; in half of the pixels no class has the majority, though class 1 leads."""
    p = torch.tensor([0.3, 0.4, 0.3]).log()[:, None, None].repeat(1, 2, 4)
    p[:, 0] = torch.tensor([0.1, 0.8, 0.1]).log()[:, None]
    return p


PAIRS = (
    (_certain(0, 1, 2), _certain(2, 3)),
    (_certain(0, 1), _certain(0, 1)),
    (_certain(), _certain()),
    (_certain(), _certain(5)),
    (_certain(1, 2, classes=3), _unsure()),
    (_certain(1, 2), torch.zeros(2, 2, 4)),  # a tie everywhere: nobody has more than half
    *((blobs(c, seed), blobs(c, seed + 1)) for c, seed in ((2, 0), (2, 4), (3, 8), (5, 12))),
)


def _probe(f: Apart) -> list[Tensor]:
    return [numbers([f(a, b)]) for a, b in PAIRS]


def _value(f: Apart, pairs: Sequence[tuple[Tensor, Tensor]]) -> bool:
    return same(numbers(f(a, b) for a, b in pairs), numbers(apart(a, b) for a, b in pairs))


def _apart_with(
    prepare: Callable[[Tensor], Tensor] = lambda z: z.softmax(dim=0) > 0.5,
    value: Callable[[Tensor, Tensor], Tensor] = lambda a, b: (
        (a ^ b)[1:].sum(dim=(1, 2)) / (a | b)[1:].sum(dim=(1, 2)).clamp(min=1)
    ),
) -> Apart:
    """The score, built from parts; each mistake replaces one."""
    return lambda z_a, z_b: float(value(prepare(z_a), prepare(z_b)).mean())


def _leading(z: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(z.argmax(dim=0), len(z)).permute(2, 0, 1).bool()


def _area(m: Tensor) -> Tensor:
    return m[1:].sum(dim=(1, 2))


APART = Exercise(
    "15.1",
    "how far two masks are apart",
    _probe,
    (
        Property(
            "interface",
            "apart(z_a, z_b) returns a float",
            lambda f: takes(f, 2) and type(f(*PAIRS[0])) is float,
        ),
        Property(
            "value",
            "the share of the pixels marked by either that one alone marks",
            lambda f: _value(f, PAIRS[:1]),
        ),
        Property("equal", "0 for the same mask twice", lambda f: _value(f, PAIRS[1:2])),
        Property(
            "empty", "two empty masks agree: 0; an empty one and another: 1", lambda f: _value(f, PAIRS[2:4])
        ),
        Property(
            "majority",
            "a class marks a pixel with more than half of the probability",
            lambda f: _value(f, PAIRS[4:6]),
        ),
        Property(
            "classes",
            "the mean over the foreground classes; 2, 3 and 5 classes",
            lambda f: _value(f, PAIRS[6:]),
        ),
        Property(
            "symmetry",
            "the same with the students exchanged",
            lambda f: same(numbers(f(b, a) for a, b in PAIRS), numbers(f(a, b) for a, b in PAIRS)),
        ),
    ),
    (
        Mistake(
            "IoU",
            "the score is the IoU: two students who agree have the highest one.",
            "hint 3: what exactly one marks stands above the line.",
            _apart_with(value=lambda a, b: _area(a & b) / _area(a | b).clamp(min=1)),
        ),
        Mistake(
            "share of all pixels",
            "the pixels in which they differ were divided by all pixels: small objects never matter.",
            "hint 3: divide by what either marks.",
            _apart_with(value=lambda a, b: (a ^ b)[1:].float().mean(dim=(1, 2))),
        ),
        Mistake(
            "background counts",
            "the background was taken for a class like the others; its large overlap makes all look alike.",
            "hint 2: leave out class 0.",
            _apart_with(value=lambda a, b: (a ^ b).sum(dim=(1, 2)) / (a | b).sum(dim=(1, 2)).clamp(min=1)),
        ),
        Mistake(
            "classes pooled",
            "the pixels of all classes were added up before the division, so the largest class decides.",
            "hint 3: one quotient for each class, then their mean.",
            _apart_with(value=lambda a, b: _area(a ^ b).sum() / _area(a | b).sum().clamp(min=1)),
        ),
        Mistake(
            "Dice",
            "divided by the sum of both areas, which counts the overlap twice: that is 1 - Dice.",
            "hint 3: divide by the union.",
            _apart_with(value=lambda a, b: _area(a ^ b) / (_area(a) + _area(b)).clamp(min=1)),
        ),
        Mistake(
            "0 / 0",
            "two empty masks give 0 / 0, which is no number.",
            "hint 4: clamp the union.",
            _apart_with(value=lambda a, b: _area(a ^ b) / _area(a | b)),
        ),
        Mistake(
            "the leading class",
            "the largest logit marked the pixel, even where no class has the majority.",
            "hint 1: more than half of the probability.",
            _apart_with(_leading),
        ),
        Mistake(
            "no softmax",
            "logits were compared with one half as if they were probabilities.",
            "hint 1: softmax first.",
            _apart_with(lambda z: z > 0.5),
        ),
        Mistake(
            "softmax over rows",
            "the softmax ran over the rows of the picture, not over the classes.",
            "hint 1: the classes lie on axis 0, there is no batch.",
            _apart_with(lambda z: z.softmax(dim=1) > 0.5),
        ),
        Mistake(
            "a sigmoid",
            "a sigmoid asks about each class alone; the classes compete.",
            "hint 1: softmax(dim=0).",
            _apart_with(lambda z: z.sigmoid() > 0.5),
        ),
        Mistake(
            "divided by what both mark",
            "you divided by the pixels that both mark; the share is of those that either marks.",
            "hint 3: | where either is.",
            _apart_with(value=lambda a, b: _area(a ^ b) / _area(a & b).clamp(min=1)),
        ),
        Mistake(
            "the sum over the classes",
            "the classes were added up; with three or more the result may exceed 1.",
            "the equation above: divided by C - 1.",
            _apart_with(value=lambda a, b: (_area(a ^ b) / _area(a | b).clamp(min=1)).sum()),
        ),
        Mistake(
            "divided by all classes",
            "the sum over the foreground classes was divided by C, which counts the background.",
            "the equation above: C - 1.",
            _apart_with(value=lambda a, b: (_area(a ^ b) / _area(a | b).clamp(min=1)).sum() / len(a)),
        ),
        Mistake(
            "one added below",
            "1 was added to the union, not put in place of 0: every share gets smaller.",
            "hint 4: clamp(min=1).",
            _apart_with(value=lambda a, b: _area(a ^ b) / (_area(a | b) + 1)),
        ),
        Mistake(
            "a tie speaks",
            "a pixel of exactly one half was marked; more than half is asked for.",
            "the text: more than half.",
            _apart_with(lambda z: z.softmax(dim=0) >= 0.5),
        ),
        Mistake(
            "the last class left out",
            "the last class was left out, and the background counted.",
            "hint 2: [1:], not [:-1].",
            _apart_with(
                value=lambda a, b: (a ^ b)[:-1].sum(dim=(1, 2)) / (a | b)[:-1].sum(dim=(1, 2)).clamp(min=1)
            ),
        ),
        Mistake(
            "divided by one of them",
            "you divided by the pixels of the first student alone.",
            "hint 3: | where either is.",
            _apart_with(value=lambda a, b: _area(a ^ b) / _area(a).clamp(min=1)),
        ),
    ),
    apart,
)
