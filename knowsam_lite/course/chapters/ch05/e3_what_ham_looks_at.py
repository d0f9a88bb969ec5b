"""Exercise 05.3, what HAM looks at."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch05.shared import library_inputs, logit_pair
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same, takes
from knowsam_lite.uncertainty import disagreement_map

Inputs = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def _inputs_probe(f: Inputs) -> list[Tensor]:
    return [
        *f(*logit_pair(3)),
        *(g for i in range(3) for g in gradients(lambda a, b, i=i: f(a, b)[i], *logit_pair(2))),
    ]


def _inputs_gradient(f: Inputs) -> bool:
    return all(
        same(
            gradients(lambda a, b, i=i: f(a, b)[i], *logit_pair(3)),
            gradients(lambda a, b, i=i: library_inputs(a, b)[i], *logit_pair(3)),
        )
        for i in range(3)
    )


def _inputs_swap(f: Inputs) -> bool:
    z_a, z_b = logit_pair(3)
    (agreement, certainty, logits), (swapped, flipped, turned) = f(z_a, z_b), f(z_b, z_a)
    return (
        same(agreement, swapped) and same(certainty, flipped.flip(1)) and same(logits[:, :3], turned[:, 3:])
    )


def _changed(change: Callable[..., tuple[Tensor, ...]]) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    """A wrong answer computed from the library's three inputs."""
    return lambda z_a, z_b: change(*library_inputs(z_a, z_b))


INPUTS = Exercise(
    "05.3",
    "what HAM looks at",
    _inputs_probe,
    (
        Property(
            "interface",
            "ham_inputs(z_a, z_b) returns agreement, certainty, logits",
            lambda f: takes(f, 2) and len(f(*logit_pair(2))) == 3,
        ),
        Property(
            "shape",
            "(N, C, H, W), (N, 2, H, W) and (N, 2C, H, W)",
            lambda f: [t.shape for t in f(*logit_pair(3))] == [(2, 3, 6, 8), (2, 2, 6, 8), (2, 6, 6, 8)],
        ),
        Property(
            "dtype",
            "three times float32",
            lambda f: [t.dtype for t in f(*logit_pair(2))] == [torch.float32] * 3,
        ),
        Property(
            "range",
            "agreement is 0 or 1, certainty lies in [0, 1]",
            lambda f: all(
                set(a.unique().tolist()) <= {0, 1} and c.min() >= -1e-6 and c.max() <= 1 + 1e-6
                for a, c, _ in [f(*logit_pair(3))]
            ),
        ),
        Property(
            "value",
            "1 - d, [1 - h_a, 1 - h_b] and [z_a, z_b], for 2 and 3 classes",
            lambda f: all(same(f(*logit_pair(c, c)), library_inputs(*logit_pair(c, c))) for c in (2, 3)),
        ),
        Property(
            "gradient",
            "none through agreement, that of the formulas through certainty and logits",
            _inputs_gradient,
        ),
        Property(
            "invariance", "exchanging the networks exchanges their channels, nothing else", _inputs_swap
        ),
    ),
    (
        Mistake(
            "disagreement",
            "the first input is the disagreement; HAM takes 1 minus it.",
            "the table of symbols: agreement is 1 minus disagreement.",
            _changed(lambda a, c, z: (1 - a, c, z)),
        ),
        Mistake(
            "doubt",
            "the second input is the entropy; HAM takes 1 minus it, the certainty.",
            "the table of symbols: certainty is 1 minus h.",
            _changed(lambda a, c, z: (a, 1 - c, z)),
        ),
        Mistake(
            "neither sign turned round",
            "the first two inputs are disagreement and entropy; HAM takes 1 minus each of them.",
            "the equation above: both begin with 1 minus.",
            _changed(lambda a, c, z: (1 - a, 1 - c, z)),
        ),
        Mistake(
            "logits compared with one half",
            "disagreement_map got logits: its threshold of one half is one for probabilities.",
            "the equation above: d takes p, and h takes z.",
            lambda z_a, z_b: (1 - disagreement_map(z_a, z_b), *library_inputs(z_a, z_b)[1:]),
        ),
        Mistake(
            "softmax twice",
            "entropy_map got probabilities and took their softmax again; it expects logits.",
            "the equation above: d takes p, and h takes z.",
            lambda z_a, z_b: (
                library_inputs(z_a, z_b)[0],
                library_inputs(z_a.softmax(dim=1), z_b.softmax(dim=1))[1],
                library_inputs(z_a, z_b)[2],
            ),
        ),
        Mistake(
            "detached certainty",
            "the certainty is detached: HAM could no longer teach the subnets doubt.",
            "hint 2: only the threshold stops the gradient.",
            _changed(lambda a, c, z: (a, c.detach(), z)),
        ),
        Mistake(
            "detached logits",
            "the logits are detached: the fused loss would no longer reach the subnets.",
            "hint 2: only the threshold stops the gradient.",
            _changed(lambda a, c, z: (a, c, z.detach())),
        ),
        Mistake(
            "probabilities in place of logits",
            "the third input holds probabilities; HAM takes the logits.",
            "hint 1: the third input is the plain concatenation of z_a and z_b.",
            lambda z_a, z_b: (
                *library_inputs(z_a, z_b)[:2],
                torch.cat([z_a.softmax(dim=1), z_b.softmax(dim=1)], dim=1),
            ),
        ),
        Mistake(
            "logits stacked",
            "the logits were stacked, so they have an axis too many; they are joined along their channels.",
            "hint 1: torch.cat lengthens an old axis.",
            lambda z_a, z_b: (*library_inputs(z_a, z_b)[:2], torch.stack([z_a, z_b], dim=1)),
        ),
        Mistake(
            "b before a",
            "the V-Net's channels come first; the order is a, then b.",
            "hint 1: a stands before b in certainty and in logits.",
            lambda z_a, z_b: library_inputs(z_b, z_a),
        ),
        Mistake(
            "stacked in front",
            "the two certainties lie on axis 0, where the images belong.",
            "hint 1: a new axis for the networks, dim=1.",
            _changed(lambda a, c, z: (a, torch.stack(c.unbind(1), dim=0), z)),
        ),
    ),
    library_inputs,
)
