"""Chapter 03, the V-Net: two functions of the chapter, properties, catalogued mistakes, the quiz's key."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.chapters.ch02 import picture, shapes
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.errors import UserError
from knowsam_lite.losses import UNKNOWN
from knowsam_lite.subnets import VNet, as_image, conv_stage

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)

# ---------------------------------------------------------------- 03.1 the stage

Stage = Callable[..., nn.Sequential]
CASES: tuple[tuple[int, ...], ...] = ((4, 1), (4, 3), (5, 1, 3), (5, 2, 3), (3, 4, 6))


def alike_filled(net: nn.Module, seed: int = 0) -> nn.Module:
    """The module with weights of mean 0 that depend on their order and shapes alone."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (2 / tensor[0].numel()) ** 0.5)
    return net


def _entering(case: tuple[int, ...], seed: int = 0) -> Tensor:
    return noise(2, case[-1] if len(case) == 3 else case[0], 7, 6, seed=seed)


def _run(f: Stage, case: tuple[int, ...], seed: int = 0) -> Tensor:
    return alike_filled(f(*case), seed)(_entering(case, seed))


def _sizes(net: nn.Module) -> Tensor:
    """Shapes of all weights of a convolution, one below the other."""
    return torch.tensor([list(p.shape) for p in net.parameters() if p.ndim == 4])


def _stage_probe(f: Stage) -> list[Tensor]:
    found = []
    for case in CASES:
        net = f(*case)
        found.append(_sizes(net))
        try:
            found.append(alike_filled(net)(_entering(case)))
        except RuntimeError:  # channels that do not fit
            found.append(torch.zeros(()))
    return found


def _convolutions(f: Stage) -> bool:
    return all(same(_sizes(f(*case)).float(), _sizes(conv_stage(*case)).float()) for case in CASES)


def _alone(f: Stage) -> bool:
    net, x = alike_filled(f(4, 2)), noise(3, 4, 6, 6)
    return same(net(x)[:1], net(x[:1]))


def _stage_gradient(f: Stage) -> bool:
    case = (5, 3, 3)
    return same(
        *(gradients(alike_filled(g(*case)), _entering(case, 4)) for g in (f, conv_stage)),
    )


def _wrong_stage(layers: Callable[[int, int, int], Sequence[nn.Module]]) -> Stage:
    """A stage of `layers(channels, depth, in_channels)`."""
    return lambda channels, depth, in_channels=None: nn.Sequential(
        *layers(channels, depth, in_channels or channels)
    )


def _stack(
    c: int,
    depth: int,
    i: int,
    act: Callable[[], nn.Module] = nn.ReLU,
    behind: Callable[[int], list[nn.Module]] = lambda c: [],
    padding: int = 1,
) -> list[nn.Module]:
    """Convolution, `behind`, activation, so many times."""
    inputs = [i, *[c] * (depth - 1)]
    rows = [[nn.Conv2d(n, c, 3, padding=padding), *behind(c), act()] for n in inputs]
    return [layer for row in rows for layer in row]


def _one_bend(c: int, depth: int, i: int) -> list[nn.Module]:
    return [layer for layer in _stack(c, depth, i) if isinstance(layer, nn.Conv2d)] + [nn.ReLU()]


def _bend_first(c: int, depth: int, i: int) -> list[nn.Module]:
    convolutions = [layer for layer in _stack(c, depth, i) if isinstance(layer, nn.Conv2d)]
    return [layer for convolution in convolutions for layer in (nn.ReLU(), convolution)]


def _repeated(c: int, depth: int, i: int) -> list[nn.Module]:
    return [*_stack(c, 1, i), *_stack(c, 1, c) * (depth - 1)]


def _no_bias(c: int, depth: int, i: int) -> list[nn.Module]:
    layers = _stack(c, depth, i)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    return layers


