"""Exercise 14.2, a moving average of weights and buffers."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.methods.ema import update_ema

Update = Callable[[nn.Module, nn.Module, float, bool], Any]
CASES = tuple((decay, buffers) for decay in (0.0, 0.3, 0.9) for buffers in (True, False))


def net(seed: int, seen: int) -> nn.Module:
    """A net with weights, statistics and a counter of their own; always the same."""
    made = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    for i, tensor in enumerate(made.state_dict().values()):
        if tensor.is_floating_point():
            tensor.copy_(noise(*tensor.shape, seed=10 * seed + i).abs() + 0.1)
        else:
            tensor.fill_(seen)
    return made


def _pair() -> tuple[nn.Module, nn.Module]:
    return net(1, 7).requires_grad_(False), net(2, 40)


def _after(f: Update, decay: float, buffers: bool) -> tuple[list[Tensor], list[Tensor]]:
    teacher, student = _pair()
    f(teacher, student, decay, buffers)
    return [[t.detach().clone() for t in n.state_dict().values()] for n in (teacher, student)]  # type: ignore[return-value]


def _probe(f: Update) -> list[Tensor]:
    found = [t for case in CASES for part in _after(f, *case) for t in part]
    return [*found, torch.tensor([f(*_pair(), 0.5, True) is None, _place(f)])]


def _all(f: Update, kind: Callable[[nn.Module], Iterator[Tensor]]) -> list[Tensor]:
    made = []
    for case in CASES:
        teacher, student = _pair()
        f(teacher, student, *case)
        made += [t.detach() for t in kind(teacher)]
    return made


def _floating(n: nn.Module) -> Iterator[Tensor]:
    return (b for b in n.buffers() if b.is_floating_point())


def _counters(n: nn.Module) -> Iterator[Tensor]:
    return (b for b in n.buffers() if not b.is_floating_point())


def _student(f: Update) -> bool:
    before = list(net(2, 40).state_dict().values())
    return all(same(_after(f, *case)[1], before) for case in CASES)


def _place(f: Update) -> bool:
    teacher, student = _pair()
    before = [*teacher.parameters(), *teacher.buffers()]
    f(teacher, student, 0.5, True)
    after = [*teacher.parameters(), *teacher.buffers()]
    return all(a is b and not a.requires_grad for a, b in zip(after, before, strict=True))


def _made(
    share: Callable[[float], float] = lambda decay: 1 - decay,
    statistics: Callable[[Tensor, Tensor, float], object] = lambda old, new, w: _mix(old, new, w),
    counter: Callable[[Tensor, Tensor], object] = lambda old, new: old.copy_(new),
    always: bool = False,
    weights: Callable[[Tensor, Tensor, float], object] = lambda old, new, w: _mix(old, new, w),
    backwards: bool = False,
) -> Update:
    """The update, built from parts; each mistake replaces one."""

    @torch.no_grad()
    def update(teacher: nn.Module, student: nn.Module, decay: float, buffers: bool) -> None:
        if backwards:
            teacher, student = student, teacher
        w = share(decay)
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            weights(old, new, w)
        if buffers or always:
            for kept, seen in zip(teacher.buffers(), student.buffers(), strict=True):
                if kept.is_floating_point():
                    statistics(kept, seen, w)
                else:
                    counter(kept, seen)

    return update


def _mix(old: Tensor, new: Tensor, w: float) -> None:
    old.copy_((1 - w) * old + w * new)


def _counted(old: Tensor, new: Tensor) -> None:
    old.copy_(((old + new).float() / 2).to(old.dtype))


AVERAGE = Exercise(
    "14.2",
    "an average with its statistics",
    _probe,
    (
        Property(
            "interface",
            "update_ema(teacher, student, decay, buffers) returns nothing",
            lambda f: takes(f, 4) and f(*_pair(), 0.5, True) is None,
        ),
        Property(
            "weights",
            "decay of the teacher plus 1 - decay of the student",
            lambda f: same(_all(f, nn.Module.parameters), _all(update_ema, nn.Module.parameters)),
        ),
        Property(
            "statistics",
            "BatchNorm's running mean and variance alike, if buffers are asked for, else untouched",
            lambda f: same(_all(f, _floating), _all(update_ema, _floating)),
        ),
        Property(
            "counters",
            "what counts in whole numbers is copied",
            lambda f: same(_all(f, _counters), _all(update_ema, _counters)),
        ),
        Property("student", "the student stays as it is", _student),
        Property("in place", "the teacher keeps its own tensors, without gradient", _place),
    ),
    (
        Mistake(
            "shares exchanged",
            "the teacher keeps 1 - decay of itself: it runs after the student.",
            "hint 1: the student's share is 1 - decay.",
            _made(lambda decay: decay),
        ),
        Mistake(
            "buffers forgotten",
            "the weights are averaged, and the statistics stay those of the start.",
            "hint 2: the buffers as well.",
            _made(statistics=lambda old, new, w: None, counter=lambda old, new: None),
        ),
        Mistake(
            "statistics copied",
            "the statistics are the student's of this step, under averaged weights.",
            "hint 2: the same average as the weights.",
            _made(statistics=lambda old, new, w: old.copy_(new)),
        ),
        Mistake(
            "counters left",
            "the counter of batches stands still.",
            "hint 3: copy what is no floating-point number.",
            _made(counter=lambda old, new: None),
        ),
        Mistake(
            "counters averaged",
            "the counter was averaged; it counts batches and is copied.",
            "hint 3: copy what is no floating-point number.",
            _made(counter=_counted),
        ),
        Mistake(
            "never asked",
            "the statistics are averaged even where `buffers` is False, as chapter 04 wants it.",
            "hint 2: only if buffers.",
            _made(always=True),
        ),
        Mistake(
            "buffers alone",
            "the statistics follow and the weights stay as they were: no line moves them, or `old = ...` "
            "gave the result a name and the teacher's own tensor was left alone.",
            "hint 1: the parameters first, in place, with lerp_ or copy_.",
            _made(weights=lambda old, new, w: None),
        ),
        Mistake(
            "the student follows",
            "the student changed, and it follows the teacher.",
            "hint 1: only the teacher's tensors change.",
            _made(backwards=True),
        ),
        Mistake(
            "shares of the weights exchanged",
            "the teacher's weights keep 1 - decay of themselves; the statistics are right.",
            "hint 1: the student's share is 1 - decay.",
            _made(weights=lambda old, new, w: _mix(old, new, 1 - w)),
        ),
        Mistake(
            "weights that grow",
            "the student's share was added and the teacher's own not made smaller: the weights grow.",
            "the equation above: decay times the old ones, first.",
            _made(weights=lambda old, new, w: old.add_(w * new)),
        ),
        Mistake(
            "counters added",
            "the student's counter was added to the teacher's; it is copied.",
            "hint 3: copy what is no floating-point number.",
            _made(counter=lambda old, new: old.add_(new)),
        ),
        Mistake(
            "nothing moves",
            "neither weights nor statistics have changed: `old = ...` gives the result a name and leaves "
            "the teacher alone.",
            "hint 1: in place, with lerp_ or copy_.",
            _made(
                weights=lambda old, new, w: None,
                statistics=lambda old, new, w: None,
                counter=lambda old, new: None,
            ),
        ),
        Mistake(
            "weights copied",
            "the weights are the student's of this step; nothing is averaged.",
            "hint 1: lerp_, with 1 - decay.",
            _made(weights=lambda old, new, w: old.copy_(new)),
        ),
        Mistake(
            "shares of the statistics exchanged",
            "the statistics keep 1 - decay of themselves; the weights are right.",
            "hint 2: the same share as the weights.",
            _made(statistics=lambda old, new, w: _mix(old, new, 1 - w)),
        ),
    ),
    update_ema,
)
