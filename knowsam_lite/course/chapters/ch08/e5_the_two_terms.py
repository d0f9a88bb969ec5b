"""Exercise 08.5, the two terms."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from knowsam_lite.course.chapters.ch08.shared import logit_pair
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.losses import distillation_loss

Terms = Callable[..., dict[str, Tensor]]
NAMES = ("a/distillation", "b/distillation")


def _three(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return (*logit_pair(3, seed), noise(2, 3, 4, 5, seed=seed + 70, scale=6.0))


def _terms(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, temperature: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(z, z_s, temperature) for z in (z_a, z_b))
    return dict(zip(NAMES, parts, strict=True))


def _told(f: Terms, *arguments: Any) -> dict[str, Tensor]:
    """What `f` returns, which has to be a dictionary: a tensor would treat a name as an index."""
    return dict(f(*arguments))


def _terms_probe(f: Terms) -> list[Tensor]:
    made = []
    for weight, temperature in ((1.0, 10.0), (0.3, 2.0)):
        terms = _told(f, *_three(), weight, temperature)
        made += [terms[name] for name in sorted(terms)]
    for name in NAMES:
        made += gradients(lambda a, b, s, name=name: _told(f, a, b, s, 1.0, 4.0)[name], *_three())
    return made


def _terms_value(f: Terms) -> bool:
    return all(
        same([_told(f, *_three(5), w, t)[k] for k in NAMES], [_terms(*_three(5), w, t)[k] for k in NAMES])
        for w, t in ((1.0, 10.0), (0.3, 10.0), (2.0, 1.0))
    )


def _terms_gradient(f: Terms) -> bool:
    """Each term reaches only its own subnet."""
    arrived = [
        [
            bool(g.any())
            for g in gradients(lambda a, b, s, name=name: _told(f, a, b, s, 1.0, 4.0)[name], *_three())
        ]
        for name in NAMES
    ]
    return arrived == [[True, False, False], [False, True, False]]


def _terms_swap(f: Terms) -> bool:
    z_a, z_b, z_s = _three()
    one, other = _told(f, z_a, z_b, z_s, 1.0, 4.0), _told(f, z_b, z_a, z_s, 1.0, 4.0)
    return same(one[NAMES[0]], other[NAMES[1]]) and same(one[NAMES[1]], other[NAMES[0]])


def _from_each_other(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, t: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(*pair, t) for pair in ((z_a, z_b), (z_b, z_a)))
    return dict(zip(NAMES, parts, strict=True))


def _upside_down(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, t: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(z_s, z, t) for z in (z_a, z_b))
    return dict(zip(NAMES, parts, strict=True))


TERMS = Exercise(
    "08.5",
    "the students' two terms",
    _terms_probe,
    (
        Property(
            "interface",
            'skd_terms(z_a, z_b, z_s, weight, temperature) returns "a/distillation" and "b/distillation"',
            lambda f: takes(f, 5) and sorted(_told(f, *_three(), 1.0, 10.0)) == list(NAMES),
        ),
        Property(
            "shape",
            "two single numbers",
            lambda f: [t.shape for t in _told(f, *_three(), 1.0, 10.0).values()] == [(), ()],
        ),
        Property(
            "value",
            "half the weight times the distillation loss; several weights and temperatures",
            _terms_value,
        ),
        Property("gradient", "each term reaches its own subnet, and SAM hears nothing", _terms_gradient),
        Property("invariance", "exchanging the subnets exchanges the terms", _terms_swap),
    ),
    (
        Mistake(
            "the half is missing",
            "each term is twice too large: the loss is the mean over the two subnets, not their sum.",
            "hint 2: one half stands in front of each term.",
            lambda a, b, s, w, t: {k: 2 * v for k, v in _terms(a, b, s, w, t).items()},
        ),
        Mistake(
            "the weight is not used",
            "your terms are the same for every weight.",
            "hint 2: the weight multiplies each term.",
            lambda a, b, s, w, t: _terms(a, b, s, 1.0, t),
        ),
        Mistake(
            "the temperature is not handed on",
            "your terms are the same for every temperature: the loss fell back on its default.",
            "hint 1: the third argument of distillation_loss.",
            lambda a, b, s, w, t: _terms(a, b, s, w, 10.0),
        ),
        Mistake(
            "one temperature is not handed on",
            "the V-Net's term is the same for every temperature: there the loss fell back on its default.",
            "hint 1: the third argument of distillation_loss, both times.",
            lambda a, b, s, w, t: {
                NAMES[0]: _terms(a, b, s, w, t)[NAMES[0]],
                NAMES[1]: _terms(a, b, s, w, 10.0)[NAMES[1]],
            },
        ),
        Mistake(
            "neither half nor weight",
            "both factors are missing: the one half and the weight.",
            "hint 2: in front of each stands 0.5 * weight.",
            lambda a, b, s, w, t: _terms(a, b, s, 2.0, t),
        ),
        Mistake(
            "the subnets teach each other",
            "each subnet learns from the other one: that is consistency (chapter 04), not SKD.",
            "hint 1: the teacher of both is z_s.",
            _from_each_other,
        ),
        Mistake(
            "SAM as the student",
            "SAM stands in the student's place: the gradient goes to SAM and the subnets learn nothing.",
            "hint 1: the student comes first.",
            _upside_down,
        ),
        Mistake(
            "one subnet twice",
            "both terms are the U-Net's, and the V-Net learns nothing from SAM.",
            "hint 1: once for z_a and once for z_b.",
            lambda a, b, s, w, t: _terms(a, a, s, w, t),
        ),
        Mistake(
            "names exchanged",
            "the values are right, but each stands under the other subnet's name.",
            "hint 3: a is the U-Net, z_a.",
            lambda a, b, s, w, t: _terms(b, a, s, w, t),
        ),
        Mistake(
            "T squared twice",
            "the terms were multiplied by T squared; distillation_loss has done that already.",
            "hint 2: 0.5 * weight, and nothing else.",
            lambda z_a, z_b, z_s, weight, t: {
                name: t**2 * term for name, term in _terms(z_a, z_b, z_s, weight, t).items()
            },
        ),
    ),
    _terms,
)
