"""Exercise 04.1, consistency."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.chapters.ch04.shared import logit_pair
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same, takes
from knowsam_lite.losses import consistency_loss

Loss = Callable[[Tensor, Tensor], Tensor]


def consistency_a_from_b(z: Tensor, z_other: Tensor) -> Tensor:
    """What the authors' code computes: the binary cross-entropy of the last channel only."""
    p = z.softmax(dim=1)[:, -1].clamp(1e-8, 1 - 1e-7)
    return F.binary_cross_entropy(p, z_other.detach().softmax(dim=1)[:, -1])


def _opposed() -> tuple[Tensor, Tensor]:
    """A learner so sure that a probability rounds to 0, and an undecided other."""
    return torch.tensor([300.0, 0.0]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)


def _loss_probe(f: Loss) -> list[Tensor]:
    halves = (t.bfloat16() for t in logit_pair(3, 5))
    return [*(f(*logit_pair(c)) for c in (2, 3)), *gradients(f, *logit_pair(3)), f(*halves), f(*_opposed())]


def _loss_value(f: Loss) -> bool:
    """The library's values, and finite where a probability is 0."""
    finite = bool(f(*_opposed()).isfinite())
    return finite and all(same(f(*logit_pair(c, 9)), consistency_loss(*logit_pair(c, 9))) for c in (2, 3, 5))


def _loss_learner(f: Loss) -> bool:
    return all(
        same(gradients(f, *logit_pair(c))[0], gradients(consistency_loss, *logit_pair(c))[0]) for c in (2, 4)
    )


def _loss_other(f: Loss) -> bool:
    """The other's logits get no gradient, however they enter."""
    return bool(gradients(f, *logit_pair(2))[1].abs().max() == 0)


def _loss_floor(f: Loss) -> bool:
    """The minimum is log C against an undecided other and 0 against a sure one."""
    sure = torch.zeros(1, 3, 2, 2)
    sure[:, 1] = 60.0
    even = torch.zeros(1, 3, 2, 2)
    return same(f(even, even), torch.tensor(math.log(3))) and same(f(sure, sure), torch.tensor(0.0))


def _soft(z: Tensor, z_other: Tensor) -> Tensor:
    """The terms of the sum, with gradients to both: (N, C, H, W)."""
    return z_other.float().softmax(dim=1) * z.float().log_softmax(dim=1)


def _hard(z: Tensor, z_other: Tensor) -> Tensor:
    return F.cross_entropy(z.float(), z_other.argmax(dim=1))


def _kl(z: Tensor, z_other: Tensor) -> Tensor:
    target = z_other.detach().float()
    return consistency_loss(z, z_other) - consistency_loss(target, target)


def _squares(z: Tensor, z_other: Tensor) -> Tensor:
    return F.mse_loss(z.float().softmax(dim=1), z_other.detach().float().softmax(dim=1))


def _wrong_axis(z: Tensor, z_other: Tensor) -> Tensor:
    target = z_other.detach().float().softmax(dim=-1)
    return -(target * z.float().log_softmax(dim=-1)).sum(dim=1).mean()


def _raw_target(z: Tensor, z_other: Tensor) -> Tensor:
    return -(z_other.detach().float() * z.float().log_softmax(dim=1)).sum(dim=1).mean()


def _careless(stop: bool = True, safe: bool = True, full: bool = True) -> Loss:
    """The right formula without the detach, without a safe logarithm, or in the logits' own precision."""

    def loss(z: Tensor, z_other: Tensor) -> Tensor:
        if full:
            z, z_other = z.float(), z_other.float()
        if stop:
            z_other = z_other.detach()
        log_p = z.log_softmax(dim=1) if safe else z.softmax(dim=1).log()
        return -(z_other.softmax(dim=1) * log_p).sum(dim=1).mean()

    return loss


def _log_outside(z: Tensor, z_other: Tensor) -> Tensor:
    target = z_other.detach().float().softmax(dim=1)
    return -(target * z.float().softmax(dim=1)).sum(dim=1).mean()


