"""Chapter 08, SKD: properties, catalogued mistakes, and the quiz's key."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.losses import distillation_loss

# ---------------------------------------------------------------- 08.1 temperature

Soften = Callable[[Tensor, float], Tensor]
TEMPERATURES = (0.5, 1.0, 4.0, 10.0)


def _soft(z: Tensor, temperature: float) -> Tensor:
    return (z.float() / temperature).softmax(dim=1)


def _soften_probe(f: Soften) -> list[Tensor]:
    z = noise(2, 3, 4, 5)
    return [*(f(z, t) for t in TEMPERATURES), *gradients(lambda x: f(x, 4.0), z), f(z.bfloat16(), 2.0)]


def _soften_value(f: Soften) -> bool:
    return all(
        same(f(noise(2, c, 6, 5, seed=c), t), _soft(noise(2, c, 6, 5, seed=c), t))
        for c in (2, 3, 5)
        for t in TEMPERATURES
    )


def _soften_order(f: Soften) -> bool:
    z = noise(2, 4, 6, 5)
    return all(bool((f(z, t).argmax(dim=1) == z.argmax(dim=1)).all()) for t in TEMPERATURES)


SOFTEN = Exercise(
    "08.1",
    "softmax with temperature",
    _soften_probe,
    (
        Property(
            "interface",
            "soften(z, temperature) takes logits and a number and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(noise(2, 2, 4, 5), 2.0), Tensor),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, C, H, W)", lambda f: f(noise(2, 3, 4, 5), 2.0).shape == (2, 3, 4, 5)
        ),
        Property(
            "dtype",
            "float32, also from half-precision logits",
            lambda f: f(noise(1, 2, 4, 4).bfloat16(), 10.0).dtype == torch.float32,
        ),
        Property(
            "range",
            "the probabilities of each pixel sum to 1, whatever T is",
            lambda f: all(
                same(f(noise(2, 3, 4, 5), t).sum(dim=1), torch.ones(2, 4, 5)) for t in TEMPERATURES
            ),
        ),
        Property("value", "softmax(z / T) for T below, at and above 1", _soften_value),
        Property(
            "gradient",
            "that of softmax(z / T)",
            lambda f: same(
                gradients(lambda z: f(z, 4.0), noise(2, 3, 4, 5)),
                gradients(lambda z: _soft(z, 4.0), noise(2, 3, 4, 5)),
            ),
        ),
        Property("invariance", "the winner of each pixel is the same at every T", _soften_order),
    ),
    (
        Mistake(
            "multiplied by T",
            "the logits are multiplied by T: a high temperature then makes the answer harder.",
            "hint 1 of exercise 08.1: the temperature divides.",
            lambda z, t: (z.float() * t).softmax(dim=1),
        ),
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 2 of exercise 08.1: which axis of (N, C, H, W) holds the classes?",
            lambda z, t: (z.float() / t).softmax(dim=-1),
        ),
        Mistake(
            "divided after the softmax",
            "the probabilities are divided by T, so they no longer sum to 1.",
            "hint 1 of exercise 08.1: first divide the logits, then take the softmax.",
            lambda z, t: z.float().softmax(dim=1) / t,
        ),
        Mistake(
            "T is not used",
            "your answer is the plain softmax, the same for every T.",
            "hint 1 of exercise 08.1: the logits are divided by the second argument.",
            lambda z, t: z.float().softmax(dim=1),
        ),
        Mistake(
            "the power without the sum",
            "p to the power 1 / T is right up to a factor: the classes must be brought back to sum 1.",
            "hint 2 of exercise 08.1: the softmax of z / T does both at once.",
            lambda z, t: z.float().softmax(dim=1) ** (1 / t),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits give a half-precision answer.",
            "hint 3 of exercise 08.1: .float() makes float32 of any tensor.",
            lambda z, t: (z / t).softmax(dim=1),
        ),
        Mistake(
            "logarithm of the answer",
            "your answer holds log-probabilities, which are negative.",
            "hint 2 of exercise 08.1: softmax here, log_softmax in the next exercises.",
            lambda z, t: (z.float() / t).log_softmax(dim=1),
        ),
    ),
)


# ---------------------------------------------------------------- 08.2 KL divergence

Divergence = Callable[[Tensor, Tensor], Tensor]


def _logs(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Log-probabilities of a teacher and of a student, (2, C, 4, 5) each."""
    return (
        noise(2, classes, 4, 5, seed=seed).log_softmax(dim=1),
        noise(2, classes, 4, 5, seed=seed + 50).log_softmax(dim=1),
    )


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The oracle, which is PyTorch's: KL(p || q), summed over the classes."""
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=1)


