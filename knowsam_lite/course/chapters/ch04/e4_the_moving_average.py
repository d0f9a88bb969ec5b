"""Exercise 04.4, the moving average."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch04.shared import small_net
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.methods.mean_teacher import DECAY

Follow = Callable[[nn.Module, nn.Module, int], Any]
STEPS = (0, 1, 7, 98, 150, 4000)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, step: int) -> None:
    """teacher <- alpha teacher + (1 - alpha) student, alpha = min(1 - 1/(t + 1), 0.99); no buffers."""
    decay = min(1 - 1 / (step + 1), DECAY)
    for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def _couple() -> tuple[nn.Module, nn.Module]:
    """A teacher without gradients and a student with them."""
    return small_net(1).requires_grad_(False), small_net(2)


def _followed(f: Follow, step: int) -> list[Tensor]:
    teacher, student = _couple()
    f(teacher, student, step)
    return [t.detach().clone() for net in (teacher, student) for t in net.state_dict().values()]


def _follow_probe(f: Follow) -> list[Tensor]:
    return [*(t for step in STEPS for t in _followed(f, step)), torch.tensor(f(*_couple(), 1) is None)]


def _follow_start(f: Follow) -> bool:
    teacher, student = _couple()
    f(teacher, student, 0)
    return same([p.data for p in teacher.parameters()], [p.data for p in student.parameters()])


def _follow_student(f: Follow) -> bool:
    """The student is unchanged."""
    before = [t.clone() for t in small_net(2).state_dict().values()]
    return all(same(_followed(f, step)[len(before) :], before) for step in STEPS)


def _follow_buffers(f: Follow) -> bool:
    teacher, student = _couple()
    f(teacher, student, 50)
    return same(list(teacher.buffers()), list(small_net(1).buffers()))


def _follow_place(f: Follow) -> bool:
    """The same parameters, changed in place and without a graph."""
    teacher, student = _couple()
    before = list(teacher.parameters())
    f(teacher, student, 3)
    after = list(teacher.parameters())
    return all(a is b and a.is_leaf and not a.requires_grad for a, b in zip(after, before, strict=True))


def _average(
    decay: Callable[[int], float] = lambda step: min(1 - 1 / (step + 1), DECAY),
    tensors: Callable[[nn.Module], list[Tensor]] = lambda net: list(net.parameters()),
    moves: bool = True,
    backwards: bool = False,
    share: Callable[[float], float] = lambda alpha: 1 - alpha,
    returns: bool = False,
) -> Follow:
    """The moving average, built from parts; each mistake replaces one."""

    @torch.no_grad()
    def average(teacher: nn.Module, student: nn.Module, step: int) -> nn.Module | None:
        pair = (student, teacher) if backwards else (teacher, student)
        for old, new in zip(*map(tensors, pair), strict=True):
            alpha = decay(step)
            if moves:
                old.copy_(alpha * old + share(alpha) * new)
        return teacher if returns else None

    return average


def _buffers_copied(teacher: nn.Module, student: nn.Module, step: int) -> None:
    follow(teacher, student, step)
    for old, new in zip(teacher.buffers(), student.buffers(), strict=True):
        old.copy_(new)


FOLLOW = Exercise(
    "04.4",
    "the moving average",
    _follow_probe,
    (
        Property(
            "interface",
            "follow(teacher, student, step) changes the teacher and returns nothing",
            lambda f: takes(f, 3) and f(*_couple(), 1) is None,
        ),
        Property("start", "after step 0 the teacher is the student", _follow_start),
        Property(
            "value",
            "alpha of the teacher plus 1 - alpha of the student, early in the run and late",
            lambda f: all(same(_followed(f, s), _followed(follow, s)) for s in STEPS),
        ),
        Property("student", "the student stays as it is", _follow_student),
        Property("buffers", "BatchNorm's running averages are not touched", _follow_buffers),
        Property("in place", "the teacher keeps its own parameters, without gradient", _follow_place),
    ),
    (
        Mistake(
            "shares exchanged",
            "the teacher keeps 1 - alpha of itself and takes alpha from the student: late in the run it is "
            "almost the student of one step.",
            "hint 2: the teacher keeps alpha, the student adds 1 - alpha.",
            _average(lambda step: 1 - min(1 - 1 / (step + 1), DECAY)),
        ),
        Mistake(
            "the student in full",
            "the teacher keeps its share alpha, but the student is added in full: the weights grow and grow.",
            "hint 2: the student's share is 1 - decay.",
            _average(share=lambda alpha: 1.0),
        ),
        Mistake(
            "something returned",
            "the teacher is right, but you return it; what changes in place needs no return.",
            "the text: the function returns nothing.",
            _average(returns=True),
        ),
        Mistake(
            "the student follows",
            "it is the student that changed, and it follows the teacher.",
            "hint 2: only the teacher's parameters change.",
            _average(backwards=True),
        ),
        Mistake(
            "0.99 from the start",
            "alpha is 0.99 from the first step on: the random start stays in the teacher for hundreds of "
            "steps.",
            "hint 1: the smaller one of 1 - 1 / (step + 1) and DECAY.",
            _average(lambda step: DECAY),
        ),
        Mistake(
            "the larger one",
            "you took the larger one of the two numbers: at the start 0.99, later almost 1, and the teacher "
            "hardly moves.",
            "hint 1: the smaller one.",
            _average(lambda step: max(1 - 1 / (step + 1), DECAY)),
        ),
        Mistake(
            "the mean of all steps",
            "alpha goes on rising towards 1, so that steps from long ago count as much as the last one.",
            "hint 1: alpha rises no higher than DECAY.",
            _average(lambda step: 1 - 1 / (step + 1)),
        ),
        Mistake(
            "a copy",
            "the teacher becomes the student, whatever the step: nothing is averaged.",
            "hint 2: the teacher keeps a share alpha of itself.",
            _average(lambda step: 0.0),
        ),
        Mistake(
            "one step ahead",
            "alpha is one step ahead: at step 0 it must be 0, so that nothing of the random start is kept.",
            "hint 1: step counts from 0, and alpha is 1 - 1 / (step + 1).",
            _average(lambda step: min(1 - 1 / (step + 2), DECAY)),
        ),
        Mistake(
            "division by zero",
            "1 / step has no value at the first step, for step counts from 0.",
            "hint 1: 1 - 1 / (step + 1).",
            _average(lambda step: min(1 - 1 / step, DECAY)),
        ),
        Mistake(
            "buffers, too",
            "the running averages of BatchNorm follow as well; the teacher makes its own, of what it sees.",
            "hint 3: `parameters()` has no buffers, `state_dict()` has.",
            _average(tensors=lambda net: [t for t in net.state_dict().values() if t.is_floating_point()]),
        ),
        Mistake(
            "buffers copied",
            "the student's running averages were copied into the teacher, which makes its own.",
            "hint 3: buffers are not among the parameters.",
            _buffers_copied,
        ),
        Mistake(
            "a new tensor",
            "the teacher has not changed: `old = ...` names a new tensor and leaves the parameter alone.",
            "hint 2: change it in place, with lerp_ or copy_.",
            _average(moves=False),
        ),
    ),
    follow,
)