STAGE = Exercise(
    "03.1",
    "the stage",
    _stage_probe,
    (
        Property(
            "interface",
            "conv_stage(channels, depth, in_channels) returns a nn.Sequential; the third may be left out",
            lambda f: takes(f, 3) and takes(f, 2) and isinstance(f(3, 1), nn.Sequential),
        ),
        Property("layers", "`depth` convolutions of 3 × 3, with channels that fit together", _convolutions),
        Property(
            "shape",
            "(N, C_in, H, W) -> (N, channels, H, W): the size stays",
            lambda f: all(_run(f, case).shape == (2, case[0], 7, 6) for case in CASES),
        ),
        Property(
            "value",
            "convolution, ReLU, again and again, with the same weights",
            lambda f: all(
                same(_run(f, case, s), _run(conv_stage, case, s)) for case in CASES for s in (1, 2)
            ),
        ),
        Property("alone", "an image gets the same answer alone and in a batch", _alone),
        Property("gradient", "the image gets their gradient", _stage_gradient),
    ),
    (
        Mistake(
            "no bend at the end",
            "the last convolution has no ReLU behind it; here each one has.",
            "hint 2 of exercise 03.1: two layers in every round.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i)[:-1]),
        ),
        Mistake(
            "one ReLU for all",
            "there is one ReLU at the end; without one between them, two convolutions are one larger one.",
            "hint 2 of exercise 03.1: two layers in every round.",
            _wrong_stage(_one_bend),
        ),
        Mistake(
            "ReLU first",
            "each ReLU stands in front of its convolution; here it stands behind.",
            "hint 2 of exercise 03.1: convolution, then ReLU.",
            _wrong_stage(_bend_first),
        ),
        Mistake(
            "BatchNorm",
            "a BatchNorm stands behind each convolution, as in the U-Net's block; the V-Net has none.",
            "hint 2 of exercise 03.1: convolution and ReLU, nothing else.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, behind=lambda c: [nn.BatchNorm2d(c)])),
        ),
        Mistake(
            "LeakyReLU",
            "that is the U-Net's bend, LeakyReLU; the V-Net's makes all negative numbers 0.",
            "hint 2 of exercise 03.1: nn.ReLU.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, act=lambda: nn.LeakyReLU(0.01))),
        ),
        Mistake(
            "no padding",
            "each convolution takes one pixel off every side.",
            "hint 2 of exercise 03.1: padding=1.",
            _wrong_stage(lambda c, d, i: _stack(c, d, i, padding=0)),
        ),
        Mistake(
            "in_channels not used",
            "the first convolution expects `channels`, also where another number comes in.",
            "hint 1 of exercise 03.1: which convolutions see in_channels?",
            _wrong_stage(lambda c, d, i: _stack(c, d, c)),
        ),
        Mistake(
            "in_channels everywhere",
            "every convolution expects in_channels; behind the first there are `channels`.",
            "hint 1 of exercise 03.1: which convolutions see in_channels?",
            _wrong_stage(lambda c, d, i: [layer for _ in range(d) for layer in _stack(c, 1, i)]),
        ),
        Mistake(
            "one convolution too many",
            "`depth` counts all convolutions, the first one included.",
            "hint 1 of exercise 03.1: depth - 1 convolutions follow the first.",
            _wrong_stage(lambda c, d, i: _stack(c, d + 1, i)),
        ),
        Mistake(
            "the same convolution again",
            "the later convolutions are one and the same: multiplying a list repeats its layers.",
            "hint 2 of exercise 03.1: make both layers anew in every round.",
            _wrong_stage(_repeated),
        ),
        Mistake(
            "no bias",
            "the convolutions have no bias; that is right in front of a BatchNorm, and there is none here.",
            "hint 2 of exercise 03.1: nn.Conv2d as it is, with its bias.",
            _wrong_stage(_no_bias),
        ),
    ),
)


# ---------------------------------------------------------------- 03.2 the instrument

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
    """Computes its layers in another order than it defines them, one of them twice."""

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
    """Networks, and images to measure them on."""
    nets = (alike_filled(_Crossed(), 1), alike_filled(VNet(2, (3, 4, 5), (1, 2, 1)), 2))
    unet = subnets.UNet(2, (3, 4, 4), (0, 0, 0))
    return [(net, picture(3, 3, 32, 16, seed=i)) for i, net in enumerate((*nets, alike_filled(unet, 3)))]


