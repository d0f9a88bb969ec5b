"""Chapter 10, the complete run: properties, catalogued mistakes, and the quiz's key."""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Batch, Stream
from knowsam_lite.losses import consistency_loss, distillation_loss, entropy_loss, supervised_loss
from knowsam_lite.methods import KnowSam
from knowsam_lite.methods.base import ramp
from knowsam_lite.sam.prompts import roughen
from knowsam_lite.students import StudentOutput
from knowsam_lite.subnets import UNet, VNet

# ---------------------------------------------------------------- 10.1 all losses together

Terms = dict[str, Tensor]
Teacher = Callable[[Tensor, Tensor], Tensor]
Losses = Callable[[nn.Module, Teacher, Batch, float], Terms]
LABELS = ("a/supervised", "b/supervised", "fused/supervised", "sam/supervised")
MUTUAL = ("a/consistency", "b/consistency", "a/entropy", "b/entropy")
DISTILLED = ("a/distillation", "b/distillation")


def _losses(
    half: float = 0.5,
    fused: float = 1.0,
    labels: Callable[[float], float] = lambda w: 1.0,
    mutual: Callable[[float], float] = lambda w: w,
    entropy: float = 0.9,
    distilled: Callable[[float], float] = lambda w: 1.0,
    learner: int = 0,
    rough: Callable[[Tensor], Tensor] = roughen,
    rest: Callable[[Tensor], Tensor] = lambda z_f: z_f,
    graph: bool = False,
    learns: bool = True,
    sam: float = 1.0,
    supervised: float = 1.0,
    distilled_on: Callable[[int], slice] = lambda n: slice(None),
    swapped: bool = False,
) -> Losses:
    """The ten terms, with one thing changed. `learner`: which of two logits learns from the other; `swapped`:
    SAM's answers about the second half stand first.
    """

    def losses(students: nn.Module, teacher: Teacher, batch: Batch, w: float) -> Terms:
        n, y, z = batch.n_labeled, batch.y, students(batch.x)
        with torch.set_grad_enabled(learns):
            own = teacher(batch.x[:n], rough(z.logits_f[:n]))
        with torch.set_grad_enabled(graph):
            others = teacher(batch.x[n:], rest(z.logits_f[n:]))
        z_s = torch.cat([others, own] if swapped else [own, others]).detach()
        terms = {
            "fused/supervised": fused * labels(w) * supervised_loss(z.logits_f, y),
            "sam/supervised": sam * labels(w) * supervised_loss(own, y[:n]),
        }
        some = distilled_on(n)
        for k, z_k, z_j in (("a", z.logits_a, z.logits_b), ("b", z.logits_b, z.logits_a)):
            pair = (z_k, z_j) if learner == 0 else (z_j, z_k)
            terms[f"{k}/supervised"] = supervised * half * labels(w) * supervised_loss(z_k, y)
            terms[f"{k}/consistency"] = half * mutual(w) * consistency_loss(*pair)
            terms[f"{k}/entropy"] = half * entropy * mutual(w) * entropy_loss(z_k)
            terms[f"{k}/distillation"] = half * distilled(w) * distillation_loss(z_k[some], z_s[some])
        return terms

    return losses


right_losses = _losses()


def _cut_later(students: nn.Module, teacher: Teacher, batch: Batch, w: float) -> Terms:
    """The labelled half of a roughened whole map."""
    whole = roughen(students(batch.x).logits_f)

    def recalled(x: Tensor, z_f: Tensor) -> Tensor:
        return teacher(x, whole[: len(x)] if torch.is_grad_enabled() else z_f)

    return _losses(rough=lambda z_f: z_f)(students, recalled, batch, w)


def _one_question(students: nn.Module, teacher: Teacher, batch: Batch, w: float) -> Terms:
    """SAM is asked once, about both halves, all maps roughened."""
    n = batch.n_labeled
    z_f = students(batch.x).logits_f
    answer = teacher(batch.x, roughen(z_f))

    def recalled(x: Tensor, _: Tensor) -> Tensor:
        return answer[:n] if len(x) == n and torch.is_grad_enabled() else answer[n:]

    return right_losses(students, recalled, batch, w)


class _Students(nn.Module):
    """Three small convolutions in the places of F_a, F_b and HAM."""

    def __init__(self, classes: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, classes, 3, padding=1), nn.Conv2d(3, classes, 1)
        self.f = nn.Conv2d(2 * classes, classes, 1)

    def forward(self, x: Tensor) -> StudentOutput:
        z_a, z_b = 3 * self.a(x), 3 * self.b(x)
        return StudentOutput(z_a, z_b, self.f(torch.cat([z_a, z_b], dim=1)))


class _Teacher(nn.Module):
    """One convolution in the place of SAM; it notes what it is asked."""

    def __init__(self, classes: int):
        super().__init__()
        self.conv = nn.Conv2d(3 + classes, classes, 1)
        self.asked: list[Tensor] = []
        self.graphs: list[bool] = []

    def forward(self, x: Tensor, z_f: Tensor) -> Tensor:
        self.asked.append(z_f.detach().clone())
        self.graphs.append(torch.is_grad_enabled())
        return self.conv(torch.cat([x, z_f.detach()], dim=1))


def _batch(classes: int, labeled: int = 2, unlabeled: int = 3) -> Batch:
    x = noise(labeled + unlabeled, 3, 16, 16, seed=21)
    y = noise(labeled + unlabeled, classes, 16, 16, seed=22).argmax(dim=1)
    y[labeled:] = -1
    return Batch(x, y, labeled, [str(i) for i in range(len(x))])