CONSISTENCY = Exercise(
    "04.1",
    "the consistency loss",
    _loss_probe,
    (
        Property(
            "interface",
            "consistency_loss(z, z_other) takes the learner's logits first and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*logit_pair()), Tensor),
        ),
        Property("shape", "one number for the whole batch", lambda f: f(*logit_pair()).shape == ()),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(*(t.bfloat16() for t in logit_pair())).dtype == torch.float32,
        ),
        Property("range", "an undecided other costs log C, a sure one with whom you agree 0", _loss_floor),
        Property(
            "value",
            "the mean over pixels of - sum p_other log p, for 2, 3 and 5 classes, and finite",
            _loss_value,
        ),
        Property(
            "learner",
            "the pull at the learner's logits: the other's probability minus its own",
            _loss_learner,
        ),
        Property("other", "no gradient at the other's logits", _loss_other),
        Property(
            "invariance",
            "turning the images of both changes nothing",
            lambda f: same(f(*logit_pair()), f(*(t.rot90(dims=(2, 3)) for t in logit_pair()))),
        ),
    ),
    (
        Mistake(
            "the target moves",
            "the values are right, but the other network's logits get a gradient, too: the target moves "
            "towards the learner.",
            "hint 1: detach the other's logits.",
            _careless(stop=False),
        ),
        Mistake(
            "the learner stands still",
            "the value is right, but the learner's logits are detached: only the other one learns.",
            "hint 1: only the other's logits are detached.",
            lambda z, z_other: _careless(stop=False)(z.detach(), z_other),
        ),
        Mistake(
            "both stand still",
            "the values are right, but both logits are detached, so nobody learns.",
            "hint 1: the learner, z, keeps its gradient.",
            lambda z, z_other: consistency_loss(z.detach(), z_other),
        ),
        Mistake(
            "roles exchanged",
            "learner and target have changed places: the gradient goes to the second argument.",
            "hint 2: the logarithm is the learner's, and the learner comes first.",
            lambda z, z_other: consistency_loss(z_other, z),
        ),
        Mistake(
            "the logarithm on the wrong side",
            "the logarithm is the other's and the learner is the weight: the learner is drawn to the winner.",
            "hint 2: log_softmax of the learner, softmax of the other.",
            lambda z, z_other: -_soft(z_other.detach(), z).sum(dim=1).mean(),
        ),
        Mistake(
            "only the winner",
            "the target is the other's winning class alone: a pseudo-label, without the other's doubts.",
            "hint 1: the target is the whole softmax.",
            _hard,
        ),
        Mistake(
            "the other's entropy is subtracted",
            "this is the KL divergence: the same gradient, but smaller by the other's entropy. Here the "
            "cross-entropy itself is wanted.",
            "hint 2: only one logarithm, that of the learner.",
            _kl,
        ),
        Mistake(
            "squared difference",
            "this is the mean squared difference of the probabilities, which Mean Teacher uses.",
            "hint 2: target times the learner's log_softmax.",
            _squares,
        ),
        Mistake(
            "last class only",
            "only the last class is compared, as in the authors' code; for more than two classes that says "
            "nothing about the others.",
            "hint 3: sum over all classes.",
            lambda z, z_other: consistency_a_from_b(z.float(), z_other.float()),
        ),
        Mistake(
            "mean over the classes",
            "the sum was divided by the number of classes as well: the loss is C times too small.",
            "hint 3: first the sum over axis 1, then the mean over what is left.",
            lambda z, z_other: consistency_loss(z, z_other) / z.shape[1],
        ),
        Mistake(
            "sum over the pixels",
            "the pixels were added up, so that a larger image teaches more.",
            "hint 3: mean over the pixels of all images.",
            lambda z, z_other: consistency_loss(z, z_other) * z[:, 0].numel(),
        ),
        Mistake(
            "sum over the pixels of an image",
            "the sum was divided by the number of images alone: a larger image teaches more.",
            "hint 3: .mean() over the pixels of all images.",
            lambda z, z_other: consistency_loss(z, z_other) * z[0, 0].numel(),
        ),
        Mistake(
            "the logarithm of 0",
            "the values are right, until a probability rounds to 0, whose logarithm is infinite.",
            "hint 2: log_softmax, which never makes a 0, not the logarithm of a softmax.",
            _careless(safe=False),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision loss.",
            "hints 1 and 2: .float() for both.",
            _careless(full=False),
        ),
        Mistake(
            "the target moves, and the logarithm of 0",
            "two things at once: the other's logits get a gradient, so the target moves, and where a "
            "probability rounds to 0 its logarithm is infinite.",
            "hints 1 and 2: detach the other's logits; log_softmax of the learner.",
            _careless(stop=False, safe=False),
        ),
        Mistake(
            "the target moves, in half precision",
            "two things at once: the other's logits get a gradient, so the target moves, and half-precision "
            "logits give a half-precision loss.",
            "hints 1 and 2: detach the other's logits; .float() for both.",
            _careless(stop=False, full=False),
        ),
        Mistake(
            "the logarithm of 0, in half precision",
            "two things at once: where a probability rounds to 0 its logarithm is infinite, and "
            "half-precision logits give a half-precision loss.",
            "hints 1 and 2: .float() for both; log_softmax of the learner.",
            _careless(safe=False, full=False),
        ),
        Mistake(
            "nothing but the formula",
            "three things at once: the other's logits get a gradient, so the target moves; where a "
            "probability rounds to 0 its logarithm is infinite; half-precision logits give a half-precision "
            "loss.",
            "hints 1 and 2: detach the other's logits; .float() for both; log_softmax.",
            _careless(stop=False, safe=False, full=False),
        ),
        Mistake(
            "the default of F.kl_div",
            "F.kl_div subtracts the other's entropy and divides by the classes as well.",
            "hints 2 and 3: target times log_softmax, sum over axis 1, then the mean.",
            lambda z, z_other: _kl(z, z_other) / z.shape[1],
        ),
        Mistake(
            "a map in place of a number",
            "the values of the pixels are right, but one number is wanted.",
            "hint 3: mean over the pixels of all images.",
            lambda z, z_other: -_soft(z, z_other.detach()).sum(dim=1),
        ),
        Mistake(
            "the minus is missing",
            "the sign is wrong: whoever minimises this learns to contradict.",
            "hint 3: a logarithm of a probability is negative; the loss is not.",
            lambda z, z_other: -consistency_loss(z, z_other),
        ),
        Mistake(
            "the wrong axis",
            "the softmax runs along the width of the image instead of over the classes.",
            "hint 1: the classes lie on axis 1.",
            _wrong_axis,
        ),
        Mistake(
            "logits as the target",
            "the other's logits were used as if they were probabilities.",
            "hint 1: softmax first.",
            _raw_target,
        ),
        Mistake(
            "no logarithm",
            "the learner's probabilities stand where their logarithms belong.",
            "hint 2: log_softmax of the learner.",
            _log_outside,
        ),
        Mistake(
            "softmax over the height",
            "the softmax runs along the height; the classes lie on axis 1.",
            "hint 1: the classes lie on axis 1.",
            lambda z, z_other: (
                -(z_other.detach().float().softmax(dim=2) * z.float().log_softmax(dim=2)).sum(dim=1).mean()
            ),
        ),
    ),
    consistency_loss,
)