def _kl_probe(f: Divergence) -> list[Tensor]:
    return [f(*_logs(2)), f(*_logs(3)), *gradients(f, *_logs(3))]


def _kl_sign(f: Divergence) -> bool:
    log_p, log_q = _logs(3)
    return same(f(log_p, log_p.clone()), torch.zeros(2, 4, 5)) and bool((f(log_p, log_q) > 0).all())


def _kl_classes(f: Divergence) -> bool:
    log_p, log_q = _logs(4)
    return same(f(log_p.flip(1), log_q.flip(1)), f(log_p, log_q))


KL = Exercise(
    "08.2",
    "KL divergence",
    _kl_probe,
    (
        Property(
            "interface",
            "kl_divergence(log_p, log_q) takes two maps of log-probabilities and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_logs(2)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) twice -> (N, H, W)",
            lambda f: all(f(*_logs(c)).shape == (2, 4, 5) for c in (2, 3)),
        ),
        Property("dtype", "float32", lambda f: f(*_logs(2)).dtype == torch.float32),
        Property("range", "0 where p and q are equal, above 0 where they are not", _kl_sign),
        Property(
            "value",
            "the sum over the classes of p (log p - log q), for 2, 3 and 5 classes",
            lambda f: all(same(f(*_logs(c, c)), _kl(*_logs(c, c))) for c in (2, 3, 5)),
        ),
        Property(
            "gradient",
            "that of the same sum, through p and through q",
            lambda f: same(gradients(f, *_logs(3, 5)), gradients(_kl, *_logs(3, 5))),
        ),
        Property("invariance", "the order of the classes does not matter", _kl_classes),
    ),
    (
        Mistake(
            "p and q exchanged",
            "you computed KL(q || p): the differences are weighted with the student's probabilities.",
            "hint 1 of exercise 08.2: the weight in front of the bracket is p.",
            lambda log_p, log_q: _kl(log_q, log_p),
        ),
        Mistake(
            "the student's weights",
            "the bracket is right, but its weights are the student's probabilities.",
            "hint 1 of exercise 08.2: the weight in front of the bracket is p.",
            lambda log_p, log_q: (log_q.exp() * (log_p - log_q)).sum(dim=1),
        ),
        Mistake(
            "the minus sign of the entropy",
            "the sign is reversed: log q stands in front of log p.",
            "hint 2 of exercise 08.2: log p minus log q.",
            lambda log_p, log_q: -_kl(log_p, log_q),
        ),
        Mistake(
            "logarithms as weights",
            "the weights in the sum are log-probabilities; they should be probabilities.",
            "hint 1 of exercise 08.2: p is the exponential of log p.",
            lambda log_p, log_q: (log_p * (log_p - log_q)).sum(dim=1),
        ),
        Mistake(
            "mean over the classes",
            "the classes were averaged instead of summed: the result is C times too small.",
            "hint 3 of exercise 08.2: the sign is a sum.",
            lambda log_p, log_q: _kl(log_p, log_q) / log_p.shape[1],
        ),
        Mistake(
            "cross-entropy",
            "you computed -sum p log q, which is not 0 where the student is right.",
            "hint 2 of exercise 08.2: the bracket holds log p minus log q.",
            lambda log_p, log_q: -(log_p.exp() * log_q).sum(dim=1),
        ),
        Mistake(
            "summed over everything",
            "all pixels were added up; one number per pixel is wanted.",
            "hint 3 of exercise 08.2: the sum runs over axis 1 alone.",
            lambda log_p, log_q: _kl(log_p, log_q).sum(),
        ),
        Mistake(
            "the mean of everything",
            "classes and pixels were averaged, as F.kl_div does unasked; one number per pixel is wanted.",
            "hint 3 of exercise 08.2: the sum runs over axis 1 alone.",
            lambda log_p, log_q: _kl(log_p, log_q).mean() / log_p.shape[1],
        ),
        Mistake(
            "log_target forgotten",
            "F.kl_div took log p for p: without log_target=True it expects the teacher's probabilities.",
            "hint 2 of exercise 08.2: written out by hand, nothing can be confused.",
            lambda log_p, log_q: F.kl_div(log_q, log_p, reduction="none").sum(dim=1),
        ),
        Mistake(
            "logarithms taken twice",
            "the arguments are logarithms already; the logarithm of a negative number is nan.",
            "hint 2 of exercise 08.2: the bracket is log_p - log_q as it stands.",
            lambda log_p, log_q: (log_p * (log_p.log() - log_q.log())).sum(dim=1),
        ),
    ),
)


