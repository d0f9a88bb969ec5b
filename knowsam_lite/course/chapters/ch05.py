"""Chapter 05, uncertainty and HAM: properties, catalogued mistakes, and the quiz's key."""

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.uncertainty import disagreement_map, entropy_map

BRANCHES = ("agreement", "certainty", "logits")


# ---------------------------------------------------------------- 05.1 entropy


Entropy = Callable[[Tensor], Tensor]


def _certain(classes: int) -> Tensor:
    """Logits so sure that the softmax of all classes but one rounds to 0."""
    z = torch.zeros(1, classes, 2, 2)
    z[:, 1] = 200.0
    return z


def _entropy_probe(f: Entropy) -> list[Tensor]:
    z2, z3 = noise(2, 2, 4, 5), noise(2, 3, 4, 5, seed=1)
    below = (f(_certain(2)) < 0).float()  # too little for a comparison of values
    return [f(z2), f(z3), *gradients(f, z3), f(50 * z3), *gradients(f, 50 * z3), f(z2.bfloat16()), below]


def _entropy_ends(f: Entropy) -> bool:
    """1 and 0, and at 0 no rounding below it: a constant inside the logarithm shows there."""
    return all(
        same(f(torch.zeros(1, c, 2, 2)), torch.ones(1, 2, 2))
        and f(_certain(c)).min() >= 0
        and f(_certain(c)).max() < 1e-5
        for c in (2, 3, 5)
    )


def _entropy_value(f: Entropy) -> bool:
    """As close to double precision as float32 can be, and closer than a constant of 1e-6 lets it be."""
    for classes in (2, 3, 5):
        z = noise(2, classes, 6, 5, seed=classes)
        p = z.double().softmax(dim=1)
        exact = -(p * p.log()).sum(dim=1) / math.log(classes)
        if not (f(z) - exact).abs().max() < 1.5e-6:
            return False
    return True


def _entropy_gradient(f: Entropy) -> bool:
    z, extreme = noise(2, 3, 4, 5, seed=3), noise(1, 3, 4, 5, seed=4, scale=500.0)
    return same(gradients(f, z), gradients(entropy_map, z)) and all(
        g.isfinite().all() for g in gradients(f, extreme)
    )


def _wrong_axis(z: Tensor) -> Tensor:
    log_p = z.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(z.shape[1])


def _only_along_the_width(z: Tensor) -> Tensor:
    log_p = z.float().log_softmax(dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1) / math.log(z.shape[1])


def _careless(constant: float | None = None, divided: bool = True, full: bool = True) -> Entropy:
    """The entropy by the logarithm of p plus a constant, not divided, or in the precision of the logits."""

    def entropy(z: Tensor) -> Tensor:
        if full:
            z = z.float()
        p = z.softmax(dim=1)
        log_p = z.log_softmax(dim=1) if constant is None else (p + constant).log()
        return -(p * log_p).sum(dim=1) / (math.log(z.shape[1]) if divided else 1)

    return entropy


def _bits(z: Tensor) -> Tensor:
    return entropy_map(z) * math.log(z.shape[1]) / math.log(2)


def _no_minus(z: Tensor) -> Tensor:
    return -entropy_map(z)


def _class_mean(z: Tensor) -> Tensor:
    return entropy_map(z) / z.shape[1]


def _infinite_slope(z: Tensor) -> Tensor:
    p = z.float().softmax(dim=1)
    return -torch.special.xlogy(p, p).sum(dim=1) / math.log(z.shape[1])


def _logits_as_p(z: Tensor) -> Tensor:
    return -(z * z.float().log_softmax(dim=1)).sum(dim=1) / math.log(z.shape[1])


