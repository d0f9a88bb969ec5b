"""What makes an image worth labelling: each score of one image is a function of the opinions on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from knowsam_lite.uncertainty import disagreement_map, entropy_map


@dataclass(frozen=True)
class Opinions:
    """Logits (C, H, W) of one image: of the students, of the prediction, and of SAM where the run has one."""

    students: Sequence[Tensor]
    prediction: Tensor
    sam: Tensor | None = None


def apart(z_a: Tensor, z_b: Tensor) -> float:
    """The share of the pixels marked by either map that only one of them marks, in [0, 1], mean over the
    foreground classes: 1 - IoU. Two empty maps agree. Logits (C, H, W).
    """
    p_a, p_b = z_a.float().softmax(dim=0), z_b.float().softmax(dim=0)
    xor = disagreement_map(p_a[None], p_b[None])[0, 1:].sum(dim=(1, 2))
    either = ((p_a > 0.5) | (p_b > 0.5))[1:].sum(dim=(1, 2))
    return float((xor / either.clamp(min=1)).mean())


def disagreement(opinions: Opinions) -> float | None:
    """How far the students are apart, in [0, 1], mean over their pairs; None for a single student."""
    pairs = list(combinations(opinions.students, 2))
    return sum(apart(a, b) for a, b in pairs) / len(pairs) if pairs else None


def entropy(opinions: Opinions) -> float | None:
    """The mean entropy of the prediction over all pixels, in [0, 1]."""
    return float(entropy_map(opinions.prediction[None]).mean())


def sam(opinions: Opinions) -> float | None:
    """How far SAM's answer is from the prediction that prompted it, in [0, 1]; None without SAM."""
    return None if opinions.sam is None else apart(opinions.sam, opinions.prediction)


SCORES: dict[str, Callable[[Opinions], float | None]] = {
    "disagreement": disagreement,
    "entropy": entropy,
    "sam": sam,
}
