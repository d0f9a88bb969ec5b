"""Exercise 04.2, both directions."""

from collections.abc import Callable

from torch import Tensor

from knowsam_lite.course.chapters.ch04.shared import Terms, logit_pair, named_terms, term_values
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same, takes
from knowsam_lite.losses import consistency_loss, entropy_loss
from knowsam_lite.methods.multi_view import mutual_terms

NAMES = ("a/consistency", "a/entropy", "b/consistency", "b/entropy")
WEIGHTS = ((1.0, 0.9), (0.3, 0.0), (0.0, 0.5))


def _reach(f: Terms, names: tuple[str, ...] = NAMES) -> list[Tensor]:
    """The gradient of each term with respect to both logits."""
    return [
        g
        for k in names
        for g in gradients(lambda a, b, k=k: named_terms(f(a, b, 0.7, 0.4))[k], *logit_pair(3, 1))
    ]


def _terms_probe(f: Terms) -> list[Tensor]:
    return [t for w, v in WEIGHTS for t in term_values(f(*logit_pair(3), w, v))] + _reach(f)


def _terms_value(f: Terms) -> bool:
    return all(
        same(term_values(f(*logit_pair(c, 4), w, v)), term_values(mutual_terms(*logit_pair(c, 4), w, v)))
        for c in (2, 3, 5)
        for w, v in WEIGHTS
    )


def _terms_swap(f: Terms) -> bool:
    """Swapping the subnets swaps their terms."""
    z_a, z_b = logit_pair(3, 6)
    one, two = named_terms(f(z_a, z_b, 0.6, 0.2)), named_terms(f(z_b, z_a, 0.6, 0.2))
    return all(same(one[f"a/{term}"], two[f"b/{term}"]) for term in ("consistency", "entropy"))


def _made(
    sides: Callable[[Tensor, Tensor], tuple[tuple[Tensor, Tensor], ...]] = lambda a, b: ((a, b), (b, a)),
    half: float = 0.5,
    weights: Callable[[float, float], tuple[float, float]] = lambda w, v: (w, v),
    names: str = "ab",
) -> Terms:
    """The terms, built from four parts; each mistake replaces one."""

    def terms(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
        w, v = weights(w, v)
        made = {}
        for k, (z_k, z_j) in zip(names, sides(z_a, z_b), strict=True):
            made[f"{k}/consistency"] = half * w * consistency_loss(z_k, z_j)
            made[f"{k}/entropy"] = half * v * entropy_loss(z_k)
        return made

    return terms


def _swapped_roles(z_a: Tensor, z_b: Tensor, w: float, v: float) -> dict[str, Tensor]:
    """As in the authors' code: prediction and target are swapped for B."""
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
            lambda f: takes(f, 4) and sorted(named_terms(f(*logit_pair(), 1.0, 1.0))) == list(NAMES),
        ),
        Property(
            "shape",
            "four single numbers",
            lambda f: [t.shape for t in named_terms(f(*logit_pair(), 1.0, 1.0)).values()] == [()] * 4,
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
            "hint 1: for b, z_b comes first.",
            _swapped_roles,
        ),
        Mistake(
            "a's term twice",
            "both consistency terms teach a, the U-Net: the V-Net learns nothing from it.",
            "hint 1: for b, z_b comes first.",
            _both_ways_twice,
        ),
        Mistake(
            "b is detached",
            "the values are right, but z_b is detached in its own term, so b learns nothing from a.",
            "hint 1: hand over both logits as they are; consistency_loss stops the other's.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "b/consistency": 0.5 * w * consistency_loss(b.detach(), a),
            },
        ),
        Mistake(
            "both are detached",
            "the values are right, but each learner is detached in its own term, so nobody learns from it.",
            "hint 1: hand over both logits as they are; consistency_loss stops the other's.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/consistency": 0.5 * w * consistency_loss(a.detach(), b),
                "b/consistency": 0.5 * w * consistency_loss(b.detach(), a),
            },
        ),
        Mistake(
            "one sum",
            "you added the terms up; they are wanted one by one, under their names.",
            "hint 3: a dictionary of four.",
            lambda a, b, w, v: sum(mutual_terms(a, b, w, v).values()),
        ),
        Mistake(
            "both consistencies in each",
            "each of the two terms holds both directions: each teaches both subnets, and all counts twice.",
            "hint 1: one direction for a, the other for b.",
            _both_in_each,
        ),
        Mistake(
            "the other's entropy",
            "each entropy stands under the other subnet's name.",
            "hint 3: the entropy of b is that of z_b.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/entropy": 0.5 * v * entropy_loss(b),
                "b/entropy": 0.5 * v * entropy_loss(a),
            },
        ),
        Mistake(
            "a's entropy twice",
            "both entropies are those of a, and b stays as undecided as it is.",
            "hint 3: the entropy of b is that of z_b.",
            lambda a, b, w, v: {**mutual_terms(a, b, w, v), "b/entropy": 0.5 * v * entropy_loss(a)},
        ),
        Mistake(
            "half of the consistency only",
            "the entropies are twice too large: the half stands in front of them, too.",
            "hint 2: 0.5 * v.",
            lambda a, b, w, v: {
                k: 2 * t if k.endswith("entropy") else t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
        Mistake(
            "half of the entropy only",
            "the consistencies are twice too large: the half stands in front of them, too.",
            "hint 2: 0.5 * w.",
            lambda a, b, w, v: {
                k: t if k.endswith("entropy") else 2 * t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
        Mistake(
            "the arguments exchanged",
            "each consistency term stands under the wrong name: a's must teach A, so z_a comes first.",
            "hint 1: the learner comes first.",
            lambda a, b, w, v: {
                **mutual_terms(a, b, w, v),
                "a/consistency": 0.5 * w * consistency_loss(b, a),
                "b/consistency": 0.5 * w * consistency_loss(a, b),
            },
        ),
        Mistake(
            "each learns from itself",
            "each subnet is compared with itself, where the gradient is 0: nobody learns from the other.",
            "hint 1: the target is the other subnet.",
            _made(sides=lambda a, b: ((a, a), (b, b))),
        ),
        Mistake(
            "names exchanged",
            "the values are right, but each stands under the other subnet's name.",
            "hint 3: a is the U-Net, z_a.",
            _made(names="ba"),
        ),
        Mistake(
            "the half is missing",
            "each term is twice too large: the loss is the mean over the two subnets, not their sum.",
            "hint 2: one half stands in front of each term.",
            _made(half=1.0),
        ),
        Mistake(
            "weights exchanged",
            "the weight of the consistency stands in front of the entropy, and the other way round.",
            "hint 2: w for consistency, v for entropy.",
            _made(weights=lambda w, v: (v, w)),
        ),
        Mistake(
            "one weight for both",
            "the entropy has the weight of the consistency; it has one of its own, v.",
            "hint 2: w for consistency, v for entropy.",
            _made(weights=lambda w, v: (w, w)),
        ),
        Mistake(
            "no weights",
            "your terms are the same for every w and v.",
            "hint 2: the weights multiply the terms.",
            _made(weights=lambda w, v: (1.0, 1.0)),
        ),
        Mistake(
            "entropy raised",
            "the entropy has a minus in front: the subnets would learn to doubt everything.",
            "hint 2: entropy_loss is what should become small; add it as it is.",
            lambda a, b, w, v: {
                k: -t if k.endswith("entropy") else t for k, t in mutual_terms(a, b, w, v).items()
            },
        ),
    ),
    mutual_terms,
)