ENTROPY = Exercise(
    "05.1",
    "entropy map",
    _entropy_probe,
    (
        Property(
            "interface",
            "entropy_map(z) takes logits and returns one tensor",
            lambda f: takes(f, 1) and isinstance(f(noise(2, 2, 4, 5)), Tensor),
        ),
        Property("shape", "(N, C, H, W) -> (N, H, W)", lambda f: f(noise(2, 3, 4, 5)).shape == (2, 4, 5)),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 4, 4).bfloat16()).dtype == torch.float32,
        ),
        Property(
            "range",
            "equal logits give 1, a sure pixel 0 and nothing below, for every number of classes",
            _entropy_ends,
        ),
        Property("value", "- sum p log p / log C, for 2, 3 and 5 classes", _entropy_value),
        Property("gradient", "that of the formula, and finite where a probability is 0", _entropy_gradient),
        Property(
            "invariance",
            "adding one number to all logits of a pixel changes nothing",
            lambda f: same(f(noise(2, 3, 4, 5)), f(noise(2, 3, 4, 5) + noise(2, 1, 4, 5, seed=7))),
        ),
    ),
    (
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 1 of exercise 05.1: which axis of (N, C, H, W) holds the alternatives?",
            _wrong_axis,
        ),
        Mistake(
            "everything over the wrong axis",
            "softmax and sum run along the image's width, and the classes are left.",
            "hint 1 of exercise 05.1: which axis of (N, C, H, W) holds the alternatives?",
            _only_along_the_width,
        ),
        Mistake(
            "not divided by log C",
            "the entropy is in natural units: its maximum is log C instead of 1.",
            "hint 3 of exercise 05.1: divide by the entropy of the uniform guess.",
            _careless(divided=False),
        ),
        Mistake(
            "always divided by log 2",
            "the divisor is log 2 whatever C is: right for two classes alone.",
            "hint 3 of exercise 05.1: C is z.shape[1].",
            _bits,
        ),
        Mistake(
            "the minus sign is missing",
            "log p is negative, so without the minus the map is negative.",
            "the equation above exercise 05.1 begins with a minus.",
            _no_minus,
        ),
        Mistake(
            "mean over the classes",
            "the classes were averaged instead of summed, so the maximum is 1 / C.",
            "the equation above exercise 05.1: the sign is a sum.",
            _class_mean,
        ),
        Mistake(
            "log of 0",
            "where a probability underflows to 0, 0 times log 0 became nan.",
            "hint 2 of exercise 05.1: log_softmax never takes the logarithm of 0.",
            _careless(constant=0.0),
        ),
        *(
            Mistake(
                f"log(p + {constant:g})",
                f"a constant such as {constant:g} inside the logarithm prevents nan, but moves every value: "
                "a certain pixel falls below 0.",
                "hint 2 of exercise 05.1: log_softmax never takes the logarithm of 0 and needs no constant.",
                _careless(constant),
            )
            for constant in (1e-6, 1e-5, 1e-4, 1e-3)
        ),
        Mistake(
            "the authors' formula",
            "two things at once: the entropy is not divided by log C, and a constant inside the logarithm "
            "takes a certain pixel below 0.",
            "hints 2 and 3 of exercise 05.1: log_softmax needs no constant; divide by log C.",
            _careless(1e-6, divided=False),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision map.",
            "hint 3 of exercise 05.1: .float() first.",
            _careless(full=False),
        ),
        Mistake(
            "log of 0, not divided",
            "two things at once: where a probability underflows to 0 the map is nan, and its maximum is "
            "log C instead of 1.",
            "hints 2 and 3 of exercise 05.1: log_softmax; divide by log C.",
            _careless(0.0, divided=False),
        ),
        Mistake(
            "log of 0, in half precision",
            "two things at once: where a probability underflows to 0 the map is nan, and half-precision "
            "logits give a half-precision map.",
            "hints 2 and 3 of exercise 05.1: .float() first, and log_softmax.",
            _careless(0.0, full=False),
        ),
        Mistake(
            "not divided, in half precision",
            "two things at once: the maximum is log C instead of 1, and half-precision logits give a "
            "half-precision map.",
            "hint 3 of exercise 05.1: .float() first, and divide by log C.",
            _careless(divided=False, full=False),
        ),
        Mistake(
            "nothing but the textbook",
            "three things at once: where a probability underflows to 0 the map is nan; its maximum is log C "
            "instead of 1; half-precision logits give a half-precision map.",
            "hints 2 and 3 of exercise 05.1: .float() first, log_softmax, and divide by log C.",
            _careless(0.0, divided=False, full=False),
        ),
        Mistake(
            "nan on the way back",
            "the map is right, but where a probability underflows to 0 its gradient is nan.",
            "hint 2 of exercise 05.1: log_softmax survives on the way back, too.",
            _infinite_slope,
        ),
        Mistake(
            "logits in place of p",
            "the weights in the sum are the logits themselves, not probabilities.",
            "hint 2 of exercise 05.1: p is the exponential of log p.",
            _logits_as_p,
        ),
    ),
)


