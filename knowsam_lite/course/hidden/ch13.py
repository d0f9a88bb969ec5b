"""What the answers of chapter 13 do."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.encoders import PretrainedNet


def normalized(kind: Any) -> Iterator[Tensor]:
    for seed, mean, std in ((1, (0.2, 0.4, 0.6), (0.5, 0.25, 2.0)), (2, (0.0, 0.1, 0.9), (0.3, 1.0, 0.7))):
        torch.manual_seed(seed)
        encoder = nn.Conv2d(3, 2, (3, 1), padding=(1, 0))
        net = kind(encoder, mean, std)
        for channels in (1, 3):
            x = random(2, channels, 5, 4, seed=seed).sigmoid()
            yield from with_gradients(net, x)
            yield x
        yield torch.tensor([len(list(net.parameters())), sum(b.numel() for b in net.buffers())])
        yield net.double()(random(1, 1, 5, 4, seed=3).double()).detach()


def frozen(kind: Any) -> Iterator[Tensor]:
    torch.manual_seed(3)
    inner = nn.Sequential(
        nn.Conv2d(2, 3, 1), nn.Dropout(0.4), nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))
    )
    made = kind(inner)
    for mode in (True, False, True):
        back = made.train(mode)
        yield torch.tensor([back is made, made.training, inner.training, made.net is inner])
        yield torch.tensor([m.training for m in inner.modules()])
        yield made(random(3, 2, 4, 4, seed=int(mode))).detach()
        yield torch.cat([t.double().flatten() for t in inner.state_dict().values()])
    made.eval()
    yield torch.tensor([made.training, *(p.requires_grad for p in inner.parameters())])
    made.train()
    yield torch.tensor(made.training)


class Started(PretrainedNet):
    """A pretrained net in name: an encoder, a decoder, and one frozen layer."""

    def __init__(self, width: int):
        nn.Module.__init__(self)
        self.net = nn.Module()
        self.net.encoder = nn.Sequential(nn.Conv2d(3, width, 1), nn.Conv2d(width, width, 1))
        self.net.encoder[0].bias.requires_grad_(False)
        self.net.decoder = nn.Conv2d(width, 2, 1)


def two_rates(f: Callable[[nn.Module, Config], torch.optim.Optimizer]) -> Iterator[Tensor]:
    config = Config(learning_rate=0.02, encoder_rate=0.3, weight_decay=0.05)
    pair = nn.Sequential(Started(2), nn.ModuleDict({"deep": Started(3), "ham": nn.Linear(3, 1)}))
    for net in (pair, Started(4), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))):
        for changed in (config, replace(config, optimizer="published", encoder_rate=0.05)):
            made = f(net, changed)
            yield torch.tensor(isinstance(made, torch.optim.SGD))
            for p in net.parameters():
                groups = [g for g in made.param_groups for q in g["params"] if q is p]
                keys = ("lr", "weight_decay", "momentum")
                yield torch.tensor([len(groups), *(sum(g.get(k, 0.0) for g in groups) for k in keys)])


def warm_up(f: Callable[[int, int, float], float]) -> Iterator[Tensor]:
    for steps, w in ((7, 0.0), (20, 0.3), (50, 0.02), (100, 1.0)):
        yield torch.tensor([float(f(t, steps, w)) for t in range(steps)])


def decoder(kind: Any) -> Iterator[Tensor]:
    for widths, sizes in (((3, 5), ((8, 6), (4, 3))), ((2, 4, 6, 3), ((13, 9), (7, 5), (4, 3), (2, 2)))):
        made = kind(widths, 4, 2)
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.5)
        maps = [random(2, d, *s, seed=d) for d, s in zip(widths, sizes, strict=True)]
        size = (2 * sizes[0][0] + 1, 2 * sizes[0][1])
        yield from with_gradients(lambda *f, made=made, size=size: made(f, size), *maps)


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "13.1": normalized,
    "13.2": frozen,
    "13.3": two_rates,
    "13.4": warm_up,
    "13.5": decoder,
}
