"""Exercise 08.4, what SAM is asked."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Targets = Callable[..., tuple[Tensor, Tensor]]


class _Teacher(nn.Module):
    """A small stand-in for SAM that detaches nothing itself and records how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(noise(3, 6, 1, 1, seed=11, scale=0.5))
        self.graphs = torch.zeros(4, dtype=torch.bool)  # image -> whether it passed with a graph
        self.passes = torch.zeros(4, dtype=torch.int64)  # image -> how often it passed

    def forward(self, x: Tensor, z_f: Tensor) -> Tensor:
        number = x[:, 0, 0, 0].long()  # the first pixel of an image is its number
        self.passes[number] += 1
        self.graphs[number] |= torch.is_grad_enabled()
        return F.conv2d(torch.cat([x, z_f], dim=1), self.weight)


def _question() -> tuple[Tensor, Tensor]:
    """Four images with their number in the first pixel, and fused logits of three classes."""
    x = noise(4, 3, 4, 5, seed=21)
    x[:, 0, 0, 0] = torch.arange(4.0)
    return x, noise(4, 3, 4, 5, seed=22)


def _ask(f: Targets, n: int = 2) -> tuple[_Teacher, Tensor, Tensor, Tensor]:
    """The teacher after the call, z_f as a leaf, and both answers."""
    teacher, (x, z_f) = _Teacher(), _question()
    z_f.requires_grad_()
    own, targets = f(teacher, x, z_f, n)
    return teacher, z_f, own, targets


def _reach(teacher: _Teacher, z_f: Tensor, answer: Tensor) -> list[Tensor]:
    """Gradients of `answer` at SAM's weights and at z_f; zeros if there are none."""
    leaves = [teacher.weight, z_f]
    if not answer.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(answer.square().sum(), leaves, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]


def _targets_probe(f: Targets) -> list[Tensor]:
    made = []
    for n in (1, 2):
        teacher, z_f, own, targets = _ask(f, n)
        made += [own, targets, *_reach(teacher, z_f, own), *_reach(teacher, z_f, targets)]
        made += [teacher.graphs, teacher.passes]
    return made


def _targets_value(f: Targets) -> bool:
    whole = _Teacher()(*_question())
    return all(
        same([own, targets], [whole[:n], whole]) for n in (1, 2, 3) for _, _, own, targets in [_ask(f, n)]
    )


def _targets_sam_learns(f: Targets) -> bool:
    teacher, z_f, own, _ = _ask(f)
    return bool(_reach(teacher, z_f, own)[0].any()) and not _reach(teacher, z_f, own)[1].any()


def _targets_cost(f: Targets) -> bool:
    teacher = _ask(f, 1)[0]
    return teacher.graphs.tolist() == [True, False, False, False] and teacher.passes.tolist() == [1] * 4


def _both(
    teacher: Any, x: Tensor, z_f: Tensor, n: int, before: bool = True, after: bool = True
) -> tuple[Tensor, Tensor]:
    """The right answer, with or without the detach on the way in and on the way back."""
    own = teacher(x[:n], z_f[:n].detach() if before else z_f[:n])
    with torch.no_grad():
        rest = teacher(x[n:], z_f[n:])
    return own, torch.cat([own.detach() if after else own, rest])


def _whole(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    z_s = teacher(x, z_f.detach())
    return z_s[:n], z_s.detach()


def _plain(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    z_s = teacher(x, z_f)
    return z_s[:n], z_s.detach()


def _twice(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    own = teacher(x[:n], z_f[:n].detach())
    with torch.no_grad():
        return own, teacher(x, z_f)


def _deaf(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        z_s = teacher(x, z_f)
    return z_s[:n], z_s


def _only_unlabeled(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    own, targets = _both(teacher, x, z_f, n)
    return own, targets[n:]


def _unlabeled_first(teacher: Any, x: Tensor, z_f: Tensor, n: int) -> tuple[Tensor, Tensor]:
    own, targets = _both(teacher, x, z_f, n)
    return own, torch.cat([targets[n:], targets[:n]])


TARGETS = Exercise(
    "08.4",
    "what SAM is asked",
    _targets_probe,
    (
        Property(
            "interface",
            "teacher_targets(teacher, x, z_f, n) returns two tensors",
            lambda f: takes(f, 4) and all(isinstance(t, Tensor) for t in _ask(f)[2:]),
        ),
        Property(
            "shape",
            "own (n, C, H, W) and targets (N, C, H, W)",
            lambda f: [t.shape for t in _ask(f, 1)[2:]] == [(1, 3, 4, 5), (4, 3, 4, 5)],
        ),
        Property("value", "SAM's answers, in the order of the batch", _targets_value),
        Property(
            "SAM learns", "from the labelled half, and its loss stops at the prompt z_f", _targets_sam_learns
        ),
        Property("detached", "the targets are constants", lambda f: not _ask(f)[3].requires_grad),
        Property(
            "cost", "each image passes through SAM once, an unlabelled one without a graph", _targets_cost
        ),
    ),
    (
        Mistake(
            "the prompt is not detached",
            "SAM's loss flows through its prompt into the students, which would learn to please SAM.",
            "hint 1: detach z_f on the way in.",
            lambda teacher, x, z_f, n: _both(teacher, x, z_f, n, before=False),
        ),
        Mistake(
            "the targets are not detached",
            "the targets carry a graph, so the students' loss would reach SAM.",
            "hint 3: detach SAM's answer on the way back.",
            lambda teacher, x, z_f, n: _both(teacher, x, z_f, n, after=False),
        ),
        Mistake(
            "no graph at all",
            "everything ran without a graph: SAM could not learn from its labelled images.",
            "hint 1: the labelled half keeps its graph.",
            _deaf,
        ),
        Mistake(
            "a graph for everything",
            "the values are right, but SAM stores a graph for unlabelled images that nobody uses.",
            "hint 2: the unlabelled half passes under torch.no_grad().",
            _whole,
        ),
        Mistake(
            "one plain call",
            "one call for all: SAM's loss reaches the students, and unlabelled images get a graph.",
            "hints 1 and 2: two calls, and z_f is detached on the way in.",
            _plain,
        ),
        Mistake(
            "labelled images twice",
            "the labelled images pass through SAM a second time, though their answer is known.",
            "hint 3: reuse the first answer, detached.",
            _twice,
        ),
        Mistake(
            "targets of one half only",
            "the targets hold the unlabelled half alone; the students learn from SAM on all images.",
            "hint 3: join both halves.",
            _only_unlabeled,
        ),
        Mistake(
            "unlabelled first",
            "the targets begin with the unlabelled half, so each student learns the answer to another image.",
            "hint 3: the labelled half comes first, as in the batch.",
            _unlabeled_first,
        ),
    ),
    _both,
)
