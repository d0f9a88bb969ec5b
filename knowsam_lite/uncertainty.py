"""Uncertainty of one network (entropy) and disagreement of two networks."""

import math

import torch
from torch import Tensor


def entropy_map(z: Tensor) -> Tensor:
    """Entropy of softmax(z) per pixel, divided by log C: 0 is certain, 1 is uniform over the C classes.

    `z` logits (N, C, H, W) -> (N, H, W) in [0, 1], float32. H = -sum_c p_c log p_c / log C; computed with
    log-softmax, so that p = 0 needs no constant inside the logarithm and the gradient stays finite.
    """
    log_p = z.float().log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) / math.log(z.shape[1])


def disagreement_map(p_a: Tensor, p_b: Tensor) -> Tensor:
    """1 where exactly one of the two networks gives class c more than half of the probability, else 0.

    `p_a`, `p_b` probabilities (N, C, H, W) -> (N, C, H, W) in {0, 1}. The threshold has no gradient, so the
    map is constant.
    """
    return torch.logical_xor(p_a > 0.5, p_b > 0.5).to(p_a.dtype)
