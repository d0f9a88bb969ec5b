"""Shared by several exercises of chapter 12."""

import torch
from torch import Tensor, nn

from knowsam_lite.course.probes import noise
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import UNKNOWN

# Classes, labelled images, unlabelled images, step: the cases methods are tried on.
CASES = ((2, 2, 3, 9), (4, 1, 2, 4), (3, 3, 1, 0))
STEPS = 12


def small_net(classes: int, inputs: int = 3, seed: int = 0) -> nn.Module:
    """A net that tells left from right and is sure in places, without dropout or BatchNorm; always the
    same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(inputs, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, classes, 3, padding=1)
        )
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(3)
    return net


def small_batch(classes: int, labeled: int, unlabeled: int) -> Batch:
    """Images of 16 x 16 pixels; those after the first `labeled` are unlabelled."""
    n = labeled + unlabeled
    y = noise(n, classes, 16, 16, seed=3).argmax(dim=1)
    y[labeled:] = UNKNOWN
    return Batch(noise(n, 3, 16, 16, seed=4).sigmoid(), y, labeled, [str(i) for i in range(n)])


def pull_of(term: Tensor, module: nn.Module) -> list[Tensor]:
    """The gradient of a term at every parameter of a module; zeros if there is none."""
    weights = list(module.parameters())
    if not term.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    found = torch.autograd.grad(term, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]