# ---------------------------------------------------------------- 08.3 the distillation loss

Loss = Callable[..., Tensor]


def _pair(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a student and of a louder teacher, (2, C, 4, 5) each."""
    return noise(2, classes, 4, 5, seed=seed), noise(2, classes, 4, 5, seed=seed + 50, scale=6.0)


def _halves() -> tuple[Tensor, Tensor]:
    z, z_teacher = _pair(3)
    return z.bfloat16(), z_teacher.bfloat16()


def _loss_probe(f: Loss) -> list[Tensor]:
    made = [f(*_pair(c), t) for c, t in ((2, 1.0), (2, 10.0), (3, 4.0), (4, 10.0))]
    return [*made, *gradients(lambda z, s: f(z, s, 4.0), *_pair(3)), f(*_pair(3, 7)), f(*_halves())]


def _loss_gradient(f: Loss) -> bool:
    return all(
        same(
            gradients(lambda z, s, t=t: f(z, s, t), *_pair(3, 3)),
            gradients(lambda z, s, t=t: distillation_loss(z, s, t), *_pair(3, 3)),
        )
        for t in (1.0, 10.0)
    )


def _loss_size(f: Loss) -> bool:
    """Tiling the image, or repeating the batch, changes no mean over pixels."""
    z, z_s = _pair(3)
    wide, many = (1, 1, 2, 3), (2, 1, 1, 1)
    return all(same(f(z.repeat(n), z_s.repeat(n), 4.0), f(z, z_s, 4.0)) for n in (wide, many))


def _built(
    student: Callable[[Tensor, float], Tensor] = lambda z, t: (z.float() / t).log_softmax(dim=1),
    teacher: Callable[[Tensor, float], Tensor] = lambda z, t: (z.detach().float() / t).log_softmax(dim=1),
    scale: Callable[[float], float] = lambda t: t**2,
    join: Callable[[Tensor, Tensor], Tensor] = lambda log_q, log_p: _kl(log_p, log_q).mean(),
) -> Loss:
    """The loss from its four parts, one of which a mistake replaces."""

    def loss(z: Tensor, z_teacher: Tensor, temperature: float = 10.0) -> Tensor:
        log_q, log_p = student(z, temperature), teacher(z_teacher, temperature)
        return scale(temperature) * join(log_q, log_p)

    return loss


LOSS = Exercise(
    "08.3",
    "the distillation loss",
    _loss_probe,
    (
        Property(
            "interface",
            "distillation_loss(z, z_teacher, temperature), whose temperature is 10 if not given",
            lambda f: takes(f, 2) and same(f(*_pair(3)), f(*_pair(3), 10.0)),
        ),
        Property("shape", "(N, C, H, W) twice -> one number", lambda f: f(*_pair(3)).shape == ()),
        Property(
            "dtype",
            "float32, and computed in float32, also from half-precision logits",
            lambda f: same(f(*_halves()), distillation_loss(*_halves())),
        ),
        Property(
            "value",
            "T^2 times the mean of KL(teacher || student); 2, 3 and 5 classes, four temperatures",
            lambda f: all(
                same(f(*_pair(c, c), t), distillation_loss(*_pair(c, c), t))
                for c in (2, 3, 5)
                for t in TEMPERATURES
            ),
        ),
        Property(
            "detached",
            "the teacher gets no gradient",
            lambda f: not gradients(lambda z, s: f(z, s, 4.0), *_pair(3))[1].any(),
        ),
        Property("gradient", "the student gets T (q - p), divided by the number of pixels", _loss_gradient),
        Property("invariance", "a larger image or batch of the same content costs the same", _loss_size),
    ),
    (
        Mistake(
            "T squared is missing",
            "the factor T^2 is missing: at T = 10 the gradient is a hundred times too small.",
            "hint 3 of exercise 08.3: what stands in front of the mean?",
            _built(scale=lambda t: 1.0),
        ),
        Mistake(
            "neither T squared nor detach",
            "two things are missing: the factor T^2, and the detach of the teacher.",
            "hints 1 and 3 of exercise 08.3: who must not move, and what stands in front of the mean?",
            _built(scale=lambda t: 1.0, teacher=lambda z, t: (z.float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "T in place of T squared",
            "the factor is T instead of T^2.",
            "hint 3 of exercise 08.3: T divides the logits twice on the way to the gradient.",
            _built(scale=lambda t: t),
        ),
        Mistake(
            "only the teacher is softened",
            "the student's logits are not divided by T, so it has to be soft all by itself.",
            "hint 1 of exercise 08.3: the same T on both sides.",
            _built(student=lambda z, t: z.float().log_softmax(dim=1)),
        ),
        Mistake(
            "only the student is softened",
            "the teacher's logits are not divided by T, so the student has to shout T times as loud.",
            "hint 1 of exercise 08.3: the same T on both sides.",
            _built(teacher=lambda z, t: z.detach().float().log_softmax(dim=1)),
        ),
        Mistake(
            "teacher and student exchanged",
            "you computed KL(student || teacher).",
            "hint 2 of exercise 08.3: the weight in front of the bracket is the teacher's probability.",
            _built(join=lambda log_q, log_p: _kl(log_q, log_p).mean()),
        ),
        Mistake(
            "the teacher is not detached",
            "the value is right, but the gradient reaches the teacher, which then learns from its pupils.",
            "hint 1 of exercise 08.3: which of the two must not move?",
            _built(teacher=lambda z, t: (z.float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "the student is detached",
            "the value is right, but no gradient reaches the student: nobody learns.",
            "hint 1 of exercise 08.3: which of the two must not move?",
            _built(student=lambda z, t: (z.detach().float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "mean over all elements",
            "the mean runs over classes and pixels: the loss is C times too small.",
            "hint 3 of exercise 08.3: sum over the classes first, then the mean over the pixels.",
            _built(
                join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="none", log_target=True).mean()
            ),
        ),
        Mistake(
            "batchmean",
            "the sum is divided by the number of images alone: the loss is H times W times too large.",
            "hint 3 of exercise 08.3: the mean runs over the pixels of all images.",
            _built(join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)),
        ),
        Mistake(
            "batchmean without detach",
            "two things: the sum is divided by the images alone, and the teacher is not detached.",
            "hints 1 and 3 of exercise 08.3: who must not move, and a mean over the pixels of all images.",
            _built(
                teacher=lambda z, t: (z.float() / t).log_softmax(dim=1),
                join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="batchmean", log_target=True),
            ),
        ),
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 1 of exercise 08.3: the alternatives lie on axis 1.",
            _built(
                student=lambda z, t: (z.float() / t).log_softmax(dim=-1),
                teacher=lambda z, t: (z.detach().float() / t).log_softmax(dim=-1),
            ),
        ),
        Mistake(
            "cross-entropy",
            "the gradient is right, but the loss is not 0 where the student gives SAM's answer.",
            "hint 2 of exercise 08.3: the bracket holds log p minus log q, not log q alone.",
            _built(join=lambda log_q, log_p: -(log_p.exp() * log_q).sum(dim=1).mean()),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits are not brought to float32 first.",
            "hint 1 of exercise 08.3: float32 on both sides.",
            _built(
                student=lambda z, t: (z / t).log_softmax(dim=1),
                teacher=lambda z, t: (z.detach() / t).log_softmax(dim=1),
                join=lambda log_q, log_p: torch.sum(log_p.exp() * (log_p - log_q), dim=1).mean(),
            ),
        ),
        Mistake(
            "probabilities in place of logarithms",
            "F.kl_div got probabilities as its first argument; it expects log-probabilities.",
            "hint 2 of exercise 08.3: with log_softmax on both sides you can write the sum by hand.",
            _built(
                student=lambda z, t: (z.float() / t).softmax(dim=1),
                join=lambda q, log_p: F.kl_div(q, log_p.exp(), reduction="none").sum(dim=1).mean(),
            ),
        ),
        Mistake(
            "log_target forgotten",
            "F.kl_div took the logarithms of the teacher for probabilities.",
            "hint 2 of exercise 08.3: written out by hand, or with log_target=True.",
            _built(join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="none").sum(dim=1).mean()),
        ),
        Mistake(
            "the student detached",
            "the student's logits are detached in place of the teacher's: the wrong one would learn.",
            "hint 1 of exercise 08.3: only the teacher's logits are detached.",
            _built(
                student=lambda z, t: (z.detach().float() / t).log_softmax(dim=1),
                teacher=lambda z, t: (z.float() / t).log_softmax(dim=1),
            ),
        ),
    ),
)


# ---------------------------------------------------------------- 08.4 what SAM is asked

Targets = Callable[..., tuple[Tensor, Tensor]]


class _Teacher(nn.Module):
    """A small stand-in for SAM that detaches nothing by itself and notes how it was called."""

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
    """Four images with their numbers in the first pixel, and fused logits of three classes."""
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
    """Gradients at SAM's weights and at z_f, zeros where none arrives."""
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
            "hint 1 of exercise 08.4: detach z_f on the way in.",
            lambda teacher, x, z_f, n: _both(teacher, x, z_f, n, before=False),
        ),
        Mistake(
            "the targets are not detached",
            "the targets carry a graph, so the students' loss would reach SAM.",
            "hint 3 of exercise 08.4: detach SAM's answer on the way back.",
            lambda teacher, x, z_f, n: _both(teacher, x, z_f, n, after=False),
        ),
        Mistake(
            "no graph at all",
            "everything ran without a graph: SAM could not learn from its labelled images.",
            "hint 1 of exercise 08.4: the labelled half keeps its graph.",
            _deaf,
        ),
        Mistake(
            "a graph for everything",
            "the values are right, but SAM stores a graph for unlabelled images that nobody uses.",
            "hint 2 of exercise 08.4: the unlabelled half passes under torch.no_grad().",
            _whole,
        ),
        Mistake(
            "one plain call",
            "one call for all: SAM's loss reaches the students, and unlabelled images get a graph.",
            "hints 1 and 2 of exercise 08.4: two calls, and z_f is detached on the way in.",
            _plain,
        ),
        Mistake(
            "labelled images twice",
            "the labelled images pass through SAM a second time, though their answer is known.",
            "hint 3 of exercise 08.4: reuse the first answer, detached.",
            _twice,
        ),
        Mistake(
            "targets of one half only",
            "the targets hold the unlabelled half alone; the students learn from SAM on all images.",
            "hint 3 of exercise 08.4: join both halves.",
            _only_unlabeled,
        ),
        Mistake(
            "unlabelled first",
            "the targets begin with the unlabelled half, so each student learns the answer to another image.",
            "hint 3 of exercise 08.4: the labelled half comes first, as in the batch.",
            _unlabeled_first,
        ),
    ),
)


