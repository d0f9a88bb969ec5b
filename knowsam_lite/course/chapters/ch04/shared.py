"""Shared by several exercises of chapter 04."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.probes import noise
from knowsam_lite.data.sampler import Batch
from knowsam_lite.methods.mean_teacher import RAMPED_WEIGHT, MeanTeacher


def logit_pair(classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a learner and of the other net, for two images."""
    return noise(2, classes, 4, 5, seed=seed + classes), noise(2, classes, 4, 5, seed=seed + 20)


Terms = Callable[..., dict[str, Tensor]]


def named_terms(terms: Any) -> dict[str, Tensor]:
    """The terms, if a dictionary was returned; indexing a tensor by name would warn."""
    if not isinstance(terms, dict):
        raise TypeError(f"found a {type(terms).__name__}, expected a dictionary of terms")
    return terms


def term_values(terms: dict[str, Tensor]) -> list[Tensor]:
    return [terms[name] for name in sorted(named_terms(terms))]


def small_net(seed: int, classes: int = 3) -> nn.Module:
    """A small network with BatchNorm; the seed sets its weights and statistics."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.Conv2d(4, classes, 1)
    )
    for i, tensor in enumerate(net.state_dict().values()):
        if tensor.is_floating_point():
            tensor.copy_(noise(*tensor.shape, seed=100 * seed + i, scale=0.5).abs() + 0.1)
    return net


def library_terms(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    """What the method itself computes at the end of its ramp, with weight `w`."""
    method = MeanTeacher(Config(steps=1), 2, net)
    method.teacher = teacher
    terms = method.losses(Batch(x, y, n, []), step=1)
    return {**terms, "consistency": terms["consistency"] * (w / RAMPED_WEIGHT)}


def labelled_batch(n: int = 2, count: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, int]:
    """Images, labels of the first n, and n."""
    x = noise(count, 3, 6, 7, seed=seed).sigmoid()
    y = noise(count, classes, 6, 7, seed=seed + 1).argmax(dim=1)
    y[n:] = -1
    return x, y, n