def _joined(f: Losses, w: float = 0.3) -> tuple[Terms, list[Tensor], _Teacher]:
    """The terms of one batch, the gradients of their sum, and a teacher that knows what it was asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        students, teacher = _Students(3), _Teacher(3)
        torch.manual_seed(6)  # of the rough map
        terms = f(students, teacher, _batch(3), w)
    weights = [*students.parameters(), *teacher.parameters()]
    total = torch.stack(list(terms.values())).sum()
    found = torch.autograd.grad(total, weights, allow_unused=True)
    return terms, [torch.zeros(1) if g is None else g for g in found], teacher


def _joint_probe(f: Losses) -> list[Tensor]:
    found = []
    for w in (0.3, 1.0):
        terms, moved, teacher = _joined(f, w)
        found += [terms[name] for name in sorted(terms)] + moved + teacher.asked
        found.append(torch.tensor(teacher.graphs))
    return found


def _same_terms(f: Losses, names: Sequence[str]) -> bool:
    return all(
        same(
            [_joined(f, w)[0][name] for name in names], [_joined(right_losses, w)[0][name] for name in names]
        )
        for w in (0.3, 1.0)
    )


def _asked(f: Losses) -> bool:
    teacher, right = _joined(f)[2], _joined(right_losses)[2]
    order = sorted(range(len(teacher.asked)), key=lambda i: not teacher.graphs[i])  # with a graph first
    return [teacher.graphs[i] for i in order] == right.graphs and same(
        [teacher.asked[i] for i in order], right.asked
    )


@lru_cache(1)
def _small_knowsam() -> KnowSam:
    """The whole method, small, in the state of a start."""
    config = Config(image_size=32, labeled="2", steps=10, device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = UNet(2, (8, 16, 32, 64), (0, 0, 0.1, 0.1)), VNet(2, (8, 16, 32, 64), (1, 1, 2, 2))
        return KnowSam(config, 2, *nets).train()


def _is_knowsam(f: Losses) -> bool:
    """Whether the terms are those of the library's method, a step before regions are exchanged."""
    method, step = _small_knowsam(), 2
    x, y = noise(4, 3, 32, 32, seed=31).sigmoid(), noise(4, 2, 32, 32, seed=32).argmax(dim=1)
    y[2:] = -1
    batch = Batch(x, y, 2, ["0", "1", "2", "3"])
    made = []
    for losses in (
        lambda: f(method.students, lambda x, z_f: method.teacher(x, z_f).logits, batch, ramp(step / 10)),
        lambda: method.losses(batch, step),
    ):
        torch.manual_seed(8)
        made.append(losses())
    mine, librarys = made
    if mine.keys() != librarys.keys() or not all(term.requires_grad for term in mine.values()):
        return False
    return same([mine[name] for name in librarys], [*librarys.values()])


JOINT = Exercise(
    "10.1",
    "all losses together",
    _joint_probe,
    (
        Property(
            "interface",
            "joint_losses(students, teacher, batch, w) returns the ten terms by name",
            lambda f: takes(f, 4) and {*_joined(f)[0]} == {*LABELS, *MUTUAL, *DISTILLED},
        ),
        Property(
            "asked",
            "SAM: a rough map and a graph for the labelled half, the map itself and none for the rest",
            _asked,
        ),
        Property(
            "labels",
            "what labels teach: one half for each subnet, whole for the fused map and SAM",
            lambda f: _same_terms(f, LABELS),
        ),
        Property(
            "each other",
            "for each subnet one half times w consistency, and 0.9 times one half times w entropy",
            lambda f: _same_terms(f, MUTUAL),
        ),
        Property(
            "distilled",
            "one half for each subnet, from SAM's answers about all images",
            lambda f: _same_terms(f, DISTILLED),
        ),
        Property(
            "gradient",
            "the sum moves both subnets, HAM and SAM as the formulas ask",
            lambda f: same(_joined(f)[1], _joined(right_losses)[1]),
        ),
        Property("KnowSAM", "with the real networks: the ten terms of the library's KnowSam", _is_knowsam),
    ),
    (
        Mistake(
            "no halves",
            "each subnet's terms count in full, so two subnets weigh twice what one does.",
            "hint 4 of exercise 10.1: one half for each subnet.",
            _losses(half=1.0),
        ),
        Mistake(
            "half a fused map",
            "the fused map's term is halved, as if there were two of them.",
            "hint 4 of exercise 10.1: the halves belong to the subnets.",
            _losses(fused=0.5),
        ),
        Mistake(
            "labels with a ramp",
            "the ramp weighs down the labels, which are right from the first step on.",
            "hint 3 of exercise 10.1: w belongs to what the students tell each other.",
            _losses(labels=lambda w: w),
        ),
        Mistake(
            "no ramp",
            "consistency and entropy count in full from the first step, when nobody knows anything.",
            "hint 3 of exercise 10.1: both carry w.",
            _losses(mutual=lambda w: 1.0),
        ),
        Mistake(
            "entropy as heavy as consistency",
            "the entropy lacks its factor 0.9.",
            "the table above exercise 10.1: 0.9 times w.",
            _losses(entropy=1.0),
        ),
        Mistake(
            "the wrong learner",
            "consistency is the wrong way round: under a's name b learns.",
            "hint 3 of exercise 10.1: the learner's logits come first.",
            _losses(learner=1),
        ),
        Mistake(
            "a clean map",
            "SAM is prompted with the clean map on labelled images, and learns to copy it.",
            "hint 2 of exercise 10.1: roughen the map of the labelled half.",
            _losses(rough=lambda z_f: z_f),
        ),
        Mistake(
            "rough for all",
            "the unlabelled half is prompted roughly, too: there SAM answers, and does not learn.",
            "hint 2 of exercise 10.1: roughen the labelled half alone.",
            _losses(rest=roughen),
        ),
        Mistake(
            "a graph for all",
            "SAM builds a graph for the unlabelled half, which nobody goes back through.",
            "hint 2 of exercise 10.1: with torch.no_grad().",
            _losses(graph=True),
        ),
        Mistake(
            "SAM learns nothing",
            "SAM's answer about the labelled half has no graph, so nothing that its loss says reaches SAM.",
            "hint 2 of exercise 10.1: torch.no_grad() around the second question alone.",
            _losses(learns=False),
        ),
        Mistake(
            "roughened, then cut",
            "the map of the whole batch was roughened and then cut: the noise is drawn for the images that "
            "are given, so give roughen the labelled half alone.",
            "hint 2 of exercise 10.1: roughen(z_f[:n]).",
            _cut_later,
        ),
        Mistake(
            "half of SAM's",
            "SAM's own term is halved, as if there were two SAMs.",
            "hint 4 of exercise 10.1: the halves belong to the subnets.",
            _losses(sam=0.5),
        ),
        Mistake(
            "supervised in full",
            "the subnets' supervised terms lack their halves; the other terms have theirs.",
            "hint 4 of exercise 10.1: one half for each subnet.",
            _losses(supervised=2.0),
        ),
        Mistake(
            "halves exchanged",
            "SAM's answers stand in the wrong order: each image is distilled from another one's.",
            "hint 3 of exercise 10.1: labelled first, as in the batch.",
            _losses(swapped=True),
        ),
        Mistake(
            "distilled on the labelled half",
            "only the labelled half is distilled: where labels teach already.",
            "hint 3 of exercise 10.1: SAM's answers about all images, labelled first.",
            _losses(distilled_on=lambda n: slice(n)),
        ),
        Mistake(
            "one question",
            "SAM is asked about both halves at once: a rough map and a graph for all of them.",
            "hint 2 of exercise 10.1: two calls, one for each half.",
            _one_question,
        ),
        Mistake(
            "distilled on one half",
            "only the unlabelled half is distilled.",
            "hint 3 of exercise 10.1: SAM's answers about all images, labelled first.",
            _losses(distilled_on=lambda n: slice(n, None)),
        ),
        Mistake(
            "distilled with a ramp",
            "distillation carries the ramp, which the paper gives to the students' "
            "opinions about each other alone.",
            "hint 3 of exercise 10.1: no w in the distillation.",
            _losses(distilled=lambda w: w),
        ),
    ),
)