def _traces(f: Signal) -> Tensor:
    """Hooks that are left, and whether the network was run without a graph."""
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
    """A wrong instrument, made by changing one part of the right one."""

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
            "hint 2 of exercise 03.2: over which axis is the spread?",
            _gauge(lambda out: out.std()),
        ),
        Mistake(
            "over images and pixels",
            "pixels count for you as well, but at the border they differ without any image, by the padding.",
            "hint 2 of exercise 03.2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=(0, 2, 3)).mean()),
        ),
        Mistake(
            "over pixels",
            "you compared pixels of one image; at the border they differ without any image, by the padding.",
            "hint 2 of exercise 03.2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=(2, 3)).mean()),
        ),
        Mistake(
            "over the channels",
            "you compared channels with each other; the signal is how one differs from image to image.",
            "hint 2 of exercise 03.2: over which axis is the spread?",
            _gauge(lambda out: out.std(dim=1).mean()),
        ),
        Mistake(
            "size, not spread",
            "you measured how large the numbers are; a bias is large and knows nothing of the image.",
            "hint 2 of exercise 03.2: std, not the mean of the absolute values.",
            _gauge(lambda out: out.abs().mean()),
        ),
        Mistake(
            "root of the mean square",
            "that is the size of the numbers; a bias counts there, and knows nothing of the image.",
            "hint 2 of exercise 03.2: std, not the root of the mean square.",
            _gauge(lambda out: out.square().mean().sqrt()),
        ),
        Mistake(
            "variance",
            "that is the variance; its root is wanted, number by number, before the mean.",
            "hint 2 of exercise 03.2: std, not var.",
            _gauge(lambda out: out.var(dim=0).mean()),
        ),
        Mistake(
            "the pixels averaged first",
            "you took the mean over the pixels before the spread: a map that moves about would not show.",
            "hint 2 of exercise 03.2: first std(dim=0), then the mean.",
            _gauge(lambda out: out.mean(dim=(2, 3)).std(dim=0).mean()),
        ),
        Mistake(
            "sum in place of the mean",
            "you added up all channels and pixels, so that a larger map has the larger signal.",
            "hint 2 of exercise 03.2: std(dim=0), then the mean.",
            _gauge(lambda out: out.std(dim=0).sum()),
        ),
        Mistake(
            "what goes in",
            "you measured what enters each convolution; it is what leaves that counts.",
            "hint 2 of exercise 03.2: the third argument of the hook is the output.",
            _gauge(before=True),
        ),
        Mistake(
            "only the outermost",
            "convolutions inside a container are missing.",
            "hint 1 of exercise 03.2: net.modules() goes into every depth, net.children() does not.",
            _gauge(inside=False),
        ),
        Mistake(
            "once for each layer",
            "a convolution that is computed twice is listed once: a dictionary keeps one number a layer.",
            "hint 1 of exercise 03.2: append to a list.",
            _once_each,
        ),
        Mistake(
            "divided by N",
            "your standard deviation divides by the number of images, PyTorch's by one less.",
            "hint 2 of exercise 03.2: output.std(dim=0).",
            _gauge(lambda out: out.std(dim=0, correction=0).mean()),
        ),
        Mistake(
            "another mode",
            "you put the network into evaluation mode; ask it in the mode in which you get it.",
            "hint 3 of exercise 03.2: run net(x) as it is.",
            _gauge(mode=False),
        ),
        Mistake(
            "measured too late",
            "you kept the maps and measured afterwards; by then an in-place ReLU has written over them.",
            "hint 1 of exercise 03.2: measure inside the hook.",
            _gauge(late=True),
        ),
        Mistake(
            "no transposed convolutions",
            "the transposed convolutions are missing: they are a class of their own.",
            "hint 1 of exercise 03.2: two classes.",
            _gauge(kinds=(nn.Conv2d,)),
        ),
        Mistake(
            "every layer",
            "ReLU, BatchNorm and containers are measured as well; only convolutions are wanted.",
            "hint 1 of exercise 03.2: two classes.",
            _gauge(kinds=(nn.Module,)),
        ),
        Mistake(
            "in the order of definition",
            "the numbers stand in the order in which the layers are defined, not computed.",
            "hint 1 of exercise 03.2: append inside the hook, then the order is right by itself.",
            _as_defined,
        ),
        Mistake(
            "hooks left behind",
            "the numbers are right, but the hooks are still there and will measure for ever.",
            "hint 3 of exercise 03.2: hook.remove().",
            _gauge(leave=True),
        ),
        Mistake(
            "a graph kept",
            "the numbers are right, but the network built a graph that nobody needs.",
            "hint 3 of exercise 03.2: with torch.no_grad().",
            _gauge(graph=True),
        ),
    ),
)


# ---------------------------------------------------------------- 03.3 the start

Start = Callable[[nn.Module], Any]


class _Mixed(nn.Module):
    """Convolutions of two kinds, some of them deeper inside, and layers that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(48, 24, 5)
        self.inside = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(64, 40, 2)))
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.norm = nn.BatchNorm2d(24)
        self.linear = nn.Linear(64, 32)


def _started(f: Start) -> dict[str, Tensor]:
    """Weights and biases after `f`: of a network whose weights were all 3 before."""
    net = _Mixed()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(3.0)
    f(net)
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def _steady(t: Tensor) -> Tensor:
    """Spread, times the root of PyTorch's fan-in, and extent in units of the spread, both coarse."""
    fan_in = t[0].numel()
    spread = t.std()
    extent = (t.abs().max() / spread.clamp(min=1e-9)) > 2.5
    middle = t.mean() / spread.clamp(min=1e-9)
    return torch.stack([(spread * fan_in**0.5 * 5).round(), extent.float(), middle.round()])


def _start_probe(f: Start) -> list[Tensor]:
    kept = torch.tensor(float(_learns(f)))
    return [*(_steady(t) if t.ndim == 4 else t for t in _started(f).values()), kept]


def _variance(f: Start) -> bool:
    weights = [t for t in _started(f).values() if t.ndim == 4]
    return all(abs(t.std() * (t[0].numel() / 2) ** 0.5 - 1) < 0.04 for t in weights)


def _normal(f: Start) -> bool:
    """Mean 0, and of the share beyond one and two standard deviations what a normal distribution has."""
    for t in (t for t in _started(f).values() if t.ndim == 4):
        units = (t / t.std()).abs()
        one, two = (units > 1).float().mean(), (units > 2).float().mean()
        if not (abs(t.mean() / t.std()) < 0.06 and abs(one - 0.317) < 0.03 and abs(two - 0.0455) < 0.02):
            return False
    return True


def _others_stay(f: Start) -> bool:
    rest = [t for name, t in _started(f).items() if name.endswith("bias") or t.ndim != 4]
    return all(same(t, torch.full_like(t, 3.0)) for t in rest)


def _learns(f: Start) -> bool:
    net = _Mixed()
    before = list(net.parameters())
    f(net)
    kept = zip(before, net.parameters(), strict=True)
    return all(p is q and p.requires_grad and p.grad is None for p, q in kept)


