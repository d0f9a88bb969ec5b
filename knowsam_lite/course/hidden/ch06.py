"""What the answers of chapter 06 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.sam import Adapter


def encode_points(f: Callable[[Tensor, int, Tensor], Tensor]) -> Iterator[Tensor]:
    for size, d in ((64, 4), (96, 10), (1024, 16)):
        points, waves = random(6, 2, seed=size).sigmoid() * size, random(2, d, seed=d, scale=0.7)
        yield from with_gradients(lambda p, w, s=size: f(p, s, w), points, waves)


def freeze(f: Callable[[nn.Module], list[nn.Parameter]]) -> Iterator[Tensor]:
    for start in (True, False):
        inner = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Sequential(Adapter(4, True), nn.LayerNorm(4)))
        named = nn.ModuleDict({"adapter": nn.Linear(2, 2), "x": Adapter(8, False)})
        for net in (inner, named, nn.Linear(1, 1)):
            net.requires_grad_(start).train()
            given = [id(p) for p in f(net)]
            yield torch.tensor([p.requires_grad for p in net.parameters()])
            yield torch.tensor([given.count(id(p)) for p in net.parameters()] + [len(given), net.training])


def adapter(kind: Any) -> Iterator[Tensor]:
    for dim in (4, 12):
        for skip in (True, False):
            torch.manual_seed(5)
            made, x = kind(dim, skip), random(2, 3, dim, seed=dim)
            yield from with_gradients(made, x)
            weights = [p for _, p in sorted(made.named_parameters())]  # which layer comes first is free
            yield torch.tensor([float(p.abs().sum() > 0) for p in weights])
            for i, p in enumerate(weights):
                p.data = random(*p.shape, seed=i, scale=0.5)
            yield from with_gradients(made, x)


def adapter_block(kind: Any) -> Iterator[Tensor]:
    for window, size in ((0, (4, 4)), (3, (5, 4))):
        made = kind(8, 2, window, (4, 4), True)
        yield torch.tensor([p.numel() for p in made.parameters()])
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.4)
        yield from with_gradients(made, random(2, *size, 8, seed=window))


def merged_attention(f: Callable[[Tensor, Tensor, Tensor, int], Tensor]) -> Iterator[Tensor]:
    for n in (1, 2, 9, 400):
        yield from with_gradients(
            lambda q, k, v, n=n: f(q, k, v, n), *(random(m, 5, seed=m) for m in (4, 6, 6))
        )
        yield f(random(3, 8, seed=1), random(2, 8, seed=2), random(2, 8, seed=3), n)


def prompt_decoder(kind: Any) -> Iterator[Tensor]:
    for n, k, g in ((2, 3, 4), (3, 1, 2), (1, 4, 3)):
        made = kind(16, 24, num_heads=2)
        yield torch.tensor([p.numel() for p in made.parameters()])
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.3)
        sizes = ((n, 16, g, g), (1, 16, g, g), (n, k, 2, 16), (n, k, 16, g, g))
        yield from with_gradients(made, *(random(*size, seed=i, scale=1.0) for i, size in enumerate(sizes)))


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "06.1": encode_points,
    "06.2": freeze,
    "06.3": adapter,
    "06.4": adapter_block,
    "06.5": merged_attention,
    "06.6": prompt_decoder,
}
