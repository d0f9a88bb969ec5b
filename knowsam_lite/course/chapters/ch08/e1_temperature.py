"""Exercise 08.1, temperature."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch08.shared import TEMPERATURES
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes

Soften = Callable[[Tensor, float], Tensor]


def _soft(z: Tensor, temperature: float) -> Tensor:
    return (z.float() / temperature).softmax(dim=1)


def _soften_probe(f: Soften) -> list[Tensor]:
    z = noise(2, 3, 4, 5)
    return [*(f(z, t) for t in TEMPERATURES), *gradients(lambda x: f(x, 4.0), z), f(z.bfloat16(), 2.0)]


def _soften_value(f: Soften) -> bool:
    return all(
        same(f(noise(2, c, 6, 5, seed=c), t), _soft(noise(2, c, 6, 5, seed=c), t))
        for c in (2, 3, 5)
        for t in TEMPERATURES
    )


def _soften_order(f: Soften) -> bool:
    z = noise(2, 4, 6, 5)
    return all(bool((f(z, t).argmax(dim=1) == z.argmax(dim=1)).all()) for t in TEMPERATURES)


SOFTEN = Exercise(
    "08.1",
    "softmax with temperature",
    _soften_probe,
    (
        Property(
            "interface",
            "soften(z, temperature) takes logits and a number and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(noise(2, 2, 4, 5), 2.0), Tensor),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, C, H, W)", lambda f: f(noise(2, 3, 4, 5), 2.0).shape == (2, 3, 4, 5)
        ),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 4, 4).bfloat16(), 10.0).dtype == torch.float32,
        ),
        Property(
            "range",
            "the probabilities of each pixel sum to 1, whatever T is",
            lambda f: all(
                same(f(noise(2, 3, 4, 5), t).sum(dim=1), torch.ones(2, 4, 5)) for t in TEMPERATURES
            ),
        ),
        Property("value", "softmax(z / T) for T below, at and above 1", _soften_value),
        Property(
            "gradient",
            "that of softmax(z / T)",
            lambda f: same(
                gradients(lambda z: f(z, 4.0), noise(2, 3, 4, 5)),
                gradients(lambda z: _soft(z, 4.0), noise(2, 3, 4, 5)),
            ),
        ),
        Property("invariance", "the winner of each pixel is the same at every T", _soften_order),
    ),
    (
        Mistake(
            "multiplied by T",
            "the logits are multiplied by T: a high temperature then makes the answer harder.",
            "hint 1: the temperature divides.",
            lambda z, t: (z.float() * t).softmax(dim=1),
        ),
        Mistake(
            "divided by T twice",
            "the logits are divided by the square of T; that factor belongs to the loss of exercise 08.3.",
            "hint 1: divide by the temperature.",
            lambda z, t: (z.float() / t**2).softmax(dim=1),
        ),
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 2: which axis of (N, C, H, W) holds the classes?",
            lambda z, t: (z.float() / t).softmax(dim=-1),
        ),
        Mistake(
            "divided after the softmax",
            "the probabilities are divided by T, so they no longer sum to 1.",
            "hint 1: first divide the logits, then take the softmax.",
            lambda z, t: z.float().softmax(dim=1) / t,
        ),
        Mistake(
            "T is not used",
            "your answer is the plain softmax, the same for every T.",
            "hint 1: the logits are divided by the second argument.",
            lambda z, t: z.float().softmax(dim=1),
        ),
        Mistake(
            "the power without the sum",
            "p to the power 1 / T is right up to a factor: the classes must be brought back to sum 1.",
            "hint 2: the softmax of z / T does both at once.",
            lambda z, t: z.float().softmax(dim=1) ** (1 / t),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision answer.",
            "hint 3: .float() makes float32 of any tensor.",
            lambda z, t: (z / t).softmax(dim=1),
        ),
        Mistake(
            "logarithm of the answer",
            "your answer holds log-probabilities, which are negative.",
            "hint 2: softmax here, log_softmax in the next exercises.",
            lambda z, t: (z.float() / t).log_softmax(dim=1),
        ),
        Mistake(
            "a sigmoid",
            "a sigmoid asks about each class alone; the classes compete.",
            "hint 1: the softmax.",
            lambda z, t: (z.float() / t).sigmoid(),
        ),
    ),
    _soft,
)