# ---------------------------------------------------------------- 10.2 one step

Step = Callable[[Terms, Sequence[Optimizer]], Terms]


def right_step(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    """The step as the training loop makes it."""
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {name: term.detach() for name, term in terms.items()}


def _train(f: Step, steps: int = 4) -> tuple[list[nn.Parameter], list[Terms], list[int]]:
    """A student, whose last weight gets a gradient in the first step alone, and a teacher, trained with f.

    Two terms share a part of their graph. Returns the parameters, what f returned in each step, and how
    often each step went back through the shared part.
    """
    student, idle, teacher = (nn.Parameter(noise(3, seed=seed)) for seed in (1, 2, 3))
    optimizers = [
        torch.optim.SGD([student, idle], 0.1, momentum=0.9, weight_decay=0.5),
        torch.optim.Adam([teacher], 0.05),
    ]
    told, visits = [], [0] * steps
    for step in range(steps):
        target = noise(3, seed=10 + step)
        shared = student.tanh()

        def visit(gradient: Tensor, step: int = step) -> None:
            visits[step] += 1

        shared.register_hook(visit)
        terms = {
            "student": (shared - target).square().mean(),
            "both": 0.3 * (shared - teacher.detach()).abs().sum(),
            "teacher": (teacher + target).square().sum(),
        }
        if step == 0:
            terms["once"] = (idle - target).square().sum()
        told.append(f(terms, optimizers))
    return [student, idle, teacher], told, visits


def _step_probe(f: Step) -> list[Tensor]:
    found = []
    for steps in (1, 4):
        parameters, told, visits = _train(f, steps)
        found += [p.detach() for p in parameters]
        found += [torch.tensor([p.grad is None for p in parameters])]
        found += [torch.as_tensor(term).detach() for terms in told for term in terms.values()]
        found += [torch.tensor([isinstance(t, Tensor) for t in terms.values()]) for terms in told]
        found += [
            torch.tensor([getattr(t, "requires_grad", False) for t in terms.values()]) for terms in told
        ]
        found += [torch.tensor(visits)]
    return found


def _graphless(terms: Terms) -> bool:
    return all(isinstance(term, Tensor) and not term.requires_grad for term in terms.values())


def _same_weights(f: Step, steps: int, which: slice) -> bool:
    return same([*_train(f, steps)[0][which]], [*_train(right_step, steps)[0][which]])


def _told(f: Step) -> bool:
    told, right = _train(f)[1], _train(right_step)[1]
    return all(
        list(a) == list(b) and _graphless(a) and same([*a.values()], [*b.values()])
        for a, b in zip(told, right, strict=True)
    )


def _step_with(reduce: Callable[[Tensor], Tensor], keep: bool = False) -> Step:
    """A step with another way to make one number of the terms, or with terms that keep their graph."""

    def step(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
        told = right_step({"total": reduce(torch.stack(list(terms.values())))}, optimizers)
        del told
        return dict(terms) if keep else {name: term.detach() for name, term in terms.items()}

    return step


def _first_only(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    return right_step(terms, optimizers[:1])


def _never_cleared(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def _cleared_first(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    return _never_cleared(terms, optimizers)


def _cleared_too_early(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    torch.stack(list(terms.values())).sum().backward()
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
        optimizer.step()
    return {name: term.detach() for name, term in terms.items()}


def _one_by_one(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    for term in terms.values():
        term.backward(retain_graph=True)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return {name: term.detach() for name, term in terms.items()}


def _as_numbers(terms: Terms, optimizers: Sequence[Optimizer]) -> dict[str, float]:
    return {name: term.item() for name, term in right_step(terms, optimizers).items()}


def _zeros(terms: Terms, optimizers: Sequence[Optimizer]) -> Terms:
    told = _never_cleared(terms, optimizers)
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=False)
    return told


STEP = Exercise(
    "10.2",
    "one training step",
    _step_probe,
    (
        Property(
            "interface",
            "training_step(terms, optimizers) returns a dictionary with the names of the terms",
            lambda f: takes(f, 2) and [*_train(f, 1)[1][0]] == ["student", "both", "teacher", "once"],
        ),
        Property(
            "value",
            "after one step the student has moved as the sum of its terms asks",
            lambda f: _same_weights(f, 1, slice(0, 2)),
        ),
        Property(
            "everyone",
            "the teacher, which has an optimizer of its own, has moved, too",
            lambda f: _same_weights(f, 1, slice(2, 3)),
        ),
        Property(
            "cleared",
            "after the step no parameter holds a gradient: .grad is None",
            lambda f: all(p.grad is None for p in _train(f, 1)[0]),
        ),
        Property(
            "idle",
            "a weight that no term reaches stays where it is, whatever its momentum",
            lambda f: same(_train(f, 4)[0][1], _train(f, 1)[0][1]),
        ),
        Property("once", "one backward for all terms", lambda f: _train(f, 2)[2] == [1, 1]),
        Property("four steps", "all weights after four steps", lambda f: _same_weights(f, 4, slice(0, 3))),
        Property("log", "the returned terms are tensors of the right value, without a graph", _told),
    ),
    (
        Mistake(
            "one optimizer",
            "only the first optimizer stepped, so SAM's adapters never learn.",
            "hint 2 of exercise 10.2: a loop over all optimizers.",
            _first_only,
        ),
        Mistake(
            "mean of the terms",
            "the terms were averaged; their weights are set for the sum.",
            "hint 1 of exercise 10.2: the equation is a sum.",
            _step_with(torch.mean),
        ),
        Mistake(
            "never cleared",
            "gradients are never cleared, so each step adds to those of all steps before.",
            "hint 3 of exercise 10.2: zero_grad after the step.",
            _never_cleared,
        ),
        Mistake(
            "cleared only at the next step",
            "the weights are right, but the gradients stay in memory until the next step begins.",
            "hint 3 of exercise 10.2: clear them after the step, not before.",
            _cleared_first,
        ),
        Mistake(
            "cleared before the step",
            "the gradients were cleared between backward and step: nothing moves.",
            "hint 2 of exercise 10.2: the order is backward, step, zero_grad.",
            _cleared_too_early,
        ),
        Mistake(
            "zeros in place of None",
            "the gradients are zeros, not None: weights that nothing reaches go on moving.",
            "hint 3 of exercise 10.2: set_to_none=True.",
            _zeros,
        ),
        Mistake(
            "terms keep their graph",
            "the returned terms still carry their graph, so the log keeps every step in memory.",
            "hint 4 of exercise 10.2: detach what is only to be read.",
            _step_with(torch.sum, keep=True),
        ),
        Mistake(
            "numbers in place of tensors",
            "the returned terms are plain numbers: to read them, the CPU waits for the GPU in every step.",
            "hint 4 of exercise 10.2: detach, and read them later.",
            _as_numbers,
        ),
        Mistake(
            "a backward for each term",
            "each term went back through the networks alone: the same gradients for several times the work.",
            "hint 2 of exercise 10.2: one backward, of the sum.",
            _one_by_one,
        ),
    ),
)


# ---------------------------------------------------------------- 10.3 the streams


def _records(count: int) -> list[Record]:
    return [Record(f"{i:02d}", Path(f"{i}"), None, f"{i}", "train") for i in range(count)]


def _walk(kind: Any, count: int, seed: int, name: int, positions: Sequence[int]) -> list[int]:
    stream = kind(_records(count), seed, name)
    return [int(stream[position].id) for position in positions]


def _stream_probe(kind: Any) -> list[Tensor]:
    return [
        torch.tensor(_walk(kind, count, seed, name, range(4 * count)))
        for count in (1, 5, 8)
        for seed in (0, 3)
        for name in (0, 1)
    ]


def _jumps(kind: Any) -> bool:
    forth = _walk(kind, 7, 1, 0, range(30))
    return [*reversed(_walk(kind, 7, 1, 0, range(29, -1, -1)))] == forth


def _rounds(kind: Any) -> bool:
    walk = _walk(kind, 7, 1, 0, range(28))
    return all(sorted(walk[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))


def _anew(kind: Any) -> bool:
    walk = _walk(kind, 12, 1, 0, range(36))
    others = _walk(kind, 12, 2, 0, range(12)), _walk(kind, 12, 1, 1, range(12))
    return len({tuple(w) for w in (walk[:12], walk[12:24], walk[24:], *others)}) == 5


def _made_of(order: Callable[[Any, int, int], Any]) -> type:
    """A stream with another order of its records: `order(stream, epoch, count)`."""

    class Wrong(Stream):
        def __getitem__(self, position: int) -> Record:
            epoch, place = divmod(position, len(self.records))
            return self.records[int(order(self, epoch, len(self.records))[place])]

    return Wrong


class _AlwaysAnew(Stream):
    """Draws with replacement."""

    def __getitem__(self, position: int) -> Record:
        rng = np.random.default_rng([self.seed, self.name, position])
        return self.records[int(rng.integers(len(self.records)))]


STREAM = Exercise(
    "10.3",
    "a stream of images",
    _stream_probe,
    (
        Property(
            "interface",
            "Stream(records, seed, name)[position] is one of the records",
            lambda k: isinstance(k(_records(5), 0, 0)[12], Record),
        ),
        Property("jumps", "any position can be asked, in any order, with the same answer", _jumps),
        Property("rounds", "each round holds every record exactly once", _rounds),
        Property("anew", "rounds, seeds and streams differ in their order", _anew),
        Property(
            "value",
            "the library's records",
            lambda k: same(_stream_probe(k), _stream_probe(Stream)),
        ),
        Property(
            "quiet",
            "PyTorch's and numpy's own random states are left alone",
            lambda k: _leaves_alone(lambda: _walk(k, 7, 1, 0, range(20))),
        ),
    ),
    (
        Mistake(
            "the same order every round",
            "every round has the same order, so the same images always meet in a batch.",
            "hint 2 of exercise 10.3: the number of the round belongs into the seed.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.seed, s.name]).permutation(n)),
        ),
        Mistake(
            "both streams alike",
            "the labelled and the unlabelled stream are shuffled alike.",
            "hint 2 of exercise 10.3: the name of the stream belongs into the seed.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.seed, epoch]).permutation(n)),
        ),
        Mistake(
            "the seed is not used",
            "your stream is the same for every seed of the run.",
            "hint 2 of exercise 10.3: the seed belongs into the seed of the shuffle.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.name, epoch]).permutation(n)),
        ),
        Mistake(
            "with replacement",
            "each position draws on its own, so some images come twice in a round and others never.",
            "hint 1 of exercise 10.3: shuffle a whole round, then take one place of it.",
            _AlwaysAnew,
        ),
        Mistake(
            "never shuffled",
            "the records come in their own order, round after round.",
            "hint 2 of exercise 10.3: permutation shuffles the places of a round.",
            _made_of(lambda s, epoch, n: np.arange(n)),
        ),
        Mistake(
            "a sum of seeds",
            "the seeds were added up: another seed, stream or round can then be the same one again.",
            "hint 2 of exercise 10.3: default_rng takes a list of three numbers.",
            _made_of(lambda s, epoch, n: np.random.default_rng(s.seed + s.name + epoch).permutation(n)),
        ),
    ),
)


def _leaves_alone(act: Callable[[], object]) -> bool:
    state, torch_state = np.random.get_state(legacy=False), torch.get_rng_state()
    act()
    after = np.random.get_state(legacy=False)
    return str(state) == str(after) and bool((torch_state == torch.get_rng_state()).all())


# ---------------------------------------------------------------- 10.4 an exact save

Save = Callable[[Path, Any, Any, int], object]


def right_content(net: Any, optimizer: Any, step: int) -> dict[str, Any]:
    """All that an exact continuation needs."""
    return {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "random": torch.get_rng_state(),
    }


def restore(path: Path, net: nn.Module, optimizer: Optimizer) -> int:
    """Put back what "net", "optimizer" and "random" hold, and return "step"."""
    content = torch.load(path, weights_only=True)
    net.load_state_dict(content["net"])
    optimizer.load_state_dict(content["optimizer"])
    torch.set_rng_state(content["random"])
    return content["step"]


def small_net() -> tuple[nn.Module, Optimizer]:
    """A network with BatchNorm and dropout, always with the same start, and its optimizer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2))
    return net, torch.optim.Adam(net.parameters(), 0.05)


def walk(net: nn.Module, optimizer: Optimizer, first: int, last: int) -> None:
    """Steps `first` to `last` - 1 of a training whose batches are functions of the step."""
    net.train()
    for step in range(first, last):
        x = noise(6, 4, seed=step)
        loss = (net(x) - x[:, :2]).square().mean() * (1 - step / 20)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _weights(net: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in net.state_dict().values()]


def _undisturbed() -> list[Tensor]:
    torch.manual_seed(1)
    net, optimizer = small_net()
    walk(net, optimizer, 0, 10)
    return _weights(net)


def _resumed(f: Save) -> list[Tensor]:
    """Six steps, a save, four more that come to nothing, then on from the file with new objects."""
    with _folder() as folder:
        torch.manual_seed(1)
        net, optimizer = small_net()
        walk(net, optimizer, 0, 6)
        f(folder / "last.pt", net, optimizer, 6)
        walk(net, optimizer, 6, 10)
        net, optimizer = small_net()
        step = restore(folder / "last.pt", net, optimizer)
        walk(net, optimizer, step, 10)
        return _weights(net)


def _content(f: Save) -> dict[str, Any]:
    with _folder() as folder:
        net, optimizer = small_net()
        walk(net, optimizer, 0, 3)
        f(folder / "last.pt", net, optimizer, 3)
        return torch.load(folder / "last.pt", weights_only=True)


class _FullDisk:
    """Something that cannot be written, as on a full disk."""

    def state_dict(self) -> dict[str, Any]:
        return {"state": self}

    def __reduce__(self) -> str:
        raise OSError("no space left on device")


def _broken_save(f: Save) -> tuple[bool, bool, bool]:
    """After a save that broke off: whether its error was heard, the old file is there, and is whole."""
    with _folder() as folder:
        path = folder / "last.pt"
        net, optimizer = small_net()
        torch.save(right_content(net, optimizer, 1), path)
        before, heard = path.read_bytes(), False
        try:
            f(path, _FullDisk(), _FullDisk(), 2)
        except NotImplementedError:
            raise
        except Exception:
            heard = True
        there = path.is_file()
        return heard, there, there and path.read_bytes() == before


def _survives(f: Save) -> bool:
    return all(_broken_save(f))


def _untouched(f: Save) -> bool:
    """Whether the old file, kept under a second name, is still what it was after a save that went well."""
    with _folder() as folder, _folder() as elsewhere:
        path, kept = folder / "last.pt", elsewhere / "old.pt"
        net, optimizer = small_net()
        torch.save(right_content(net, optimizer, 1), path)
        before = path.read_bytes()
        try:
            os.link(path, kept)
        except OSError:  # a file system where no file has two names
            return True
        f(path, net, optimizer, 2)
        return kept.read_bytes() == before and path.read_bytes() != before


def _left(f: Save) -> list[str]:
    """What lies in the folder after two saves that went well."""
    with _folder() as folder:
        net, optimizer = small_net()
        for step in (1, 2):
            f(folder / "last.pt", net, optimizer, step)
        return sorted(path.name for path in folder.iterdir())


def _attempt(act: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What `act` returns, or a mark for the kind of error, so that the rest of a probe still tells apart."""
    try:
        return act()
    except NotImplementedError:
        raise
    except Exception as error:
        return [torch.tensor([*type(error).__name__.encode()])]


def _save_probe(f: Save) -> list[Tensor]:
    names = ("net", "optimizer", "step", "random")

    def held() -> list[Tensor]:
        content = _content(f)
        return [torch.tensor([name in content for name in names]), torch.tensor(len(content))]

    return [
        *_attempt(held),
        *_attempt(lambda: _resumed(f)),
        torch.tensor([*_broken_save(f), _left(f) == ["last.pt"], _untouched(f)]),
    ]


def _written(change: Callable[[dict[str, Any]], object]) -> Save:
    """A save that is safe, of a content that `change` has changed in place."""

    def save(path: Path, net: Any, optimizer: Any, step: int) -> None:
        content = right_content(net, optimizer, step)
        change(content)
        aside = path.with_name(f"{path.name}.part")
        torch.save(content, aside)
        os.replace(aside, path)

    return save


def _in_place(path: Path, net: Any, optimizer: Any, step: int) -> None:
    torch.save(right_content(net, optimizer, step), path)


def _in_one_go(path: Path, net: Any, optimizer: Any, step: int) -> None:
    memory = io.BytesIO()
    torch.save(right_content(net, optimizer, step), memory)
    path.write_bytes(memory.getvalue())


def _copied(path: Path, net: Any, optimizer: Any, step: int) -> None:
    aside = path.with_name(f"{path.name}.part")
    torch.save(right_content(net, optimizer, step), aside)
    shutil.copy(aside, path)


def _gap(path: Path, net: Any, optimizer: Any, step: int) -> None:
    path.unlink(missing_ok=True)
    _written(lambda content: None)(path, net, optimizer, step)


def _empty(content: dict[str, Any]) -> None:
    """Take the memory out of an optimizer's state, as far as it has any."""
    if "param_groups" in content["optimizer"]:
        content["optimizer"] = {**content["optimizer"], "state": {}}


def _parameters_only(path: Path, net: Any, optimizer: Any, step: int) -> None:
    named = dict(net.named_parameters())
    _written(lambda content: content.update(net={k: v.detach() for k, v in named.items()}))(
        path, net, optimizer, step
    )


def _whole_net(path: Path, net: Any, optimizer: Any, step: int) -> None:
    _written(lambda content: content.update(net=net))(path, net, optimizer, step)


SAVE = Exercise(
    "10.4",
    "an exact and safe save",
    _save_probe,
    (
        Property(
            "interface",
            "save(path, net, optimizer, step) writes a file with net, optimizer, step and random",
            lambda f: takes(f, 4) and set(_content(f)) == {"net", "optimizer", "step", "random"},
        ),
        Property(
            "networks",
            "all of the network is in it, BatchNorm's statistics included",
            lambda f: list(_content(f)["net"]) == list(small_net()[0].state_dict()),
        ),
        Property(
            "resume",
            "a resumed training ends bit for bit where an undisturbed one ends",
            lambda f: all(map(torch.equal, _resumed(f), _undisturbed())),
        ),
        Property("survives", "a save that fails is heard, and leaves the old file whole", _survives),
        Property(
            "renamed", "the new file takes the old one's place; nothing is written into the old", _untouched
        ),
        Property(
            "clean", "after a save the file lies alone in its folder", lambda f: _left(f) == ["last.pt"]
        ),
    ),
    (
        Mistake(
            "no random state",
            "the random state is not the one of the save, so dropout draws other numbers after it.",
            "hint 1 of exercise 10.4: torch.get_rng_state() at the time of the save.",
            _written(lambda content: content.update(random=torch.Generator().get_state())),
        ),
        Mistake(
            "no random entry",
            "the file holds no random state, so nothing can put it back.",
            "hint 1 of exercise 10.4: four entries, one of them is random.",
            _written(lambda content: content.pop("random")),
        ),
        Mistake(
            "no optimizer entry",
            "the file holds no optimizer, so its memory cannot be put back.",
            "hint 1 of exercise 10.4: four entries, one of them is optimizer.",
            _written(lambda content: content.pop("optimizer")),
        ),
        Mistake(
            "an empty optimizer",
            "the optimizer's memory is lost: Adam begins anew with no moments.",
            "hint 1 of exercise 10.4: the optimizer has a state_dict, too.",
            _written(_empty),
        ),
        Mistake(
            "step 0",
            "the step is not saved, so the batches and the schedule begin anew.",
            "hint 1 of exercise 10.4: step is the fourth argument.",
            _written(lambda content: content.update(step=0)),
        ),
        Mistake(
            "one step on",
            "the saved step is one too large: after a resume one batch is never seen.",
            "hint 1 of exercise 10.4: save the step as it was given.",
            _written(lambda content: content.update(step=content["step"] + 1)),
        ),
        Mistake(
            "parameters alone",
            "only parameters are saved; BatchNorm's running statistics are buffers and missing.",
            "hint 1 of exercise 10.4: state_dict() holds parameters and buffers.",
            _parameters_only,
        ),
        Mistake(
            "the whole module",
            "the module itself was pickled: such a file can run code when loaded, and load refuses it.",
            "hint 1 of exercise 10.4: save net.state_dict(), not net.",
            _whole_net,
        ),
        Mistake(
            "written in place",
            "the file is written in place: a save that breaks off destroys the last good one.",
            "hint 2 of exercise 10.4: write another name in the same folder.",
            _in_place,
        ),
        Mistake(
            "made in memory",
            "the content was made in memory and then written in place: the power can go while it is written.",
            "hint 2 of exercise 10.4: write another name in the same folder.",
            _in_one_go,
        ),
        Mistake(
            "copied",
            "the file was copied over the old one, which is writing in place again, and two files are left.",
            "hint 3 of exercise 10.4: os.replace renames, and a rename is all or nothing.",
            _copied,
        ),
        Mistake(
            "a gap",
            "the old file is removed first, so there is a time without any.",
            "hint 3 of exercise 10.4: os.replace takes the place of the old file by itself.",
            _gap,
        ),
    ),
)


# ---------------------------------------------------------------- 10.5 which checkpoint

Rows = list[dict[str, Any]]
Choose = Callable[[Rows, str], int]


def right_choice(rows: Rows, view: str) -> int:
    """The step of the best val Dice of a view; of equals, the first."""
    best, chosen = -1.0, 0
    for row in rows:
        if row["kind"] == "val" and row["dice"][view] > best:
            best, chosen = row["dice"][view], row["step"]
    return chosen


def histories() -> Iterator[Rows]:
    """Logs with rows of all kinds: random ones, one with a tie, one that only falls, one of zeros."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        yield _history(*(rng.integers(30, 90, (3, 7)) / 100))
    rise = [0.1, 0.5, 0.7, 0.7, 0.6, 0.7, 0.2]
    yield _history(rise, rise[::-1], [0.3, 0.2, 0.1, 0.5, 0.9, 0.95, 0.97])
    yield _history([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], rise, rise)
    yield _history([0.0] * 7, rise, rise)


def _history(fused: Any, sam: Any, test: Any) -> Rows:
    rows: Rows = []
    for i, (f, s, t) in enumerate(zip(fused, sam, test, strict=True)):
        step = 20 * (i + 1)
        rows.append({"kind": "train", "step": step, "losses": {}, "total": 1 / step})
        rows.append({"kind": "test", "step": step, "dice": {"SAM": float(t) / 2, "fused": float(t)}})
        rows.append({"kind": "val", "step": step, "dice": {"SAM": float(s), "fused": float(f)}})
    return rows


def _choose_probe(f: Choose) -> list[Tensor]:
    return [torch.tensor(int(f(rows, view))) for rows in histories() for view in ("fused", "SAM")]


def _chooses(f: Choose, numbers: Sequence[int], view: str) -> bool:
    rows = [h for i, h in enumerate(histories()) if i in numbers]
    return all(f(h, view) == right_choice(h, view) for h in rows)


def _by(key: Callable[[dict[str, Any], str], float], kind: str = "val", last: bool = False) -> Choose:
    """The step of the row of a kind with the largest key; of equals the first, or the last."""

    def choose(rows: Rows, view: str) -> int:
        kept = [row for row in rows if row["kind"] == kind]
        return max(reversed(kept) if last else kept, key=lambda row: key(row, view))["step"]

    return choose


def _without_test(rows: Rows) -> Rows:
    return [row for row in rows if row["kind"] != "test"]


CHOICE = Exercise(
    "10.5",
    "which checkpoint",
    _choose_probe,
    (
        Property(
            "interface",
            "choose(rows, view) returns the step of one of the rows",
            lambda f: takes(f, 2) and f(next(histories()), "fused") in range(20, 141, 20),
        ),
        Property("value", "the step of the best val Dice", lambda f: _chooses(f, range(6), "fused")),
        Property("view", "of the view that was asked for", lambda f: _chooses(f, range(6), "SAM")),
        Property("tie", "of equals the first", lambda f: _chooses(f, (6, 8), "fused")),
        Property("early", "it may be the first row of all", lambda f: _chooses(f, (7,), "fused")),
        Property(
            "honest",
            "the test rows do not matter: without them the choice is the same",
            lambda f: all(f(_without_test(h), v) == f(h, v) for h in histories() for v in ("fused", "SAM")),
        ),
    ),
    (
        Mistake(
            "chosen on the test images",
            "you chose by the test Dice: the result would then be a best case, and no estimate.",
            "hint 1 of exercise 10.5: rows of kind val.",
            lambda rows, view: _by(lambda r, v: r["dice"][v], "test" if _has_test(rows) else "val")(
                rows, view
            ),
        ),
        Mistake(
            "val and test alike",
            "rows of both kinds compete, so a lucky test row can win.",
            "hint 1 of exercise 10.5: rows of kind val only.",
            lambda rows, view: max((r for r in rows if "dice" in r), key=lambda r: r["dice"][view])["step"],
        ),
        Mistake(
            "the last row",
            "you took the last validation, whatever its Dice.",
            "hint 2 of exercise 10.5: remember the best so far.",
            _by(lambda r, v: r["step"]),
        ),
        Mistake(
            "the worst",
            "you took the smallest Dice; unlike a loss it should be large.",
            "hint 2 of exercise 10.5: larger is better.",
            _by(lambda r, v: -r["dice"][v]),
        ),
        Mistake(
            "the last of equals",
            "among equal scores you took the last; a file is replaced only by a better one.",
            "hint 3 of exercise 10.5: larger than, not at least.",
            _by(lambda r, v: r["dice"][v], last=True),
        ),
        Mistake(
            "any view",
            "the best of all views was taken; SAM's score says nothing about the map that you deploy.",
            "hint 2 of exercise 10.5: row['dice'][view].",
            _by(lambda r, v: max(r["dice"].values())),
        ),
    ),
)


def _has_test(rows: Rows) -> bool:
    return any(row["kind"] == "test" for row in rows)


# ---------------------------------------------------------------- 10.6 the paired bootstrap

Interval = Callable[[Tensor, Tensor, Tensor], tuple[Any, Any, Any]]


def right_interval(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of a - b (images,) and the 95 % interval of the means over `draws` (repetitions, images)."""
    means = (a - b)[draws].mean(dim=1)
    return (a - b).mean(), means.quantile(0.025), means.quantile(0.975)


def scores(seed: int, images: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Dice of two methods on the same images, hard images being hard for both, and 200 draws."""
    generator = torch.Generator().manual_seed(seed)
    ease = torch.rand(images, generator=generator)
    a, b = ((ease + 0.1 * torch.randn(images, generator=generator) + gain).clamp(0, 1) for gain in (0.05, 0))
    return a, b, torch.randint(0, images, (200, images), generator=generator)


def _interval_probe(f: Interval) -> list[Tensor]:
    made = [torch.stack([torch.as_tensor(v).float() for v in f(*scores(s, n))]) for s, n in ((0, 24), (1, 9))]
    return made


def _one(f: Interval, place: int) -> bool:
    return all(
        same(torch.as_tensor(f(*scores(s, n))[place]).float(), right_interval(*scores(s, n))[place])
        for s, n in ((0, 24), (1, 9), (2, 60))
    )


def _opposite(f: Interval) -> bool:
    a, b, draws = scores(4)
    there, back = (torch.stack([torch.as_tensor(v).float() for v in f(*p, draws)]) for p in ((a, b), (b, a)))
    return same(there, -back[[0, 2, 1]])


def _shift(f: Interval) -> bool:
    """If a is b plus a constant, nothing is left to chance, however different the images are."""
    _, b, draws = scores(5)
    difference, low, high = (float(v) for v in f(b + 0.25, b, draws))
    return max(abs(difference - 0.25), abs(low - 0.25), abs(high - 0.25)) < 1e-5


def _of_means(means: Callable[[Tensor, Tensor, Tensor], Tensor], low: float = 0.025) -> Interval:
    """The interval of other means, or with other ends."""

    def interval(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = means(a, b, draws)
        return (a - b).mean(), found.quantile(low), found.quantile(1 - low)

    return interval


def _bell(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    middle, spread = (a - b).mean(), (a - b)[draws].mean(dim=1).std()
    return middle, middle - 1.96 * spread, middle + 1.96 * spread


def _of_the_draws(a: Tensor, b: Tensor, draws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _, low, high = right_interval(a, b, draws)
    return (a - b)[draws].mean(), low, high


INTERVAL = Exercise(
    "10.6",
    "a paired bootstrap interval",
    _interval_probe,
    (
        Property(
            "interface",
            "paired_interval(a, b, draws) returns the difference, its low and its high end",
            lambda f: takes(f, 3) and len(f(*scores(0))) == 3,
        ),
        Property("value", "the difference is the mean of a - b", lambda f: _one(f, 0)),
        Property("low", "the low end leaves 2.5 % of the means below it", lambda f: _one(f, 1)),
        Property("high", "the high end leaves 2.5 % of the means above it", lambda f: _one(f, 2)),
        Property("pairs", "if a is b plus a constant, the interval has no width", _shift),
        Property("invariance", "exchanging the methods turns the interval round", _opposite),
    ),
    (
        Mistake(
            "not paired",
            "the two methods are drawn apart, so the luck of hard images counts twice.",
            "hint 1 of exercise 10.6: first the difference of each image, then the draws.",
            _of_means(lambda a, b, d: a[d].mean(dim=1) - b[d.flip(0)].mean(dim=1)),
        ),
        Mistake(
            "b minus a",
            "the sign is turned round: a is the new method, b the baseline.",
            "the equation above exercise 10.6: a minus b.",
            lambda a, b, d: right_interval(b, a, d),
        ),
        Mistake(
            "90 %",
            "5 % are cut off at each end, which leaves 90 %.",
            "hint 3 of exercise 10.6: 2.5 % at each end.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=1), 0.05),
        ),
        Mistake(
            "spread of the images",
            "these are the ends of the single images, not of their mean.",
            "hint 2 of exercise 10.6: the mean of each draw first, then the ends.",
            _of_means(lambda a, b, d: a - b),
        ),
        Mistake(
            "mean over the draws",
            "the mean was taken over the repetitions, image by image.",
            "hint 2 of exercise 10.6: the images lie on axis 1 of draws.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=0)),
        ),
        Mistake(
            "mean and deviations",
            "the ends are the mean and 1.96 deviations, which supposes a bell curve; the draws know better.",
            "hint 3 of exercise 10.6: quantile asks the draws themselves.",
            _bell,
        ),
        Mistake(
            "smallest and largest",
            "the ends are the extremes of all draws, which grow with their number.",
            "hint 3 of exercise 10.6: quantile.",
            _of_means(lambda a, b, d: (a - b)[d].mean(dim=1), 0.0),
        ),
        Mistake(
            "no mean of the draws",
            "all drawn differences were thrown into one heap; each repetition has a mean of its own.",
            "hint 2 of exercise 10.6: the mean of each draw first, then the ends.",
            _of_means(lambda a, b, d: (a - b)[d].flatten()),
        ),
        Mistake(
            "the mean of the means",
            "the difference is that of the images themselves; yours is the mean over the draws.",
            "the equation above exercise 10.6: delta is the mean over the n images.",
            _of_the_draws,
        ),
    ),
)

EXERCISES = (JOINT, STEP, STREAM, SAVE, CHOICE, INTERVAL)

QUIZ = (
    Answer(
        "c", "a gradient of zeros still lets momentum and weight decay move the weight.", "step 2, one step"
    ),
    Answer("a", "every ramp and start is a fraction t / t_max of the run.", "step 3, the schedule"),
    Answer("d", "the batch is made from seed and step alone.", "step 4, the batches"),
    Answer(
        "b", "choosing among checkpoints by a score makes that score too good.", "step 6, which checkpoint"
    ),
    Answer("c", "0 lies inside: these images and this seed do not decide.", "step 7, the verdict"),
)
