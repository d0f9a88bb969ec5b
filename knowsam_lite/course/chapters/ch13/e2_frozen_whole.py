"""Exercise 13.2, an encoder frozen whole."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Start = Callable[[nn.Module], nn.Module]
Switch = Callable[[Any, bool], Any]


def pretrained() -> nn.Module:
    """A stand-in for an encoder: convolution, BatchNorm with statistics, dropout; always the same."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    for i, (name, tensor) in enumerate(net.state_dict().items()):
        if tensor.is_floating_point():
            made = noise(*tensor.shape, seed=i, scale=0.5)
            tensor.copy_(made.abs() + 0.5 if "running_var" in name else made)
    return net


def _off(net: nn.Module) -> nn.Module:
    return net.requires_grad_(False)


def _still(self: Any, mode: bool) -> Any:
    nn.Module.train(self, mode)
    self.net.eval()
    return self


def _made(
    start: Start = lambda net: _off(net).eval(), switch: Switch | None = _still, cut: bool = False
) -> type[nn.Module]:
    """The class, built from its two pieces; `switch` None: `train` is not written."""

    class Made(nn.Module):
        def __init__(self, net: nn.Module):
            super().__init__()
            self.net = start(net)

        def forward(self, x: Tensor) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not cut):
                return self.net(x)

    if switch is not None:
        Made.train = lambda self, mode=True: switch(self, mode)  # type: ignore[method-assign]
    return Made


RIGHT = _made()


