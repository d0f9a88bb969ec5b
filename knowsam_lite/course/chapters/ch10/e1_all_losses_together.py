"""Exercise 10.1, all losses together."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.chapters.ch10.shared import Terms
from knowsam_lite.course.chapters.ch10.stand_ins import ToyStudents, ToyTeacher
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import consistency_loss, distillation_loss, entropy_loss, supervised_loss
from knowsam_lite.methods import KnowSAM
from knowsam_lite.methods.base import ramp
from knowsam_lite.sam.prompts import roughen
from knowsam_lite.subnets import UNet, VNet

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
    SAM's answers for the second half come first.
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
    """Roughens the whole map, then takes its labelled half."""
    whole = roughen(students(batch.x).logits_f)

    def recalled(x: Tensor, z_f: Tensor) -> Tensor:
        return teacher(x, whole[: len(x)] if torch.is_grad_enabled() else z_f)

    return _losses(rough=lambda z_f: z_f)(students, recalled, batch, w)


def _one_question(students: nn.Module, teacher: Teacher, batch: Batch, w: float) -> Terms:
    """SAM is asked once about both halves, with all maps roughened."""
    n = batch.n_labeled
    z_f = students(batch.x).logits_f
    answer = teacher(batch.x, roughen(z_f))

    def recalled(x: Tensor, _: Tensor) -> Tensor:
        return answer[:n] if len(x) == n and torch.is_grad_enabled() else answer[n:]

    return right_losses(students, recalled, batch, w)


def _batch(classes: int, labeled: int = 2, unlabeled: int = 3) -> Batch:
    x = noise(labeled + unlabeled, 3, 16, 16, seed=21)
    y = noise(labeled + unlabeled, classes, 16, 16, seed=22).argmax(dim=1)
    y[labeled:] = -1
    return Batch(x, y, labeled, [str(i) for i in range(len(x))])


def _joined(f: Losses, w: float = 0.3) -> tuple[Terms, list[Tensor], ToyTeacher]:
    """The terms of one batch, the gradients of their sum, and a teacher that records what it was asked."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        students, teacher = ToyStudents(3), ToyTeacher(3)
        torch.manual_seed(6)  # for the rough map
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
    order = sorted(range(len(teacher.asked)), key=lambda i: not teacher.graphs[i])  # those with a graph first
    return [teacher.graphs[i] for i in order] == right.graphs and same(
        [teacher.asked[i] for i in order], right.asked
    )


@lru_cache(1)
def _small_knowsam() -> KnowSAM:
    """The whole method, small, in its initial state; SAM draws nothing, so it may be asked in any order."""
    config = Config(image_size=32, labeled="2", steps=10, device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = UNet(2, (8, 16, 32, 64), (0, 0, 0.1, 0.1)), VNet(2, (8, 16, 32, 64), (1, 1, 2, 2))
        method = KnowSAM(config, 2, *nets).train()
        method.teacher.eval()
        return method


def _is_knowsam(f: Losses) -> bool:
    """Whether the terms match the library method's, at a step before regions are exchanged."""
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
        Property("KnowSAM", "with the real networks: the ten terms of the library's KnowSAM", _is_knowsam),
    ),
    (
        Mistake(
            "no halves",
            "each subnet's terms count in full, so two subnets weigh twice what one does.",
            "hint 4: one half for each subnet.",
            _losses(half=1.0),
        ),
        Mistake(
            "half a fused map",
            "the fused map's term is halved, as if there were two of them.",
            "hint 4: the halves belong to the subnets.",
            _losses(fused=0.5),
        ),
        Mistake(
            "labels with a ramp",
            "the ramp weighs down the labels, which are right from the first step on.",
            "hint 3: w belongs to what the students tell each other.",
            _losses(labels=lambda w: w),
        ),
        Mistake(
            "no ramp",
            "consistency and entropy count in full from the first step, when nobody knows anything.",
            "hint 3: both carry w.",
            _losses(mutual=lambda w: 1.0),
        ),
        Mistake(
            "entropy as heavy as consistency",
            "the entropy lacks its factor 0.9.",
            "the table above: 0.9 times w.",
            _losses(entropy=1.0),
        ),
        Mistake(
            "the wrong learner",
            "consistency is the wrong way round: under a's name b learns.",
            "hint 3: the learner's logits come first.",
            _losses(learner=1),
        ),
        Mistake(
            "a clean map",
            "SAM is prompted with the clean map on labelled images, and learns to copy it.",
            "hint 2: roughen the map of the labelled half.",
            _losses(rough=lambda z_f: z_f),
        ),
        Mistake(
            "rough for all",
            "the unlabelled half is prompted roughly, too: there SAM answers, and does not learn.",
            "hint 2: roughen the labelled half alone.",
            _losses(rest=roughen),
        ),
        Mistake(
            "a graph for all",
            "SAM builds a graph for the unlabelled half, which nobody goes back through.",
            "hint 2: with torch.no_grad().",
            _losses(graph=True),
        ),
        Mistake(
            "SAM learns nothing",
            "SAM's answer about the labelled half has no graph, so nothing that its loss says reaches SAM.",
            "hint 2: torch.no_grad() around the second question alone.",
            _losses(learns=False),
        ),
        Mistake(
            "roughened, then cut",
            "the map of the whole batch was roughened and then cut: the noise is drawn for the images that "
            "are given, so give roughen the labelled half alone.",
            "hint 2: roughen(z_f[:n]).",
            _cut_later,
        ),
        Mistake(
            "half of SAM's",
            "SAM's own term is halved, as if there were two SAMs.",
            "hint 4: the halves belong to the subnets.",
            _losses(sam=0.5),
        ),
        Mistake(
            "supervised in full",
            "the subnets' supervised terms lack their halves; the other terms have theirs.",
            "hint 4: one half for each subnet.",
            _losses(supervised=2.0),
        ),
        Mistake(
            "halves exchanged",
            "SAM's answers stand in the wrong order: each image is distilled from another one's.",
            "hint 3: labelled first, as in the batch.",
            _losses(swapped=True),
        ),
        Mistake(
            "distilled on the labelled half",
            "only the labelled half is distilled: where labels teach already.",
            "hint 3: SAM's answers about all images, labelled first.",
            _losses(distilled_on=lambda n: slice(n)),
        ),
        Mistake(
            "one question",
            "SAM is asked about both halves at once: a rough map and a graph for all of them.",
            "hint 2: two calls, one for each half.",
            _one_question,
        ),
        Mistake(
            "distilled on one half",
            "only the unlabelled half is distilled.",
            "hint 3: SAM's answers about all images, labelled first.",
            _losses(distilled_on=lambda n: slice(n, None)),
        ),
        Mistake(
            "distilled with a ramp",
            "distillation carries the ramp, which the paper gives to the students' "
            "opinions about each other alone.",
            "hint 3: no w in the distillation.",
            _losses(distilled=lambda w: w),
        ),
    ),
    right_losses,
)
