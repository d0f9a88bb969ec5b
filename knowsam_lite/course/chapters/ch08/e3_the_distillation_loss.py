"""Exercise 08.3, the distillation loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.chapters.ch08.shared import TEMPERATURES, kl_reference, logit_pair
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same, takes
from knowsam_lite.losses import distillation_loss

Loss = Callable[..., Tensor]


def _halves() -> tuple[Tensor, Tensor]:
    z, z_teacher = logit_pair(3)
    return z.bfloat16(), z_teacher.bfloat16()


def _loss_probe(f: Loss) -> list[Tensor]:
    made = [f(*logit_pair(c), t) for c, t in ((2, 1.0), (2, 10.0), (3, 4.0), (4, 10.0))]
    return [*made, *gradients(lambda z, s: f(z, s, 4.0), *logit_pair(3)), f(*logit_pair(3, 7)), f(*_halves())]


def _loss_gradient(f: Loss) -> bool:
    return all(
        same(
            gradients(lambda z, s, t=t: f(z, s, t), *logit_pair(3, 3)),
            gradients(lambda z, s, t=t: distillation_loss(z, s, t), *logit_pair(3, 3)),
        )
        for t in (1.0, 10.0)
    )


def _loss_size(f: Loss) -> bool:
    """Tiling the image or repeating the batch leaves a mean over pixels unchanged."""
    z, z_s = logit_pair(3)
    wide, many = (1, 1, 2, 3), (2, 1, 1, 1)
    return all(same(f(z.repeat(n), z_s.repeat(n), 4.0), f(z, z_s, 4.0)) for n in (wide, many))


def _built(
    student: Callable[[Tensor, float], Tensor] = lambda z, t: (z.float() / t).log_softmax(dim=1),
    teacher: Callable[[Tensor, float], Tensor] = lambda z, t: (z.detach().float() / t).log_softmax(dim=1),
    scale: Callable[[float], float] = lambda t: t**2,
    join: Callable[[Tensor, Tensor], Tensor] = lambda log_q, log_p: kl_reference(log_p, log_q).mean(),
) -> Loss:
    """The loss, built from four parts; each mistake replaces one."""

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
            lambda f: takes(f, 2) and same(f(*logit_pair(3)), f(*logit_pair(3), 10.0)),
        ),
        Property("shape", "(N, C, H, W) twice -> one number", lambda f: f(*logit_pair(3)).shape == ()),
        Property(
            "dtype",
            "float32, and computed in float32, also from half-precision logits",
            lambda f: same(f(*_halves()), f(*(z.float() for z in _halves()))),
        ),
        Property(
            "value",
            "T^2 times the mean of KL(teacher || student); 2, 3 and 5 classes, four temperatures",
            lambda f: all(
                same(f(*logit_pair(c, c), t), distillation_loss(*logit_pair(c, c), t))
                for c in (2, 3, 5)
                for t in TEMPERATURES
            ),
        ),
        Property(
            "detached",
            "the teacher gets no gradient",
            lambda f: not gradients(lambda z, s: f(z, s, 4.0), *logit_pair(3))[1].any(),
        ),
        Property("gradient", "the student gets T (q - p), divided by the number of pixels", _loss_gradient),
        Property("invariance", "a larger image or batch of the same content costs the same", _loss_size),
    ),
    (
        Mistake(
            "T squared is missing",
            "the factor T^2 is missing: at T = 10 the gradient is a hundred times too small.",
            "hint 3: what stands in front of the mean?",
            _built(scale=lambda t: 1.0),
        ),
        Mistake(
            "neither T squared nor detach",
            "two things are missing: the factor T^2, and the detach of the teacher.",
            "hints 1 and 3: who must not move, and what stands in front of the mean?",
            _built(scale=lambda t: 1.0, teacher=lambda z, t: (z.float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "T in place of T squared",
            "the factor is T instead of T^2.",
            "hint 3: T divides the logits twice on the way to the gradient.",
            _built(scale=lambda t: t),
        ),
        Mistake(
            "only the teacher is softened",
            "the student's logits are not divided by T, so it has to be soft all by itself.",
            "hint 1: the same T on both sides.",
            _built(student=lambda z, t: z.float().log_softmax(dim=1)),
        ),
        Mistake(
            "only the student is softened",
            "the teacher's logits are not divided by T, so the student has to shout T times as loud.",
            "hint 1: the same T on both sides.",
            _built(teacher=lambda z, t: z.detach().float().log_softmax(dim=1)),
        ),
        Mistake(
            "teacher and student exchanged",
            "you computed KL(student || teacher).",
            "hint 2: the weight in front of the bracket is the teacher's probability.",
            _built(join=lambda log_q, log_p: kl_reference(log_q, log_p).mean()),
        ),
        Mistake(
            "the teacher is not detached",
            "the value is right, but the gradient reaches the teacher, which then learns from its pupils.",
            "hint 1: which of the two must not move?",
            _built(teacher=lambda z, t: (z.float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "the student is detached",
            "the value is right, but no gradient reaches the student: nobody learns.",
            "hint 1: which of the two must not move?",
            _built(student=lambda z, t: (z.detach().float() / t).log_softmax(dim=1)),
        ),
        Mistake(
            "mean over all elements",
            "the mean runs over classes and pixels: the loss is C times too small.",
            "hint 3: sum over the classes first, then the mean over the pixels.",
            _built(
                join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="none", log_target=True).mean()
            ),
        ),
        Mistake(
            "batchmean",
            "the sum is divided by the number of images alone: the loss is H times W times too large.",
            "hint 3: the mean runs over the pixels of all images.",
            _built(join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="batchmean", log_target=True)),
        ),
        Mistake(
            "batchmean without detach",
            "two things: the sum is divided by the images alone, and the teacher is not detached.",
            "hints 1 and 3: who must not move, and a mean over the pixels of all images.",
            _built(
                teacher=lambda z, t: (z.float() / t).log_softmax(dim=1),
                join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="batchmean", log_target=True),
            ),
        ),
        Mistake(
            "softmax over the wrong axis",
            "the softmax runs along the image's width instead of the classes.",
            "hint 1: the alternatives lie on axis 1.",
            _built(
                student=lambda z, t: (z.float() / t).log_softmax(dim=-1),
                teacher=lambda z, t: (z.detach().float() / t).log_softmax(dim=-1),
            ),
        ),
        Mistake(
            "cross-entropy",
            "the gradient is right, but the loss is not 0 where the student gives SAM's answer.",
            "hint 2: the bracket holds log p minus log q, not log q alone.",
            _built(join=lambda log_q, log_p: -(log_p.exp() * log_q).sum(dim=1).mean()),
        ),
        Mistake(
            "left in half precision",
            "the formula is right, but half-precision logits are not brought to float32 first.",
            "hint 1: float32 on both sides.",
            _built(
                student=lambda z, t: (z / t).log_softmax(dim=1),
                teacher=lambda z, t: (z.detach() / t).log_softmax(dim=1),
                join=lambda log_q, log_p: torch.sum(log_p.exp() * (log_p - log_q), dim=1).mean(),
            ),
        ),
        Mistake(
            "probabilities in place of logarithms",
            "F.kl_div got probabilities as its first argument; it expects log-probabilities.",
            "hint 2: with log_softmax on both sides you can write the sum by hand.",
            _built(
                student=lambda z, t: (z.float() / t).softmax(dim=1),
                join=lambda q, log_p: F.kl_div(q, log_p.exp(), reduction="none").sum(dim=1).mean(),
            ),
        ),
        Mistake(
            "log_target forgotten",
            "F.kl_div took the logarithms of the teacher for probabilities.",
            "hint 2: written out by hand, or with log_target=True.",
            _built(join=lambda log_q, log_p: F.kl_div(log_q, log_p, reduction="none").sum(dim=1).mean()),
        ),
        Mistake(
            "the student detached",
            "the student's logits are detached in place of the teacher's: the wrong one would learn.",
            "hint 1: only the teacher's logits are detached.",
            _built(
                student=lambda z, t: (z.detach().float() / t).log_softmax(dim=1),
                teacher=lambda z, t: (z.float() / t).log_softmax(dim=1),
            ),
        ),
        Mistake(
            "the sum over the pixels",
            "the divergences of all pixels were added up: a larger image costs more.",
            "hint 3: .mean() over the pixels.",
            _built(join=lambda log_q, log_p: kl_reference(log_p, log_q).sum()),
        ),
        Mistake(
            "divided by T squared",
            "the loss was divided by T squared, which makes a small gradient smaller still.",
            "hint 3: in front of it temperature**2.",
            _built(scale=lambda t: t**-2),
        ),
    ),
    distillation_loss,
)
