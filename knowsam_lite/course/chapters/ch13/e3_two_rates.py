"""Exercise 13.3, an optimizer with two rates."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.methods.base import students_optimizer

Make = Callable[[nn.Module, Config], torch.optim.Optimizer]
CONFIG = Config(learning_rate=0.01, encoder_rate=0.25, weight_decay=0.02)


class _Start(PretrainedNet):
    """A stand-in for a net with a pretrained encoder; its decoder has "encoder" in a name."""

    def __init__(self, frozen: bool = False):
        nn.Module.__init__(self)
        self.net = nn.Module()
        self.net.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.net.after_encoder = nn.Conv2d(4, 2, 1)
        self.net.encoder[0].requires_grad_(not frozen)


class _Bare(nn.Module):
    """A net from nothing, whose way down is called `encoder` as well."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)


def _cases() -> Iterator[tuple[nn.Module, Config]]:
    mixed = nn.ModuleDict({"a": _Start(), "b": _Start(frozen=True), "c": _Bare(), "ham": nn.Linear(2, 2)})
    mixed["ham"].bias.requires_grad_(False)
    yield mixed, CONFIG
    yield _Start(), replace(CONFIG, optimizer="published", encoder_rate=0.1)
    yield _Bare(), replace(CONFIG, learning_rate=0.003)


def _table(optimizer: torch.optim.Optimizer, net: nn.Module) -> Tensor:
    """For each parameter of the net how often it is listed, and the sums of its rates and weight decays."""
    rows = []
    for p in net.parameters():
        groups = [g for g in optimizer.param_groups for q in g["params"] if q is p]
        rows.append([len(groups), sum(g["lr"] for g in groups), sum(g["weight_decay"] for g in groups)])
    return torch.tensor(rows, dtype=torch.float64)


def _tables(f: Make, column: int) -> list[Tensor]:
    return [_table(f(net, config), net)[:, column] for net, config in _cases()]


def _kinds(f: Make) -> list[list[float]]:
    """Whether it is AdamW, and the momentum of each group."""
    made = [f(net, config) for net, config in _cases()]
    return [
        [isinstance(o, torch.optim.AdamW), max(g.get("momentum", 0.0) for g in o.param_groups)] for o in made
    ]


def _probe(f: Make) -> list[Tensor]:
    return [*(_table(f(net, config), net) for net, config in _cases()), torch.tensor(_kinds(f))]


def _encoders(module: nn.Module) -> list[nn.Parameter]:
    return [p for m in module.modules() if isinstance(m, PretrainedNet) for p in m.encoder.parameters()]


def _named_encoder(module: nn.Module) -> list[nn.Parameter]:
    return [p for name, p in module.named_parameters() if "encoder" in name]


def _first_encoder(module: nn.Module) -> list[nn.Parameter]:
    found = [m for m in module.modules() if isinstance(m, PretrainedNet)]
    return list(found[0].encoder.parameters()) if found else []


def _outermost(module: nn.Module) -> list[nn.Parameter]:
    return list(module.encoder.parameters()) if isinstance(module, PretrainedNet) else []


def _whole_nets(module: nn.Module) -> list[nn.Parameter]:
    return [p for m in module.modules() if isinstance(m, PretrainedNet) for p in m.parameters()]


def _made(
    slow_of: Callable[[nn.Module], list[nn.Parameter]] = _encoders,
    slow_rate: Callable[[Config], float] = lambda c: c.encoder_rate * c.learning_rate,
    fast_rate: Callable[[Config], float] = lambda c: c.learning_rate,
    frozen_too: bool = False,
    decay: Callable[[Config], float] = lambda c: c.weight_decay,
    momentum: float = 0.9,
    published: Callable[[Config], bool] = lambda c: c.optimizer == "published",
    keep_slow: bool = True,
    kind: Callable[..., torch.optim.Optimizer] = torch.optim.AdamW,
) -> Make:
    """The optimizer, built from parts; each mistake replaces one or two."""

    def make(module: nn.Module, config: Config) -> torch.optim.Optimizer:
        listed = {id(p) for p in slow_of(module)}
        trained = [p for p in module.parameters() if p.requires_grad or frozen_too]
        groups: list[dict[str, Any]] = [
            {"params": [p for p in trained if id(p) not in listed], "lr": fast_rate(config)}
        ]
        if keep_slow and listed:
            groups.append({"params": [p for p in trained if id(p) in listed], "lr": slow_rate(config)})
        if published(config):
            return torch.optim.SGD(groups, momentum=momentum, weight_decay=decay(config))
        return kind(groups, weight_decay=decay(config))

    return make


def _children(module: nn.Module) -> list[nn.Parameter]:
    found = [m for m in module.children() if isinstance(m, PretrainedNet)]
    return [p for m in found for p in m.encoder.parameters()]


