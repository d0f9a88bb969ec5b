"""Exercise 03.2, the instrument."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.chapters.ch02.shared import picture
from knowsam_lite.course.chapters.ch03.shared import CONVOLUTIONS, alike_filled
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.subnets import VNet

Signal = Callable[[nn.Module, Tensor], list[float]]


def signal(net: nn.Module, x: Tensor) -> list[float]:
    """How much of the images is left behind each convolution, in the order in which they are computed.

    That is by how much its output differs from image to image: the standard deviation over the images, the
    mean over channels and pixels. `x` images (N, 3, H, W), at least two.
    """
    found: list[float] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output.std(dim=0).mean().item())

    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [m.register_forward_hook(note) for m in convolutions]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return found


class _Crossed(nn.Module):
    """Runs its layers in a different order than it defines them, one of them twice."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(4, 2, 1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.down = nn.Sequential(nn.Conv2d(4, 6, 2, stride=2), nn.ReLU(inplace=True))
        self.up = nn.Sequential(nn.ConvTranspose2d(6, 4, 2, stride=2), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.middle(self.first(x)).relu())
        return self.last(self.up(self.down(x)))


def _measured() -> list[tuple[nn.Module, Tensor]]:
    """Networks and the images to measure them on."""
    nets = (alike_filled(_Crossed(), 1), alike_filled(VNet(2, (3, 4, 5), (1, 2, 1)), 2))
    unet = subnets.UNet(2, (3, 4, 4), (0, 0, 0))
    return [(net, picture(3, 3, 32, 16, seed=i)) for i, net in enumerate((*nets, alike_filled(unet, 3)))]


def _traces(f: Signal) -> Tensor:
    """How many hooks are left, whether any run kept a graph, and the number of runs."""
    net, x = _measured()[0]
    graphs: list[bool] = []
    hook = net.register_forward_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
    f(net, x)
    hook.remove()
    left = sum(len(m._forward_hooks) for m in net.modules())
    return torch.tensor([float(left), float(any(graphs)), float(len(graphs))])


def _signal_probe(f: Signal) -> list[Tensor]:
    return [*(torch.tensor(f(net, x)) for net, x in _measured()), _traces(f)]


def _signal_value(f: Signal) -> bool:
    pairs = zip(_measured(), _measured(), strict=True)
    return all(same(torch.tensor(f(*asked)), torch.tensor(signal(*fresh))) for asked, fresh in pairs)


def _mode(f: Signal) -> bool:
    net, x = _measured()[2]
    f(net, x)
    return all(m.training for m in net.modules())


def _gauge(
    strength: Callable[[Tensor], Tensor] = lambda out: out.std(dim=0).mean(),
    kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS,
    late: bool = False,
    leave: bool = False,
    graph: bool = False,
    mode: bool = True,
    inside: bool = True,
    before: bool = False,
) -> Signal:
    """A wrong instrument: the right one with one part changed."""

    def measure(net: nn.Module, x: Tensor) -> list[float]:
        found: list[Any] = []
        hooks = [
            m.register_forward_hook(
                lambda m, given, out: found.append(
                    out if late else strength(given[0] if before else out).item()
                )
            )
            for m in (net.modules() if inside else net.children())
            if isinstance(m, kinds)
        ]
        with torch.set_grad_enabled(graph):
            net(x) if mode else net.eval()(x)
        for hook in [] if leave else hooks:
            hook.remove()
        return [strength(out).item() for out in found] if late else found

    return measure


