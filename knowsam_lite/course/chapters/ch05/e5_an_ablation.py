"""Exercise 05.5, an ablation."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.course.chapters.ch05.shared import BRANCHES, logit_pair, weighed
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes


@contextmanager
def silenced(ham: nn.Module, *names: str) -> Iterator[None]:
    """Within the block, the named branches of `ham` return zeros."""

    def zeros(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.zeros_like(output)

    handles = [getattr(ham, name).register_forward_hook(zeros) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


Ablate = Callable[[nn.Module, str], nn.Module]


def _silence(ham: nn.Module, name: str) -> Tensor:
    with silenced(ham, name):
        return ham(*logit_pair(2))


def _ablate_probe(f: Ablate) -> list[Tensor]:
    ham = weighed(HybridAggregation)
    quiet = [f(ham, name)(*logit_pair(2)) for name in BRANCHES]
    return [*quiet, ham(*logit_pair(2)), _after_training(f, ham), _learns(f)]


def _learns(f: Ablate) -> Tensor:
    """1 for each branch that gets a gradient although it should be silent."""
    found = []
    for name in BRANCHES:
        quiet = f(weighed(HybridAggregation), name)
        quiet(*logit_pair(2)).sum().backward()
        silent = [p for n, p in quiet.named_parameters() if n.startswith(name)]
        found.append(float(any(p.grad is not None and p.grad.any() for p in silent)))
    return torch.tensor(found)


def _ablate_value(f: Ablate) -> bool:
    ham = weighed(HybridAggregation)
    return all(same(f(ham, name)(*logit_pair(2)), _silence(ham, name)) for name in BRANCHES)


def _after_training(f: Ablate, ham: nn.Module) -> Tensor:
    """What `ham` computes after the weights of its ablation have changed."""
    quiet = f(ham, "certainty")
    with torch.no_grad():
        for tensor in quiet.parameters():
            tensor.add_(1)
    return ham(*logit_pair(2))


def _ablate_untouched(f: Ablate) -> bool:
    ham = weighed(HybridAggregation)
    return same(ham(*logit_pair(2)), _after_training(f, ham))


def _ablate_gradient(f: Ablate) -> bool:
    quiet = f(weighed(HybridAggregation), "logits")
    quiet(*logit_pair(2)).sum().backward()
    named = list(quiet.named_parameters())
    silent = [p for n, p in named if n.startswith("logits")]
    heard = [p for n, p in named if n.startswith(("agreement", "fuse.0"))]
    return all(p.grad is None or not p.grad.any() for p in silent) and all(p.grad is not None for p in heard)


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class _One(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def _ablated(ham: nn.Module, name: str, last: nn.Module, first: nn.Module | None = None) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, nn.Sequential(*filter(None, [first, getattr(quiet, name), last])))
    return quiet


def _in_place(ham: nn.Module, name: str) -> nn.Module:
    setattr(ham, name, nn.Sequential(getattr(ham, name), _Zero()))
    return ham


def _shared(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, nn.Sequential(getattr(ham, name), _Zero()))
    return quiet


def _in_its_place(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    setattr(quiet, name, _Zero())
    return quiet


def _weightless(kind: type[nn.Module]) -> Ablate:
    """The weights of the branch's layers of this kind start at 0 but can still train."""

    @torch.no_grad()
    def ablate(ham: nn.Module, name: str) -> nn.Module:
        quiet = copy.deepcopy(ham)
        for layer in getattr(quiet, name):
            if isinstance(layer, kind):
                for p in layer.parameters():
                    p.zero_()
        return quiet

    return ablate


def _all_others(ham: nn.Module, name: str) -> nn.Module:
    quiet = copy.deepcopy(ham)
    for other in BRANCHES:
        if other != name:
            setattr(quiet, other, nn.Sequential(getattr(quiet, other), _Zero()))
    return quiet


ABLATION = Exercise(
    "05.5",
    "an ablation",
    _ablate_probe,
    (
        Property(
            "interface",
            "ablate(ham, name) returns a module",
            lambda f: takes(f, 2) and isinstance(f(weighed(HybridAggregation), "logits"), nn.Module),
        ),
        Property(
            "shape",
            "the ablated HAM still maps (N, C, H, W) twice to (N, C, H, W)",
            lambda f: f(weighed(HybridAggregation), "agreement")(*logit_pair(2)).shape == (2, 2, 6, 8),
        ),
        Property("value", "what HAM computes when fuse gets zeros from that branch", _ablate_value),
        Property(
            "untouched", "the HAM that was given stays as it is, also when its copy trains", _ablate_untouched
        ),
        Property("gradient", "the silent branch learns nothing, the others do", _ablate_gradient),
    ),
    (
        Mistake(
            "no copy",
            "you changed the HAM that was given, so each ablation silences one branch more.",
            "hint 1: work on copy.deepcopy(ham).",
            _in_place,
        ),
        Mistake(
            "a branch of the original",
            "the copy contains a branch of the HAM that was given: trained, it changes both.",
            "hint 3: getattr of the copy, not of ham.",
            _shared,
        ),
        Mistake(
            "the input is silent",
            "the branch gets zeros, but its BatchNorm still lets it speak.",
            "hint 2: the zeros belong behind the branch.",
            lambda ham, name: _ablated(ham, name, nn.Identity(), _Zero()),
        ),
        Mistake(
            "silence in place of the branch",
            "the silence stands in place of the branch, so it has the channels of the branch's input, and "
            "fuse cannot take them.",
            "hint 2: behind the branch, nn.Sequential(branch, Silence()).",
            _in_its_place,
        ),
        Mistake(
            "all weights 0",
            "the branch's weights are 0, so it is silent at the start alone: it learns to speak again.",
            "hint 2: leave the weights, and put a Silence behind the branch.",
            _weightless(nn.Module),
        ),
        Mistake(
            "convolutions 0",
            "the branch's convolutions are 0, but its BatchNorm still adds its constants.",
            "hint 2: leave the weights, and put a Silence behind the branch.",
            _weightless(nn.Conv2d),
        ),
        Mistake(
            "ones",
            "the branch answers ones, which is not silence: fuse adds them up.",
            "hint 2: zeros.",
            lambda ham, name: _ablated(ham, name, _One()),
        ),
        Mistake(
            "the others are silent",
            "you silenced the two other branches and left the named one.",
            "hint 3: replace the attribute called name.",
            _all_others,
        ),
        Mistake(
            "nothing is silent",
            "the ablated HAM computes what the whole one computes.",
            "hint 3: setattr replaces a branch by its name.",
            lambda ham, name: copy.deepcopy(ham),
        ),
        Mistake(
            "always the same branch",
            "one branch is silent whatever name was given.",
            "hint 3: getattr and setattr with the name.",
            lambda ham, name: _ablated(ham, "logits", _Zero()),
        ),
        Mistake(
            "the given one returned",
            "the HAM that was given came back; the ablated one is its copy.",
            "hint 1: return the copy.",
            lambda ham, name: ham,
        ),
    ),
    lambda ham, name: _ablated(ham, name, _Zero()),
)
