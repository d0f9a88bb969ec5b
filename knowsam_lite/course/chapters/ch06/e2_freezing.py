"""Exercise 06.2, freezing."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch06.shared import all_adapters, stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, takes
from knowsam_lite.sam.adapter import Adapter

Freeze = Callable[[nn.Module], list[nn.Parameter]]


class _Adapted(nn.Module):
    """A small stand-in: adapters under various names, and pretrained weights with misleading names."""

    def __init__(self) -> None:
        super().__init__()
        self.adapter_norm = nn.LayerNorm(8)  # pretrained, whatever its name says
        self.first, self.side = nn.Linear(8, 8), Adapter(8, skip=True)
        self.inner = nn.Sequential(nn.Linear(8, 8), Adapter(8, skip=False))
        self.table = nn.Parameter(torch.zeros(8))
        stirred(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.side(self.first(self.adapter_norm(x + self.table)))
        return x + self.inner(x)


def _frozen(f: Freeze, before: bool = True) -> tuple[_Adapted, list[nn.Parameter]]:
    net = _Adapted().requires_grad_(before).train()
    return net, list(f(net))


def _pretrained(net: _Adapted) -> list[nn.Parameter]:
    adapters = {id(p) for m in net.modules() if isinstance(m, Adapter) for p in m.parameters()}
    return [p for p in net.parameters() if id(p) not in adapters]


def _freeze_probe(f: Freeze) -> list[Tensor]:
    made = []
    for before in (True, False):
        net, given = _frozen(f, before)
        ids = [id(p) for p in given]
        made.append(torch.tensor([p.requires_grad for p in net.parameters()]))
        made.append(torch.tensor([ids.count(id(p)) for p in net.parameters()]))
        made.append(torch.tensor([net.training, len(given)]))
    return made


def _freeze_step(f: Freeze) -> bool:
    """After a step the pretrained weights are unchanged and every adapter has changed."""
    net, given = _frozen(f)
    before = copy.deepcopy(net)
    optimizer = torch.optim.AdamW(given, lr=0.1, weight_decay=0.5)
    net(noise(3, 8)).square().sum().backward()
    optimizer.step()
    stays = zip(_pretrained(net), _pretrained(before), strict=True)
    moves = zip(all_adapters(net), all_adapters(before), strict=True)
    return all(torch.equal(p, q) for p, q in stays) and not any(torch.equal(p, q) for p, q in moves)


def only_adapters(net: nn.Module) -> list[nn.Parameter]:
    """Turn off gradients for everything but the adapters; returns the adapters' parameters."""
    net.requires_grad_(False)
    for weight in all_adapters(net):
        weight.requires_grad_(True)
    return all_adapters(net)


def _wake(net: nn.Module, wanted: Callable[[str, nn.Module], bool]) -> list[nn.Parameter]:
    net.requires_grad_(False)
    for name, module in net.named_modules():
        if wanted(name, module):
            module.requires_grad_(True)
    return [p for p in net.parameters() if p.requires_grad]


def _as_attribute(net: nn.Module) -> list[nn.Parameter]:
    for module in net.modules():
        if not isinstance(module, Adapter):
            module.requires_grad = False  # type: ignore[assignment]  # an attribute that nobody reads
    return all_adapters(net)


def _listed_only(net: nn.Module) -> list[nn.Parameter]:
    return all_adapters(net)


def _all_off(net: nn.Module) -> list[nn.Parameter]:
    net.requires_grad_(False)
    return all_adapters(net)


def _all_listed(net: nn.Module) -> list[nn.Parameter]:
    only_adapters(net)
    return list(net.parameters())


def _nothing_returned(net: nn.Module) -> None:
    only_adapters(net)


def _modules(net: nn.Module) -> list[nn.Module]:
    only_adapters(net)
    return [module for module in net.modules() if isinstance(module, Adapter)]


def _last_weights(net: nn.Module) -> list[nn.Parameter]:
    only_adapters(net)
    return [m.get_parameter("up.weight") for m in net.modules() if isinstance(m, Adapter)]