def _different(f: Start) -> bool:
    return not same(_started(f)["wide.weight"], _started(f)["wide.weight"])


def _wrong_start(
    draw: Callable[[Tensor], Any] = nn.init.kaiming_normal_,
    kinds: tuple[type[nn.Module], ...] = CONVOLUTIONS,
    bias: Callable[[Tensor], Any] | None = None,
    inside: bool = True,
) -> Start:
    """A wrong start, made by changing one part of the right one."""

    def start(net: nn.Module) -> None:
        for module in net.modules() if inside else net.children():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and isinstance(module, kinds):
                draw(module.weight)
                if bias is not None and module.bias is not None:
                    bias(module.bias)

    return start


def _everything(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.BatchNorm2d):
            nn.init.normal_(module.weight, std=(2 / module.weight[0].numel()) ** 0.5)


def _by_in_channels(pixels: bool) -> Start:
    """The fan-in from `in_channels`, times the kernel's pixels or not."""

    def start(net: nn.Module) -> None:
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = module.in_channels * (module.weight[0, 0].numel() if pixels else 1)
                nn.init.normal_(module.weight, std=(2 / fan_in) ** 0.5)

    return start


def _replaced(net: nn.Module) -> None:
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            weight = torch.empty_like(module.weight, requires_grad=False)
            module.weight = nn.Parameter(nn.init.kaiming_normal_(weight))


START = Exercise(
    "03.3",
    "the start",
    _start_probe,
    (
        Property("interface", "start_kaiming(net) takes a network and changes it", lambda f: takes(f, 1)),
        Property(
            "variance", "2 / fan-in in every convolution, however deep it sits, of both kinds", _variance
        ),
        Property("normal", "mean 0 and the shape of a normal distribution", _normal),
        Property("the rest", "biases and layers of other kinds stay as they were", _others_stay),
        Property("parameters", "the parameters are the same objects and can still learn", _learns),
        Property("random", "two calls give two different starts", _different),
    ),
    (
        Mistake(
            "uniform",
            "the variance is right, but the distribution is uniform.",
            "hint 2 of exercise 03.3: normal.",
            _wrong_start(nn.init.kaiming_uniform_),
        ),
        Mistake(
            "fan-out",
            "you divided by the fan-out, the numbers that one input reaches.",
            "hint 2 of exercise 03.3: what comes in is what counts.",
            _wrong_start(lambda w: nn.init.kaiming_normal_(w, mode="fan_out")),
        ),
        Mistake(
            "the 2 is missing",
            "the variance is 1 / fan-in: the half that the ReLU takes is not given back.",
            "hint 2 of exercise 03.3: variance 2 / fan-in.",
            _wrong_start(lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear")),
        ),
        Mistake(
            "Xavier",
            "that is the start of Glorot and Bengio, made for layers without a ReLU.",
            "hint 2 of exercise 03.3: variance 2 / fan-in.",
            _wrong_start(nn.init.xavier_normal_),
        ),
        Mistake(
            "variance for standard deviation",
            "2 / fan-in is the variance; normal_ wants its root.",
            "hint 2 of exercise 03.3: a standard deviation is the root of a variance.",
            _wrong_start(lambda w: nn.init.normal_(w, std=2 / w[0].numel())),
        ),
        Mistake(
            "all weights of the layer",
            "you divided by the number of all weights of the layer, not by the fan-in.",
            "hint 2 of exercise 03.3, and above it: the weights in module.weight[0].",
            _wrong_start(lambda w: nn.init.normal_(w, std=(2 / w.numel()) ** 0.5)),
        ),
        Mistake(
            "in_channels of a transposed convolution",
            "convolutions are right, but for a transposed one you took what really comes in; by PyTorch's "
            "rule, which is wanted, it is weight[0].",
            "the text of exercise 03.3: the number of weights in module.weight[0], whatever the layer.",
            _by_in_channels(pixels=True),
        ),
        Mistake(
            "the kernel's pixels forgotten",
            "you divided by the input channels alone; the kernel's pixels count as well.",
            "the text of exercise 03.3: all weights in module.weight[0].",
            _by_in_channels(pixels=False),
        ),
        Mistake(
            "drawn under autograd",
            "PyTorch lets nobody write into a parameter in place while autograd watches.",
            "hint 2 of exercise 03.3: nn.init.normal_ looks after that; weight.normal_ does not.",
            _wrong_start(lambda w: w.normal_(0, (2 / w[0].numel()) ** 0.5)),
        ),
        Mistake(
            "whatever has a weight",
            "BatchNorm and linear layers have a `weight`, too; only those of convolutions are drawn anew.",
            "hint 1 of exercise 03.3: two classes.",
            _everything,
        ),
        Mistake(
            "new parameters",
            "the numbers are right, but they are new parameters; an optimizer would go on with the old ones.",
            "hint 2 of exercise 03.3: change the weight in place.",
            _replaced,
        ),
        Mistake(
            "no transposed convolutions",
            "the transposed convolutions keep their old weights: they are a class of their own.",
            "hint 1 of exercise 03.3: two classes.",
            _wrong_start(kinds=(nn.Conv2d,)),
        ),
        Mistake(
            "only the outermost",
            "convolutions inside a container keep their old weights.",
            "hint 1 of exercise 03.3: net.modules() goes into every depth, net.children() does not.",
            _wrong_start(inside=False),
        ),
        Mistake(
            "linear layers, too",
            "every weight was drawn anew, those of linear layers as well; only convolutions are wanted.",
            "hint 1 of exercise 03.3: two classes.",
            _wrong_start(kinds=(*CONVOLUTIONS, nn.Linear)),
        ),
        Mistake(
            "biases at zero",
            "the weights are right, but the biases are 0 now; they should stay.",
            "hint 3 of exercise 03.3: only the weights.",
            _wrong_start(bias=nn.init.zeros_),
        ),
    ),
)


# ---------------------------------------------------------------- 03.4 the V-Net's forward pass

SMALL: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 5, 6, 6, 6), (1, 2, 1, 3, 1))
SHORT: tuple[tuple[int, ...], tuple[int, ...]] = ((3, 4, 5), (2, 1, 2))


