"""Exercise 08.2, KL divergence."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.chapters.ch08.shared import kl_reference
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes

Divergence = Callable[[Tensor, Tensor], Tensor]


def _logs(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a teacher and of a student, (2, C, 4, 5) each."""
    return (
        noise(2, classes, 4, 5, seed=seed).log_softmax(dim=1),
        noise(2, classes, 4, 5, seed=seed + 50).log_softmax(dim=1),
    )


def _kl_probe(f: Divergence) -> list[Tensor]:
    return [f(*_logs(2)), f(*_logs(3)), *gradients(f, *_logs(3))]


def _kl_sign(f: Divergence) -> bool:
    log_p, log_q = _logs(3)
    return same(f(log_p, log_p.clone()), torch.zeros(2, 4, 5)) and bool((f(log_p, log_q) > 0).all())


def _kl_classes(f: Divergence) -> bool:
    log_p, log_q = _logs(4)
    return same(f(log_p.flip(1), log_q.flip(1)), f(log_p, log_q))


KL = Exercise(
    "08.2",
    "KL divergence",
    _kl_probe,
    (
        Property(
            "interface",
            "kl_divergence(log_p, log_q) takes two maps of log-probabilities and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_logs(2)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) twice -> (N, H, W)",
            lambda f: all(f(*_logs(c)).shape == (2, 4, 5) for c in (2, 3)),
        ),
        Property("dtype", "float32", lambda f: f(*_logs(2)).dtype == torch.float32),
        Property("range", "0 where p and q are equal, above 0 where they are not", _kl_sign),
        Property(
            "value",
            "the sum over the classes of p (log p - log q), for 2, 3 and 5 classes",
            lambda f: all(same(f(*_logs(c, c)), kl_reference(*_logs(c, c))) for c in (2, 3, 5)),
        ),
        Property(
            "gradient",
            "that of the same sum, through p and through q",
            lambda f: same(gradients(f, *_logs(3, 5)), gradients(kl_reference, *_logs(3, 5))),
        ),
        Property("invariance", "the order of the classes does not matter", _kl_classes),
    ),
    (
        Mistake(
            "p and q exchanged",
            "you computed KL(q || p): the differences are weighted with the student's probabilities.",
            "hint 1: the weight in front of the bracket is p.",
            lambda log_p, log_q: kl_reference(log_q, log_p),
        ),
        Mistake(
            "the student's weights",
            "the bracket is right, but its weights are the student's probabilities.",
            "hint 1: the weight in front of the bracket is p.",
            lambda log_p, log_q: (log_q.exp() * (log_p - log_q)).sum(dim=1),
        ),
        Mistake(
            "the minus sign of the entropy",
            "the sign is reversed: log q stands in front of log p.",
            "hint 2: log p minus log q.",
            lambda log_p, log_q: -kl_reference(log_p, log_q),
        ),
        Mistake(
            "logarithms as weights",
            "the weights in the sum are log-probabilities; they should be probabilities.",
            "hint 1: p is the exponential of log p.",
            lambda log_p, log_q: (log_p * (log_p - log_q)).sum(dim=1),
        ),
        Mistake(
            "mean over the classes",
            "the classes were averaged instead of summed: the result is C times too small.",
            "hint 3: the sign is a sum.",
            lambda log_p, log_q: kl_reference(log_p, log_q) / log_p.shape[1],
        ),
        Mistake(
            "cross-entropy",
            "you computed -sum p log q, which is not 0 where the student is right.",
            "hint 2: the bracket holds log p minus log q.",
            lambda log_p, log_q: -(log_p.exp() * log_q).sum(dim=1),
        ),
        Mistake(
            "summed over everything",
            "all pixels were added up; one number per pixel is wanted.",
            "hint 3: the sum runs over axis 1 alone.",
            lambda log_p, log_q: kl_reference(log_p, log_q).sum(),
        ),
        Mistake(
            "mean over the pixels",
            "the pixels were averaged; each keeps its own number here.",
            "hint 3: over the classes and over nothing else.",
            lambda log_p, log_q: kl_reference(log_p, log_q).mean(),
        ),
        Mistake(
            "the mean of everything",
            "classes and pixels were averaged, as F.kl_div does unasked; one number per pixel is wanted.",
            "hint 3: the sum runs over axis 1 alone.",
            lambda log_p, log_q: kl_reference(log_p, log_q).mean() / log_p.shape[1],
        ),
        Mistake(
            "log_target forgotten",
            "F.kl_div took log p for p: without log_target=True it expects the teacher's probabilities.",
            "hint 2: written out by hand, nothing can be confused.",
            lambda log_p, log_q: F.kl_div(log_q, log_p, reduction="none").sum(dim=1),
        ),
        Mistake(
            "logarithms taken twice",
            "the arguments are logarithms already; the logarithm of a negative number is nan.",
            "hint 2: the bracket is log_p - log_q as it stands.",
            lambda log_p, log_q: (log_p * (log_p.log() - log_q.log())).sum(dim=1),
        ),
        Mistake(
            "summed over the height",
            "the sum runs over axis 2, the height; the classes lie on axis 1.",
            "hint 3: sum over axis 1.",
            lambda log_p, log_q: torch.sum(log_p.exp() * (log_p - log_q), dim=2),
        ),
    ),
    kl_reference,
)
