"""Exercise 14.1, pseudo-labels above a threshold."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.methods.fixmatch import confident

Confident = Callable[[Tensor, float], Tensor]
THRESHOLDS = (0.0, 0.6, 0.9, 0.99)


def _logits(classes: int) -> Tensor:
    return noise(2, classes, 5, 6, seed=classes)


def _cases(f: Confident) -> list[Tensor]:
    return [f(_logits(c), t) for c in (2, 4) for t in THRESHOLDS]


def _edge(f: Confident) -> Tensor:
    """Both classes equally likely: exactly 0.5, at the threshold."""
    return f(torch.zeros(1, 2, 2, 2), 0.5)


def _made(
    soft: Callable[[Tensor], Tensor] = lambda z: z.float().softmax(dim=1),
    hidden: Callable[[Tensor, float], Tensor] = lambda p, t: p < t,
    fill: int = -1,
    dim: int = 1,
) -> Confident:
    """The function, built from parts; each mistake replaces one."""

    def confident(z: Tensor, threshold: float) -> Tensor:
        p, y = soft(z).max(dim=dim)
        return y.masked_fill(hidden(p, threshold), fill)

    return confident


def _class_one(z: Tensor, threshold: float) -> Tensor:
    return z.argmax(dim=1).masked_fill(z.float().softmax(dim=1)[:, 1] < threshold, -1)


CONFIDENT = Exercise(
    "14.1",
    "confident or silent",
    lambda f: [*_cases(f), _edge(f)],
    (
        Property(
            "interface",
            "confident(z, threshold) returns one number for each pixel",
            lambda f: takes(f, 2) and f(_logits(4), 0.6).shape == (2, 5, 6),
        ),
        Property(
            "classes",
            "at threshold 0 the most likely class everywhere, as int64",
            lambda f: same([f(_logits(c), 0.0) for c in (2, 4)], [_logits(c).argmax(dim=1) for c in (2, 4)]),
        ),
        Property(
            "silent",
            "-1 where the largest probability is below the threshold",
            lambda f: same(_cases(f), _cases(confident)),
        ),
        Property(
            "edge", "a pixel exactly at the threshold counts", lambda f: same(_edge(f), _edge(confident))
        ),
    ),
    (
        Mistake(
            "logits for probabilities",
            "the threshold was compared with logits; 0.95 means nothing there.",
            "hint 1: softmax over the classes first.",
            _made(lambda z: z.float()),
        ),
        Mistake(
            "softmax over the batch",
            "the softmax runs over the images: a pixel's probabilities depend on other images.",
            "hint 1: dim=1, the classes.",
            _made(lambda z: z.float().softmax(dim=0)),
        ),
        Mistake(
            "the wrong ones silent",
            "the sure pixels are silent and the unsure ones teach.",
            "hint 2: -1 where the probability is *below* the threshold.",
            _made(hidden=lambda p, t: p >= t),
        ),
        Mistake(
            "at the threshold silent",
            "a pixel exactly at the threshold was left out; only those below are.",
            "hint 2: below, not at or below.",
            _made(hidden=lambda p, t: p <= t),
        ),
        Mistake(
            "background for silence",
            "unsure pixels became background, class 0: the network is taught that what it does not know is "
            "nothing.",
            "hint 3: UNKNOWN, which is -1.",
            _made(fill=0),
        ),
        Mistake(
            "no threshold",
            "every pixel has a label, however unsure.",
            "hint 2: masked_fill where the probability is below.",
            _made(hidden=lambda p, t: p < 0),
        ),
        Mistake(
            "probabilities returned",
            "you return probabilities; the answer is a class, or -1.",
            "hint 1: max gives both, values and classes.",
            lambda z, threshold: z.float().softmax(dim=1).max(dim=1).values,
        ),
        Mistake(
            "one verdict for an image",
            "you asked whether the image is sure on average; the question is put to each pixel.",
            "hint 2: each pixel for itself.",
            _made(hidden=lambda p, t: p.mean((1, 2), keepdim=True).expand_as(p) < t),
        ),
        Mistake(
            "the sure ones silent",
            "the sure pixels are silent; the unsure ones have a label.",
            "hint 2: -1 where the probability is *below* the threshold.",
            _made(hidden=lambda p, t: p > t),
        ),
        Mistake(
            "softmax over the width",
            "the softmax runs along the last axis, the width.",
            "hint 1: dim=1, the classes.",
            _made(lambda z: z.float().softmax(dim=-1)),
        ),
        Mistake(
            "a sigmoid",
            "a sigmoid asks about each class alone; the classes compete.",
            "hint 1: softmax over the classes.",
            _made(lambda z: z.float().sigmoid()),
        ),
        Mistake(
            "a sigmoid, and the threshold silent",
            "a sigmoid asks about each class alone; and a pixel exactly at the threshold counts.",
            "hints 1 and 2: softmax, and below.",
            _made(lambda z: z.float().sigmoid(), lambda p, t: p <= t),
        ),
        Mistake(
            "255 for silence",
            "silence was written as 255; here it is -1.",
            "hint 3: UNKNOWN, which is -1.",
            _made(fill=255),
        ),
        Mistake(
            "only class 1 asked",
            "the probability of class 1 was compared with the threshold; a sure background counts as well.",
            "hint 1: the largest probability, whichever class has it.",
            _class_one,
        ),
    ),
    confident,
)