def _whole(kind: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(kind(pretrained()), nn.Conv2d(4, 2, 1)).train()


def _stepped(kind: Any) -> nn.Sequential:
    """After two steps of everything that takes a gradient."""
    whole = _whole(kind)
    trained = [p for p in whole.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.5)
    for seed in (1, 2):
        optimizer.zero_grad()
        whole(noise(3, 3, 5, 6, seed=seed)).square().mean().backward()
        optimizer.step()
    return whole


def _kept(kind: Any) -> nn.Module:
    """The frozen net within, after two steps."""
    return _stepped(kind)[0].get_submodule("net")


def _state(net: nn.Module) -> list[Tensor]:
    return [tensor.double() for tensor in net.state_dict().values()]


def _no_bn_training(self: Any, mode: bool) -> Any:
    nn.Module.train(self, mode)
    for module in self.net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return self


def _no_momentum(net: nn.Module) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return _off(net)


def _only_weights(net: nn.Module) -> nn.Module:
    for p in net.parameters():
        p.requires_grad_(p.ndim < 2)
    return net.eval()


def _no_super(self: Any, mode: bool) -> Any:
    self.net.eval()
    return self


def _returns_nothing(self: Any, mode: bool) -> None:
    _still(self, mode)


def _returns_net(self: Any, mode: bool) -> Any:
    nn.Module.train(self, mode)
    return self.net.eval()


def _never_training(self: Any, mode: bool) -> Any:
    return nn.Module.train(self, False)


def _modes(kind: Any) -> list[bool]:
    one = kind(pretrained())
    found = [not any(m.training for m in one.net.modules())]
    for mode in (True, False, True):
        back = one.train(mode)
        found += [back is one, one.training is mode, not any(m.training for m in one.net.modules())]
    one.eval().train()
    return [*found, one.training]


def _company(kind: Any) -> list[Tensor]:
    """One image alone, and the same image in a batch, both in training mode."""
    x = noise(3, 3, 5, 6, seed=4)
    whole = _whole(kind)
    return [whole[0](x[:1]), whole[0](x)[:1]]


def _probe(kind: Any) -> list[Tensor]:
    given = pretrained()
    one = kind(given)
    flags = [p.requires_grad for p in one.parameters()]
    return [
        torch.tensor([*flags, one.net is given, one.net.training]),
        torch.tensor(_modes(kind)),
        *_state(_stepped(kind)),
        *_company(kind),
    ]


def _before(x: Any) -> bool:
    """A layer in front of the frozen net still learns."""
    front = nn.Conv2d(3, 3, 1)
    x(pretrained())(front(noise(2, 3, 5, 6))).square().mean().backward()
    return front.weight.grad is not None and bool(front.weight.grad.abs().sum() > 0)


def _opposite(self: Any, mode: bool) -> Any:
    nn.Module.train(self, mode)
    self.net.train(not mode)
    return self


FROZEN = Exercise(
    "13.2",
    "frozen whole",
    _probe,
    (
        Property(
            "interface",
            "Frozen(net) is a module that holds this very net as .net",
            lambda k: takes(k, 1) and all(k(net).net is net for net in [pretrained()]),
        ),
        Property(
            "gradient",
            "no weight of the net takes one",
            lambda k: not any(p.requires_grad for p in k(pretrained()).parameters()),
        ),
        Property(
            "step",
            "two steps of training leave weights and statistics of the net as they were",
            lambda k: same(_state(_kept(k)), _state(pretrained())),
        ),
        Property(
            "company",
            "in training, too, an image's features do not depend on the rest of the batch or on chance",
            lambda k: same(*_company(k)) and same(_company(k), _company(RIGHT)),
        ),
        Property(
            "mode",
            "the net is in evaluation mode from the start; train(mode) switches what is outside of it, and "
            "returns the module itself",
            lambda k: all(_modes(k)),
        ),
        Property("through", "a layer in front of the net still learns through it", _before),
    ),
    (
        Mistake(
            "gradients alone",
            "no weight moves, but BatchNorm still counts along: its statistics become those of your images, "
            "and it normalizes by the batch.",
            "hints 1 and 2: eval() as well, and again whenever train() is called.",
            _made(_off, None),
        ),
        Mistake(
            "eval() once",
            "eval() in __init__ lasts until the training loop calls train(), which reaches every module "
            "inside.",
            "hint 2: a train of your own, which puts the net back.",
            _made(switch=None),
        ),
        Mistake(
            "not before train()",
            "the net is in training mode until somebody calls train(): features asked for before that come "
            "from the batch, and its statistics move.",
            "hint 1: net.eval() in __init__ as well.",
            _made(_off),
        ),
        Mistake(
            "eval() alone",
            "eval() settles BatchNorm and dropout; the weights still take gradients and move.",
            "hint 1: requires_grad_(False).",
            _made(lambda net: net.eval()),
        ),
        Mistake(
            "weights without biases",
            "the biases, and the scales of BatchNorm, still take gradients.",
            "hint 1: requires_grad_(False) of the whole net.",
            _made(_only_weights),
        ),
        Mistake(
            "no momentum",
            "with momentum 0 BatchNorm's statistics stand still, but in training it normalizes by the batch, "
            "not by them.",
            "hint 2: eval() uses the stored statistics.",
            _made(_no_momentum, None),
        ),
        Mistake(
            "BatchNorm alone",
            "BatchNorm stays in evaluation mode, dropout does not: the features flicker.",
            "hint 2: the whole net goes back to eval().",
            _made(switch=_no_bn_training),
        ),
        Mistake(
            "no super",
            "train does not call nn.Module's: the module's own flag never changes.",
            "hint 2: super().train(mode) first.",
            _made(switch=_no_super),
        ),
        Mistake(
            "nothing returned",
            "train returns nothing; PyTorch's returns the module, and net.train().to(device) relies on it.",
            "hint 3: return self.",
            _made(switch=_returns_nothing),
        ),
        Mistake(
            "the net returned",
            "train returns the net inside; it is to return the module itself.",
            "hint 3: return self.",
            _made(switch=_returns_net),
        ),
        Mistake(
            "never in training mode",
            "train always switches to evaluation, whatever it is asked for.",
            "hint 2: hand the mode on to super().train.",
            _made(switch=_never_training),
        ),
        Mistake(
            "a copy",
            "you froze a copy; the net that was given goes on learning elsewhere.",
            "the text: this very net.",
            _made(lambda net: _off(copy.deepcopy(net)).eval()),
        ),
        Mistake(
            "no_grad in forward",
            "forward runs under no_grad: whatever stands in front of the net learns nothing through it.",
            "hint 1: requires_grad_(False) is enough, forward stays as it is.",
            _made(cut=True),
        ),
        Mistake(
            "the opposite mode",
            "the net is in training mode as soon as the rest is in evaluation mode.",
            "hint 2: self.net.eval(), whatever mode is.",
            _made(switch=_opposite),
        ),
    ),
    RIGHT,
)
