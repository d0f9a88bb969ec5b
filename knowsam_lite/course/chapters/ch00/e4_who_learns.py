"""Exercise 00.4, who learns."""

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch00.shared import attempt
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, takes

Learners = Callable[[Tensor, Mapping[str, nn.Module]], Collection[str]]
NETWORKS = ("first", "second", "frozen", "idle", "partly", "adapted")


class _Toy(nn.Module):
    """Six small networks and five questions about who learns from what."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: nn.Linear(3, 3) for name in NETWORKS[:5]})
        self.networks["adapted"] = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3))
        self.networks["frozen"].requires_grad_(False)

    def questions(self) -> list[Tensor]:
        """Losses: the first net alone, two through a frozen one, detached, times zero, part of one."""
        x, net = noise(4, 3), self.networks
        through = net["frozen"](net["second"](x))
        return [
            -net["first"](x.abs()).exp().sum(),
            net["adapted"](through).square().sum(),
            net["second"](net["first"](x).detach()).square().sum(),
            net["first"](x).sum() + 0 * net["idle"](x).sum(),
            net["frozen"](F.linear(x, torch.eye(3), net["partly"].get_parameter("bias"))).square().sum(),
        ]


ANSWERS = ({"first"}, {"second", "adapted"}, {"second"}, {"first"}, {"partly"})


def learners(loss: Tensor, networks: Mapping[str, nn.Module]) -> set[str]:
    """Names of the networks that learn from a loss: the answer to exercise 00.4."""
    return {
        name
        for name, network in networks.items()
        if any(g.any() for g in _grads(loss, network) if g is not None)
    }


def _marks(f: Learners, loss: Tensor, toy: _Toy) -> Tensor:
    named = set(f(loss, dict(toy.networks.items())))
    return torch.tensor([float(name in named) for name in NETWORKS])


def _learners_probe(f: Learners) -> list[Tensor]:
    toy = _Toy()
    losses = [loss for loss in toy.questions() for _ in range(2)]  # each asked twice: the graph must survive
    marks = [attempt(_marks, f, loss, toy) for loss in losses]
    return [*marks, torch.tensor([float(p.grad is not None) for p in toy.parameters()])]


def _answers_right(f: Learners, which: Sequence[int]) -> bool:
    toy = _Toy()
    losses = toy.questions()
    return all(set(f(losses[i], dict(toy.networks.items()))) == ANSWERS[i] for i in which)


def _leaves_no_trace(f: Learners) -> bool:
    toy = _Toy()
    loss = toy.questions()[1]
    kept = {p: torch.full_like(p, 0.5) for p in list(toy.parameters())[::2]}
    for p, grad in kept.items():
        p.grad = grad.clone()  # of a backward pass whose step is still to come
    first, again = (set(f(loss, dict(toy.networks.items()))) for _ in range(2))
    return first == again and all(
        p.grad is None if p not in kept else p.grad is not None and torch.equal(p.grad, kept[p])
        for p in toy.parameters()
    )


def _grads(loss: Tensor, network: nn.Module) -> list[Tensor | None]:
    trained = [p for p in network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)) if trained else []


def _named(told: Callable[[Tensor, nn.Module], bool]) -> Learners:
    """An answer that calls `told(loss, network)` for every network."""
    return lambda loss, networks: {name for name, network in networks.items() if told(loss, network)}


def _zero_counts(loss: Tensor, network: nn.Module) -> bool:
    return any(g is not None for g in _grads(loss, network))


def _all_parts(loss: Tensor, network: nn.Module) -> bool:
    found = _grads(loss, network)
    return bool(found) and all(g is not None and bool(g.any()) for g in found)


def _frozen_too(loss: Tensor, network: nn.Module) -> bool:
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in found)


def _asked(loss: Tensor, network: nn.Module, keep: bool, unused: bool) -> bool:
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        return False
    found = torch.autograd.grad(loss, trained, retain_graph=keep, allow_unused=unused)
    return any(g is not None and bool(g.any()) for g in found)


def _graph_gone(loss: Tensor, network: nn.Module) -> bool:
    return _asked(loss, network, keep=False, unused=True)


def _unused(loss: Tensor, network: nn.Module) -> bool:
    return _asked(loss, network, keep=True, unused=False)


def _nothing_to_ask(loss: Tensor, network: nn.Module) -> bool:
    trained = [p for p in network.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in found)


def _by_backward(loss: Tensor, networks: Mapping[str, nn.Module], keep: bool) -> set[str]:
    loss.backward(retain_graph=keep)
    return {
        name
        for name, network in networks.items()
        if any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    }


LEARNERS = Exercise(
    "00.4",
    "who learns from a loss",
    _learners_probe,
    (
        Property(
            "interface",
            "who_learns(loss, networks) returns a set of names",
            lambda f: takes(f, 2) and isinstance(f(_Toy().questions()[0], {"none": nn.Identity()}), set),
        ),
        Property(
            "value", "the networks through which the loss was computed", lambda f: _answers_right(f, [0])
        ),
        Property(
            "frozen",
            "a frozen network learns nothing, yet lets the gradient pass",
            lambda f: _answers_right(f, [1]),
        ),
        Property("detach", "nobody learns on the far side of a detach", lambda f: _answers_right(f, [2])),
        Property("zero", "a gradient of exactly 0 teaches nothing", lambda f: _answers_right(f, [3])),
        Property("part", "one parameter with a gradient is enough", lambda f: _answers_right(f, [4])),
        Property("trace", "the graph survives, and no .grad is left behind", _leaves_no_trace),
    ),
    (
        Mistake(
            "backward",
            "backward adds to .grad, where it stays, and frees the graph: a second question fails.",
            "hint 1: autograd.grad returns gradients and stores none.",
            lambda loss, networks: _by_backward(loss, networks, keep=False),
        ),
        Mistake(
            "backward leaves gradients",
            "backward adds to .grad, and the next question finds what this one left there.",
            "hint 1: autograd.grad returns gradients and stores none.",
            lambda loss, networks: _by_backward(loss, networks, keep=True),
        ),
        Mistake(
            "frozen parameters",
            "you asked for the gradient of frozen parameters, and autograd refuses.",
            "hint 2: only parameters whose requires_grad is true.",
            _named(_frozen_too),
        ),
        Mistake(
            "nothing to ask",
            "you asked about a network in which nothing is trained, and autograd refuses an empty list.",
            "hint 2: not at all if there are none.",
            _named(_nothing_to_ask),
        ),
        Mistake(
            "no part in the loss",
            "you asked about parameters that have no part in the loss, and autograd takes that for an error.",
            "hint 2: allow_unused=True.",
            _named(_unused),
        ),
        Mistake(
            "a gradient of 0 counts",
            "you took any gradient that is not None, also one of nothing but zeros.",
            "hint 3: .any() is true if one number differs from 0.",
            _named(_zero_counts),
        ),
        Mistake(
            "every parameter",
            "you named a network only if all of its parameters learn; one is enough.",
            "hint 3: any, not all.",
            _named(_all_parts),
        ),
        Mistake(
            "the graph is gone",
            "the first network's question freed the graph, and the question about the next one fails.",
            "hint 2: retain_graph=True.",
            _named(_graph_gone),
        ),
        Mistake(
            "a gradient is a number above 0",
            "gradients were added up and compared with 0; their sum may be 0 or less though they are not 0.",
            "hint 3: g.any().",
            _named(
                lambda loss, network: any(g is not None and bool(g.sum() > 0) for g in _grads(loss, network))
            ),
        ),
    ),
    learners,
)
