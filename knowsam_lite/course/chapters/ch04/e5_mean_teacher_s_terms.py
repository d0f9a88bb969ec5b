"""Exercise 04.5, Mean Teacher's terms."""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch04.shared import (
    Terms,
    labelled_batch,
    library_terms,
    small_net,
    term_values,
)
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.losses import consistency_loss, supervised_loss
from knowsam_lite.methods.mean_teacher import noisy

PARTS = ("consistency", "supervised")


def _asked(
    f: Terms, n: int = 2, classes: int = 3, w: float = 0.3, seed: int = 0
) -> tuple[dict[str, Tensor], nn.Module, nn.Module]:
    """The terms, with the same noise every time, and the two networks afterwards."""
    net, teacher = small_net(3, classes), small_net(4, classes)  # both could learn; only the student may
    torch.manual_seed(seed)
    return f(net, teacher, *labelled_batch(n, 5, classes, seed), w), net, teacher


def _told(f: Terms, **how: Any) -> list[Tensor]:
    return term_values(_asked(f, **how)[0])


def _weights_reached(f: Terms) -> list[Tensor]:
    """The gradient of each term with respect to the weights of student and teacher."""
    terms, net, teacher = _asked(f)
    weights = [*net.parameters(), *teacher.parameters()]
    found: list[Tensor] = []
    for name in PARTS:
        grads: Any = [None] * len(weights)
        if terms[name].requires_grad:
            grads = torch.autograd.grad(terms[name], weights, retain_graph=True, allow_unused=True)
        found += [torch.zeros_like(p) if g is None else g for g, p in zip(grads, weights, strict=True)]
    return found


def _statistics(f: Terms) -> list[Tensor]:
    """The networks' buffers after the call, and the mode each is left in."""
    _, net, teacher = _asked(f)
    modes = torch.tensor([net.training, teacher.training])
    return [t.clone() for part in (net, teacher) for t in part.buffers()] + [modes]


def _step_probe(f: Terms) -> list[Tensor]:
    return [*_told(f), *_told(f, n=1, w=1.0, seed=3), *_weights_reached(f), *_statistics(f)]


def _step_teacher(f: Terms) -> bool:
    terms, _, teacher = _asked(f)
    torch.stack(list(terms.values())).sum().backward()
    return all(p.grad is None for p in teacher.parameters())


def _step_noise(f: Terms) -> bool:
    """The consistency term depends on the noise; the supervised term does not."""
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        made.append(f(small_net(3), small_net(4), *labelled_batch(), 0.3))
    return not same(made[0]["consistency"], made[1]["consistency"]) and same(
        made[0]["supervised"], made[1]["supervised"]
    )


Student = Callable[[nn.Module, Tensor, int], Tensor]


def _step(
    asked: Student = lambda teacher, x, n: teacher(noisy(x[n:])),
    answers: Student = lambda net, x, n: net(x),
    part: Callable[[Tensor, int], Tensor] = lambda z, n: z[n:],
    distance: Callable[[Tensor, Tensor], Tensor] = lambda z, t: F.mse_loss(
        z.softmax(dim=1), t.softmax(dim=1)
    ),
    weights: Callable[[float], tuple[float, float]] = lambda w: (0.5, w),
    stop: bool = True,
) -> Terms:
    """The two terms, built from six parts; each mistake replaces one."""

    def terms(
        net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
    ) -> dict[str, Tensor]:
        half, w = weights(w)
        z = answers(net, x, n)
        with torch.set_grad_enabled(not stop):
            target = asked(teacher, x, n)
        return {
            "supervised": half * supervised_loss(z[:n], y[:n]),
            "consistency": w * distance(part(z, n), target),
        }

    return terms


def _evaluated(teacher: nn.Module, x: Tensor, n: int) -> Tensor:
    return teacher.eval()(noisy(x[n:]))


