"""Chapter 04, learning without labels: properties, catalogued mistakes, and the quiz's key."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import consistency_loss, entropy_loss, supervised_loss
from knowsam_lite.methods.base import ramp
from knowsam_lite.methods.mean_teacher import DECAY, RAMPED_WEIGHT, MeanTeacher, follow, noisy
from knowsam_lite.methods.multi_view import mutual_terms

# ---------------------------------------------------------------- 04.1 consistency

Loss = Callable[[Tensor, Tensor], Tensor]


def consistency_a_from_b(z: Tensor, z_other: Tensor) -> Tensor:
    """What the authors' code computes: the binary cross-entropy of the last channel alone."""
    p = z.softmax(dim=1)[:, -1].clamp(1e-8, 1 - 1e-7)
    return F.binary_cross_entropy(p, z_other.detach().softmax(dim=1)[:, -1])


def _pair(classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a learner and of the other, for two images."""
    return noise(2, classes, 4, 5, seed=seed + classes), noise(2, classes, 4, 5, seed=seed + 20)


def _opposed() -> tuple[Tensor, Tensor]:
    """A learner so sure that a probability rounds to 0, and another that doubts."""
    return torch.tensor([300.0, 0.0]).view(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)


def _loss_probe(f: Loss) -> list[Tensor]:
    halves = (t.bfloat16() for t in _pair(3, 5))
    return [*(f(*_pair(c)) for c in (2, 3)), *gradients(f, *_pair(3)), f(*halves), f(*_opposed())]


def _loss_value(f: Loss) -> bool:
    """The library's values, and nothing infinite where a probability is 0."""
    finite = bool(f(*_opposed()).isfinite())
    return finite and all(same(f(*_pair(c, 9)), consistency_loss(*_pair(c, 9))) for c in (2, 3, 5))


def _loss_learner(f: Loss) -> bool:
    return all(same(gradients(f, *_pair(c))[0], gradients(consistency_loss, *_pair(c))[0]) for c in (2, 4))


def _loss_other(f: Loss) -> bool:
    """The other's logits get no gradient, however they enter."""
    return bool(gradients(f, *_pair(2))[1].abs().max() == 0)


def _loss_floor(f: Loss) -> bool:
    """Against an undecided other the best that one can do is log C, and 0 against a sure one."""
    sure = torch.zeros(1, 3, 2, 2)
    sure[:, 1] = 60.0
    even = torch.zeros(1, 3, 2, 2)
    return same(f(even, even), torch.tensor(math.log(3))) and same(f(sure, sure), torch.tensor(0.0))


def _soft(z: Tensor, z_other: Tensor) -> Tensor:
    """The terms of the sum, with gradient to both: (N, C, H, W)."""
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
    """The right formula without the stop, without a safe logarithm, or in the precision of the logits."""

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
            lambda f: takes(f, 2) and isinstance(f(*_pair()), Tensor),
        ),
        Property("shape", "one number for the whole batch", lambda f: f(*_pair()).shape == ()),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(*(t.bfloat16() for t in _pair())).dtype == torch.float32,
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
            lambda f: same(f(*_pair()), f(*(t.rot90(dims=(2, 3)) for t in _pair()))),
        ),
    ),
    (
        Mistake(
            "the target moves",
            "the values are right, but the other network's logits get a gradient, too: the target moves "
            "towards the learner.",
            "hint 1 of exercise 04.1: detach the other's logits.",
            _careless(stop=False),
        ),
        Mistake(
            "the learner stands still",
            "the value is right, but the learner's logits are detached: only the other one learns.",
            "hint 1 of exercise 04.1: only the other's logits are detached.",
            lambda z, z_other: _careless(stop=False)(z.detach(), z_other),
        ),
        Mistake(
            "both stand still",
            "the values are right, but both logits are detached, so nobody learns.",
            "hint 1 of exercise 04.1: the learner, z, keeps its gradient.",
            lambda z, z_other: consistency_loss(z.detach(), z_other),
        ),
        Mistake(
            "roles exchanged",
            "learner and target have changed places: the gradient goes to the second argument.",
            "hint 2 of exercise 04.1: the logarithm is the learner's, and the learner comes first.",
            lambda z, z_other: consistency_loss(z_other, z),
        ),
        Mistake(
            "the logarithm on the wrong side",
            "the logarithm is the other's and the learner is the weight: the learner is drawn to the winner.",
            "hint 2 of exercise 04.1: log_softmax of the learner, softmax of the other.",
            lambda z, z_other: -_soft(z_other.detach(), z).sum(dim=1).mean(),
        ),
        Mistake(
            "only the winner",
            "the target is the other's winning class alone: a pseudo-label, without the other's doubts.",
            "hint 1 of exercise 04.1: the target is the whole softmax.",
            _hard,
        ),
        Mistake(
            "the other's entropy is subtracted",
            "this is the KL divergence: the same gradient, but smaller by the other's entropy. Here the "
            "cross-entropy itself is wanted.",
            "hint 2 of exercise 04.1: only one logarithm, that of the learner.",
            _kl,
        ),
        Mistake(
            "squared difference",
            "this is the mean squared difference of the probabilities, which Mean Teacher uses.",
            "hint 2 of exercise 04.1: target times the learner's log_softmax.",
            _squares,
        ),
        Mistake(
            "last class only",
            "only the last class is compared, as in the authors' code; for more than two classes that says "
            "nothing about the others.",
            "hint 3 of exercise 04.1: sum over all classes.",
            lambda z, z_other: consistency_a_from_b(z.float(), z_other.float()),
        ),
        Mistake(
            "mean over the classes",
            "the sum was divided by the number of classes as well: the loss is C times too small.",
            "hint 3 of exercise 04.1: first the sum over axis 1, then the mean over what is left.",
            lambda z, z_other: consistency_loss(z, z_other) / z.shape[1],
        ),
        Mistake(
            "sum over the pixels",
            "the pixels were added up, so that a larger image teaches more.",
            "hint 3 of exercise 04.1: mean over the pixels of all images.",
            lambda z, z_other: consistency_loss(z, z_other) * z[:, 0].numel(),
        ),
        Mistake(
            "sum over the pixels of an image",
            "the sum was divided by the number of images alone: a larger image teaches more.",
            "hint 3 of exercise 04.1: .mean() over the pixels of all images.",
            lambda z, z_other: consistency_loss(z, z_other) * z[0, 0].numel(),
        ),
        Mistake(
            "the logarithm of 0",
            "the values are right, until a probability rounds to 0, whose logarithm is infinite.",
            "hint 2 of exercise 04.1: log_softmax, which never makes a 0, not the logarithm of a softmax.",
            _careless(safe=False),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision loss.",
            "hints 1 and 2 of exercise 04.1: .float() for both.",
            _careless(full=False),
        ),
        Mistake(
            "the target moves, and the logarithm of 0",
            "two things at once: the other's logits get a gradient, so the target moves, and where a "
            "probability rounds to 0 its logarithm is infinite.",
            "hints 1 and 2 of exercise 04.1: detach the other's logits; log_softmax of the learner.",
            _careless(stop=False, safe=False),
        ),
        Mistake(
            "the target moves, in half precision",
            "two things at once: the other's logits get a gradient, so the target moves, and half-precision "
            "logits give a half-precision loss.",
            "hints 1 and 2 of exercise 04.1: detach the other's logits; .float() for both.",
            _careless(stop=False, full=False),
        ),
        Mistake(
            "the logarithm of 0, in half precision",
            "two things at once: where a probability rounds to 0 its logarithm is infinite, and "
            "half-precision logits give a half-precision loss.",
            "hints 1 and 2 of exercise 04.1: .float() for both; log_softmax of the learner.",
            _careless(safe=False, full=False),
        ),
        Mistake(
            "nothing but the formula",
            "three things at once: the other's logits get a gradient, so the target moves; where a "
            "probability rounds to 0 its logarithm is infinite; half-precision logits give a half-precision "
            "loss.",
            "hints 1 and 2 of exercise 04.1: detach the other's logits; .float() for both; log_softmax.",
            _careless(stop=False, safe=False, full=False),
        ),
        Mistake(
            "the default of F.kl_div",
            "F.kl_div subtracts the other's entropy and divides by the classes as well.",
            "hints 2 and 3 of exercise 04.1: target times log_softmax, sum over axis 1, then the mean.",
            lambda z, z_other: _kl(z, z_other) / z.shape[1],
        ),
        Mistake(
            "a map in place of a number",
            "the values of the pixels are right, but one number is wanted.",
            "hint 3 of exercise 04.1: mean over the pixels of all images.",
            lambda z, z_other: -_soft(z, z_other.detach()).sum(dim=1),
        ),
        Mistake(
            "the minus is missing",
            "the sign is wrong: whoever minimises this learns to contradict.",
            "hint 3 of exercise 04.1: a logarithm of a probability is negative; the loss is not.",
            lambda z, z_other: -consistency_loss(z, z_other),
        ),
        Mistake(
            "the wrong axis",
            "the softmax runs along the width of the image instead of over the classes.",
            "hint 1 of exercise 04.1: the classes lie on axis 1.",
            _wrong_axis,
        ),
        Mistake(
            "logits as the target",
            "the other's logits were used as if they were probabilities.",
            "hint 1 of exercise 04.1: softmax first.",
            _raw_target,
        ),
        Mistake(
            "no logarithm",
            "the learner's probabilities stand where their logarithms belong.",
            "hint 2 of exercise 04.1: log_softmax of the learner.",
            _log_outside,
        ),
    ),
)