# ---------------------------------------------------------------- 05.2 disagreement


def _probabilities(classes: int, seed: int) -> tuple[Tensor, Tensor]:
    return (
        noise(2, classes, 6, 5, seed=seed).softmax(dim=1),
        noise(2, classes, 6, 5, seed=seed + 50).softmax(dim=1),
    )


def _disagreement_probe(f: Callable[[Tensor, Tensor], Tensor]) -> list[Tensor]:
    half = torch.full((1, 2, 2, 2), 0.5)
    sure = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    return [f(*_probabilities(3, 1)), f(*_probabilities(2, 2)), f(half, sure), f(sure, half)]


def _threshold(f: Callable[[Tensor, Tensor], Tensor]) -> bool:
    tie = torch.tensor([0.5, 0.5]).view(1, 2, 1, 1)
    sure = torch.tensor([0.9, 0.1]).view(1, 2, 1, 1)
    torn = torch.tensor([0.4, 0.35, 0.25]).view(1, 3, 1, 1)
    other = torch.tensor([0.25, 0.4, 0.35]).view(1, 3, 1, 1)
    return f(tie, sure).flatten().tolist() == [1, 0] and f(torn, other).flatten().tolist() == [0, 0, 0]


def _agreement(p_a: Tensor, p_b: Tensor) -> Tensor:
    return 1 - disagreement_map(p_a, p_b)


