"""What the answers of chapter 03 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.errors import UserError
from knowsam_lite.subnets import UNet, VNet


def seeded(net: nn.Module) -> nn.Module:
    """The network with random weights around 0 that preserve a signal without normalization."""
    torch.manual_seed(6)
    for tensor in net.parameters():
        tensor.data = torch.randn_like(tensor) * (2 / tensor[0].numel()) ** 0.5
    return net


def stage(f: Callable[..., nn.Module]) -> Iterator[Tensor]:
    for options in ((5, 1), (3, 4), (4, 2, 6), (6, 1, 2)):
        made = seeded(f(*options))
        yield torch.tensor([float(p.numel()) for p in made.parameters()])
        yield from with_gradients(
            made, random(2, options[-1] if len(options) > 2 else options[0], 8, 5, seed=1)
        )


def signal(f: Callable[..., list[float]]) -> Iterator[Tensor]:
    for net in (VNet(2, (4, 3, 5), (2, 1, 1)), UNet(2, (3, 4, 2), (0, 0, 0))):
        graphs: list[float] = []
        net.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        yield torch.tensor(f(seeded(net), random(4, 3, 16, 32, seed=2)))
        yield torch.tensor([float(len(m._forward_hooks)) for m in net.modules()])
        yield torch.tensor([*graphs, float(net.training)])


def vnet(kind: Any) -> Iterator[Tensor]:
    torch.manual_seed(4)
    yield torch.tensor([float(p.numel()) for p in kind().parameters()])
    for options in ((2, (3, 4, 5, 5, 6), (1, 2, 1, 1, 2)), (4, (5, 3, 4), (2, 1, 3))):
        torch.manual_seed(4)
        made = kind(*options)
        yield from (p.detach().clone() for p in made.parameters())
        yield from with_gradients(seeded(made), random(2, 3, 48, 16, seed=5))
        yield made(random(1, 1, 32, 16, seed=6))
    try:
        yield made(random(1, 3, 24, 16, seed=1))
    except UserError as error:
        yield torch.tensor(float(len(str(error))))


def shared_errors(f: Callable[..., float]) -> Iterator[Tensor]:
    for classes in (2, 5):
        for seed in range(4):
            z_1, z_2 = (random(2, classes, 6, 9, seed=seed + s) for s in (0, 30))
            y = (z_1 + z_2 + random(2, classes, 6, 9, seed=seed + 60)).argmax(dim=1)
            y[0, : 1 + seed, 2:] = -1
            yield torch.tensor(f(z_1, z_2, y))
    yield torch.tensor(f(z_1, z_1, z_1.argmax(dim=1)))


def start(f: Callable[[nn.Module], Any]) -> Iterator[Tensor]:
    deep = nn.Sequential(nn.Conv2d(20, 60, 3), nn.ConvTranspose2d(60, 90, 2), nn.Linear(60, 9))
    for net in (nn.Sequential(deep, nn.BatchNorm2d(5)), nn.Conv2d(60, 40, 3), nn.ConvTranspose2d(80, 50, 2)):
        torch.manual_seed(5)
        for parameter in net.parameters():
            nn.init.constant_(parameter, 2.0)
        f(net)
        for p in net.parameters():
            drawn = p.ndim == 4 and bool((p != 2.0).any())  # by any generator, in any order
            yield ((p[0].numel() * p.var() / 2 - 1).abs() < 0.06).detach() if drawn else p.detach()


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "03.1": stage,
    "03.2": signal,
    "03.3": start,
    "03.4": vnet,
    "03.5": shared_errors,
}