# ---------------------------------------------------------------- 04.2 both directions

Terms = Callable[..., dict[str, Tensor]]
NAMES = ("a/consistency", "a/entropy", "b/consistency", "b/entropy")
WEIGHTS = ((1.0, 0.9), (0.3, 0.0), (0.0, 0.5))


def _named(terms: Any) -> dict[str, Tensor]:
    """The terms, if that is what was returned; a tensor would warn when asked for a name."""
    if not isinstance(terms, dict):
        raise TypeError(f"found a {type(terms).__name__}, expected a dictionary of terms")
    return terms


def _values(terms: dict[str, Tensor]) -> list[Tensor]:
    return [terms[name] for name in sorted(_named(terms))]


def _reach(f: Terms, names: tuple[str, ...] = NAMES) -> list[Tensor]:
    """The gradient of each term at both logits."""
    return [g for k in names for g in gradients(lambda a, b, k=k: _named(f(a, b, 0.7, 0.4))[k], *_pair(3, 1))]


def _terms_probe(f: Terms) -> list[Tensor]:
    return [t for w, v in WEIGHTS for t in _values(f(*_pair(3), w, v))] + _reach(f)


def _terms_value(f: Terms) -> bool:
    return all(
        same(_values(f(*_pair(c, 4), w, v)), _values(mutual_terms(*_pair(c, 4), w, v)))
        for c in (2, 3, 5)
        for w, v in WEIGHTS
    )