def _either(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_or(p_a > 0.5, p_b > 0.5).to(p_a.dtype)


def _both(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_and(p_a > 0.5, p_b > 0.5).to(p_a.dtype)


def _left_boolean(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_xor(p_a > 0.5, p_b > 0.5)


def _gap(p_a: Tensor, p_b: Tensor) -> Tensor:
    return (p_a - p_b).abs()


def _argmax(p_a: Tensor, p_b: Tensor) -> Tensor:
    return (p_a.argmax(dim=1) != p_b.argmax(dim=1)).to(p_a.dtype)


def _winners(p_a: Tensor, p_b: Tensor) -> Tensor:
    a, b = (nn.functional.one_hot(p.argmax(dim=1), p.shape[1]).movedim(-1, 1) for p in (p_a, p_b))
    return (a != b).to(p_a.dtype)


def _every_class(p_a: Tensor, p_b: Tensor) -> Tensor:
    return _argmax(p_a, p_b).unsqueeze(1).expand_as(p_a)


def _at_least_half(p_a: Tensor, p_b: Tensor) -> Tensor:
    return torch.logical_xor(p_a >= 0.5, p_b >= 0.5).to(p_a.dtype)


DISAGREEMENT = Exercise(
    "05.2",
    "disagreement map",
    _disagreement_probe,
    (
        Property(
            "interface",
            "disagreement_map(p_a, p_b) takes two probability maps and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_probabilities(2, 0)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) -> (N, C, H, W): one map per class",
            lambda f: f(*_probabilities(3, 0)).shape == (2, 3, 6, 5),
        ),
        Property(
            "dtype",
            "the type of p_a: float32 gives float32, float64 gives float64",
            lambda f: all(
                f(p.to(t), q.to(t)).dtype == t
                for t in (torch.float32, torch.float64)
                for p, q in [_probabilities(2, 0)]
            ),
        ),
        Property(
            "value",
            "1 where exactly one network gives the class more than one half, else 0, for 2, 3, 5 classes",
            lambda f: all(
                same(f(*_probabilities(c, c)), disagreement_map(*_probabilities(c, c))) for c in (2, 3, 5)
            ),
        ),
        Property(
            "threshold", "a class speaks when it has more than one half; a tie does not speak", _threshold
        ),
        Property(
            "gradient",
            "none: the map is a constant",
            lambda f: not f(*(p.requires_grad_() for p in _probabilities(2, 3))).requires_grad,
        ),
        Property(
            "invariance",
            "exchanging the two networks changes nothing",
            lambda f: same(f(*_probabilities(3, 4)), f(*reversed(_probabilities(3, 4)))),
        ),
    ),
    (
        Mistake(
            "agreement",
            "your map is 1 where the networks agree; it should be 1 where they do not.",
            "hint 2 of exercise 05.2: exclusive or is true when exactly one side is.",
            _agreement,
        ),
        Mistake(
            "or in place of exclusive or",
            "your map is also 1 where both networks say yes.",
            "hint 2 of exercise 05.2: exactly one, not at least one.",
            _either,
        ),
        Mistake(
            "and in place of exclusive or",
            "your map is 1 where both networks say yes, which is agreement.",
            "hint 2 of exercise 05.2: exactly one, not both.",
            _both,
        ),
        Mistake(
            "left boolean",
            "the map is right but still of type bool: 1 minus it would fail.",
            "hint 3 of exercise 05.2: give it the type of p_a.",
            _left_boolean,
        ),
        Mistake(
            "difference of probabilities",
            "your map is the gap between the probabilities, which is soft.",
            "hint 1 of exercise 05.2: first let each network decide, then compare decisions.",
            _gap,
        ),
        Mistake(
            "argmax",
            "you compared winners, which gives one map for all classes instead of one per class.",
            "hint 1 of exercise 05.2: a class speaks above one half; compare per class.",
            _argmax,
        ),
        Mistake(
            "argmax, with the axis of the classes kept",
            "you compared winners, which gives one channel in place of one per class.",
            "hint 1 of exercise 05.2: a class speaks above one half; compare per class.",
            lambda p_a, p_b: _argmax(p_a, p_b).unsqueeze(1),
        ),
        Mistake(
            "argmax, for every class",
            "you compared winners and gave the answer to every class, also to those that nobody chose.",
            "hint 1 of exercise 05.2: a class speaks above one half; compare per class.",
            _every_class,
        ),
        Mistake(
            "each network's winner",
            "in each network the winner speaks, also with one half or less of the probability.",
            "hint 1 of exercise 05.2: the decision is p > 0.5, not argmax.",
            _winners,
        ),
        Mistake(
            "a tie speaks",
            "with >= both classes of a tie count as chosen.",
            "hint 1 of exercise 05.2: more than one half.",
            _at_least_half,
        ),
    ),
)


# ---------------------------------------------------------------- 05.3 what HAM looks at

Inputs = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]


def library_inputs(z_a: Tensor, z_b: Tensor) -> tuple[Tensor, ...]:
    """What the library's HAM hands to its three branches."""
    ham, seen = HybridAggregation(z_a.shape[1]).eval(), {}
    for name in BRANCHES:
        getattr(ham, name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
    ham(z_a, z_b)
    return tuple(seen[name] for name in BRANCHES)


def _pair(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    return noise(2, classes, 6, 8, seed=seed), noise(2, classes, 6, 8, seed=seed + 50)


def _inputs_probe(f: Inputs) -> list[Tensor]:
    return [*f(*_pair(3)), *(g for i in range(3) for g in gradients(lambda a, b, i=i: f(a, b)[i], *_pair(2)))]


def _inputs_gradient(f: Inputs) -> bool:
    return all(
        same(
            gradients(lambda a, b, i=i: f(a, b)[i], *_pair(3)),
            gradients(lambda a, b, i=i: library_inputs(a, b)[i], *_pair(3)),
        )
        for i in range(3)
    )


def _inputs_swap(f: Inputs) -> bool:
    z_a, z_b = _pair(3)
    (agreement, certainty, logits), (swapped, flipped, turned) = f(z_a, z_b), f(z_b, z_a)
    return (
        same(agreement, swapped) and same(certainty, flipped.flip(1)) and same(logits[:, :3], turned[:, 3:])
    )


def _changed(change: Callable[..., tuple[Tensor, ...]]) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    """A wrong answer made from the library's three inputs."""
    return lambda z_a, z_b: change(*library_inputs(z_a, z_b))


INPUTS = Exercise(
    "05.3",
    "what HAM looks at",
    _inputs_probe,
    (
        Property(
            "interface",
            "ham_inputs(z_a, z_b) returns agreement, certainty, logits",
            lambda f: takes(f, 2) and len(f(*_pair(2))) == 3,
        ),
        Property(
            "shape",
            "(N, C, H, W), (N, 2, H, W) and (N, 2C, H, W)",
            lambda f: [t.shape for t in f(*_pair(3))] == [(2, 3, 6, 8), (2, 2, 6, 8), (2, 6, 6, 8)],
        ),
        Property(
            "dtype", "three times float32", lambda f: [t.dtype for t in f(*_pair(2))] == [torch.float32] * 3
        ),
        Property(
            "range",
            "agreement is 0 or 1, certainty lies in [0, 1]",
            lambda f: all(
                set(a.unique().tolist()) <= {0, 1} and c.min() >= -1e-6 and c.max() <= 1 + 1e-6
                for a, c, _ in [f(*_pair(3))]
            ),
        ),
        Property(
            "value",
            "1 - d, [1 - h_a, 1 - h_b] and [z_a, z_b], for 2 and 3 classes",
            lambda f: all(same(f(*_pair(c, c)), library_inputs(*_pair(c, c))) for c in (2, 3)),
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
            "the equation above exercise 05.3: both begin with 1 minus.",
            _changed(lambda a, c, z: (1 - a, 1 - c, z)),
        ),
        Mistake(
            "logits compared with one half",
            "disagreement_map got logits: its threshold of one half is one for probabilities.",
            "the equation above exercise 05.3: d takes p, and h takes z.",
            lambda z_a, z_b: (1 - disagreement_map(z_a, z_b), *library_inputs(z_a, z_b)[1:]),
        ),
        Mistake(
            "softmax twice",
            "entropy_map got probabilities and took their softmax again; it expects logits.",
            "the equation above exercise 05.3: d takes p, and h takes z.",
            lambda z_a, z_b: (
                library_inputs(z_a, z_b)[0],
                library_inputs(z_a.softmax(dim=1), z_b.softmax(dim=1))[1],
                library_inputs(z_a, z_b)[2],
            ),
        ),
        Mistake(
            "detached certainty",
            "the certainty is detached: HAM could no longer teach the subnets doubt.",
            "hint 2 of exercise 05.3: only the threshold stops the gradient.",
            _changed(lambda a, c, z: (a, c.detach(), z)),
        ),
        Mistake(
            "detached logits",
            "the logits are detached: the fused loss would no longer reach the subnets.",
            "hint 2 of exercise 05.3: only the threshold stops the gradient.",
            _changed(lambda a, c, z: (a, c, z.detach())),
        ),
        Mistake(
            "probabilities in place of logits",
            "the third input holds probabilities; HAM takes the logits.",
            "hint 1 of exercise 05.3: the third input is the plain concatenation of z_a and z_b.",
            lambda z_a, z_b: (
                *library_inputs(z_a, z_b)[:2],
                torch.cat([z_a.softmax(dim=1), z_b.softmax(dim=1)], dim=1),
            ),
        ),
        Mistake(
            "b before a",
            "the V-Net's channels come first; the order is a, then b.",
            "hint 1 of exercise 05.3: a stands before b in certainty and in logits.",
            lambda z_a, z_b: library_inputs(z_b, z_a),
        ),
    ),
)


# ---------------------------------------------------------------- 05.4 HAM


def weighed(kind: Any, classes: int = 2, train: bool = False) -> nn.Module:
    """A module of this class with the library's weights and lively BatchNorm statistics; its names must be
    the library's.
    """
    reference = HybridAggregation(classes)
    generator = torch.Generator().manual_seed(classes)
    state = {
        name: torch.rand(tensor.shape, generator=generator) + (0.5 if tensor.ndim < 2 else -0.5)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in reference.state_dict().items()
    }
    made = kind(classes)
    made.load_state_dict(state)
    return made.train(train)


def _without_doubt(kind: Any) -> type:
    """A subclass whose entropy is 0 everywhere."""

    class Sure(kind):
        @staticmethod
        def entropy(z: Tensor) -> Tensor:
            return torch.zeros_like(z[:, 0])

    return Sure


def _ham_probe(kind: Any) -> list[Tensor]:
    made, sure = weighed(kind), weighed(_without_doubt(kind))
    trained = weighed(kind, train=True)(*_pair(2))
    return [made(*_pair(2)), *gradients(made, *_pair(2)), trained, sure(*_pair(2))]


def _ham_shapes(kind: Any) -> bool:
    return all(kind(c)(*_pair(c)).shape == (2, c, 6, 8) for c in (2, 4))


def _ham_interface(kind: Any) -> bool:
    def shapes(module: nn.Module) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in module.state_dict().items()}

    return shapes(kind(3)) == shapes(HybridAggregation(3)) and shapes(kind()) == shapes(HybridAggregation())


def _ham_order(kind: Any) -> bool:
    made, (z_a, z_b) = weighed(kind), _pair(2)
    return same(made(z_a.flip(0), z_b.flip(0)), made(z_a, z_b).flip(0))


def _ham_value(kind: Any, train: bool) -> bool:
    return all(
        same(weighed(kind, c, train)(*_pair(c, c)), weighed(HybridAggregation, c, train)(*_pair(c, c)))
        for c in (2, 4)
    )


def _wrong_ham(inputs: Callable[..., tuple[Tensor, ...]], order: tuple[int, ...] = (0, 1, 2)) -> type:
    """HAM with other inputs to its branches (agreement, certainty, logits), or another order of features."""

    class Wrong(HybridAggregation):
        def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
            agreement, _, logits = library_inputs(z_a, z_b)
            certainty = 1 - torch.stack([self.entropy(z_a), self.entropy(z_b)], dim=1)
            given = inputs(agreement, certainty, logits)
            features = [getattr(self, name)(t) for name, t in zip(BRANCHES, given, strict=True)]
            return self.fuse(torch.cat([features[i] for i in order], dim=1))

    return Wrong


class _OneEntropy(HybridAggregation):
    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        given = zip(BRANCHES, library_inputs(z_a, z_b), strict=True)
        return self.fuse(torch.cat([getattr(self, name)(t) for name, t in given], dim=1))


class _Skip(HybridAggregation):
    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        return super().forward(z_a, z_b) + (z_a + z_b) / 2


HAM = Exercise(
    "05.4",
    "HAM, the forward pass",
    _ham_probe,
    (
        Property(
            "interface",
            "HybridAggregation(num_classes) holds tensors of the library's names and shapes",
            _ham_interface,
        ),
        Property("shape", "(N, C, H, W) twice -> (N, C, H, W), for 2 and 4 classes", _ham_shapes),
        Property("dtype", "float32", lambda k: weighed(k)(*_pair(2)).dtype == torch.float32),
        Property(
            "value",
            "fuse of the three branches' features, with the same weights",
            lambda k: _ham_value(k, False),
        ),
        Property(
            "training", "and in training mode, where BatchNorm uses the batch", lambda k: _ham_value(k, True)
        ),
        Property(
            "gradient",
            "both subnets get it, through certainty and logits",
            lambda k: same(
                gradients(weighed(k), *_pair(2)), gradients(weighed(HybridAggregation), *_pair(2))
            ),
        ),
        Property(
            "subclass",
            "a subclass with another `entropy` gets another map",
            lambda k: same(
                weighed(_without_doubt(k))(*_pair(2)),
                weighed(_without_doubt(HybridAggregation))(*_pair(2)),
            ),
        ),
        Property("invariance", "the order of the images in a batch does not matter", _ham_order),
    ),
    (
        Mistake(
            "disagreement",
            "the agreement branch gets the disagreement; it should get 1 minus it.",
            "exercise 05.3 makes the three inputs: compare its first line.",
            _wrong_ham(lambda a, c, z: (1 - a, c, z)),
        ),
        Mistake(
            "doubt",
            "the certainty branch gets the entropy; it should get 1 minus it.",
            "exercise 05.3 makes the three inputs: compare its second line.",
            _wrong_ham(lambda a, c, z: (a, 1 - c, z)),
        ),
        Mistake(
            "neither sign turned round",
            "the first two branches get disagreement and entropy; they should get 1 minus each.",
            "exercise 05.3 makes the three inputs: compare its first two.",
            _wrong_ham(lambda a, c, z: (1 - a, 1 - c, z)),
        ),
        Mistake(
            "entropy_map by name",
            "the map is right, but a subclass cannot replace the entropy: you did not call self.entropy.",
            "the text of exercise 05.4: use self.entropy for the doubt.",
            _OneEntropy,
        ),
        Mistake(
            "features in another order",
            "the logits' features come first; fuse expects them last.",
            "hint 2 of exercise 05.4: agreement, certainty, logits.",
            _wrong_ham(lambda a, c, z: (a, c, z), (2, 0, 1)),
        ),
        Mistake(
            "two branches exchanged",
            "the features of certainty stand before those of agreement.",
            "hint 2 of exercise 05.4: agreement, certainty, logits.",
            _wrong_ham(lambda a, c, z: (a, c, z), (1, 0, 2)),
        ),
        Mistake(
            "detached logits",
            "the logits are detached on the way into their branch.",
            "hint 3 of exercise 05.4: nothing in HAM is detached.",
            _wrong_ham(lambda a, c, z: (a, c, z.detach())),
        ),
        Mistake(
            "everything detached",
            "the map is right, but no gradient reaches the subnets: HAM's loss would teach HAM alone.",
            "hint 3 of exercise 05.4: nothing in HAM is detached.",
            _wrong_ham(lambda a, c, z: (a, c.detach(), z.detach())),
        ),
        Mistake(
            "a shortcut",
            "the mean of the logits is added to the result; HAM has no such shortcut.",
            "the table of symbols: z_f is what fuse returns.",
            _Skip,
        ),
    ),
)


# ---------------------------------------------------------------- 05.5 an ablation


@contextmanager
def silenced(ham: nn.Module, *names: str) -> Iterator[None]:
    """Within the block, the named branches of `ham` answer zeros."""

    def zeros(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    handles = [getattr(ham, name).register_forward_hook(zeros) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


Ablate = Callable[[nn.Module, str], nn.Module]


def _silence(ham: nn.Module, name: str) -> Tensor:
    with silenced(ham, name):
        return ham(*_pair(2))


def _ablate_probe(f: Ablate) -> list[Tensor]:
    ham = weighed(HybridAggregation)
    quiet = [f(ham, name)(*_pair(2)) for name in BRANCHES]
    return [*quiet, ham(*_pair(2)), _after_training(f, ham), _learns(f)]


def _learns(f: Ablate) -> Tensor:
    """1 for each branch that gets a gradient although it should be silent."""
    found = []
    for name in BRANCHES:
        quiet = f(weighed(HybridAggregation), name)
        quiet(*_pair(2)).sum().backward()
        silent = [p for n, p in quiet.named_parameters() if n.startswith(name)]
        found.append(float(any(p.grad is not None and p.grad.any() for p in silent)))
    return torch.tensor(found)


def _ablate_value(f: Ablate) -> bool:
    ham = weighed(HybridAggregation)
    return all(same(f(ham, name)(*_pair(2)), _silence(ham, name)) for name in BRANCHES)


def _after_training(f: Ablate, ham: nn.Module) -> Tensor:
    """What `ham` computes when the weights of its ablation have moved."""
    quiet = f(ham, "certainty")
    with torch.no_grad():
        for tensor in quiet.parameters():
            tensor.add_(1)
    return ham(*_pair(2))


def _ablate_untouched(f: Ablate) -> bool:
    ham = weighed(HybridAggregation)
    return same(ham(*_pair(2)), _after_training(f, ham))


def _ablate_gradient(f: Ablate) -> bool:
    quiet = f(weighed(HybridAggregation), "logits")
    quiet(*_pair(2)).sum().backward()
    named = list(quiet.named_parameters())
    silent = [p for n, p in named if n.startswith("logits")]
    heard = [p for n, p in named if n.startswith(("agreement", "fuse.0"))]
    return all(p.grad is None or not p.grad.any() for p in silent) and all(p.grad is not None for p in heard)


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class _One(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def _ablated(ham: nn.Module, name: str, last: nn.Module, first: nn.Module | None = None) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, nn.Sequential(*filter(None, [first, getattr(quiet, name), last])))
    return quiet


def _in_place(ham: nn.Module, name: str) -> nn.Module:
    setattr(ham, name, nn.Sequential(getattr(ham, name), _Zero()))
    return ham


def _shared(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, nn.Sequential(getattr(ham, name), _Zero()))
    return quiet


def _in_its_place(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, _Zero())
    return quiet


def _weightless(kind: type[nn.Module]) -> Ablate:
    """The weights of the branch's layers of this kind are 0, and free to grow."""

    @torch.no_grad()
    def ablate(ham: nn.Module, name: str) -> nn.Module:
        quiet = copy.deepcopy(ham)
        for layer in getattr(quiet, name):
            if isinstance(layer, kind):
                for p in layer.parameters():
                    p.zero_()
        return quiet

    return ablate


def _all_others(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    for other in BRANCHES:
        if other != name:
            setattr(quiet, other, nn.Sequential(getattr(quiet, other), _Zero()))
    return quiet


ABLATION = Exercise(
    "05.5",
    "an ablation",
    _ablate_probe,
    (
        Property(
            "interface",
            "ablate(ham, name) returns a module",
            lambda f: takes(f, 2) and isinstance(f(weighed(HybridAggregation), "logits"), nn.Module),
        ),
        Property(
            "shape",
            "the ablated HAM still maps (N, C, H, W) twice to (N, C, H, W)",
            lambda f: f(weighed(HybridAggregation), "agreement")(*_pair(2)).shape == (2, 2, 6, 8),
        ),
        Property("value", "what HAM computes when fuse gets zeros from that branch", _ablate_value),
        Property(
            "untouched", "the HAM that was given stays as it is, also when its copy trains", _ablate_untouched
        ),
        Property("gradient", "the silent branch learns nothing, the others do", _ablate_gradient),
    ),
    (
        Mistake(
            "no copy",
            "you changed the HAM that was given, so each ablation silences one branch more.",
            "hint 1 of exercise 05.5: work on copy.deepcopy(ham).",
            _in_place,
        ),
        Mistake(
            "a branch of the original",
            "the copy contains a branch of the HAM that was given: trained, it changes both.",
            "hint 3 of exercise 05.5: getattr of the copy, not of ham.",
            _shared,
        ),
        Mistake(
            "the input is silent",
            "the branch gets zeros, but its BatchNorm still lets it speak.",
            "hint 2 of exercise 05.5: the zeros belong behind the branch.",
            lambda ham, name: _ablated(ham, name, nn.Identity(), _Zero()),
        ),
        Mistake(
            "silence in place of the branch",
            "the silence stands in place of the branch, so it has the channels of the branch's input, and "
            "fuse cannot take them.",
            "hint 2 of exercise 05.5: behind the branch, nn.Sequential(branch, Silence()).",
            _in_its_place,
        ),
        Mistake(
            "all weights 0",
            "the branch's weights are 0, so it is silent at the start alone: it learns to speak again.",
            "hint 2 of exercise 05.5: leave the weights, and put a Silence behind the branch.",
            _weightless(nn.Module),
        ),
        Mistake(
            "convolutions 0",
            "the branch's convolutions are 0, but its BatchNorm still adds its constants.",
            "hint 2 of exercise 05.5: leave the weights, and put a Silence behind the branch.",
            _weightless(nn.Conv2d),
        ),
        Mistake(
            "ones",
            "the branch answers ones, which is not silence: fuse adds them up.",
            "hint 2 of exercise 05.5: zeros.",
            lambda ham, name: _ablated(ham, name, _One()),
        ),
        Mistake(
            "the others are silent",
            "you silenced the two other branches and left the named one.",
            "hint 3 of exercise 05.5: replace the attribute called name.",
            _all_others,
        ),
        Mistake(
            "nothing is silent",
            "the ablated HAM computes what the whole one computes.",
            "hint 3 of exercise 05.5: setattr replaces a branch by its name.",
            lambda ham, name: copy.deepcopy(ham),
        ),
    ),
)

EXERCISES = (ENTROPY, DISAGREEMENT, INPUTS, HAM, ABLATION)

QUIZ = (
    Answer("b", "two classes in doubt are log 2, and log 2 / log 8 is one third.", "step 1, entropy"),
    Answer("c", "both can be sure, each of its own answer.", "the four kinds of pixel"),
    Answer("a", "a threshold is flat almost everywhere, so no gradient comes back.", "step 2, disagreement"),
    Answer("d", "through certainty and logits, to both subnets.", "step 4, HAM"),
    Answer(
        "a",
        "only the V-Net gives a class more than one half, and that is the second.",
        "where paper, authors' code and library differ",
    ),
)