# ---------------------------------------------------------------- 08.5 the two terms

Terms = Callable[..., dict[str, Tensor]]
NAMES = ("a/distillation", "b/distillation")


def _three(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    return (*_pair(3, seed), noise(2, 3, 4, 5, seed=seed + 70, scale=6.0))


def _terms(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, temperature: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(z, z_s, temperature) for z in (z_a, z_b))
    return dict(zip(NAMES, parts, strict=True))


def _told(f: Terms, *arguments: Any) -> dict[str, Tensor]:
    """What `f` tells, which has to be a dictionary: a tensor would take a name for an index."""
    return dict(f(*arguments))


def _terms_probe(f: Terms) -> list[Tensor]:
    made = []
    for weight, temperature in ((1.0, 10.0), (0.3, 2.0)):
        terms = _told(f, *_three(), weight, temperature)
        made += [terms[name] for name in sorted(terms)]
    for name in NAMES:
        made += gradients(lambda a, b, s, name=name: _told(f, a, b, s, 1.0, 4.0)[name], *_three())
    return made


def _terms_value(f: Terms) -> bool:
    return all(
        same([_told(f, *_three(5), w, t)[k] for k in NAMES], [_terms(*_three(5), w, t)[k] for k in NAMES])
        for w, t in ((1.0, 10.0), (0.3, 10.0), (2.0, 1.0))
    )


def _terms_gradient(f: Terms) -> bool:
    """Each term reaches its own subnet alone."""
    arrived = [
        [
            bool(g.any())
            for g in gradients(lambda a, b, s, name=name: _told(f, a, b, s, 1.0, 4.0)[name], *_three())
        ]
        for name in NAMES
    ]
    return arrived == [[True, False, False], [False, True, False]]


def _terms_swap(f: Terms) -> bool:
    z_a, z_b, z_s = _three()
    one, other = _told(f, z_a, z_b, z_s, 1.0, 4.0), _told(f, z_b, z_a, z_s, 1.0, 4.0)
    return same(one[NAMES[0]], other[NAMES[1]]) and same(one[NAMES[1]], other[NAMES[0]])


def _from_each_other(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, t: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(*pair, t) for pair in ((z_a, z_b), (z_b, z_a)))
    return dict(zip(NAMES, parts, strict=True))


def _upside_down(z_a: Tensor, z_b: Tensor, z_s: Tensor, weight: float, t: float) -> dict[str, Tensor]:
    parts = (0.5 * weight * distillation_loss(z_s, z, t) for z in (z_a, z_b))
    return dict(zip(NAMES, parts, strict=True))


TERMS = Exercise(
    "08.5",
    "the students' two terms",
    _terms_probe,
    (
        Property(
            "interface",
            'skd_terms(z_a, z_b, z_s, weight, temperature) returns "a/distillation" and "b/distillation"',
            lambda f: takes(f, 5) and sorted(_told(f, *_three(), 1.0, 10.0)) == list(NAMES),
        ),
        Property(
            "shape",
            "two single numbers",
            lambda f: [t.shape for t in _told(f, *_three(), 1.0, 10.0).values()] == [(), ()],
        ),
        Property(
            "value",
            "half the weight times the distillation loss; several weights and temperatures",
            _terms_value,
        ),
        Property("gradient", "each term reaches its own subnet, and SAM hears nothing", _terms_gradient),
        Property("invariance", "exchanging the subnets exchanges the terms", _terms_swap),
    ),
    (
        Mistake(
            "the half is missing",
            "each term is twice too large: the loss is the mean over the two subnets, not their sum.",
            "hint 2 of exercise 08.5: one half stands in front of each term.",
            lambda a, b, s, w, t: {k: 2 * v for k, v in _terms(a, b, s, w, t).items()},
        ),
        Mistake(
            "the weight is not used",
            "your terms are the same for every weight.",
            "hint 2 of exercise 08.5: the weight multiplies each term.",
            lambda a, b, s, w, t: _terms(a, b, s, 1.0, t),
        ),
        Mistake(
            "the temperature is not handed on",
            "your terms are the same for every temperature: the loss fell back on its default.",
            "hint 1 of exercise 08.5: the third argument of distillation_loss.",
            lambda a, b, s, w, t: _terms(a, b, s, w, 10.0),
        ),
        Mistake(
            "one temperature is not handed on",
            "the V-Net's term is the same for every temperature: there the loss fell back on its default.",
            "hint 1 of exercise 08.5: the third argument of distillation_loss, both times.",
            lambda a, b, s, w, t: {
                NAMES[0]: _terms(a, b, s, w, t)[NAMES[0]],
                NAMES[1]: _terms(a, b, s, w, 10.0)[NAMES[1]],
            },
        ),
        Mistake(
            "neither half nor weight",
            "both factors are missing: the one half and the weight.",
            "hint 2 of exercise 08.5: in front of each stands 0.5 * weight.",
            lambda a, b, s, w, t: _terms(a, b, s, 2.0, t),
        ),
        Mistake(
            "the subnets teach each other",
            "each subnet learns from the other one: that is consistency (chapter 04), not SKD.",
            "hint 1 of exercise 08.5: the teacher of both is z_s.",
            _from_each_other,
        ),
        Mistake(
            "SAM as the student",
            "SAM stands in the student's place: the gradient goes to SAM and the subnets learn nothing.",
            "hint 1 of exercise 08.5: the student comes first.",
            _upside_down,
        ),
        Mistake(
            "one subnet twice",
            "both terms are the U-Net's, and the V-Net learns nothing from SAM.",
            "hint 1 of exercise 08.5: once for z_a and once for z_b.",
            lambda a, b, s, w, t: _terms(a, a, s, w, t),
        ),
        Mistake(
            "names exchanged",
            "the values are right, but each stands under the other subnet's name.",
            "hint 3 of exercise 08.5: a is the U-Net, z_a.",
            lambda a, b, s, w, t: _terms(b, a, s, w, t),
        ),
    ),
)

EXERCISES = (SOFTEN, KL, LOSS, TARGETS, TERMS)

QUIZ = (
    Answer("c", "dividing by T keeps the order and brings the classes closer.", "step 1, temperature"),
    Answer("a", "the gradient shrinks with 1 / T^2, and the factor undoes that.", "step 3, the loss"),
    Answer(
        "b", "teacher and students would meet halfway, whatever the truth.", "step 4, who learns from whom"
    ),
    Answer("d", "an error that is always the same looks like a rule, and is learned.", "when SAM is wrong"),
    Answer(
        "b",
        "rows of two compare classes within pairs and never between pairs.",
        "where paper, authors' code and library differ",
    ),
)
