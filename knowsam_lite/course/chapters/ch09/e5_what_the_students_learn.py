"""Exercise 09.5, what the students learn."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.knowsam import KnowSAM
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.students import StudentOutput

Terms = Callable[..., dict[str, Tensor]]
NAMES = ("a/pseudo", "a/supervised", "b/pseudo", "b/supervised", "fused/supervised")


def _answer(classes: int = 3, n: int = 4, seed: int = 0) -> tuple[StudentOutput, Tensor]:
    """The students' logits for a mixed batch, and its target, with some pixels unknown."""
    z = StudentOutput(*(noise(n, classes, 4, 5, seed=seed + k) for k in range(3)))
    return z, noise(n, classes + 1, 4, 5, seed=seed + 40).argmax(dim=1) - 1


def library_terms(z: StudentOutput, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
    """The method's own terms for a mixed batch at the end of its ramp, without those of chapter 04."""
    classes = z.logits_f.shape[1]
    method = KnowSAM(
        Config(consistency_weight=w),
        classes,
        nn.Identity(),
        nn.Identity(),
        teacher=NoTeacher(backbone_named("sam_mini")),
    )
    terms = method.mixed_losses(z, y, n, progress=1.0)
    return {name: terms[f"mixed/{name}"] for name in NAMES}


def _values(terms: dict[str, Tensor]) -> list[Tensor]:
    return [terms[name] for name in sorted(terms)]


def _reach(f: Terms) -> list[Tensor]:
    """The gradient of each term with respect to each of the three logits."""
    z, y = _answer()
    return [
        g for k in NAMES for g in gradients(lambda *logits, k=k: f(StudentOutput(*logits), y, 2, 0.5)[k], *z)
    ]


def _terms_probe(f: Terms) -> list[Tensor]:
    return [t for n in (1, 2) for t in _values(f(*_answer(seed=n), n, 0.3))] + _reach(f)


def _terms_value(f: Terms) -> bool:
    return all(
        same(_values(f(*_answer(c, seed=c), n, w)), _values(library_terms(*_answer(c, seed=c), n, w)))
        for c, n, w in ((2, 2, 1.0), (3, 1, 0.05), (4, 3, 0.5))
    )


def _terms_half(f: Terms) -> bool:
    """The fused logits of the labelled half do not affect the pseudo terms."""
    z, y = _answer()
    other = torch.cat([noise(2, 3, 4, 5, seed=77), z.logits_f[2:]])
    one, two = f(z, y, 2, 1.0), f(z._replace(logits_f=other), y, 2, 1.0)
    return all(same(one[name], two[name]) for name in ("a/pseudo", "b/pseudo"))


def _terms(
    own: Callable[[StudentOutput, int], tuple[Tensor, Tensor]] = lambda z, n: (
        (z.logits_f[n:].argmax(dim=1),) * 2
    ),
    part: Callable[[Tensor, int], Tensor] = lambda t, n: t[n:],
    known: Callable[[Tensor, int], Tensor] = lambda t, n: t,
    factors: Callable[[float], tuple[float, float, float]] = lambda w: (0.5, 0.5 * w, 1.0),
) -> Terms:
    """The terms, built from four parts; each mistake replaces one."""

    def terms(z: StudentOutput, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
        supervised, pseudo, fused = factors(w)
        made = {"fused/supervised": fused * supervised_loss(known(z.logits_f, n), known(y, n))}
        for k, z_k, target in zip("ab", z[:2], own(z, n), strict=True):
            made[f"{k}/supervised"] = supervised * supervised_loss(known(z_k, n), known(y, n))
            made[f"{k}/pseudo"] = pseudo * supervised_loss(part(z_k, n), target)
        return made

    return terms


TERMS = Exercise(
    "09.5",
    "what the students learn",
    _terms_probe,
    (
        Property(
            "interface",
            "mixed_terms(z, y, n, w) returns five terms under their names",
            lambda f: takes(f, 4) and sorted(f(*_answer(), 2, 1.0)) == list(NAMES),
        ),
        Property(
            "shape",
            "five single numbers",
            lambda f: [t.shape for t in f(*_answer(), 2, 1.0).values()] == [()] * 5,
        ),
        Property(
            "value",
            "each factor times the supervised loss of logits and target; several w and n",
            _terms_value,
        ),
        Property(
            "gradient",
            "each term reaches its own logits alone",
            lambda f: same(_reach(f), _reach(library_terms)),
        ),
        Property("half", "the students' own opinion counts on the unlabelled half only", _terms_half),
    ),
    (
        Mistake(
            "own opinion on the whole batch",
            "the pseudo terms run over the labelled half, too, whose targets are better than an opinion.",
            "hint 2: logits and opinion from image n on.",
            _terms(own=lambda z, n: (z.logits_f.argmax(dim=1),) * 2, part=lambda t, n: t),
        ),
        Mistake(
            "each its own opinion",
            "each subnet is taught its own winner, which it believes already.",
            "hint 2: the opinion is that of the fused map, for both.",
            _terms(own=lambda z, n: (z.logits_a[n:].argmax(dim=1), z.logits_b[n:].argmax(dim=1))),
        ),
        Mistake(
            "the mixed target once more",
            "the pseudo terms use the mixed target, which the supervised terms hold already.",
            "hint 2: the target is the winner of the fused logits.",
            lambda z, y, n, w: _terms(own=lambda z, n: (y[n:], y[n:]))(z, y, n, w),
        ),
        Mistake(
            "only the labelled half",
            "the supervised terms see the labelled half alone: what was pasted into the other is lost.",
            "hint 1: the mixed target holds for the whole batch.",
            _terms(known=lambda t, n: t[:n]),
        ),
        Mistake(
            "the ramp is missing",
            "the pseudo terms have full weight from the start; the students' own opinion needs the ramp.",
            "hint 3: one half times w.",
            _terms(factors=lambda w: (0.5, 0.5, 1.0)),
        ),
        Mistake(
            "the ramp everywhere",
            "the supervised terms have the ramp, too, which belongs to the students' own opinion alone.",
            "hint 3: w stands in front of the pseudo terms only.",
            _terms(factors=lambda w: (0.5 * w, 0.5 * w, w)),
        ),
        Mistake(
            "the half is missing",
            "the subnets' terms are twice too large: the loss is the mean over the two subnets.",
            "hint 3: one half in front of each subnet's terms, 1 in front of the fused one.",
            _terms(factors=lambda w: (1.0, w, 1.0)),
        ),
        Mistake(
            "half of the fused term",
            "the fused map's term is halved, but there is only one fused map.",
            "hint 3: one half in front of each subnet's terms, 1 in front of the fused one.",
            _terms(factors=lambda w: (0.5, 0.5 * w, 0.5)),
        ),
        Mistake(
            "opinion on the labelled half",
            "the pseudo terms run over the first n images, the labelled ones; they belong to the others.",
            "hint 2: from image n on, [n:].",
            _terms(own=lambda z, n: (z.logits_f[:n].argmax(dim=1),) * 2, part=lambda t, n: t[:n]),
        ),
        Mistake(
            "each other's opinion",
            "each subnet is taught the other's winner; the opinion is that of the fused map.",
            "hint 2: z.logits_f.",
            _terms(own=lambda z, n: (z.logits_b[n:].argmax(dim=1), z.logits_a[n:].argmax(dim=1))),
        ),
        Mistake(
            "the mean of the subnets",
            "the opinion is the winner of both subnets' sum; HAM's map is the students' answer.",
            "hint 2: z.logits_f.",
            _terms(own=lambda z, n: ((z.logits_a + z.logits_b)[n:].argmax(dim=1),) * 2),
        ),
        Mistake(
            "no half before the pseudo terms",
            "the pseudo terms lack the one half: the loss is the mean over the two subnets.",
            "hint 3: 0.5 * w.",
            _terms(factors=lambda w: (0.5, w, 1.0)),
        ),
        Mistake(
            "the ramp on the subnets' supervised terms",
            "the subnets' supervised terms have the ramp, too, which belongs to the pseudo terms alone.",
            "hint 3: w stands in front of the pseudo terms only.",
            _terms(factors=lambda w: (0.5 * w, 0.5 * w, 1.0)),
        ),
    ),
    library_terms,
)
