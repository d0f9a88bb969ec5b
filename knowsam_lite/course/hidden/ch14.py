"""What the answers of chapter 14 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random


def confident(f: Callable[[Tensor, float], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        for threshold in (0.0, 0.5, 0.8, 1.0):
            yield f(random(2, classes, 4, 7, seed=classes), threshold).clone()
    yield f(torch.zeros(1, 4, 2, 2), 0.25).clone()


def average(f: Callable[[nn.Module, nn.Module, float, bool], Any]) -> Iterator[Tensor]:
    for decay in (0.0, 0.6, 1.0):
        for buffers in (True, False):
            pair = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)) for _ in range(2)]
            for i, net in enumerate(pair):
                for k, tensor in enumerate(net.state_dict().values()):
                    if tensor.is_floating_point():
                        tensor.copy_(random(*tensor.shape, seed=5 * i + k).abs())
                    else:
                        tensor.fill_(3 + i)
            f(pair[0], pair[1], decay, buffers)
            for net in pair:
                yield torch.cat([t.detach().double().flatten() for t in net.state_dict().values()])


def handover(f: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Iterator[Tensor]:
    for classes in (2, 3):
        common = random(4, classes, 6, 5, seed=classes)
        z, z_ema, z_s = (common + random(4, classes, 6, 5, seed=20 + i) for i in range(3))
        z_s[0, 0] += 50  # an image in which SAM finds nothing
        yield f(z, z_ema, z_s).clone()
    nothing = torch.zeros(1, 2, 3, 3)
    yield f(nothing, nothing, nothing).clone()


def rise(f: Callable[[float, float], float]) -> Iterator[Tensor]:
    for first in (0.0, 0.1, 0.5):
        yield torch.tensor([float(f(t / 37, first)) for t in range(38)])


def pasted(f: Callable[..., tuple[Tensor, Tensor]]) -> Iterator[Tensor]:
    for labeled, unlabeled in ((1, 3), (3, 4), (5, 2)):
        x_l, x_u = random(labeled, 3, 4, 6, seed=1), random(unlabeled, 3, 4, 6, seed=2)
        y_l, y_u = random(labeled, 3, 4, 6, seed=3).argmax(1), torch.full((unlabeled, 4, 6), -1)
        yield from (made.clone() for made in f(x_l, y_l, x_u, y_u, random(unlabeled, 4, 6, seed=4) > 0.5))
        yield x_u
        yield y_u


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "14.1": confident,
    "14.2": average,
    "14.3": handover,
    "14.4": rise,
    "14.5": pasted,
}
