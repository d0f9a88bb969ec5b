"""What the answers of chapter 02 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.subnets import UNet, make_decoder, make_encoder


def receptive_field(f: Callable[..., tuple[int, int]]) -> Iterator[Tensor]:
    torch.manual_seed(4)
    pooled = nn.Sequential(nn.Conv2d(3, 24, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(24, 24, (1, 3)))
    gaps = nn.Conv2d(3, 5, 3, padding=3, dilation=3)
    wide = nn.Conv2d(3, 2, (31, 15), padding="same")
    for net, size in ((pooled, 40), (gaps, 24), (wide, 24), (UNet(2, (2, 3, 4), (0, 0, 0)).eval(), 64)):
        yield torch.tensor([float(side) for side in f(net, size)])
        yield torch.tensor([p.grad is None for p in net.parameters()])
    yield torch.tensor([float(side) for side in f(gaps)])


def lively(net: nn.Module) -> nn.Module:
    """The network with statistics and weights moved away from their initial values."""
    torch.manual_seed(6)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand_like(tensor) + (0.5 if "var" in name else -0.3))
    return net


def conv_block(kind: Any) -> Iterator[Tensor]:
    for options in ((3, 4), (2, 6, 0.2), (5, 5, 0.7)):
        made = lively(kind(*options))
        yield torch.tensor([p.numel() for p in made.parameters()])
        for train in (False, True):
            torch.manual_seed(7)
            yield from with_gradients(made.train(train), random(2, options[0], 7, 10, seed=2))


def encode(f: Callable[..., list[Tensor]]) -> Iterator[Tensor]:
    for widths, channels in (((3, 5), 3), ((2, 4, 3, 6), 1)):
        encoder = lively(make_encoder(widths, [0.1] * len(widths))).eval()
        yield from with_gradients(lambda x, e=encoder: f(e, x), random(2, channels, 32, 16, seed=3))
    try:
        yield torch.tensor(float(len(f(encoder, random(1, 3, 24, 16, seed=1)))))
    except Exception as error:
        yield torch.tensor(float(len(str(error))))


def decode(f: Callable[..., list[Tensor]]) -> Iterator[Tensor]:
    for widths in ((3, 5), (2, 4, 3, 6)):
        up, decoder = (lively(part).eval() for part in make_decoder(widths))
        maps = [random(2, w, 16 >> i, 24 >> i, seed=i) for i, w in enumerate(widths)]
        yield from with_gradients(lambda *m, u=up, d=decoder: f(u, d, list(m)), *maps)
        f(up, decoder, maps)
        yield torch.tensor(float(len(maps)))


def dice_loss(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes in (2, 4):
        for known in (True, False):
            z, y = random(3, classes, 6, 7, seed=classes), random(3, classes, 6, 7, seed=30).argmax(dim=1)
            y[0, 0], y[1:] = (0, y[1:]) if known else (-1, y[1:].clamp(max=classes - 2))
            for smooth in ((), (1e-5,), (0.3,)):
                yield from with_gradients(lambda t, y=y, s=smooth: f(t, y, *s), z)
            yield f(z.bfloat16(), y)
    nothing = torch.tensor([0.0, -8.5]).view(1, 2, 1, 1).repeat(1, 1, 5, 5)
    yield f(nothing, torch.zeros(1, 5, 5, dtype=torch.int64))


def any_size(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for height, width in ((33, 20), (16, 31), (64, 48), (9, 58)):
        net = lively(UNet(3, (2, 3, 3, 4, 4))).train()
        graphs: list[float] = []
        net.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        yield f(net, random(2, 3, height, width, seed=height))
        yield torch.tensor(graphs)
        yield from net.buffers()


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "02.1": receptive_field,
    "02.2": conv_block,
    "02.3": encode,
    "02.4": decode,
    "02.5": dice_loss,
    "02.6": any_size,
}