def _eval_and_all(net: nn.Module) -> list[nn.Parameter]:
    net.eval()
    return list(net.parameters())


def _eval_only(net: nn.Module) -> list[nn.Parameter]:
    net.eval()
    return all_adapters(net)


def _only_woken(net: nn.Module) -> list[nn.Parameter]:
    for weight in all_adapters(net):
        weight.requires_grad_(True)
    return all_adapters(net)


FREEZE = Exercise(
    "06.2",
    "freezing",
    _freeze_probe,
    (
        Property(
            "interface",
            "freeze(net) returns a list of parameters",
            lambda f: (
                takes(f, 1)
                # an iterator is empty after the optimizer has read it
                and isinstance(f(_Adapted()), list | tuple)
                and all(isinstance(p, nn.Parameter) for p in _frozen(f)[1])
            ),
        ),
        Property(
            "frozen",
            "what is pretrained takes no gradient, whatever its name",
            lambda f: not any(p.requires_grad for p in _pretrained(_frozen(f)[0])),
        ),
        Property(
            "awake",
            "every adapter takes one, also in a net that came frozen",
            lambda f: all(p.requires_grad for b in (True, False) for p in all_adapters(_frozen(f, b)[0])),
        ),
        Property(
            "listed",
            "the list holds each parameter of an adapter once, and no other",
            lambda f: all(
                sorted(map(id, given)) == sorted(map(id, all_adapters(net))) for net, given in [_frozen(f)]
            ),
        ),
        Property("step", "an optimizer's step moves the adapters and nothing else", _freeze_step),
        Property("mode", "training mode is left alone", lambda f: _frozen(f)[0].training),
    ),
    (
        Mistake(
            "an attribute of the module",
            "nothing was frozen: module.requires_grad = False only makes an attribute that nobody reads.",
            "hint 1: the method requires_grad_(False), with an underscore at its end.",
            _as_attribute,
        ),
        Mistake(
            "eval() for frozen",
            "eval() switches dropout and BatchNorm; it stops no gradient.",
            "hint 1: requires_grad_(False).",
            _eval_only,
        ),
        Mistake(
            "eval() for frozen, and every parameter listed",
            "eval() leaves the gradients alone, and the list holds what is pretrained as well.",
            "hints 1 and 3: requires_grad_(False) stops gradients; return only parameters of adapters.",
            _eval_and_all,
        ),
        Mistake(
            "nothing returned",
            "the right parameters take gradients, but you return nothing; the optimizer needs their list.",
            "the text: return the list of the adapters' parameters.",
            _nothing_returned,
        ),
        Mistake(
            "adapters in place of parameters",
            "you return the adapters themselves; an optimizer takes their parameters.",
            "hint 3: return only parameters of adapters.",
            _modules,
        ),
        Mistake(
            "the last weights alone",
            "only the weights of the last layers are listed; an adapter has two layers, with biases.",
            "hint 3: all that have p.requires_grad.",
            _last_weights,
        ),
        Mistake(
            "everything frozen",
            "the adapters are frozen, too: nothing is left that could learn.",
            "hint 2: after all is frozen, the adapters are woken again.",
            _all_off,
        ),
        Mistake(
            "chosen by name",
            "the choice was made by names; here a pretrained layer has 'adapter' in its name.",
            "hint 2: isinstance(module, Adapter) asks what a module is.",
            lambda net: _wake(net, lambda name, _: "adapter" in name),
        ),
        Mistake(
            "every parameter listed",
            "the list holds the frozen parameters, too.",
            "hint 3: only the adapters' parameters go to the optimizer.",
            _all_listed,
        ),
        Mistake(
            "only the outermost modules",
            "an adapter that sits inside another module was overlooked.",
            "hint 2: net.modules() walks through all levels, net.children() through one.",
            lambda net: _wake(net, lambda name, m: "." not in name and isinstance(m, Adapter)),
        ),
        Mistake(
            "the pretrained weights still learn",
            "the adapters are awake and listed, but what is pretrained still takes gradients.",
            "hint 1: first requires_grad_(False) for the whole net.",
            _only_woken,
        ),
    ),
    only_adapters,
)