def made(kind: Any, classes: int = 3, sizes: tuple[tuple[int, ...], tuple[int, ...]] = SMALL) -> nn.Module:
    """A small network of this kind with the weights of a library's."""
    torch.manual_seed(0)
    reference = VNet(classes, *sizes)
    net: nn.Module = kind(classes, *sizes)
    net.load_state_dict(reference.state_dict())
    return net


def _refused(kind: Any) -> bool:
    try:
        made(kind)(picture(1, 3, 20, 32))
    except UserError:
        return True
    except RuntimeError:
        return False
    return False


def _grey(kind: Any) -> Tensor:
    try:
        return made(kind)(picture(1, 1, 32, 16))
    except RuntimeError:
        return torch.zeros(())


def _forward_probe(kind: Any) -> list[Tensor]:
    x = picture(2, 3, 32, 48)
    net = made(kind)
    try:
        return [net(x), *gradients(net, x), _grey(kind), torch.tensor(float(_refused(kind)))]
    except RuntimeError as error:  # shapes that do not fit: the message tells which
        return [torch.tensor([float(ord(letter)) for letter in str(error)])]


def _forward_value(kind: Any) -> bool:
    x = picture(2, 3, 48, 32, seed=5)
    twice = made(kind)
    return all(same(made(kind, 2, s)(x), made(VNet, 2, s)(x)) for s in (SMALL, SHORT)) and same(
        twice(x), twice(x)
    )


def _forward_gradient(kind: Any) -> bool:
    def found(net: nn.Module) -> list[Tensor]:
        x = picture(1, 3, 32, 32, seed=6)
        weights = torch.autograd.grad((net(x) * noise(1, 3, 32, 32)).sum(), list(net.parameters()))
        return [*weights, *gradients(net, x)]

    return same(found(made(kind)), found(made(VNet)))


def _all_shapes(kind: Any) -> bool:
    with torch.device("meta"):  # shapes without numbers
        return shapes(kind()) == shapes(VNet()) and shapes(kind(3, *SMALL)) == shapes(VNet(3, *SMALL))


def _first_weights(kind: Any) -> bool:
    drawn = []
    for each in (kind, VNet):
        torch.manual_seed(1)
        drawn.append(list(each(2, *SMALL).parameters()))
    return same(*drawn)