def _two_passes(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return torch.cat([net(x[:n]), net(x[n:])])


def _noisy_student(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return net(torch.cat([x[:n], noisy(x[n:])]))


def _plain_student_asked(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    return _step(asked=lambda t, x, n: copy.deepcopy(net)(noisy(x[n:])))(net, teacher, x, y, n, w)


def _same_noise(
    net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float
) -> dict[str, Tensor]:
    both = torch.cat([x[:n], noisy(x[n:])])
    return _step(asked=lambda teacher, x, n: teacher(x[n:]))(net, teacher, both, y, n, w)


@torch.no_grad()
def _nobody(net: nn.Module, teacher: nn.Module, x: Tensor, y: Tensor, n: int, w: float) -> dict[str, Tensor]:
    return _step()(net, teacher, x, y, n, w)


STEP = Exercise(
    "04.5",
    "Mean Teacher's two terms",
    _step_probe,
    (
        Property(
            "interface",
            'mean_teacher_terms(net, teacher, x, y, n, w) returns "supervised" and "consistency"',
            lambda f: takes(f, 6) and sorted(_asked(f)[0]) == list(PARTS),
        ),
        Property("shape", "two single numbers", lambda f: [t.shape for t in _told(f)] == [(), ()]),
        Property(
            "value",
            "half the supervised loss; w times the mean squared difference, with the same noise",
            lambda f: all(
                same(_told(f, n=n, classes=c, w=w, seed=c), _told(library_terms, n=n, classes=c, w=w, seed=c))
                for n, c, w in ((1, 2, 1.0), (2, 3, 0.05), (4, 4, 0.5))
            ),
        ),
        Property(
            "gradient",
            "each term reaches the weights of the student as its formula says",
            lambda f: same(_weights_reached(f), _weights_reached(library_terms)),
        ),
        Property("teacher", "the teacher gets no gradient", _step_teacher),
        Property("noise", "the teacher's images are noisy, the student's are not", _step_noise),
        Property(
            "mode",
            "the modes stay; one pass each, the student's over the batch, the teacher's over its half",
            lambda f: same(_statistics(f), _statistics(library_terms)),
        ),
    ),
    (
        Mistake(
            "no noise",
            "the teacher sees the very images that the student sees, so there is little to disagree about.",
            "hint 2: noisy(x[n:]) goes into the teacher.",
            _step(asked=lambda teacher, x, n: teacher(x[n:])),
        ),
        Mistake(
            "the student sees the noise",
            "the noise went into the student, and the teacher sees the clean images.",
            "hint 2: noisy(x[n:]) goes into the teacher.",
            _step(asked=lambda teacher, x, n: teacher(x[n:]), answers=_noisy_student),
        ),
        Mistake(
            "the teacher learns",
            "the values are right, but a gradient reaches the teacher.",
            "hint 2: ask the teacher inside torch.no_grad().",
            _step(stop=False),
        ),
        Mistake(
            "the student asks itself",
            "the target comes from the student; the teacher was never asked.",
            "hint 2: the teacher makes the target.",
            _plain_student_asked,
        ),
        Mistake(
            "the teacher in evaluation mode",
            "the teacher was put into evaluation mode, and answers by its running averages; in this method "
            "it stays in training mode.",
            "hint 2: call it as it is.",
            _step(asked=_evaluated),
        ),
        Mistake(
            "the whole batch for the teacher",
            "the teacher sees the labelled images, too; it is only needed on the unlabelled half.",
            "hint 2: noisy(x[n:]), not noisy(x)[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x))[n:]),
        ),
        Mistake(
            "noise for the whole batch",
            "the noise was drawn for the whole batch and half of it thrown away; draw it for the unlabelled "
            "half, so that the numbers can be compared.",
            "hint 2: noisy(x[n:]), not noisy(x)[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x)[n:])),
        ),
        Mistake(
            "consistency on the whole batch",
            "student and teacher are compared on the labelled images as well.",
            "hint 3: the student's z[n:] and the teacher's answer to x[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x)), part=lambda z, n: z),
        ),
        Mistake(
            "the labelled half",
            "student and teacher are compared on the labelled half, which has labels to learn from.",
            "hint 3: z[n:] and x[n:].",
            _step(asked=lambda teacher, x, n: teacher(noisy(x[:n])), part=lambda z, n: z[:n]),
        ),
        Mistake(
            "the same noise for both",
            "student and teacher see the same noisy images; the student should see them clean.",
            "hint 2: only the teacher's images are noisy.",
            _same_noise,
        ),
        Mistake(
            "nobody learns",
            "the student was asked inside torch.no_grad(), too, so neither term has a gradient.",
            "hint 2: only the teacher's call belongs there.",
            _nobody,
        ),
        Mistake(
            "pseudo-labels",
            "the teacher's winner became a label; its probabilities are wanted.",
            "hint 3: F.mse_loss of the two softmaxes.",
            _step(distance=lambda z, t: F.cross_entropy(z, t.argmax(dim=1))),
        ),
        Mistake(
            "two passes",
            "the student was called once for each half, so BatchNorm saw two small batches in place of one.",
            "hint 1: net(x) once, then slices of its answer.",
            _step(answers=_two_passes),
        ),
        Mistake(
            "logits compared",
            "the logits are compared; the probabilities are wanted.",
            "hint 3: softmax over axis 1 for both.",
            _step(distance=F.mse_loss),
        ),
        Mistake(
            "the teacher's logits",
            "the student's probabilities are compared with the teacher's logits.",
            "hint 3: softmax over axis 1 for both.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t)),
        ),
        Mistake(
            "the wrong axis",
            "the softmax runs along the width of the image instead of over the classes.",
            "hint 3: both are softmaxes over axis 1.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=-1), t.softmax(dim=-1))),
        ),
        Mistake(
            "sum over the classes",
            "the squares were added up over the classes; the mean is over classes and pixels alike.",
            "hint 3: F.mse_loss takes the mean by itself.",
            _step(distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t.softmax(dim=1)) * z.shape[1]),
        ),
        Mistake(
            "cross-entropy",
            "this is the cross-entropy of the pair; Mean Teacher takes the squared difference.",
            "hint 3: F.mse_loss of the two softmaxes.",
            _step(distance=consistency_loss),
        ),
        Mistake(
            "sum in place of the mean",
            "the squared differences were added up.",
            "hint 3: F.mse_loss takes the mean by itself.",
            _step(
                distance=lambda z, t: F.mse_loss(z.softmax(dim=1), t.softmax(dim=1)) * z.numel(),
            ),
        ),
        Mistake(
            "the student is detached",
            "the values are right, but the student is detached: its consistency teaches nobody.",
            "hint 2: only the teacher is asked inside torch.no_grad().",
            _step(part=lambda z, n: z[n:].detach()),
        ),
        Mistake(
            "the half is missing",
            "the supervised term is twice too large.",
            "hint 3: one half in front of the supervised loss.",
            _step(weights=lambda w: (1.0, w)),
        ),
        Mistake(
            "the weight in front of both",
            "the supervised term has the weight w, too; the labels count in full from the first step on.",
            "hint 3: one half in front of the supervised loss, w in front of the other.",
            _step(weights=lambda w: (0.5 * w, w)),
        ),
        Mistake(
            "n is not used",
            "you cut the batch in the middle; the first n images have labels, and n may be any number.",
            "hint 1: z[:n] and z[n:].",
            lambda net, teacher, x, y, n, w: _step()(net, teacher, x, y, len(x) // 2, w),
        ),
        Mistake(
            "half of both",
            "the consistency was halved, too; it has the weight w alone.",
            "hint 3: one half in front of the supervised loss only.",
            _step(weights=lambda w: (0.5, 0.5 * w)),
        ),
        Mistake(
            "the weight is not used",
            "your consistency is the same for every w.",
            "hint 3: w stands in front of the consistency.",
            _step(weights=lambda w: (0.5, 1.0)),
        ),
    ),
    _step(),
)