def _as_defined(net: nn.Module, x: Tensor) -> list[float]:
    found: dict[nn.Module, float] = {}
    layers = [m for m in net.modules() if isinstance(m, CONVOLUTIONS)]
    hooks = [
        m.register_forward_hook(lambda m, i, out: found.update({m: out.std(dim=0).mean().item()}))
        for m in layers
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return [found[m] for m in layers]


def _once_each(net: nn.Module, x: Tensor) -> list[float]:
    found: dict[nn.Module, float] = {}
    hooks = [
        m.register_forward_hook(lambda m, i, out: found.update({m: out.std(dim=0).mean().item()}))
        for m in net.modules()
        if isinstance(m, CONVOLUTIONS)
    ]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return list(found.values())


SIGNAL = Exercise(
    "03.2",
    "the signal, measured",
    _signal_probe,
    (
        Property(
            "interface",
            "signal(net, x) returns a list of numbers (float)",
            lambda f: takes(f, 2) and all(isinstance(s, float) for s in f(*_measured()[0])),
        ),
        Property(
            "layers",
            "one number for each convolution that is computed, transposed ones included",
            lambda f: [len(f(net, x)) for net, x in _measured()] == [6, 12, 13],
        ),
        Property(
            "value",
            "the spread over the images, number by number, and then its mean: three networks",
            _signal_value,
        ),
        Property(
            "no trace",
            "no hook is left in the network, and its mode is as it was",
            lambda f: float(_traces(f)[0]) == 0 and _mode(f),
        ),
        Property(
            "no graph",
            "the network is run once, without a graph",
            lambda f: _traces(f)[1:].tolist() == [0.0, 1.0],
        ),
    ),
    (
        Mistake(
            "over everything",
            "you took one standard deviation over all axes; channels and pixels that differ add to it.",
            "hint 2: over which axis is the spread?",
            _gauge(lambda out: out.std()),
        ),
        Mistake(
            "over images and pixels",
            "pixels count for you as well, but at the border they differ without any image, by the padding.",
            "hint 2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=(0, 2, 3)).mean()),
        ),
        Mistake(
            "over pixels",
            "you compared pixels of one image; at the border they differ without any image, by the padding.",
            "hint 2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=(2, 3)).mean()),
        ),
        Mistake(
            "over the channels",
            "you compared channels with each other; the signal is how one differs from image to image.",
            "hint 2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=1).mean()),
        ),
        Mistake(
            "size, not spread",
            "you measured how large the numbers are; a bias is large and knows nothing of the image.",
            "hint 2: std, not the mean of the absolute values.",
            _gauge(lambda out: out.abs().mean()),
        ),
        Mistake(
            "root of the mean square",
            "that is the size of the numbers; a bias counts there, and knows nothing of the image.",
            "hint 2: std, not the root of the mean square.",
            _gauge(lambda out: out.square().mean().sqrt()),
        ),
        Mistake(
            "variance",
            "that is the variance; its root is wanted, number by number, before the mean.",
            "hint 2: std, not var.",
            _gauge(lambda out: out.var(dim=0).mean()),
        ),
        Mistake(
            "the pixels averaged first",
            "you took the mean over the pixels before the spread: a map that moves about would not show.",
            "hint 2: first std(dim=0), then the mean.",
            _gauge(lambda out: out.mean(dim=(2, 3)).std(dim=0).mean()),
        ),
        Mistake(
            "sum in place of the mean",
            "you added up all channels and pixels, so that a larger map has the larger signal.",
            "hint 2: std(dim=0), then the mean.",
            _gauge(lambda out: out.std(dim=0).sum()),
        ),
        Mistake(
            "what goes in",
            "you measured what enters each convolution; it is what leaves that counts.",
            "hint 2: the third argument of the hook is the output.",
            _gauge(before=True),
        ),
        Mistake(
            "only the outermost",
            "convolutions inside a container are missing.",
            "hint 1: net.modules() goes into every depth, net.children() does not.",
            _gauge(inside=False),
        ),
        Mistake(
            "once for each layer",
            "a convolution that is computed twice is listed once: a dictionary keeps one number a layer.",
            "hint 1: append to a list.",
            _once_each,
        ),
        Mistake(
            "divided by N",
            "your standard deviation divides by the number of images, PyTorch's by one less.",
            "hint 2: output.std(dim=0).",
            _gauge(lambda out: out.std(dim=0, correction=0).mean()),
        ),
        Mistake(
            "another mode",
            "you put the network into evaluation mode; ask it in the mode in which you get it.",
            "hint 3: run net(x) as it is.",
            _gauge(mode=False),
        ),
        Mistake(
            "measured too late",
            "you kept the maps and measured afterwards; by then an in-place ReLU has written over them.",
            "hint 1: measure inside the hook.",
            _gauge(late=True),
        ),
        Mistake(
            "no transposed convolutions",
            "the transposed convolutions are missing: they are a class of their own.",
            "hint 1: two classes.",
            _gauge(kinds=(nn.Conv2d,)),
        ),
        Mistake(
            "every layer",
            "ReLU, BatchNorm and containers are measured as well; only convolutions are wanted.",
            "hint 1: two classes.",
            _gauge(kinds=(nn.Module,)),
        ),
        Mistake(
            "in the order of definition",
            "the numbers stand in the order in which the layers are defined, not computed.",
            "hint 1: append inside the hook, then the order is right by itself.",
            _as_defined,
        ),
        Mistake(
            "hooks left behind",
            "the numbers are right, but the hooks are still there and will measure for ever.",
            "hint 3: hook.remove().",
            _gauge(leave=True),
        ),
        Mistake(
            "a graph kept",
            "the numbers are right, but the network built a graph that nobody needs.",
            "hint 3: with torch.no_grad().",
            _gauge(graph=True),
        ),
    ),
    signal,
)