class _Walk(VNet):
    """The library's forward pass, with parts that a mistake changes."""

    def keep(self, before: Tensor, entered: Tensor, left: Tensor) -> Tensor:
        return entered

    def order(self, kept: list[Tensor]) -> list[Tensor]:
        return kept[:-1]

    def join(self, stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = stage(x + skip)
        return out

    def last(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(x)
        return out

    def image(self, x: Tensor) -> Tensor:
        return as_image(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](self.image(x))
        kept = [x]
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            before, entered = x, down(x)
            x = stage(entered)
            kept.append(self.keep(before, entered, x))
        skips = self.order(kept)
        for up, stage in zip(self.up, self.decoder, strict=True):
            x = self.join(stage, up(x), skips.pop())
        return self.last(x)


def _walk(**parts: Callable[..., Any]) -> type:
    return type("Wrong", (_Walk,), {name: staticmethod(part) for name, part in parts.items()})


class _Headless(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return self.head(x).relu()


class _Soft(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return self.head(x).softmax(dim=1)


def _added_in_place(stage: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    x += skip
    out: Tensor = stage(x)
    return out


class _NoHead(_Walk):
    def last(self, x: Tensor) -> Tensor:
        return x


class _ImageKept(_Walk):
    def forward(self, x: Tensor) -> Tensor:
        kept = [as_image(x)]
        x = self.encoder[0](kept[0])
        for down, stage in zip(self.down, self.encoder[1:], strict=True):
            kept.append(down(x))
            x = stage(kept[-1])
        for up, stage in zip(self.up, self.decoder, strict=True):
            kept.pop()
            x = self.join(stage, up(x), kept[-1])
        return self.last(x)


class _FirstStageTwice(_Walk):
    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder[0](as_image(x))
        for down, stage in zip(self.down, self.encoder, strict=False):
            x = stage(down(x))
        return self.last(x)


FORWARD = Exercise(
    "03.4",
    "the V-Net's forward pass",
    _forward_probe,
    (
        Property(
            "interface",
            "VNet(num_classes, widths, depths): __init__ is as it was given",
            _all_shapes,
        ),
        Property("start", "and starts the Kaiming way, with the same random numbers", _first_weights),
        Property(
            "shape",
            "images (N, 3, H, W) -> logits (N, C, H, W)",
            lambda k: made(k)(picture(2, 3, 32, 48)).shape == (2, 3, 32, 48),
        ),
        Property(
            "value",
            "what enters a stage is added on the way up: two sets of widths, asked twice",
            _forward_value,
        ),
        Property("grey", "grey images (N, 1, H, W) are taken, too", lambda k: same(_grey(k), _grey(VNet))),
        Property("sizes", "an image of 20 × 32 pixels is refused with a UserError", _refused),
        Property("gradient", "the image and every weight get their gradient", _forward_gradient),
    ),
    (
        Mistake(
            "what leaves a stage",
            "your skips carry what leaves a stage, as the U-Net's do; here they carry what enters it.",
            "hint 2 of exercise 03.4: keep the map between `down` and `stage`.",
            _walk(keep=lambda before, entered, left: left),
        ),
        Mistake(
            "added behind the stage",
            "you added the skip behind the stage; the stage should see the sum.",
            "hint 3 of exercise 03.4: first the sum, then the stage.",
            _walk(join=lambda stage, x, skip: stage(x) + skip),
        ),
        Mistake(
            "kept before the way down",
            "you kept the map before `down` halved it, so its size does not fit on the way up.",
            "hint 2 of exercise 03.4: first `down`, then keep.",
            _walk(keep=lambda before, entered, left: before),
        ),
        Mistake(
            "the deepest has no partner",
            "the deepest map is still among the skips, and every skip comes one level too late.",
            "hint 2 of exercise 03.4: skips.pop() once, before the way up.",
            _walk(order=lambda kept: kept),
        ),
        Mistake(
            "the first skip first",
            "the way up began with the skip of full size; it is the last that it needs.",
            "hint 3 of exercise 03.4: skips.pop() takes from the end.",
            _walk(order=lambda kept: kept[-2::-1]),
        ),
        Mistake(
            "concatenated",
            "you put skip and enlarged map side by side, as in the U-Net; here they are added.",
            "hint 3 of exercise 03.4: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage(torch.cat([x, skip], dim=1))),
        ),
        Mistake(
            "no skip",
            "no skip arrives on the way up.",
            "hint 3 of exercise 03.4: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage(x)),
        ),
        Mistake(
            "the mean of both",
            "you took the mean of skip and enlarged map; here they are added.",
            "hint 3 of exercise 03.4: up(x) plus the skip.",
            _walk(join=lambda stage, x, skip: stage((x + skip) / 2)),
        ),
        Mistake(
            "the stage sees the skip alone",
            "the stage saw the skip alone, and the enlarged map was added behind it; it should see the sum.",
            "hint 3 of exercise 03.4: first the sum, then the stage.",
            _walk(join=lambda stage, x, skip: x + stage(skip)),
        ),
        Mistake(
            "added in place",
            "the values are right, but += writes into a map that ReLU still needs for its gradient.",
            "hint 3 of exercise 03.4: up(x) + skips.pop() makes a new tensor.",
            _walk(join=_added_in_place),
        ),
        Mistake(
            "the image as the first skip",
            "the first skip is the image, of three channels; at full size it is what leaves the first stage.",
            "hint 1 of exercise 03.4: the first stage, and only then keep.",
            _ImageKept,
        ),
        Mistake(
            "the first stage twice",
            "on the way down you began again with encoder[0], which expects three channels.",
            "hint 2 of exercise 03.4: self.encoder[1:].",
            _FirstStageTwice,
        ),
        Mistake(
            "no head",
            "the head is missing: you return the channels of the last stage, not one for each class.",
            "hint 3 of exercise 03.4: what `head` returns is the answer.",
            _NoHead,
        ),
        Mistake(
            "a detached skip",
            "the skip is detached: the first stages would learn only through the deepest map.",
            "hint 3 of exercise 03.4: the skip goes in as it is.",
            _walk(join=lambda stage, x, skip: stage(x + skip.detach())),
        ),
        Mistake(
            "as_image forgotten",
            "the values are right, but grey images and odd sizes are not looked after.",
            "hint 1 of exercise 03.4: as_image(x) comes first.",
            _walk(image=lambda x: x),
        ),
        Mistake(
            "probabilities",
            "you return probabilities; the losses take logits and do the softmax themselves.",
            "hint 3 of exercise 03.4: what `head` returns is the answer.",
            _Soft,
        ),
        Mistake(
            "a bend behind the head",
            "a ReLU stands behind the head, so no logit can be negative.",
            "hint 3 of exercise 03.4: what `head` returns is the answer.",
            _Headless,
        ),
    ),
)


# ---------------------------------------------------------------- 03.5 shared errors

Shared = Callable[[Tensor, Tensor, Tensor], float]


def shared_errors(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    """Of the pixels where at least one network errs, the part where both do: 0 never together, 1 always.

    Logits (N, C, H, W) twice and labels (N, H, W), where -1 (unknown) counts for nothing; nan if none errs.
    """
    known = y != UNKNOWN
    wrong_1 = (z_1.argmax(dim=1) != y) & known
    wrong_2 = (z_2.argmax(dim=1) != y) & known
    either = (wrong_1 | wrong_2).sum()
    return ((wrong_1 & wrong_2).sum() / either).item()


def _answers(classes: int, seed: int, unknown: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Two answers that are right at more pixels than not, and labels."""
    y = noise(3, classes, 9, 8, seed=seed + 40).argmax(dim=1)
    truth = torch.nn.functional.one_hot(y, classes).movedim(-1, 1) * 3.0
    z_1, z_2 = (truth + noise(3, classes, 9, 8, seed=seed + i) for i in (0, 20))
    z_1[1] -= 3 * truth[1]  # the first one is wrong more often
    if unknown:
        y[0, :4], y[2, :, 3] = UNKNOWN, UNKNOWN
    return z_1, z_2, y


TASKS = ((2, 1, False), (3, 2, False), (2, 3, True), (4, 4, True))


def _number(value: Any) -> Tensor:
    return torch.tensor(float(value))


def _shared_probe(f: Shared) -> list[Tensor]:
    z_1, _, y = _answers(3, 5)
    perfect = 9.0 * torch.nn.functional.one_hot(y.clamp(min=0), 3).movedim(-1, 1)
    try:
        nothing = _number(f(perfect, perfect, y))
    except ZeroDivisionError:
        nothing = torch.tensor(-1.0)
    found = [_number(f(*_answers(*task))) for task in TASKS]
    for task in TASKS:  # the second one is wrong more often here
        first, second, labels = _answers(*task)
        found.append(_number(f(second, first, labels)))
    return [*found, _number(f(z_1, perfect, y)), nothing]


def _shared_value(unknown: bool) -> Callable[[Shared], bool]:
    def holds(f: Shared) -> bool:
        tasks = [task for task in TASKS if task[2] == unknown]  # fresh ones for each: f may write into them
        return all(same(_number(f(*_answers(*t))), _number(shared_errors(*_answers(*t)))) for t in tasks)

    return holds


def _shared_ends(f: Shared) -> bool:
    y = torch.zeros(1, 2, 2, dtype=torch.int64)
    right, left = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    right[:, 1, :, 1], left[:, 1, :, 0] = 5.0, 5.0  # wrong in the right, in the left column
    right[:, 0, :, 0], left[:, 0, :, 1] = 5.0, 5.0
    return (f(right, right, y), f(right, left, y)) == (1.0, 0.0)


def _nobody_errs(f: Shared) -> bool:
    y = torch.zeros(1, 2, 2, dtype=torch.int64)
    z = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    return bool(_number(f(z, z, y)).isnan())


def _symmetric(f: Shared) -> bool:
    z_1, z_2, y = _answers(3, 6)
    return same(_number(f(z_1, z_2, y)), _number(f(z_2, z_1, y)))


def _wrong_share(share: Callable[[Tensor, Tensor, Tensor], Tensor], unknown_counts: bool = False) -> Shared:
    """A wrong measure: `share(wrong_1, wrong_2, known)`, all (N, H, W)."""

    def measure(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
        known = (y != UNKNOWN) | unknown_counts
        wrong_1, wrong_2 = ((z.argmax(dim=1) != y) & known for z in (z_1, z_2))
        return share(wrong_1, wrong_2, known).item()

    return measure


def _of_either(both: Tensor, wrong_1: Tensor, wrong_2: Tensor) -> Tensor:
    return both.sum() / (wrong_1 | wrong_2).sum()


def _same_answer(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    known, first, second = y != UNKNOWN, z_1.argmax(dim=1), z_2.argmax(dim=1)
    wrong_1, wrong_2 = (first != y) & known, (second != y) & known
    return _of_either(wrong_1 & wrong_2 & (first == second), wrong_1, wrong_2).item()


def _by_image(wrong_1: Tensor, wrong_2: Tensor, known: Tensor) -> Tensor:
    both, either = ((wrong_1 & wrong_2).sum((1, 2)), (wrong_1 | wrong_2).sum((1, 2)))
    return (both / either).mean()


def _both_right(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    right_1, right_2 = (z.argmax(dim=1) == y for z in (z_1, z_2))
    return _of_either(right_1 & right_2, right_1, right_2).item()


def _python_numbers(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    wrong_1, wrong_2 = ((z.argmax(dim=1) != y) & (y != UNKNOWN) for z in (z_1, z_2))
    return int((wrong_1 & wrong_2).sum()) / int((wrong_1 | wrong_2).sum())


SHARED = Exercise(
    "03.5",
    "shared errors",
    _shared_probe,
    (
        Property(
            "interface",
            "shared_errors(z_1, z_2, y) returns one number (float)",
            lambda f: takes(f, 3) and isinstance(f(*_answers(2, 1)), float),
        ),
        Property("ends", "1 if both err at the same pixels, 0 if never at the same one", _shared_ends),
        Property(
            "value",
            "pixels at which both are wrong, out of those at which at least one is",
            _shared_value(unknown=False),
        ),
        Property("unknown", "and the same where some labels are unknown", _shared_value(unknown=True)),
        Property("symmetric", "it does not matter which network comes first", _symmetric),
        Property("no error", "nan if no pixel is wrong", _nobody_errs),
    ),
    (
        Mistake(
            "of the first one's errors",
            "you divided by the errors of the first network; those of the second count as well.",
            "hint 3 of exercise 03.5: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / a.sum()),
        ),
        Mistake(
            "of the second one's errors",
            "you divided by the errors of the second network; those of the first count as well.",
            "hint 3 of exercise 03.5: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / b.sum()),
        ),
        Mistake(
            "of the worse one's errors",
            "you divided by the errors of the network that errs more; those of the other count as well.",
            "hint 3 of exercise 03.5: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / torch.maximum(a.sum(), b.sum())),
        ),
        Mistake(
            "of all pixels",
            "you divided by all pixels; then a good pair shares little just because it errs little.",
            "hint 3 of exercise 03.5: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / known.sum()),
        ),
        Mistake(
            "of the sum",
            "you divided by the sum of both, and so counted the shared errors twice.",
            "hint 3 of exercise 03.5: or, not plus.",
            _wrong_share(lambda a, b, known: (a & b).sum() / (a.sum() + b.sum())),
        ),
        Mistake(
            "the Dice of the errors",
            "that is twice the overlap over the sum; here it is the overlap over the union.",
            "hint 3 of exercise 03.5: or, not plus.",
            _wrong_share(lambda a, b, known: 2 * (a & b).sum() / (a.sum() + b.sum())),
        ),
        Mistake(
            "the part that is not shared",
            "your number is 1 for networks that never err together: it is 1 minus the one wanted.",
            "hint 3 of exercise 03.5: both of them, above the line.",
            _wrong_share(lambda a, b, known: (a ^ b).sum() / (a | b).sum()),
        ),
        Mistake(
            "unknown is an error",
            "pixels of label -1 count as errors of both; nobody knows what is right there.",
            "hint 2 of exercise 03.5: and the label is known.",
            _wrong_share(lambda a, b, known: _of_either(a & b, a, b), unknown_counts=True),
        ),
        Mistake(
            "unknown is background",
            "you turned the label -1 into class 0, so those pixels count; nobody knows what is right there.",
            "hint 2 of exercise 03.5: and the label is known.",
            lambda z_1, z_2, y: shared_errors(z_1, z_2, y.clamp(min=0)),
        ),
        Mistake(
            "the largest along another axis",
            "argmax ran along the images or the pixels; the classes lie on axis 1.",
            "hint 1 of exercise 03.5: z.argmax(dim=1).",
            lambda z_1, z_2, y: shared_errors(z_1.argmax(dim=-1)[:, None], z_2.argmax(dim=-1)[:, None], y),
        ),
        Mistake(
            "image by image",
            "you took the mean of one ratio per image; the sums run over all pixels of all images.",
            "hint 3 of exercise 03.5: count over the whole batch.",
            _wrong_share(_by_image),
        ),
        Mistake(
            "right, not wrong",
            "you counted the pixels at which the networks are right.",
            "hint 2 of exercise 03.5: wrong means not the label.",
            _both_right,
        ),
        Mistake(
            "0 where nobody errs",
            "the value is right, but without any error you say 0, as if the errors were never shared.",
            "hint 3 of exercise 03.5: 0 / 0 of tensors is nan, and may stay so.",
            _wrong_share(lambda a, b, known: (a & b).sum() / (a | b).sum().clamp(min=1)),
        ),
        Mistake(
            "0 / 0 of Python numbers",
            "the value is right, but where no pixel is wrong Python refuses to divide by 0.",
            "hint 3 of exercise 03.5: divide the tensors, and only then .item().",
            _python_numbers,
        ),
        Mistake(
            "the same wrong class",
            "you ask that both name the same wrong class; it is enough that both are wrong.",
            "hint 3 of exercise 03.5: both are wrong, each in its own way.",
            _same_answer,
        ),
    ),
)

EXERCISES = (STAGE, SIGNAL, START, FORWARD, SHARED)

QUIZ = (
    Answer("b", "BatchNorm would bring it back to size; the V-Net has none.", "step 2, the start"),
    Answer("d", "the map is kept between the strided convolution and the stage.", "step 3, the V-Net"),
    Answer("c", "convolution and ReLU keep a factor; BatchNorm divides it out.", "step 1, the stage"),
    Answer("a", "where both make the same mistake there is nothing to see.", "why, and step 4"),
    Answer(
        "d", "learning without labels has to beat the average of two on labels alone.", "step 4, the average"
    ),
)