TWO_RATES = Exercise(
    "13.3",
    "two rates",
    _probe,
    (
        Property(
            "interface",
            "students_optimizer(module, config) returns an optimizer",
            lambda f: takes(f, 2) and all(isinstance(f(n, c), torch.optim.Optimizer) for n, c in _cases()),
        ),
        Property(
            "listed",
            "each parameter that takes a gradient once, no frozen one",
            lambda f: same(_tables(f, 0), _tables(students_optimizer, 0)),
        ),
        Property(
            "rates",
            "a pretrained encoder at encoder_rate x learning_rate, all else at learning_rate",
            lambda f: same(_tables(f, 1), _tables(students_optimizer, 1)),
        ),
        Property(
            "decay",
            "the weight decay of the configuration for all",
            lambda f: same(_tables(f, 2), _tables(students_optimizer, 2)),
        ),
        Property(
            "kind",
            "AdamW, or SGD with momentum 0.9 where the configuration says published",
            lambda f: same(torch.tensor(_kinds(f)), torch.tensor(_kinds(students_optimizer))),
        ),
    ),
    (
        Mistake(
            "one rate",
            "the encoder learns as fast as the new decoder.",
            "hint 3: the second group has an lr of its own.",
            _made(slow_rate=lambda c: c.learning_rate),
        ),
        Mistake(
            "exchanged",
            "the new parts got the small rate and the encoder the large one.",
            "hint 3: the group of the encoders is the slow one.",
            _made(slow_rate=lambda c: c.learning_rate, fast_rate=lambda c: c.encoder_rate * c.learning_rate),
        ),
        Mistake(
            "a fraction for a rate",
            "the encoder's rate is encoder_rate itself; that is a fraction of the learning rate.",
            "hint 3: encoder_rate times learning_rate.",
            _made(slow_rate=lambda c: c.encoder_rate),
        ),
        Mistake(
            "divided",
            "the learning rate was divided by the fraction: the encoder learns faster than all else.",
            "hint 3: encoder_rate times learning_rate.",
            _made(slow_rate=lambda c: c.learning_rate / c.encoder_rate),
        ),
        Mistake(
            "all slow",
            "everything learns at the encoder's rate, the new decoder as well.",
            "hint 3: the first group keeps the learning rate.",
            _made(fast_rate=lambda c: c.encoder_rate * c.learning_rate),
        ),
        Mistake(
            "the encoder left out",
            "the encoder is in no group: it never learns, though it takes gradients.",
            "hint 2: two lists, together everything that is trained.",
            _made(keep_slow=False),
        ),
        Mistake(
            "frozen ones listed",
            "frozen parameters are listed, too; weight decay would be theirs as soon as a gradient came.",
            "hint 2: those with requires_grad.",
            _made(frozen_too=True),
        ),
        Mistake(
            "chosen by name",
            "you looked for 'encoder' in the names; the U-Net from nothing has an encoder, and a part of "
            "this decoder is called after_encoder.",
            "hint 1: isinstance(m, PretrainedNet) asks what a module is.",
            _made(_named_encoder),
        ),
        Mistake(
            "the first one alone",
            "only the first pretrained net was found; there may be two.",
            "hint 1: all of module.modules().",
            _made(_first_encoder),
        ),
        Mistake(
            "the outermost module alone",
            "pretrained nets inside the module were overlooked.",
            "hint 1: module.modules() walks through all levels.",
            _made(_outermost),
        ),
        Mistake(
            "whole nets slowed",
            "the decoders of pretrained nets are slowed as well; only their encoders had a start.",
            "hint 1: m.encoder.parameters().",
            _made(_whole_nets),
        ),
        Mistake(
            "no weight decay",
            "the weight decay of the configuration was not handed on.",
            "hint 4: weight_decay=config.weight_decay.",
            _made(decay=lambda c: 0.0),
        ),
        Mistake(
            "always AdamW",
            "config.optimizer was not asked.",
            "hint 4: two kinds of optimizers.",
            _made(published=lambda c: False),
        ),
        Mistake(
            "no momentum",
            "the published optimizer has momentum 0.9.",
            "hint 4: momentum=0.9.",
            _made(momentum=0.0),
        ),
        Mistake(
            "Adam",
            "Adam lets the weight decay go through its averages; AdamW does not.",
            "hint 4: torch.optim.AdamW.",
            _made(kind=torch.optim.Adam),
        ),
        Mistake(
            "the children alone",
            "only the module's own children were asked: a pretrained net by itself, or one further "
            "inside, is overlooked.",
            "hint 1: module.modules(), which counts the module itself.",
            _made(_children),
        ),
        Mistake(
            "the default rate",
            "AdamW got no learning rate: what is no encoder learns at PyTorch's 0.001.",
            "hint 4: config.learning_rate.",
            _made(fast_rate=lambda c: c.learning_rate if c.optimizer == "published" else 1e-3),
        ),
        Mistake(
            "no weight decay with SGD",
            "SGD got no weight decay; it holds for both.",
            "hint 4: weight_decay=config.weight_decay, twice.",
            _made(decay=lambda c: 0.0 if c.optimizer == "published" else c.weight_decay),
        ),
    ),
    students_optimizer,
)
