"""Exercise 03.3, the start."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch03.shared import CONVOLUTIONS
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.subnets import init_kaiming

Start = Callable[[nn.Module], Any]


class _Mixed(nn.Module):
    """Two kinds of convolution, some nested, plus layers that are not convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(48, 24, 5)
        self.inside = nn.Sequential(nn.Conv2d(32, 64, 3), nn.Sequential(nn.ReLU(), nn.Conv2d(64, 40, 2)))
        self.up = nn.ConvTranspose2d(64, 32, 2, stride=2)
        self.norm = nn.BatchNorm2d(24)
        self.linear = nn.Linear(64, 32)


def _started(f: Start) -> dict[str, Tensor]:
    """Weights and biases after `f`, from a network whose parameters were all 3."""
    net = _Mixed()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(3.0)
    f(net)
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def _steady(t: Tensor) -> Tensor:
    """Coarse summary: spread times the root of PyTorch's fan-in, extent and mean in units of the spread."""
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
    """Mean 0, and a normal distribution's shares beyond one and two standard deviations."""
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
    """A wrong start: the right one with one part changed."""

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
    """Fan-in from `in_channels`, with or without the kernel's pixels."""

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
        Property("interface", "init_kaiming(net) takes a network and changes it", lambda f: takes(f, 1)),
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
            "hint 2: normal.",
            _wrong_start(nn.init.kaiming_uniform_),
        ),
        Mistake(
            "fan-out",
            "you divided by the fan-out, the numbers that one input reaches.",
            "hint 2: what comes in is what counts.",
            _wrong_start(lambda w: nn.init.kaiming_normal_(w, mode="fan_out")),
        ),
        Mistake(
            "the 2 is missing",
            "the variance is 1 / fan-in: the half that the ReLU takes is not given back.",
            "hint 2: variance 2 / fan-in.",
            _wrong_start(lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear")),
        ),
        Mistake(
            "Xavier",
            "that is the start of Glorot and Bengio, made for layers without a ReLU.",
            "hint 2: variance 2 / fan-in.",
            _wrong_start(nn.init.xavier_normal_),
        ),
        Mistake(
            "variance for standard deviation",
            "2 / fan-in is the variance; normal_ wants its root.",
            "hint 2: a standard deviation is the root of a variance.",
            _wrong_start(lambda w: nn.init.normal_(w, std=2 / w[0].numel())),
        ),
        Mistake(
            "all weights of the layer",
            "you divided by the number of all weights of the layer, not by the fan-in.",
            "hint 2, and above it: the weights in module.weight[0].",
            _wrong_start(lambda w: nn.init.normal_(w, std=(2 / w.numel()) ** 0.5)),
        ),
        Mistake(
            "in_channels of a transposed convolution",
            "convolutions are right, but for a transposed one you took what really comes in; by PyTorch's "
            "rule, which is wanted, it is weight[0].",
            "the text: the number of weights in module.weight[0], whatever the layer.",
            _by_in_channels(pixels=True),
        ),
        Mistake(
            "the kernel's pixels forgotten",
            "you divided by the input channels alone; the kernel's pixels count as well.",
            "the text: all weights in module.weight[0].",
            _by_in_channels(pixels=False),
        ),
        Mistake(
            "drawn under autograd",
            "PyTorch lets nobody write into a parameter in place while autograd watches.",
            "hint 2: nn.init.normal_ looks after that; weight.normal_ does not.",
            _wrong_start(lambda w: w.normal_(0, (2 / w[0].numel()) ** 0.5)),
        ),
        Mistake(
            "whatever has a weight",
            "BatchNorm and linear layers have a `weight`, too; only those of convolutions are drawn anew.",
            "hint 1: two classes.",
            _everything,
        ),
        Mistake(
            "new parameters",
            "the numbers are right, but they are new parameters; an optimizer would go on with the old ones.",
            "hint 2: change the weight in place.",
            _replaced,
        ),
        Mistake(
            "no transposed convolutions",
            "the transposed convolutions keep their old weights: they are a class of their own.",
            "hint 1: two classes.",
            _wrong_start(kinds=(nn.Conv2d,)),
        ),
        Mistake(
            "only the outermost",
            "convolutions inside a container keep their old weights.",
            "hint 1: net.modules() goes into every depth, net.children() does not.",
            _wrong_start(inside=False),
        ),
        Mistake(
            "linear layers, too",
            "every weight was drawn anew, those of linear layers as well; only convolutions are wanted.",
            "hint 1: two classes.",
            _wrong_start(kinds=(*CONVOLUTIONS, nn.Linear)),
        ),
        Mistake(
            "biases at zero",
            "the weights are right, but the biases are 0 now; they should stay.",
            "hint 3: only the weights.",
            _wrong_start(bias=nn.init.zeros_),
        ),
    ),
    init_kaiming,
)
