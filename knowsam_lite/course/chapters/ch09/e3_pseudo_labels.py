"""Exercise 09.3, pseudo-labels."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Labels = Callable[..., Tensor]
LEAST = (0.0, 0.4, 0.7, 0.95)
CERTAIN = torch.tensor([0.0, 200.0]).view(1, 2, 1, 1)  # a probability of exactly 1


def _pseudo(z: Tensor, least: float = 0.0) -> Tensor:
    p, y = z.float().softmax(dim=1).max(dim=1)
    return torch.where(p >= least, y, -1)


def _pseudo_probe(f: Labels) -> list[Tensor]:
    coarse = noise(4, 3, 16, 16, seed=2).bfloat16()
    return [f(noise(2, c, 6, 5, seed=c), least) for c in (2, 4) for least in LEAST] + [
        f(noise(2, 3, 6, 5)),
        f(CERTAIN, 1.0),
        f(coarse, _edge(coarse)),
    ]


def _pseudo_value(f: Labels) -> bool:
    return all(
        same(f(noise(2, c, 6, 5, seed=c + 9), t), _pseudo(noise(2, c, 6, 5, seed=c + 9), t))
        for c in (2, 3, 5)
        for t in LEAST
    )


def _pseudo_half(f: Labels) -> bool:
    """The logits are coarse in half precision, but the softmax must not be."""
    z = noise(4, 3, 16, 16, seed=2).bfloat16()
    least = _edge(z)
    return same(f(z, least), f(z.float(), least))


def _edge(z: Tensor) -> float:
    """A threshold between one pixel's float32 and half-precision probabilities."""
    fine, coarse = (t.softmax(dim=1).max(dim=1).values.float() for t in (z.float(), z))
    gap = (fine - coarse).abs().flatten().argmax()
    return float((fine.flatten()[gap] + coarse.flatten()[gap]) / 2)


def _pseudo_edge(f: Labels) -> bool:
    """A pixel whose probability is exactly the threshold keeps its label."""
    return bool((f(CERTAIN, 1.0) == 1).all())


def _pseudo_nested(f: Labels) -> bool:
    """A higher threshold drops more pixels and changes no others."""
    low, high = (f(noise(2, 3, 6, 5, seed=5), t) for t in (0.5, 0.9))
    return bool(((high == low) | (high == -1)).all()) and bool((high == -1).sum() > (low == -1).sum())


def _winner(z: Tensor) -> Tensor:
    return z.float().softmax(dim=1).amax(dim=1)


def _pseudo_over_width(z: Tensor, least: float = 0.0) -> Tensor:
    p, y = z.float().softmax(dim=-1).max(dim=1)
    return torch.where(p >= least, y, -1)


PSEUDO = Exercise(
    "09.3",
    "pseudo-labels, -1 where unsure",
    _pseudo_probe,
    (
        Property(
            "interface",
            "pseudo_labels(z, least) takes logits and a probability, which is 0 if not given",
            lambda f: takes(f, 2) and same(f(noise(2, 3, 6, 5)), f(noise(2, 3, 6, 5), 0.0)),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, H, W)", lambda f: f(noise(2, 3, 6, 5), 0.5).shape == (2, 6, 5)
        ),
        Property("dtype", "int64", lambda f: f(noise(2, 3, 6, 5), 0.5).dtype == torch.int64),
        Property(
            "range",
            "no pixel is left out at 0, all are above 1",
            lambda f: f(noise(2, 3, 6, 5)).min() >= 0 and bool((f(noise(2, 3, 6, 5), 1.1) == -1).all()),
        ),
        Property(
            "value", "the winner where it is sure enough, else -1, for 2, 3 and 5 classes", _pseudo_value
        ),
        Property("edge", "a probability of just `least` is enough", _pseudo_edge),
        Property("precision", "the softmax of half-precision logits is computed in float32", _pseudo_half),
        Property("invariance", "a higher threshold only takes labels away", _pseudo_nested),
    ),
    (
        Mistake(
            "unsure means background",
            "pixels below the threshold became class 0, so the students are taught that they are background.",
            "hint 3: unknown is -1; 0 is a class.",
            lambda z, least=0.0: _pseudo(z, least).clamp(min=0),
        ),
        Mistake(
            "another number for unknown",
            "pixels below the threshold became 255, as other libraries have it; unknown is -1 here.",
            "hint 3: -1 elsewhere.",
            lambda z, least=0.0: torch.where(_pseudo(z, least) < 0, 255, z.argmax(dim=1)),
        ),
        Mistake(
            "log-probabilities",
            "the threshold is compared with log-probabilities, which are never above 0.",
            "hint 1: softmax, not log_softmax.",
            lambda z, least=0.0: torch.where(_winner(z).log() >= least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "logits in place of probabilities",
            "the threshold is compared with the logits, which are no probabilities.",
            "hint 1: softmax first.",
            lambda z, least=0.0: torch.where(z.amax(dim=1) >= least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "more than the threshold",
            "a pixel of just the threshold's probability lost its label; at least means that it keeps it.",
            "hint 2: >= in place of >.",
            lambda z, least=0.0: torch.where(_winner(z) > least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "more than the threshold, else background",
            "two things: a pixel of just the threshold's probability is left out, and unsure became class 0.",
            "hints 2 and 3: at least, and unknown is -1.",
            lambda z, least=0.0: torch.where(_winner(z) > least, z.argmax(dim=1), 0),
        ),
        Mistake(
            "the unsure ones are kept",
            "the comparison is reversed: sure pixels became unknown.",
            "hint 2: keep where the probability is at least the threshold.",
            lambda z, least=0.0: torch.where(_pseudo(z, least) < 0, z.argmax(dim=1), -1),
        ),
        Mistake(
            "the wrong axis",
            "the winner was looked for along the width of the image.",
            "hint 1: the classes lie on axis 1.",
            lambda z, least=0.0: _pseudo(z.movedim(-1, 1), least),
        ),
        Mistake(
            "the threshold is not used",
            "every pixel has a label, however unsure it is.",
            "hint 2: the second argument decides who keeps a label.",
            lambda z, least=0.0: z.argmax(dim=1),
        ),
        Mistake(
            "real numbers",
            "the values are right, but labels have to be integers, or cross-entropy refuses them.",
            "hint 3: torch.where of the winner and the number -1 stays int64.",
            lambda z, least=0.0: _pseudo(z, least).float(),
        ),
        Mistake(
            "softmax over the width",
            "the softmax runs along the last axis, the width; the classes lie on axis 1.",
            "hint 1: softmax(dim=1).",
            _pseudo_over_width,
        ),
        Mistake(
            "float32 behind the softmax",
            "the softmax was made in half precision, and float32 comes too late for its digits.",
            "hint 1: z.float() before the softmax.",
            lambda z, least=0.0: torch.where(
                z.softmax(dim=1).float().amax(dim=1) >= least, z.argmax(dim=1), -1
            ),
        ),
        Mistake(
            "a sigmoid for each class",
            "each class has a sigmoid of its own; the classes exclude each other.",
            "hint 1: softmax over axis 1.",
            lambda z, least=0.0: torch.where(z.sigmoid().amax(dim=1) >= least, z.argmax(dim=1), -1),
        ),
        Mistake(
            "one pixel decides for all",
            "a whole batch keeps or loses its labels together.",
            "hint 2: each pixel for itself.",
            lambda z, least=0.0: (
                z.argmax(dim=1) if _winner(z).min() >= least else torch.full_like(z.argmax(dim=1), -1)
            ),
        ),
    ),
    _pseudo,
)
