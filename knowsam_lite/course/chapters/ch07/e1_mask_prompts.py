"""Exercise 07.1, mask prompts."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch07.shared import resized_to
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

MaskPrompts = Callable[[Tensor, tuple[int, int]], Tensor]
SMALL = (3, 4)
HARD = torch.tensor([[0.0, 60.0], [-200.0, 0.0], [0.0, 5000.0]]).view(3, 2, 1, 1)  # a very sure student


def _odds(z: Tensor) -> Tensor:
    """The oracle: each class against all others, one at a time; z in float."""
    rest = [torch.cat([z[:, :c], z[:, c + 1 :]], dim=1).logsumexp(dim=1) for c in range(z.shape[1])]
    return z - torch.stack(rest, dim=1)


def _prompted(z_f: Tensor, size: tuple[int, int]) -> Tensor:
    return _odds(resized_to(z_f.detach().float(), size))


def _mask_probe(f: MaskPrompts) -> list[Tensor]:
    made = [f(noise(2, c, 8, 6, seed=c), SMALL) for c in (2, 3, 5)]
    leaf = noise(2, 3, 8, 6).requires_grad_()
    made.append(torch.tensor(f(leaf, SMALL).requires_grad))
    return [*made, f(HARD, (1, 1)), f(noise(1, 2, 8, 8).bfloat16(), (4, 4))]


def _mask_larger(f: MaskPrompts) -> bool:
    z = noise(2, 3, 4, 4)
    return same(f(z, (12, 9)), _prompted(z, (12, 9)))


def _zero_for_itself(z_f: Tensor, size: tuple[int, int]) -> Tensor:
    z = resized_to(z_f.detach().float(), size)
    itself = torch.eye(z.shape[1], dtype=torch.bool)[:, :, None, None]
    return z - z.unsqueeze(1).masked_fill(itself, 0.0).logsumexp(dim=2)


MASKS = Exercise(
    "07.1",
    "mask prompts",
    _mask_probe,
    (
        Property(
            "interface",
            "mask_prompts(z_f, size) returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(noise(1, 2, 8, 8), SMALL), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) -> (N, C, *size)",
            lambda f: all(f(noise(2, c, 8, 6), SMALL).shape == (2, c, *SMALL) for c in (2, 4)),
        ),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 8, 8).bfloat16(), (4, 4)).dtype == torch.float32,
        ),
        Property(
            "value",
            "the resized logit of each class against all others, for 2, 3 and 5 classes",
            lambda f: all(
                same(f(noise(2, c, 8, 6, seed=c), SMALL), _prompted(noise(2, c, 8, 6, seed=c), SMALL))
                for c in (2, 3, 5)
            ),
        ),
        Property("size", "also where the prompt is larger than the map", _mask_larger),
        Property(
            "sure",
            "finite, and right, where a class has all the probability",
            lambda f: same(f(HARD, (1, 1)), _prompted(HARD, (1, 1))),
        ),
        Property(
            "invariance",
            "adding a number to all logits of a pixel changes nothing",
            lambda f: same(f(noise(2, 3, 8, 6) + 7.0, SMALL), f(noise(2, 3, 8, 6), SMALL)),
        ),
        Property(
            "detached",
            "no gradient reaches the students",
            lambda f: not f(noise(2, 3, 8, 6).requires_grad_(), SMALL).requires_grad,
        ),
    ),
    (
        Mistake(
            "the raw channel",
            "you hand over the logits themselves, which mean nothing without the other classes.",
            "hint 2: subtract what all other classes have together.",
            lambda z_f, size: resized_to(z_f.detach().float(), size),
        ),
        Mistake(
            "log-probabilities",
            "the class itself is among the others: you have log p, which is never above 0.",
            "hint 2: the sum runs over the other classes alone.",
            lambda z_f, size: resized_to(z_f.detach().float(), size).log_softmax(dim=1),
        ),
        Mistake(
            "probabilities",
            "you hand over probabilities; SAM reads 0 as undecided and all of yours as inside.",
            "the equation above: logits, from minus to plus infinity.",
            lambda z_f, size: resized_to(z_f.detach().float(), size).softmax(dim=1),
        ),
        Mistake(
            "by way of the probabilities",
            "a probability that has been rounded to 0 or 1 makes an infinite prompt.",
            "hint 2: logsumexp stays with the logits.",
            lambda z_f, size: resized_to(z_f.detach().float(), size).softmax(dim=1).logit(),
        ),
        Mistake(
            "clamped probabilities",
            "the prompt is finite, but the clamp makes all sure students equally sure.",
            "hint 2: logsumexp stays with the logits and needs no clamp.",
            lambda z_f, size: resized_to(z_f.detach().float(), size).softmax(dim=1).logit(eps=1e-6),
        ),
        Mistake(
            "the exponentials written out",
            "the formula is right, but the exponential of a large logit is infinite.",
            "hint 2: torch.logsumexp does it without large numbers.",
            lambda z_f, size: _against(z_f, size, lambda others: others.exp().sum(dim=2).log()),
        ),
        Mistake(
            "no logarithm",
            "you hand over the odds p / (1 - p), which are never below 0: no pixel is outside.",
            "the equation above: the logarithm of the odds.",
            lambda z_f, size: _odds(resized_to(z_f.detach().float(), size)).exp(),
        ),
        Mistake(
            "the sign exchanged",
            "the class was subtracted from the others: inside and outside change places.",
            "hint 2: the class minus the others.",
            lambda z_f, size: -_odds(resized_to(z_f.detach().float(), size)),
        ),
        Mistake(
            "summed along the class itself",
            "the sum ran along the wrong one of the two class axes, and all prompts are the same number.",
            "hint 3: logsumexp(dim=2).",
            lambda z_f, size: _against(z_f, size, lambda others: others.logsumexp(dim=1)),
        ),
        Mistake(
            "not detached",
            "the value is right, but SAM's loss reaches the students.",
            "hint 1: detach comes first.",
            lambda z_f, size: _odds(resized_to(z_f.float(), size)),
        ),
        Mistake(
            "the raw channel, not detached",
            "two things are missing: the other classes, and the detach that keeps the students out.",
            "hints 1 and 2: detach first, then subtract what all others have together.",
            lambda z_f, size: resized_to(z_f.float(), size),
        ),
        Mistake(
            "probabilities resized, not detached",
            "you resized probabilities and kept their graph; a sure student's prompt is infinite besides.",
            "hints 1 and 2: detach, resize the logits, and stay with logits.",
            lambda z_f, size: resized_to(z_f.float().softmax(dim=1), size).logit(),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision prompt.",
            "hint 1: .float() makes float32 of any tensor.",
            lambda z_f, size: _odds(resized_to(z_f.detach(), size)),
        ),
        Mistake(
            "resized last",
            "the log-odds were resized; the logits are.",
            "hint 1: first resize, then compare the classes.",
            lambda z_f, size: resized_to(_odds(z_f.detach().float()), size),
        ),
        Mistake(
            "the best rival alone",
            "you subtract the largest of the others; two half-likely rivals count for more than one.",
            "hint 2: logsumexp adds up the others' shares, max does not.",
            lambda z_f, size: _against(z_f, size, lambda others: others.amax(dim=2)),
        ),
        Mistake(
            "the others' sum",
            "you subtract the sum of the other logits, not the logarithm of their summed exponentials.",
            "hint 2: logsumexp.",
            lambda z_f, size: _rivals_sum(resized_to(z_f.detach().float(), size)),
        ),
        Mistake(
            "the others' mean",
            "you subtract the mean of the other logits, not the logarithm of their summed exponentials.",
            "hint 2: logsumexp.",
            lambda z_f, size: _rivals_mean(resized_to(z_f.detach().float(), size)),
        ),
        Mistake(
            "corners aligned",
            "the resize aligns corners, which stretches the map against SAM's grid.",
            "hint 1: align_corners=False.",
            lambda z_f, size: _odds(resized_to(z_f.detach().float(), size, align_corners=True)),
        ),
        Mistake(
            "nearest pixel",
            "the resize takes the nearest pixel, the default of F.interpolate.",
            'hint 1: mode="bilinear".',
            lambda z_f, size: _odds(resized_to(z_f.detach().float(), size, mode="nearest")),
        ),
        Mistake(
            "0 in its own place",
            "where a class meets itself you put 0, which counts as a rival; exp(-infinity) is nothing.",
            "hint 3: -torch.inf.",
            _zero_for_itself,
        ),
    ),
    _prompted,
)


def _against(z_f: Tensor, size: tuple[int, int], join: Callable[[Tensor], Tensor]) -> Tensor:
    z = resized_to(z_f.detach().float(), size)
    itself = torch.eye(z.shape[1], dtype=torch.bool)[:, :, None, None]
    return z - join(z.unsqueeze(1).masked_fill(itself, -torch.inf))


def _rivals_sum(z: Tensor) -> Tensor:
    return z - (z.sum(dim=1, keepdim=True) - z)


def _rivals_mean(z: Tensor) -> Tensor:
    return z - (z.sum(dim=1, keepdim=True) - z) / (z.shape[1] - 1)
