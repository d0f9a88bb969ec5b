"""Exercise 05.4, HAM."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.course.chapters.ch05.shared import BRANCHES, library_inputs, logit_pair, weighed
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same


def _without_doubt(kind: Any) -> type:
    """A subclass whose entropy is 0 everywhere."""

    class Sure(kind):
        @staticmethod
        def entropy(z: Tensor) -> Tensor:
            return torch.zeros_like(z[:, 0])

    return Sure


def _ham_probe(kind: Any) -> list[Tensor]:
    made, sure = weighed(kind), weighed(_without_doubt(kind))
    trained = weighed(kind, train=True)(*logit_pair(2))
    return [made(*logit_pair(2)), *gradients(made, *logit_pair(2)), trained, sure(*logit_pair(2))]


def _ham_shapes(kind: Any) -> bool:
    return all(kind(c)(*logit_pair(c)).shape == (2, c, 6, 8) for c in (2, 4))


def _ham_interface(kind: Any) -> bool:
    def shapes(module: nn.Module) -> dict[str, torch.Size]:
        return {name: tensor.shape for name, tensor in module.state_dict().items()}

    return shapes(kind(3)) == shapes(HybridAggregation(3)) and shapes(kind()) == shapes(HybridAggregation())


def _ham_order(kind: Any) -> bool:
    made, (z_a, z_b) = weighed(kind), logit_pair(2)
    return same(made(z_a.flip(0), z_b.flip(0)), made(z_a, z_b).flip(0))


def _ham_value(kind: Any, train: bool) -> bool:
    return all(
        same(
            weighed(kind, c, train)(*logit_pair(c, c)),
            weighed(HybridAggregation, c, train)(*logit_pair(c, c)),
        )
        for c in (2, 4)
    )


def _wrong_ham(inputs: Callable[..., tuple[Tensor, ...]], order: tuple[int, ...] = (0, 1, 2)) -> type:
    """HAM with different branch inputs (agreement, certainty, logits) or a different order of features."""

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
        Property("dtype", "float32", lambda k: weighed(k)(*logit_pair(2)).dtype == torch.float32),
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
                gradients(weighed(k), *logit_pair(2)), gradients(weighed(HybridAggregation), *logit_pair(2))
            ),
        ),
        Property(
            "subclass",
            "a subclass with another `entropy` gets another map",
            lambda k: same(
                weighed(_without_doubt(k))(*logit_pair(2)),
                weighed(_without_doubt(HybridAggregation))(*logit_pair(2)),
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
            "the text: use self.entropy for the doubt.",
            _OneEntropy,
        ),
        Mistake(
            "features in another order",
            "the logits' features come first; fuse expects them last.",
            "hint 2: agreement, certainty, logits.",
            _wrong_ham(lambda a, c, z: (a, c, z), (2, 0, 1)),
        ),
        Mistake(
            "two branches exchanged",
            "the features of certainty stand before those of agreement.",
            "hint 2: agreement, certainty, logits.",
            _wrong_ham(lambda a, c, z: (a, c, z), (1, 0, 2)),
        ),
        Mistake(
            "detached logits",
            "the logits are detached on the way into their branch.",
            "hint 3: nothing in HAM is detached.",
            _wrong_ham(lambda a, c, z: (a, c, z.detach())),
        ),
        Mistake(
            "everything detached",
            "the map is right, but no gradient reaches the subnets: HAM's loss would teach HAM alone.",
            "hint 3: nothing in HAM is detached.",
            _wrong_ham(lambda a, c, z: (a, c.detach(), z.detach())),
        ),
        Mistake(
            "a shortcut",
            "the mean of the logits is added to the result; HAM has no such shortcut.",
            "the table of symbols: z_f is what fuse returns.",
            _Skip,
        ),
        Mistake(
            "b before a",
            "the logits of the second subnet stand before those of the first.",
            "hint 1: as in exercise 05.3.",
            _wrong_ham(lambda a, c, z: (a, c, torch.cat(z.chunk(2, dim=1)[::-1], dim=1))),
        ),
        Mistake(
            "probabilities in place of logits",
            "the third branch got probabilities; it wants the logits themselves.",
            "hint 1: as in exercise 05.3.",
            _wrong_ham(lambda a, c, z: (a, c, torch.cat([h.softmax(1) for h in z.chunk(2, dim=1)], dim=1))),
        ),
    ),
    HybridAggregation,
)