def _terms_swap(f: Terms) -> bool:
    """Exchanging the subnets exchanges their terms."""
    z_a, z_b = _pair(3, 6)
    one, two = _named(f(z_a, z_b, 0.6, 0.2)), _named(f(z_b, z_a, 0.6, 0.2))
    return all(same(one[f"a/{term}"], two[f"b/{term}"]) for term in ("consistency", "entropy"))


def _made(
    sides: Callable[[Tensor, Tensor], tuple[tuple[Tensor, Tensor], ...]] = lambda a, b: ((a, b), (b, a)),
    half: float = 0.5,
    weights: Callable[[float, float], tuple[float, float]] = lambda w, v: (w, v),
    names: str = "ab",
) -> Terms:
    """The terms from four parts, one of which a mistake replaces."""

    def terms(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
        w, v = weights(w, v)
        made = {}
        for k, (z_k, z_j) in zip(names, sides(z_a, z_b), strict=True):
            made[f"{k}/consistency"] = half * w * consistency_loss(z_k, z_j)
            made[f"{k}/entropy"] = half * v * entropy_loss(z_k)
        return made

    return terms


def _swapped_roles(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
    """As in the authors' code: for B prediction and target change places."""
    terms = mutual_terms(z_a, z_b, w, v)
    return {**terms, "b/consistency": 0.5 * w * consistency_loss(z_a.detach(), z_b)}


def _both_ways_twice(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
    terms = mutual_terms(z_a, z_b, w, v)
    return {**terms, "b/consistency": terms["a/consistency"]}


def _both_in_each(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
    terms = mutual_terms(z_a, z_b, w, v)
    both = terms["a/consistency"] + terms["b/consistency"]
    return {**terms, "a/consistency": both, "b/consistency": both}


TERMS = Exercise(
    "04.2",
    "both directions, and low entropy",
    _terms_probe,
    (
        Property(
            "interface",
            "mutual_terms(z_a, z_b, w, v) returns four terms under their names",
            lambda f: takes(f, 4) and sorted(_named(f(*_pair(), 1.0, 1.0))) == list(NAMES),
        ),
        Property(
            "shape",
            "four single numbers",
            lambda f: [t.shape for t in _named(f(*_pair(), 1.0, 1.0)).values()] == [()] * 4,
        ),
        Property(
            "value",
            "one half times w or v times the loss of that name, for several weights and classes",
            _terms_value,
        ),
        Property(
            "gradient",
            "each term teaches its own subnet and nobody else",
            lambda f: same(_reach(f), _reach(mutual_terms)),
        ),
        Property("invariance", "exchanging the subnets exchanges the terms", _terms_swap),
    ),
    (
        Mistake(
            "b's roles are swapped",
            "in b's term prediction and target have changed places, and then the prediction was detached: "
            "the V-Net learns nothing from the U-Net, as in the authors' code.",
            "hint 1 of exercise 04.2: for b, z_b comes first.",
            _swapped_roles,
        ),
        Mistake(
            "a's term twice",
            "both consistency terms teach a, the U-Net: the V-Net learns nothing from it.",
            "hint 1 of exercise 04.2: for b, z_b comes first.",
            _both_ways_twice,
        ),
        Mistake(
            "b is detached",
            "the values are right, but z_b is detached in its own term, so b learns nothing from a.",
            "hint 1 of exercise 04.2: hand over both logits as they are; consistency_loss stops the other's.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "b/consistency": 0.5 * w * consistency_loss(b.detach(), a),
            },
        ),
        Mistake(
            "both are detached",
            "the values are right, but each learner is detached in its own term, so nobody learns from it.",
            "hint 1 of exercise 04.2: hand over both logits as they are; consistency_loss stops the other's.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/consistency": 0.5 * w * consistency_loss(a.detach(), b),
                "b/consistency": 0.5 * w * consistency_loss(b.detach(), a),
            },
        ),
        Mistake(
            "one sum",
            "you added the terms up; they are wanted one by one, under their names.",
            "hint 3 of exercise 04.2: a dictionary of four.",
            lambda a, b, w, v: sum(mutual_terms(a, b, w, v).values()),
        ),
        Mistake(
            "both consistencies in each",
            "each of the two terms holds both directions: each teaches both subnets, and all counts twice.",
            "hint 1 of exercise 04.2: one direction for a, the other for b.",
            _both_in_each,
        ),
        Mistake(
            "the other's entropy",
            "each entropy stands under the other subnet's name.",
            "hint 3 of exercise 04.2: the entropy of b is that of z_b.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/entropy": 0.5 * v * entropy_loss(b),
                "b/entropy": 0.5 * v * entropy_loss(a),
            },
        ),
        Mistake(
            "a's entropy twice",
            "both entropies are those of a, and b stays as undecided as it is.",
            "hint 3 of exercise 04.2: the entropy of b is that of z_b.",
            lambda a, b, w, v: {**mutual_terms(a, b, w, v), "b/entropy": 0.5 * v * entropy_loss(a)},
        ),
        Mistake(
            "half of the consistency only",
            "the entropies are twice too large: the half stands in front of them, too.",
            "hint 2 of exercise 04.2: 0.5 * v.",
            lambda a, b, w, v: {
                k: 2 * t if k.endswith("entropy") else t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
        Mistake(
            "half of the entropy only",
            "the consistencies are twice too large: the half stands in front of them, too.",
            "hint 2 of exercise 04.2: 0.5 * w.",
            lambda a, b, w, v: {
                k: t if k.endswith("entropy") else 2 * t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
        Mistake(
            "the arguments exchanged",
            "each consistency term stands under the wrong name: a's must teach A, so z_a comes first.",
            "hint 1 of exercise 04.2: the learner comes first.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/consistency": 0.5 * w * consistency_loss(b, a),
                "b/consistency": 0.5 * w * consistency_loss(a, b),
            },
        ),
        Mistake(
            "each learns from itself",
            "each subnet is compared with itself, where the gradient is 0: nobody learns from the other.",
            "hint 1 of exercise 04.2: the target is the other subnet.",
            _made(sides=lambda a, b: ((a, a), (b, b))),
        ),
        Mistake(
            "names exchanged",
            "the values are right, but each stands under the other subnet's name.",
            "hint 3 of exercise 04.2: a is the U-Net, z_a.",
            _made(names="ba"),
        ),
        Mistake(
            "the half is missing",
            "each term is twice too large: the loss is the mean over the two subnets, not their sum.",
            "hint 2 of exercise 04.2: one half stands in front of each term.",
            _made(half=1.0),
        ),
        Mistake(
            "weights exchanged",
            "the weight of the consistency stands in front of the entropy, and the other way round.",
            "hint 2 of exercise 04.2: w for consistency, v for entropy.",
            _made(weights=lambda w, v: (v, w)),
        ),
        Mistake(
            "one weight for both",
            "the entropy has the weight of the consistency; it has one of its own, v.",
            "hint 2 of exercise 04.2: w for consistency, v for entropy.",
            _made(weights=lambda w, v: (w, w)),
        ),
        Mistake(
            "no weights",
            "your terms are the same for every w and v.",
            "hint 2 of exercise 04.2: the weights multiply the terms.",
            _made(weights=lambda w, v: (1.0, 1.0)),
        ),
        Mistake(
            "entropy raised",
            "the entropy has a minus in front: the subnets would learn to doubt everything.",
            "hint 2 of exercise 04.2: entropy_loss is what should become small; add it as it is.",
            lambda a, b, w, v: {
                k: -t if k.endswith("entropy") else t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
    ),
)


# ---------------------------------------------------------------- 04.3 the ramp

Ramp = Callable[[float], float]
TIMES = (0.0, 0.1, 0.24, 0.5, 0.63, 0.9, 1.0)


def _ramp_probe(f: Ramp) -> list[Tensor]:
    return [torch.tensor([float(f(t)) for t in TIMES])]


def _ramp_rises(f: Ramp) -> bool:
    values = [f(t / 50) for t in range(51)]
    return all(a < b for a, b in pairwise(values))


RAMP = Exercise(
    "04.3",
    "the ramp",
    _ramp_probe,
    (
        Property(
            "interface",
            "ramp(progress) takes a number and returns a Python float",
            lambda f: takes(f, 1) and isinstance(f(0.5), float),
        ),
        Property(
            "range",
            "0.007 at the start, 1 at the end",
            lambda f: abs(f(0.0) - math.exp(-5)) < 1e-6 and abs(f(1.0) - 1) < 1e-6,
        ),
        Property("rises", "from each moment to the next", _ramp_rises),
        Property(
            "value",
            "e to the power of -5 times the square of what is left of the run",
            lambda f: all(abs(f(t) - ramp(t)) < 1e-6 for t in TIMES),
        ),
    ),
    (
        Mistake(
            "it falls",
            "the ramp falls from 1 to 0.007: you squared the progress, not what is left of the run.",
            "hint 1 of exercise 04.3: what is left of the run is 1 - progress.",
            lambda progress: math.exp(-5 * progress**2),
        ),
        Mistake(
            "no square",
            "the bracket is not squared, so the ramp rises too fast at its end.",
            "hint 2 of exercise 04.3: the square of the bracket.",
            lambda progress: math.exp(-5 * (1 - progress)),
        ),
        Mistake(
            "the square inside",
            "the progress was squared, and then subtracted; the whole bracket is squared.",
            "hint 2 of exercise 04.3: (1 - progress) ** 2, with the brackets.",
            lambda progress: math.exp(-5 * (1 - progress**2)),
        ),
        Mistake(
            "no five",
            "the factor 5 is missing: your ramp begins at 0.37, where early guesses already teach.",
            "hint 2 of exercise 04.3: -5 times the square.",
            lambda progress: math.exp(-((1 - progress) ** 2)),
        ),
        Mistake(
            "no minus",
            "the minus is missing: your ramp begins at 148 and falls to 1.",
            "hint 2 of exercise 04.3: -5 times the square.",
            lambda progress: math.exp(5 * (1 - progress) ** 2),
        ),
        Mistake(
            "the five inside the square",
            "the five was squared along with the bracket: your ramp stays near 0 for most of the run.",
            "hint 2 of exercise 04.3: first the square of the bracket, then times 5.",
            lambda progress: math.exp(-((5 * (1 - progress)) ** 2)),
        ),
        Mistake(
            "the exponent alone",
            "you return the exponent: it is never above 0, and the ramp never below.",
            "hint 3 of exercise 04.3: math.exp of that.",
            lambda progress: -5 * (1 - progress) ** 2,
        ),
        Mistake(
            "the brackets forgotten",
            "without brackets Python squares the progress alone and subtracts it from -5.",
            "hint 2 of exercise 04.3: -5 * (1 - progress) ** 2, with the brackets.",
            lambda progress: math.exp(-5 * 1 - progress**2),
        ),
        Mistake(
            "a tensor",
            "the values are right, but you return a tensor; the weight of a loss is a plain number here.",
            "hint 3 of exercise 04.3: math.exp, not torch.exp.",
            lambda progress: torch.exp(torch.tensor(-5 * (1 - progress) ** 2)),
        ),
        Mistake(
            "a straight line",
            "this is the progress itself; the ramp lies below it for most of the run.",
            "hint 3 of exercise 04.3: math.exp.",
            lambda progress: float(progress),
        ),
    ),
)


# ---------------------------------------------------------------- 04.4 the moving average

Follow = Callable[[nn.Module, nn.Module, int], Any]
STEPS = (0, 1, 7, 98, 150, 4000)


def _net(seed: int, classes: int = 3) -> nn.Module:
    """A small network with BatchNorm, whose weights and statistics are set by a seed."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.Conv2d(4, classes, 1)
    )
    for i, tensor in enumerate(net.state_dict().values()):
        if tensor.is_floating_point():
            tensor.copy_(noise(*tensor.shape, seed=100 * seed + i, scale=0.5).abs() + 0.1)
    return net


def _couple() -> tuple[nn.Module, nn.Module]:
    """A teacher without gradient and a student with it."""
    return _net(1).requires_grad_(False), _net(2)


def _followed(f: Follow, step: int) -> list[Tensor]:
    teacher, student = _couple()
    f(teacher, student, step)
    return [t.detach().clone() for net in (teacher, student) for t in net.state_dict().values()]


def _follow_probe(f: Follow) -> list[Tensor]:
    return [t for step in STEPS for t in _followed(f, step)]


def _follow_start(f: Follow) -> bool:
    teacher, student = _couple()
    f(teacher, student, 0)
    return same([p.data for p in teacher.parameters()], [p.data for p in student.parameters()])


def _follow_student(f: Follow) -> bool:
    """The student stays as it is."""
    before = [t.clone() for t in _net(2).state_dict().values()]
    return all(same(_followed(f, step)[len(before) :], before) for step in STEPS)


def _follow_buffers(f: Follow) -> bool:
    teacher, student = _couple()
    f(teacher, student, 50)
    return same(list(teacher.buffers()), list(_net(1).buffers()))


def _follow_place(f: Follow) -> bool:
    """The same parameters, changed in place and without a graph."""
    teacher, student = _couple()
    before = list(teacher.parameters())
    f(teacher, student, 3)
    after = list(teacher.parameters())
    return all(a is b and a.is_leaf and not a.requires_grad for a, b in zip(after, before, strict=True))


def _average(
    decay: Callable[[int], float] = lambda step: min(1 - 1 / (step + 1), DECAY),
    tensors: Callable[[nn.Module], list[Tensor]] = lambda net: list(net.parameters()),
    moves: bool = True,
    backwards: bool = False,
    share: Callable[[float], float] = lambda alpha: 1 - alpha,
    returns: bool = False,
) -> Follow:
    """The moving average from parts, one of which a mistake replaces."""

    @torch.no_grad()
    def average(teacher: nn.Module, student: nn.Module, step: int) -> nn.Module | None:
        pair = (student, teacher) if backwards else (teacher, student)
        for old, new in zip(*map(tensors, pair), strict=True):
            alpha = decay(step)
            if moves:
                old.copy_(alpha * old + share(alpha) * new)
        return teacher if returns else None

    return average


FOLLOW = Exercise(
    "04.4",
    "the moving average",
    _follow_probe,
    (
        Property(
            "interface",
            "follow(teacher, student, step) changes the teacher and returns nothing",
            lambda f: takes(f, 3) and f(*_couple(), 1) is None,
        ),
        Property("start", "after step 0 the teacher is the student", _follow_start),
        Property(
            "value",
            "alpha of the teacher plus 1 - alpha of the student, early in the run and late",
            lambda f: all(same(_followed(f, s), _followed(follow, s)) for s in STEPS),
        ),
        Property("student", "the student stays as it is", _follow_student),
        Property("buffers", "BatchNorm's running averages are not touched", _follow_buffers),
        Property("in place", "the teacher keeps its own parameters, without gradient", _follow_place),
    ),
    (
        Mistake(
            "shares exchanged",
            "the teacher keeps 1 - alpha of itself and takes alpha from the student: late in the run it is "
            "almost the student of one step.",
            "hint 2 of exercise 04.4: the teacher keeps alpha, the student adds 1 - alpha.",
            _average(lambda step: 1 - min(1 - 1 / (step + 1), DECAY)),
        ),
        Mistake(
            "the student in full",
            "the teacher keeps its share alpha, but the student is added in full: the weights grow and grow.",
            "hint 2 of exercise 04.4: the student's share is 1 - decay.",
            _average(share=lambda alpha: 1.0),
        ),
        Mistake(
            "something returned",
            "the teacher is right, but you return it; what changes in place needs no return.",
            "the text of exercise 04.4: the function returns nothing.",
            _average(returns=True),
        ),
        Mistake(
            "the student follows",
            "it is the student that changed, and it follows the teacher.",
            "hint 2 of exercise 04.4: only the teacher's parameters change.",
            _average(backwards=True),
        ),
        Mistake(
            "0.99 from the start",
            "alpha is 0.99 from the first step on: the random start stays in the teacher for hundreds of "
            "steps.",
            "hint 1 of exercise 04.4: the smaller one of 1 - 1 / (step + 1) and DECAY.",
            _average(lambda step: DECAY),
        ),
        Mistake(
            "the larger one",
            "you took the larger one of the two numbers: at the start 0.99, later almost 1, and the teacher "
            "hardly moves.",
            "hint 1 of exercise 04.4: the smaller one.",
            _average(lambda step: max(1 - 1 / (step + 1), DECAY)),
        ),
        Mistake(
            "the mean of all steps",
            "alpha goes on rising towards 1, so that steps from long ago count as much as the last one.",
            "hint 1 of exercise 04.4: alpha rises no higher than DECAY.",
            _average(lambda step: 1 - 1 / (step + 1)),
        ),
        Mistake(
            "a copy",
            "the teacher becomes the student, whatever the step: nothing is averaged.",
            "hint 2 of exercise 04.4: the teacher keeps a share alpha of itself.",
            _average(lambda step: 0.0),
        ),
        Mistake(
            "one step ahead",
            "alpha is one step ahead: at step 0 it must be 0, so that nothing of the random start is kept.",
            "hint 1 of exercise 04.4: step counts from 0, and alpha is 1 - 1 / (step + 1).",
            _average(lambda step: min(1 - 1 / (step + 2), DECAY)),
        ),
        Mistake(
            "division by zero",
            "1 / step has no value at the first step, for step counts from 0.",
            "hint 1 of exercise 04.4: 1 - 1 / (step + 1).",
            _average(lambda step: min(1 - 1 / step, DECAY)),
        ),
        Mistake(
            "buffers, too",
            "the running averages of BatchNorm follow as well; the teacher makes its own, of what it sees.",
            "hint 3 of exercise 04.4: `parameters()` has no buffers, `state_dict()` has.",
            _average(tensors=lambda net: [t for t in net.state_dict().values() if t.is_floating_point()]),
        ),
        Mistake(
            "a new tensor",
            "the teacher has not changed: `old = ...` names a new tensor and leaves the parameter alone.",
            "hint 2 of exercise 04.4: change it in place, with lerp_ or copy_.",
            _average(moves=False),
        ),
    ),
)


# ---------------------------------------------------------------- 04.5 Mean Teacher's terms

PARTS = ("consistency", "supervised")


def library_terms(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    """What the method itself computes at the end of its ramp, with the weight `w`."""
    method = MeanTeacher(Config(steps=1), 2, net)
    method.teacher = teacher
    terms = method.losses(Batch(x, y, n, []), step=1)
    return {**terms, "consistency": terms["consistency"] * (w / RAMPED_WEIGHT)}


def _batch(n: int = 2, count: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Images, labels of the first n, and n."""
    x = noise(count, 3, 6, 7, seed=seed).sigmoid()
    y = noise(count, classes, 6, 7, seed=seed + 1).argmax(dim=1)
    y[n:] = -1
    return x, y, n


def _asked(
    f: Terms, n: int = 2, classes: int = 3, w: float = 0.3, seed: int = 0
) -> tuple[dict[str, Tensor], nn.Module, nn.Module]:
    """The terms with the same noise every time, and the two networks after it."""
    net, teacher = _net(3, classes), _net(4, classes)  # both could learn; only the student may
    torch.manual_seed(seed)
    return f(net, teacher, *_batch(n, 5, classes, seed), w), net, teacher


def _told(f: Terms, **how: Any) -> list[Tensor]:
    return _values(_asked(f, **how)[0])


def _weights_reached(f: Terms) -> list[Tensor]:
    """The gradient of each term at the weights of student and teacher."""
    terms, net, teacher = _asked(f)
    weights = [*net.parameters(), *teacher.parameters()]
    found: list[Tensor] = []
    for name in PARTS:
        grads: Any = [None] * len(weights)
        if terms[name].requires_grad:
            grads = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
        found += [torch.zeros_like(p) if g is None else g for g, p in zip(grads, weights, strict=True)]
    return found


def _statistics(f: Terms) -> list[Tensor]:
    """What the networks have seen, and in which mode they are left."""
    _, net, teacher = _asked(f)
    modes = torch.tensor([net.training, teacher.training])
    return [t.clone() for part in (net, teacher) for t in part.buffers()] + [modes]


def _step_probe(f: Terms) -> list[Tensor]:
    return [*_told(f), *_told(f, n=1, w=1.0, seed=3), *_weights_reached(f), *_statistics(f)]


def _step_teacher(f: Terms) -> bool:
    terms, _, teacher = _asked(f)
    torch.stack(list(terms.values())).sum().backward()
    return all(p.grad is None for p in teacher.parameters())


def _step_noise(f: Terms) -> bool:
    """The consistency depends on the noise, the supervised term does not."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(f(_net(3), _net(4), *_batch(), 0.3))
    return not same(made[0]["consistency"], made[1]["consistency"]) and same(
        made[0]["supervised"], made[1]["supervised"]
    )


Student = Callable[[nn.Module, Tensor, int], Tensor]


def _step(
    asked: Student = lambda teacher, x, n: teacher(noisy(x[n:])),
    answers: Student = lambda net, x, n: net(x),
    part: Callable[[Tensor, int], Tensor] = lambda z, n: z[n:],
    distance: Callable[[Tensor, Tensor], Tensor] = lambda z, t: F.mse_loss(
        z.softmax(dim=1), t.softmax(dim=1)
    ),
    weights: Callable[[float], tuple[float, float]] = lambda w: (0.5, w),
    stop: bool = True,
) -> Terms:
    """The two terms from six parts, one of which a mistake replaces."""

    def terms(
        net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
    ) -> dict[str, Tensor]:
        half, w = weights(w)
        z = answers(net, x, n)
        with torch.set_grad_enabled(not stop):
            target = asked(teacher, x, n)
        return {
            "supervised": half * supervised_loss(z[:n], y[:n]),
            "consistency": w * distance(part(z, n), target),
        }

    return terms


def _evaluated(teacher: nn.Module, x: Tensor, n: int) -> Tensor:
    return teacher.eval()(noisy(x[n:]))


def _two_passes(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return torch.cat([net(x[:n]), net(x[n:])])


def _noisy_student(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return net(torch.cat([x[:n], noisy(x[n:])]))


def _plain_student_asked(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    return _step(asked=lambda t, x, n: copy.deepcopy(net)(noisy(x[n:])))(net, teacher, x, y, n, w)


def _same_noise(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    both = torch.cat([x[:n], noisy(x[n:])])
    return _step(asked=lambda teacher, x, n: teacher(x[n:]))(net, teacher, both, y, n, w)


@torch.no_grad()
def _nobody(net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
    return _step()(net, teacher, x, y, n, w)


STEP = Exercise(
    "04.5",
    "Mean Teacher's two terms",
    _step_probe,
    (
        Property(
            "interface",
            'mean_teacher_terms(net, teacher, x, y, n, w) returns "supervised" and "consistency"',
            lambda f: takes(f, 6) and sorted(_asked(f)[0]) == list(PARTS),
        ),
        Property("shape", "two single numbers", lambda f: [t.shape for t in _told(f)] == [(), ()]),
        Property(
            "value",
            "half the supervised loss; w times the mean squared difference, with the same noise",
            lambda f: all(
                same(_told(f, n=n, classes=c, w=w, seed=c), _told(library_terms, n=n, classes=c, w=w, seed=c))
                for n, c, w in ((1, 2, 1.0), (2, 3, 0.05), (4, 4, 0.5))
            ),
        ),
        Property(
            "gradient",
            "each term reaches the weights of the student as its formula says",
            lambda f: same(_weights_reached(f), _weights_reached(library_terms)),
        ),
        Property("teacher", "the teacher gets no gradient", _step_teacher),
        Property("noise", "the teacher's images are noisy, the student's are not", _step_noise),
        Property(
            "mode",
            "the modes stay; one pass each, the student's over the batch, the teacher's over its half",
            lambda f: same(_statistics(f), _statistics(library_terms)),
        ),
    ),
    (
        Mistake(
            "no noise",
            "the teacher sees the very images that the student sees, so there is little to disagree about.",
            "hint 2 of exercise 04.5: noisy(x[n:]) goes into the teacher.",
            _step(asked=lambda teacher, x, n: teacher(x[n:])),
        ),
        Mistake(
            "the student sees the noise",
            "the noise went into the student, and the teacher sees the clean images.",
            "hint 2 of exercise 04.5: noisy(x[n:]) goes into the teacher.",
            _step(asked=lambda teacher, x, n: teacher(x[n:]), answers=_noisy_student),
        ),
        Mistake(
            "the teacher learns",
            "the values are right, but a gradient reaches the teacher.",
            "hint 2 of exercise 04.5: ask the teacher inside torch.no_grad().",
            _step(stop=False),
        ),
        Mistake(
            "the student asks itself",
            "the target comes from the student; the teacher was never asked.",
            "hint 2 of exercise 04.5: the teacher makes the target.",
            _plain_student_asked,
        ),
        Mistake(
            "the teacher in evaluation mode",
            "the teacher was put into evaluation mode, and answers by its running averages; in this method "
            "it stays in training mode.",
            "hint 2 of exercise 04.5: call it as it is.",
            _step(asked=_evaluated),
        ),
        Mistake(
            "the whole batch for the teacher",
            "the teacher sees the labelled images, too; it is only needed on the unlabelled half.",
            "hint 2 of exercise 04.5: noisy(x[n:]), not noisy(x)[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x))[n:]),
        ),
        Mistake(
            "noise for the whole batch",
            "the noise was drawn for the whole batch and half of it thrown away; draw it for the unlabelled "
            "half, so that the numbers can be compared.",
            "hint 2 of exercise 04.5: noisy(x[n:]), not noisy(x)[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x)[n:])),
        ),
        Mistake(
            "consistency on the whole batch",
            "student and teacher are compared on the labelled images as well.",
            "hint 3 of exercise 04.5: the student's z[n:] and the teacher's answer to x[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x)), part=lambda z, n: z),
        ),
        Mistake(
            "the labelled half",
            "student and teacher are compared on the labelled half, which has labels to learn from.",
            "hint 3 of exercise 04.5: z[n:] and x[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x[:n])), part=lambda z, n: z[:n]),
        ),
        Mistake(
            "the same noise for both",
            "student and teacher see the same noisy images; the student should see them clean.",
            "hint 2 of exercise 04.5: only the teacher's images are noisy.",
            _same_noise,
        ),
        Mistake(
            "nobody learns",
            "the student was asked inside torch.no_grad(), too, so neither term has a gradient.",
            "hint 2 of exercise 04.5: only the teacher's call belongs there.",
            _nobody,
        ),
        Mistake(
            "pseudo-labels",
            "the teacher's winner became a label; its probabilities are wanted.",
            "hint 3 of exercise 04.5: F.mse_loss of the two softmaxes.",
            _step(distance=lambda z, t: F.cross_entropy(z, t.argmax(dim=1))),
        ),
        Mistake(
            "two passes",
            "the student was called once for each half, so BatchNorm saw two small batches in place of one.",
            "hint 1 of exercise 04.5: net(x) once, then slices of its answer.",
            _step(answers=_two_passes),
        ),
        Mistake(
            "logits compared",
            "the logits are compared; the probabilities are wanted.",
            "hint 3 of exercise 04.5: softmax over axis 1 for both.",
            _step(distance=F.mse_loss),
        ),
        Mistake(
            "the teacher's logits",
            "the student's probabilities are compared with the teacher's logits.",
            "hint 3 of exercise 04.5: softmax over axis 1 for both.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t)),
        ),
        Mistake(
            "the wrong axis",
            "the softmax runs along the width of the image instead of over the classes.",
            "hint 3 of exercise 04.5: both are softmaxes over axis 1.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=-1), t.softmax(dim=-1))),
        ),
        Mistake(
            "sum over the classes",
            "the squares were added up over the classes; the mean is over classes and pixels alike.",
            "hint 3 of exercise 04.5: F.mse_loss takes the mean by itself.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t.softmax(dim=1)) * z.shape[1]),
        ),
        Mistake(
            "cross-entropy",
            "this is the cross-entropy of the pair; Mean Teacher takes the squared difference.",
            "hint 3 of exercise 04.5: F.mse_loss of the two softmaxes.",
            _step(distance=consistency_loss),
        ),
        Mistake(
            "sum in place of the mean",
            "the squared differences were added up.",
            "hint 3 of exercise 04.5: F.mse_loss takes the mean by itself.",
            _step(
                distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t.softmax(dim=1)) * z.numel(),
            ),
        ),
        Mistake(
            "the student is detached",
            "the values are right, but the student is detached: its consistency teaches nobody.",
            "hint 2 of exercise 04.5: only the teacher is asked inside torch.no_grad().",
            _step(part=lambda z, n: z[n:].detach()),
        ),
        Mistake(
            "the half is missing",
            "the supervised term is twice too large.",
            "hint 3 of exercise 04.5: one half in front of the supervised loss.",
            _step(weights=lambda w: (1.0, w)),
        ),
        Mistake(
            "the weight in front of both",
            "the supervised term has the weight w, too; the labels count in full from the first step on.",
            "hint 3 of exercise 04.5: one half in front of the supervised loss, w in front of the other.",
            _step(weights=lambda w: (0.5 * w, w)),
        ),
        Mistake(
            "n is not used",
            "you cut the batch in the middle; the first n images have labels, and n may be any number.",
            "hint 1 of exercise 04.5: z[:n] and z[n:].",
            lambda net, teacher, x, y, n, w: _step()(net, teacher, x, y, len(x) // 2, w),
        ),
        Mistake(
            "half of both",
            "the consistency was halved, too; it has the weight w alone.",
            "hint 3 of exercise 04.5: one half in front of the supervised loss only.",
            _step(weights=lambda w: (0.5, 0.5 * w)),
        ),
        Mistake(
            "the weight is not used",
            "your consistency is the same for every w.",
            "hint 3 of exercise 04.5: w stands in front of the consistency.",
            _step(weights=lambda w: (0.5, 1.0)),
        ),
    ),
)

EXERCISES = (CONSISTENCY, TERMS, RAMP, FOLLOW, STEP)

QUIZ = (
    Answer(
        "c",
        "the pull is the other's probability minus its own, 0.70 - 0.95, and asks for no truth.",
        "step 1, consistency",
    ),
    Answer(
        "b",
        "without the stop both move, and agreement is cheapest where both are sure of something.",
        "step 1, consistency",
    ),
    Answer(
        "d", "the winner is the background, and low entropy makes the winner larger.", "step 2, low entropy"
    ),
    Answer(
        "a",
        "0.99 to the power of 30 is 0.74: so much of the random start is left.",
        "step 6, Mean Teacher",
    ),
    Answer(
        "c",
        "prediction and target are exchanged, and what is now the target carries no gradient.",
        "where paper, authors' code and library differ",
    ),
)
