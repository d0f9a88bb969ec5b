"""Chapter 12, beyond: properties, catalogued mistakes, and the quiz's key."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import UNKNOWN, distillation_loss, supervised_loss
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.methods.bcp import largest_components, paste
from knowsam_lite.methods.distillation import SamDistillation
from knowsam_lite.methods.with_sam import NoTeacher
from knowsam_lite.metrics import dice, hd95
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.teacher import TeacherOutput

# Classes, labelled and unlabelled images, step: the situations in which methods are tried.
CASES = ((2, 2, 3, 9), (4, 1, 2, 4), (3, 3, 1, 0))
STEPS = 12


def _net(classes: int, inputs: int = 3, seed: int = 0) -> nn.Module:
    """A net that tells left from right and is sure in places, without dropout and BatchNorm; always the
    same.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(inputs, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, classes, 3, padding=1)
        )
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(3)
    return net


def _batch(classes: int, labeled: int, unlabeled: int) -> Batch:
    """Images of 16 x 16 pixels, of which the second part is unlabelled."""
    n = labeled + unlabeled
    y = noise(n, classes, 16, 16, seed=3).argmax(dim=1)
    y[labeled:] = UNKNOWN
    return Batch(noise(n, 3, 16, 16, seed=4).sigmoid(), y, labeled, [str(i) for i in range(n)])


def _pull(term: Tensor, module: nn.Module) -> list[Tensor]:
    """The gradient of a term at every parameter of a module, zeros where none arrives."""
    weights = list(module.parameters())
    if not term.requires_grad:
        return [torch.zeros_like(w) for w in weights]
    found = torch.autograd.grad(term, weights, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]


# ---------------------------------------------------------------- 12.1 a method of one's own

Losses = Callable[[Any, Batch, int], dict[str, Tensor]]
Asked = Callable[[nn.Module, Tensor, int], Tensor]
MIRROR_TERMS = ["consistency", "supervised"]


def _whole(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return net(x)


def _apart(net: nn.Module, x: Tensor, n: int) -> Tensor:
    return torch.cat([net(x[:n]), net(x[n:])])


def _mirror_losses(
    asked: Asked = _whole,
    mirror_asked: Asked = _whole,
    flip: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]] = (lambda x: x.flip(-1),) * 2,
    soft: Callable[[Tensor], Tensor] = lambda z: z.softmax(dim=1),
    weight: Callable[[Any, int], float] = lambda method, step: ramp(method.progress(step)),
    compared: Callable[[Tensor, int], Tensor] = lambda z, n: z[n:],
    stop: bool = True,
    distance: Callable[[Tensor, Tensor], Tensor] = F.mse_loss,
    supervised: Callable[[Tensor, Tensor], Tensor] = supervised_loss,
) -> Losses:
    """The two terms from parts, of which a mistake replaces one or two; `flip`: the images, the answers."""

    def losses(method: Any, batch: Batch, step: int) -> dict[str, Tensor]:
        n, (there, back) = batch.n_labeled, flip
        z = asked(method.net, batch.x, n)
        target = back(mirror_asked(method.net, there(batch.x), n))
        p, wanted = (soft(compared(logits, n)) for logits in (z, target))
        return {
            "supervised": supervised(z[:n], batch.y[:n]),
            "consistency": weight(method, step) * distance(p, wanted.detach() if stop else wanted),
        }

    return losses


def _mirror(losses: Losses, soft: bool = False) -> type[Method]:
    """A method of these terms; `soft`: its prediction is probabilities."""

    class Made(Method):
        name = "mirror"
        prediction_view = "U-Net"

        def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
            super().__init__(config, num_classes)
            self.net = _net(num_classes) if net is None else net

        def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
            return losses(self, batch, step)

        def predict(self, x: Tensor) -> Tensor:
            return self.net(x).softmax(dim=1) if soft else self.net(x)

    return Made


RIGHT_MIRROR = _mirror(_mirror_losses())
NOT_BACK = (lambda x: x.flip(-1), lambda z: z)


def _mirrors(kind: Any) -> Iterator[tuple[Any, Batch, int]]:
    """The method in each situation: itself, a batch and the step."""
    for classes, labeled, unlabeled, step in CASES:
        method = kind(Config(image_size=16, steps=STEPS), classes, _net(classes))
        yield method, _batch(classes, labeled, unlabeled), step


def _mirror_batch(kind: Any) -> list[Tensor]:
    """The terms of a network that normalises by the images which it sees together; the halves are unlike."""
    method = kind(Config(image_size=16, steps=STEPS), 2, nn.Sequential(nn.BatchNorm2d(3), _net(2)))
    batch = _batch(2, 2, 3)
    batch.x[:2] *= 0.5
    terms = method.losses(batch, 9)
    return [terms[name] for name in MIRROR_TERMS]


def _mirror_probe(kind: Any) -> list[Tensor]:
    found = _mirror_batch(kind)
    for method, batch, step in _mirrors(kind):
        terms = method.losses(batch, step)
        for name in sorted(terms):
            found += [terms[name], *_pull(terms[name], method.net)]
        found.append(method.predict(batch.x))
    return found


def _mirror_terms(kind: Any, name: str) -> list[Tensor]:
    return [method.losses(batch, step)[name] for method, batch, step in _mirrors(kind)]


def _mirror_gradients(kind: Any) -> list[Tensor]:
    made = []
    for method, batch, step in _mirrors(kind):
        terms = method.losses(batch, step)
        made += [g for name in MIRROR_TERMS for g in _pull(terms[name], method.net)]
    return made


def _mirror_ramp(kind: Any) -> list[Tensor]:
    """The consistency at the same progress of runs of two lengths, and at several steps of one."""
    terms = []
    for steps, step in ((100, 50), (10, 5), (10, 0), (10, 9)):
        method = kind(Config(image_size=16, steps=steps), 2, _net(2))
        terms.append(method.losses(_batch(2, 2, 2), step)["consistency"])
    return terms


def _mirror_predict(kind: Any) -> bool:
    return all(same(method.predict(batch.x), method.net(batch.x)) for method, batch, _ in _mirrors(kind))


def _symmetric(kind: Any) -> bool:
    """A network that looks at single pixels agrees with its mirror image."""
    method = kind(Config(image_size=16, steps=STEPS), 3, nn.Conv2d(3, 3, 1))
    return bool(method.losses(_batch(3, 2, 2), 9)["consistency"].abs() < 1e-10)


MIRROR = Exercise(
    "12.1",
    "a method of your own",
    _mirror_probe,
    (
        Property(
            "interface",
            'losses(batch, step) returns "supervised" and "consistency", two single numbers',
            lambda k: all(
                sorted(terms) == MIRROR_TERMS and all(t.shape == () for t in terms.values())
                for terms in (method.losses(batch, step) for method, batch, step in _mirrors(k))
            ),
        ),
        Property(
            "supervised",
            "cross-entropy and Dice on the labelled images, for 2, 3 and 4 classes",
            lambda k: same(_mirror_terms(k, "supervised"), _mirror_terms(RIGHT_MIRROR, "supervised")),
        ),
        Property(
            "value",
            "the ramp times the mean squared difference on the unlabelled images, mirrored back",
            lambda k: same(_mirror_terms(k, "consistency"), _mirror_terms(RIGHT_MIRROR, "consistency")),
        ),
        Property("mirror", "a network that looks at single pixels has consistency 0", _symmetric),
        Property(
            "ramp",
            "the weight depends on the fraction of the run that is done",
            lambda k: same(_mirror_ramp(k), _mirror_ramp(RIGHT_MIRROR)),
        ),
        Property(
            "gradient",
            "each term reaches the network through its answer to the images, not through the target",
            lambda k: same(_mirror_gradients(k), _mirror_gradients(RIGHT_MIRROR)),
        ),
        Property(
            "batch",
            "BatchNorm sees the whole batch together, of the images and of their mirror images",
            lambda k: same(_mirror_batch(k), _mirror_batch(RIGHT_MIRROR)),
        ),
        Property("predict", "the network's logits", _mirror_predict),
    ),
    (
        Mistake(
            "not mirrored back",
            "the answer to the mirror image was not mirrored back: a lesion on the left is compared with one "
            "on the right.",
            "hint 2 of exercise 12.1: mirror the image, ask, mirror the answer.",
            _mirror(_mirror_losses(flip=NOT_BACK)),
        ),
        Mistake(
            "image not mirrored",
            "the network was asked about the image itself, and only its answer was mirrored.",
            "hint 2 of exercise 12.1: the image has to be mirrored, too.",
            _mirror(_mirror_losses(flip=(lambda x: x, lambda z: z.flip(-1)))),
        ),
        Mistake(
            "upside down",
            "the image was turned upside down; left and right change places in a mirror.",
            "hint 2 of exercise 12.1: the last axis is the width.",
            _mirror(_mirror_losses(flip=(lambda x: x.flip(-2),) * 2)),
        ),
        Mistake(
            "the target learns",
            "a gradient goes through the target: both answers are pulled towards each other.",
            "hint 3 of exercise 12.1: the target under torch.no_grad(), or detached.",
            _mirror(_mirror_losses(stop=False)),
        ),
        Mistake(
            "the wrong one stopped",
            "the gradient stops at the answer to the image, and the mirrored one learns, the target.",
            "hint 3 of exercise 12.1: the target, the mirrored answer, under torch.no_grad().",
            _mirror(_mirror_losses(stop=False, distance=lambda p, target: F.mse_loss(p.detach(), target))),
        ),
        Mistake(
            "summed over the classes",
            "the squared errors were added up over the classes, and averaged over the pixels only.",
            "hint 4 of exercise 12.1: F.mse_loss takes the mean over everything.",
            _mirror(_mirror_losses(distance=lambda p, target: (p - target).square().sum(dim=1).mean())),
        ),
        Mistake(
            "sum for mean",
            "the squared errors were added up, not averaged.",
            "hint 4 of exercise 12.1: F.mse_loss takes the mean.",
            _mirror(_mirror_losses(distance=lambda p, target: (p - target).square().sum())),
        ),
        Mistake(
            "cross-entropy alone",
            "the labelled images are learned by cross-entropy alone; the Dice loss is missing.",
            "hint 1 of exercise 12.1: supervised_loss(logits, labels) is both.",
            _mirror(_mirror_losses(supervised=F.cross_entropy)),
        ),
        Mistake(
            "logits",
            "logits are compared in place of probabilities: being surer counts as being different.",
            "hint 3 of exercise 12.1: softmax over the classes first.",
            _mirror(_mirror_losses(soft=lambda z: z)),
        ),
        Mistake(
            "no ramp",
            "the consistency has full weight from the first step on.",
            "hint 4 of exercise 12.1: multiply it by the ramp.",
            _mirror(_mirror_losses(weight=lambda method, step: 1.0)),
        ),
        Mistake(
            "the number of the step",
            "the ramp was given the number of the step; it takes the fraction of the run.",
            "hint 4 of exercise 12.1: self.progress(step).",
            _mirror(_mirror_losses(weight=lambda method, step: ramp(step))),
        ),
        Mistake(
            "all images",
            "the consistency runs over the labelled images, too; here it is asked of the unlabelled half.",
            "hint 1 of exercise 12.1: what stands from batch.n_labeled on.",
            _mirror(_mirror_losses(compared=lambda z, n: z)),
        ),
        Mistake(
            "the labelled half",
            "the consistency is asked of the labelled images; the unlabelled ones teach nothing.",
            "hint 1 of exercise 12.1: what stands from batch.n_labeled on.",
            _mirror(_mirror_losses(compared=lambda z, n: z[:n])),
        ),
        Mistake(
            "probabilities predicted",
            "predict returns probabilities; the contract says logits, which losses and SAM's prompt expect.",
            "the docstring of predict in exercise 12.1: images in, logits out.",
            _mirror(_mirror_losses(), soft=True),
        ),
        Mistake(
            "halves apart",
            "each half was asked about by itself, so BatchNorm saw two small batches in place of one.",
            "hint 1 of exercise 12.1: the network is called with batch.x, and its answer is cut.",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart)),
        ),
        Mistake(
            "mirrored half apart",
            "of the mirror images only the unlabelled half was shown, so BatchNorm normalised the target by "
            "other images than the answer.",
            "hint 2 of exercise 12.1: mirror the whole batch, and cut the answer.",
            _mirror(_mirror_losses(mirror_asked=_apart)),
        ),
        Mistake(
            "halves apart, not mirrored back",
            "two things at once: the answer to the mirror image was not mirrored back, and each half was "
            "asked about by itself.",
            "hints 1 and 2 of exercise 12.1: the whole batch; mirror, ask, mirror the answer.",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart, flip=NOT_BACK)),
        ),
        Mistake(
            "mirrored half apart, not mirrored back",
            "two things at once: the answer to the mirror image was not mirrored back, and of the mirror "
            "images only the unlabelled half was shown.",
            "hint 2 of exercise 12.1: mirror the whole batch, ask, mirror the answer, and cut it.",
            _mirror(_mirror_losses(mirror_asked=_apart, flip=NOT_BACK)),
        ),
        Mistake(
            "halves apart, the target learns",
            "two things at once: a gradient goes through the target, and each half was asked about alone.",
            "hints 1 and 3 of exercise 12.1: the whole batch; the target under torch.no_grad().",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart, stop=False)),
        ),
        Mistake(
            "mirrored half apart, the target learns",
            "two things at once: a gradient goes through the target, and of the mirror images only the "
            "unlabelled half was shown.",
            "hints 2 and 3 of exercise 12.1: mirror the whole batch; the target under torch.no_grad().",
            _mirror(_mirror_losses(mirror_asked=_apart, stop=False)),
        ),
    ),
)

# ---------------------------------------------------------------- 12.2 SKD for every method


class _Inner(Method):
    """A method with a moving average, its own optimizer, and a memory of its steps."""

    name = "inner"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.net, self.average = _net(num_classes, seed=1), _net(num_classes, seed=2).requires_grad_(False)
        self.seen: list[int] = []

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        n = batch.n_labeled
        return {
            "own": (1 + step) * self.net(batch.x[n:]).square().mean(),
            "flat": 0 * self.net(batch.x).sum(),
        }

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.SGD(self.net.parameters(), 0.1)]

    def after_step(self, step: int) -> None:
        self.seen.append(step)


class _Sam(NoTeacher):
    """Answers like a SAM, from image and prompt, for nothing."""

    def __init__(self, classes: int):
        super().__init__(backbone_named("sam_mini"))
        self.prompts = nn.ModuleList([_net(classes, 3 + classes, seed=3)])

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        return {"prompts": self.prompts}

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        logits = 3 * self.prompts[0](torch.cat([x, z_f.detach()], dim=1))
        return TeacherOutput(logits, logits, logits, logits)


@dataclass
class _Plugged:
    """An answer to 12.2 around `_Inner`, and what it did in one step."""

    kind: Any
    classes: int = 2
    labeled: int = 2
    unlabeled: int = 3
    step: int = 9
    terms: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        config = Config(image_size=16, steps=STEPS, temperature=3.0, distillation_weight=0.3)
        self.inner, self.sam = _Inner(config, self.classes), _Sam(self.classes)
        self.method = self.kind(self.inner, self.sam)
        self.batch = _batch(self.classes, self.labeled, self.unlabeled)
        torch.manual_seed(self.step)  # the prompt on labelled images is rough
        self.terms = self.method.losses(self.batch, self.step)

    def gradients(self, name: str) -> list[Tensor]:
        return [*_pull(self.terms[name], self.inner.net), *_pull(self.terms[name], self.sam)]

    def trained(self) -> list[list[bool]]:
        """For each optimizer, whether it holds each parameter of the inner net and of SAM."""
        wanted = [*self.inner.net.parameters(), *self.sam.parameters()]
        rows = []
        for optimizer in self.method.optimizers():
            held = [id(p) for group in optimizer.param_groups for p in group["params"]]
            rows.append([id(p) in held for p in wanted])
        return rows

    def settings(self) -> list[tuple[type, dict[str, Any]]]:
        """Each optimizer's kind, and what it was made with."""
        return [(type(optimizer), optimizer.defaults) for optimizer in self.method.optimizers()]

    def moments(self) -> list[int]:
        for step in (0, 1, 7):
            self.method.after_step(step)
        return self.inner.seen


def _plugs(kind: Any) -> list[_Plugged]:
    return [_Plugged(kind, *case) for case in CASES]


def _plug_probe(kind: Any) -> list[Tensor]:
    found = []
    for one in _plugs(kind):
        for name in sorted(one.terms):
            found += [one.terms[name], *one.gradients(name)]
        found += [torch.tensor(one.trained()), torch.tensor([len(one.moments()), *one.inner.seen])]
    return [*found, torch.tensor([_plug_settings(kind)])]


def _plug_terms(kind: Any, *names: str) -> list[Tensor]:
    return [one.terms[name] for one in _plugs(kind) for name in names]


def _plug_same(*names: str) -> Callable[[Any], bool]:
    return lambda kind: same(_plug_terms(kind, *names), _plug_terms(SamDistillation, *names))


def _plug_reach(kind: Any) -> bool:
    names = ("own", "sam/supervised", "distillation")
    made, wanted = (
        [g for one in _plugs(k) for name in names for g in one.gradients(name)]
        for k in (kind, SamDistillation)
    )
    return same(made, wanted)


def _plug_settings(kind: Any) -> bool:
    return _Plugged(kind).settings() == _Plugged(SamDistillation).settings()


def _plug_optimizers(kind: Any) -> bool:
    return _plug_settings(kind) and _Plugged(kind).trained() == _Plugged(SamDistillation).trained()


def _skd(
    terms: Callable[[Any, Batch, int], dict[str, Tensor]] | None = None,
    own: bool = True,
    sam: bool = True,
    step: int | None = None,
) -> type[SamDistillation]:
    """The library's class with another distillation term, without the inner terms or without SAM's own."""

    class Made(SamDistillation):
        def losses(self, batch: Batch, at: int) -> dict[str, Tensor]:
            made = super().losses(batch, at if step is None else step)
            inner = self.method.losses(batch, at)
            if terms is not None:
                made |= terms(self, batch, at)
            dropped = set() if own else set(inner)
            dropped |= set() if sam else {"sam/supervised"}
            return {name: term for name, term in made.items() if name not in dropped}

    return Made


def _distilled(
    made: Callable[[Any, Tensor, Tensor, int], Tensor],
) -> Callable[[Any, Batch, int], dict[str, Tensor]]:
    """A distillation term from z, SAM's answer and n, asked as the library asks."""

    def terms(method: Any, batch: Batch, step: int) -> dict[str, Tensor]:
        z = method.method.predict(batch.x)
        torch.manual_seed(step)
        labeled, unlabeled = method.ask_teacher(batch, z)
        z_s = torch.cat([labeled.detach(), unlabeled])
        return {"distillation": made(method.config, z, z_s, batch.n_labeled)}

    return terms


def _sam_term(method: Any, batch: Batch, step: int) -> Tensor:
    torch.manual_seed(step)
    labeled, _ = method.ask_teacher(batch, method.method.predict(batch.x))
    return supervised_loss(labeled, batch.y[: batch.n_labeled])


class _NoMoment(SamDistillation):
    def after_step(self, step: int) -> None:
        pass


class _OnlyInner(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.method.optimizers()


class _OnlySam(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return self.teacher_optimizers()


class _OwnOptimizer(SamDistillation):
    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [*self.method.optimizers(), torch.optim.AdamW(self.teacher.parameters())]


PLUG = Exercise(
    "12.2",
    "SKD for every method",
    _plug_probe,
    (
        Property(
            "interface",
            'the inner terms, "sam/supervised" and "distillation", single numbers',
            lambda k: all(
                sorted(one.terms) == ["distillation", "flat", "own", "sam/supervised"]
                and all(t.shape == () for t in one.terms.values())
                for one in _plugs(k)
            ),
        ),
        Property(
            "inner", "the inner method's terms are as they were, at this step", _plug_same("own", "flat")
        ),
        Property(
            "sam",
            "SAM's own term: its answer and the labels of the labelled half",
            _plug_same("sam/supervised"),
        ),
        Property(
            "value",
            "the distillation on all images, with weight and temperature of the configuration",
            _plug_same("distillation"),
        ),
        Property("gradient", "the distillation teaches the inner net, SAM's own term SAM", _plug_reach),
        Property(
            "optimizers",
            "the inner method's first, then SAM's, both as the methods give them",
            _plug_optimizers,
        ),
        Property(
            "after_step",
            "the inner method is told of every step",
            lambda k: _Plugged(k).moments() == [0, 1, 7],
        ),
    ),
    (
        Mistake(
            "after_step forgotten",
            "the inner method is not told of the steps: a moving average in it would stand still.",
            "hint 5 of exercise 12.2: hand the step on.",
            _NoMoment,
        ),
        Mistake(
            "SAM has no optimizer",
            "only the inner method's optimizers are returned: SAM's adapters and prompts never learn.",
            "hint 4 of exercise 12.2: two lists make one.",
            _OnlyInner,
        ),
        Mistake(
            "only SAM has an optimizer",
            "the inner method's optimizers are missing: the network that counts never learns.",
            "hint 4 of exercise 12.2: two lists make one.",
            _OnlySam,
        ),
        Mistake(
            "an optimizer of one's own",
            "an optimizer was made anew, with other settings than the method's or the configuration's.",
            "hint 4 of exercise 12.2: ask self.method and self.teacher_optimizers() for theirs.",
            _OwnOptimizer,
        ),
        Mistake(
            "inner terms lost",
            "the inner method's own terms are gone; only SAM teaches.",
            "hint 3 of exercise 12.2: the inner terms go into the same dictionary.",
            _skd(own=False),
        ),
        Mistake(
            "SAM learns nothing",
            "SAM's own term is missing: it stays as it was pretrained, and its prompts as they began.",
            "hint 3 of exercise 12.2: CE + Dice of `labeled` with the labels.",
            _skd(sam=False),
        ),
        Mistake(
            "unlabelled half only",
            "the distillation runs over the unlabelled images alone; it is meant for all of them.",
            "hint 2 of exercise 12.2: SAM's answer for the whole batch.",
            _skd(
                _distilled(
                    lambda c, z, z_s, n: (
                        c.distillation_weight * distillation_loss(z[n:], z_s[n:], c.temperature)
                    )
                )
            ),
        ),
        Mistake(
            "weight not used",
            "the distillation has weight 1, whatever the configuration says.",
            "the text of exercise 12.2: self.config.distillation_weight.",
            _skd(_distilled(lambda c, z, z_s, n: distillation_loss(z, z_s, c.temperature))),
        ),
        Mistake(
            "temperature not used",
            "the distillation has its default temperature, whatever the configuration says.",
            "the text of exercise 12.2: self.config.temperature is the third argument.",
            _skd(_distilled(lambda c, z, z_s, n: c.distillation_weight * distillation_loss(z, z_s))),
        ),
        Mistake(
            "teacher and learner exchanged",
            "SAM stands where the learner belongs: the second argument gets no gradient, so nobody learns.",
            "hint 2 of exercise 12.2: the learner is the first argument.",
            _skd(
                _distilled(
                    lambda c, z, z_s, n: c.distillation_weight * distillation_loss(z_s, z, c.temperature)
                )
            ),
        ),
        Mistake(
            "halves exchanged",
            "SAM's answers were joined in the wrong order: each image is taught the answer to another one.",
            "hint 2 of exercise 12.2: in the batch the labelled images come first.",
            _skd(
                _distilled(
                    lambda c, z, z_s, n: (
                        c.distillation_weight
                        * distillation_loss(z, torch.cat([z_s[n:], z_s[:n]]), c.temperature)
                    )
                )
            ),
        ),
        Mistake(
            "the learner detached",
            "z was detached before the distillation: there it is the learner, and now learns nothing.",
            "hint 1 of exercise 12.2: z is prompt and learner; ask_teacher detaches the prompt itself.",
            _skd(
                _distilled(
                    lambda c, z, z_s, n: (
                        c.distillation_weight * distillation_loss(z.detach(), z_s, c.temperature)
                    )
                )
            ),
        ),
        Mistake(
            "SAM detached",
            "SAM's own term was given a detached answer: SAM learns nothing from the labels.",
            "hint 3 of exercise 12.2: `labeled` with its graph; it is detached for the distillation alone.",
            _skd(lambda m, batch, at: {"sam/supervised": _sam_term(m, batch, at).detach()}),
        ),
        Mistake(
            "the prompt in SAM's place",
            "SAM's own term was given the method's prediction, so the labels teach the method, not SAM.",
            "hint 3 of exercise 12.2: `labeled` is SAM's answer.",
            _skd(
                lambda m, batch, at: {
                    "sam/supervised": supervised_loss(
                        m.method.predict(batch.x)[: batch.n_labeled], batch.y[: batch.n_labeled]
                    )
                }
            ),
        ),
        Mistake(
            "always the first step",
            "the inner method was asked for step 0: its ramps and phases never move.",
            "hint 3 of exercise 12.2: hand `step` on.",
            _skd(step=0),
        ),
    ),
)

# ---------------------------------------------------------------- 12.3 BCP's copy and paste

Paste = Callable[..., tuple[Tensor, Tensor, Tensor]]
HALVES = ((3, 2), (2, 5), (1, 4), (2, 2))


def _halves(labeled: int, unlabeled: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x_l, x_u = noise(labeled, 3, 5, 7, seed=1).sigmoid(), noise(unlabeled, 3, 5, 7, seed=2).sigmoid()
    y_l, y_u = (noise(n, 3, 5, 7, seed=s).argmax(dim=1) for n, s in ((labeled, 3), (unlabeled, 4)))
    inside = torch.zeros(5, 7, dtype=torch.bool)
    inside[1:4, 2:6] = True
    return x_l, y_l, x_u, y_u, inside


def _paste_probe(f: Paste) -> list[Tensor]:
    return [t for half in HALVES for t in f(*_halves(*half))]


def _paste_part(f: Paste, part: slice) -> bool:
    return all(same(f(*_halves(*half))[part], paste(*_halves(*half))[part]) for half in HALVES)


def _paste_once(f: Paste) -> bool:
    return all(
        bool(((true == UNKNOWN) ^ (pseudo == UNKNOWN)).all())
        for _, true, pseudo in (f(*_halves(*half)) for half in HALVES)
    )


def _paste_nothing(f: Paste) -> bool:
    """An empty rectangle changes no image and gives every half its own targets."""
    x_l, y_l, x_u, y_u, inside = _halves(3, 2)
    x, true, pseudo = f(x_l, y_l, x_u, y_u, torch.zeros_like(inside))
    return (
        same(x, torch.cat([x_l, x_u]))
        and same(true[:3], y_l)
        and same(pseudo[3:], y_u)
        and bool((true[3:] == UNKNOWN).all() and (pseudo[:3] == UNKNOWN).all())
    )


def _paste_kept(f: Paste) -> bool:
    given, fresh = _halves(2, 5), _halves(2, 5)
    f(*given)
    return same(list(given), list(fresh))


def _shorter(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x_l, y_l, x_u, y_u, inside = parts
    n = min(len(x_l), len(x_u))
    return paste(x_l[:n], y_l[:n], x_u[:n], y_u[:n], inside)


def _one_way(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, true, pseudo = (t.clone() for t in paste(*parts))
    n = len(parts[0])
    x[n:], true[n:], pseudo[n:] = parts[2], UNKNOWN, parts[3]
    return x, true, pseudo


def _images_only(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    y_l, y_u = parts[1], parts[3]
    true = torch.cat([y_l, torch.full_like(y_u, UNKNOWN)])
    return paste(*parts)[0], true, torch.cat([torch.full_like(y_l, UNKNOWN), y_u])


def _halves_alike(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """True labels outside, pseudo-labels inside, in the second half as in the first."""
    x_l, y_l, x_u, y_u, inside = parts
    to_u, to_l = torch.arange(len(x_l)) % len(x_u), torch.arange(len(x_u)) % len(x_l)
    true = torch.where(inside, UNKNOWN, torch.cat([y_l, y_l[to_l]]))
    return paste(*parts)[0], true, torch.where(inside, torch.cat([y_u[to_u], y_u]), UNKNOWN)


def _forgotten(*halves: str) -> Paste:
    """Pixels that were pasted came without their labels: true ones, pseudo-labels, or both."""

    def forgetting(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, true, pseudo = (t.clone() for t in paste(*parts))
        n = len(parts[0])
        if "true" in halves:
            true[n:] = UNKNOWN
        if "pseudo" in halves:
            pseudo[:n] = UNKNOWN
        return x, true, pseudo

    return forgetting


def _one_partner(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Everybody is paired with the first image of the other half."""
    x_l, y_l, x_u, y_u, inside = parts
    first, second = (
        paste(x_l, y_l, x_u[:1], y_u[:1], inside),
        paste(x_l[:1], y_l[:1], x_u, y_u, inside),
    )
    x, true, pseudo = (torch.cat([a[: len(x_l)], b[1:]]) for a, b in zip(first, second, strict=True))
    return x, true, pseudo


def _one_map(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, true, pseudo = paste(*parts)
    both = torch.where(true == UNKNOWN, pseudo, true)
    return x, both, both


def _pasted_twice(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The second direction pastes from what the first has made."""
    x, true, pseudo = (t.clone() for t in paste(*parts))
    x_l, x_u, inside = parts[0], parts[2], parts[4]
    to_l = torch.arange(len(x_u)) % len(x_l)
    x[len(x_l) :] = torch.where(inside, x[: len(x_l)][to_l], x_u)
    return x, true, pseudo


PASTE = Exercise(
    "12.3",
    "BCP: paste both ways",
    _paste_probe,
    (
        Property(
            "interface",
            "paste(x_l, y_l, x_u, y_u, inside) returns three tensors",
            lambda f: takes(f, 5) and len(f(*_halves(2, 2))) == 3,
        ),
        Property(
            "shape",
            "N_l + N_u images and labels, also where the halves differ",
            lambda f: all(
                [tuple(t.shape) for t in f(*_halves(n, m))]
                == [(n + m, 3, 5, 7), (n + m, 5, 7), (n + m, 5, 7)]
                for n, m in HALVES
            ),
        ),
        Property(
            "dtype",
            "images float32, labels int64",
            lambda f: [t.dtype for t in f(*_halves(2, 3))] == [torch.float32, torch.int64, torch.int64],
        ),
        Property(
            "images", "what lies inside changes places, both ways", lambda f: _paste_part(f, slice(0, 1))
        ),
        Property(
            "targets",
            "true labels and pseudo-labels go where their pixels go",
            lambda f: _paste_part(f, slice(1, 3)),
        ),
        Property("once", "every pixel has a true label or a pseudo-label, and never both", _paste_once),
        Property("invariance", "an empty rectangle changes nothing", _paste_nothing),
        Property("quiet", "what was handed in is left as it was", _paste_kept),
    ),
    (
        Mistake(
            "outside exchanged",
            "the frame changes places in place of the rectangle.",
            "hint 1 of exercise 12.3: torch.where takes its first choice inside.",
            lambda x_l, y_l, x_u, y_u, inside: paste(x_l, y_l, x_u, y_u, ~inside),
        ),
        Mistake(
            "one way only",
            "the labelled images got their rectangle, the unlabelled ones stayed as they were.",
            "hint 2 of exercise 12.3: the other direction needs its own list of partners.",
            _one_way,
        ),
        Mistake(
            "targets left behind",
            "the images are mixed, but not their labels: pasted pixels have the label of what they cover.",
            "hint 4 of exercise 12.3: in the first half true labels survive outside, in the second inside.",
            _images_only,
        ),
        Mistake(
            "pasted truth forgotten",
            "the inside of a labelled image lost its true labels when pasted into an unlabelled one.",
            "hint 4 of exercise 12.3: in the second half the true labels stand inside, those of the partner.",
            _forgotten("true"),
        ),
        Mistake(
            "pasted opinions forgotten",
            "the inside of an unlabelled image lost its pseudo-labels when pasted into a labelled one.",
            "hint 4 of exercise 12.3: in the first half the pseudo-labels stand inside, the partner's.",
            _forgotten("pseudo"),
        ),
        Mistake(
            "all that was pasted forgotten",
            "pasted pixels have no label at all, neither a true one nor a pseudo-label: they teach nothing.",
            "hint 4 of exercise 12.3: what is pasted brings its partner's labels along.",
            _forgotten("true", "pseudo"),
        ),
        Mistake(
            "unknown is background",
            "pixels of the other kind got class 0, so both losses teach that they are background.",
            "hint 4 of exercise 12.3: unknown is -1.",
            lambda *parts: (paste(*parts)[0], *(t.clamp(min=0) for t in paste(*parts)[1:])),
        ),
        Mistake(
            "one map for both",
            "both targets hold all labels, true ones and opinions: then neither can count half.",
            "hint 4 of exercise 12.3: the pseudo-labels are -1 just where the true ones are not.",
            _one_map,
        ),
        Mistake(
            "both halves alike",
            "in the second half the true labels stand outside, as in the first; there they belong inside.",
            "hint 4 of exercise 12.3: in the second half the true labels survive inside.",
            _halves_alike,
        ),
        Mistake(
            "one partner for all",
            "every image is paired with the first one of the other half.",
            "hint 2 of exercise 12.3: partners by remainder, a list for each direction.",
            _one_partner,
        ),
        Mistake(
            "targets exchanged",
            "true labels and pseudo-labels are returned in the other order: opinions would count full.",
            "the text of exercise 12.3: images, true labels, pseudo-labels.",
            lambda *parts: tuple(paste(*parts)[i] for i in (0, 2, 1)),
        ),
        Mistake(
            "the shorter half",
            "only as many images as the shorter half has are mixed, and the others are lost.",
            "hint 2 of exercise 12.3: partners by remainder, a list for each direction.",
            _shorter,
        ),
        Mistake(
            "pasted twice",
            "the second direction pastes from images that are mixed already: the inside comes home again.",
            "hint 3 of exercise 12.3: paste from the originals both times.",
            _pasted_twice,
        ),
    ),
)

# ---------------------------------------------------------------- 12.4 the largest component

Keep = Callable[[Tensor, int], Tensor]


def _islands(classes: int, seed: int = 0) -> Tensor:
    """Class maps (3, 14, 18) of many pieces; the last one lacks its highest class, and a middle one."""
    smooth = F.interpolate(noise(3, classes, 6, 7, seed=seed), (14, 18), mode="bilinear")
    labels = smooth.argmax(dim=1)
    labels[2][labels[2] == classes - 1] = 0
    return labels


def _keep_probe(f: Keep) -> list[Tensor]:
    maps = [f(_islands(c, seed), c) for c in (2, 3, 5) for seed in (1, 2)]
    return [*maps, f(_corner(), 3), torch.tensor([_keep_quiet(f)])]


def _keep_quiet(f: Keep) -> bool:
    given = _islands(3, 6)
    f(given, 3)
    return same(given, _islands(3, 6))


def _keep_value(f: Keep) -> bool:
    return all(
        same(f(_islands(c, seed), c), largest_components(_islands(c, seed), c))
        for c in (2, 3, 5)
        for seed in (3, 4)
    )


def _corner() -> Tensor:
    """Pieces that touch at a corner alone, and two images whose pieces would touch across the batch."""
    labels = torch.zeros(2, 6, 8, dtype=torch.int64)
    labels[0, :2, :2], labels[0, 2:5, 2:4] = 1, 1
    labels[0, 0, 4:7], labels[0, 5, 7] = 2, 2
    labels[1, 0, 0], labels[1, 4, 4:7] = 1, 1
    labels[1, 1, 7], labels[1, 5, :2] = 2, 2
    return labels


def _keep_corner(f: Keep) -> bool:
    return same(f(_corner(), 3), largest_components(_corner(), 3))


def _keep_nothing(f: Keep) -> bool:
    empty, full = torch.zeros(2, 5, 6, dtype=torch.int64), torch.ones(1, 5, 6, dtype=torch.int64)
    return same(f(empty, 3), empty) and same(f(full, 2), full)


def _kept(
    labels: Tensor,
    num_classes: int,
    which: Callable[[np.ndarray], int] = lambda sizes: int(sizes[1:].argmax()) + 1,
    structure: Any = None,
    value: Callable[[int], int] = lambda c: c,
) -> Tensor:
    """The filter from parts, one of which a mistake replaces."""
    kept = np.zeros(labels.shape, dtype=np.int64)
    for image, out in zip(labels.numpy(), kept, strict=True):
        for c in range(1, num_classes):
            components, count = ndimage.label(image == c, structure)
            if count:
                out[components == which(np.bincount(components.ravel()))] = value(c)
    return torch.from_numpy(kept)


def _classes_together(labels: Tensor, num_classes: int) -> Tensor:
    return labels * largest_components((labels > 0).long(), 2)


def _batch_together(labels: Tensor, num_classes: int) -> Tensor:
    kept = torch.zeros_like(labels)
    for c in range(1, num_classes):
        components, count = ndimage.label(labels.numpy() == c)
        if count:
            kept[torch.from_numpy(components == np.bincount(components.ravel())[1:].argmax() + 1)] = c
    return kept


KEEP = Exercise(
    "12.4",
    "the largest component",
    _keep_probe,
    (
        Property(
            "interface",
            "largest_components(labels, num_classes)",
            lambda f: takes(f, 2) and isinstance(f(_islands(2), 2), Tensor),
        ),
        Property("shape", "(N, H, W) -> (N, H, W)", lambda f: f(_islands(3), 3).shape == (3, 14, 18)),
        Property("dtype", "int64", lambda f: f(_islands(3), 3).dtype == torch.int64),
        Property(
            "value",
            "of each image and foreground class the largest piece, and 0 elsewhere; 2, 3 and 5 classes",
            _keep_value,
        ),
        Property(
            "corners",
            "pieces that touch at a corner are two, images of a batch have no contact",
            _keep_corner,
        ),
        Property("empty", "an empty map stays empty, a full one full", _keep_nothing),
        Property(
            "invariance",
            "a second time changes nothing",
            lambda f: same(f(f(_islands(3, 5), 3), 3), f(_islands(3, 5), 3)),
        ),
        Property("quiet", "the labels that were handed in are left as they were", _keep_quiet),
    ),
    (
        Mistake(
            "the rest of the image counts",
            "number 0, which is all that is not of this class, was taken for a component.",
            "hint 3 of exercise 12.4: drop the first count before argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes.argmax())),
        ),
        Mistake(
            "one off",
            "the first count was dropped, but the number was not moved back by one.",
            "hint 3 of exercise 12.4: add 1 after argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes[1:].argmax())),
        ),
        Mistake(
            "the first one",
            "the component that comes first was kept, not the largest.",
            "hint 3 of exercise 12.4: count the pixels of each number.",
            lambda labels, n: _kept(labels, n, lambda sizes: 1),
        ),
        Mistake(
            "the smallest one",
            "the smallest component was kept.",
            "hint 3 of exercise 12.4: argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes[1:].argmin()) + 1),
        ),
        Mistake(
            "ones",
            "what is kept got the value 1, whatever its class.",
            "hint 4 of exercise 12.4: write the class.",
            lambda labels, n: _kept(labels, n, value=lambda c: 1),
        ),
        Mistake(
            "classes together",
            "all foreground classes were taken for one object; each class keeps its own component.",
            "hint 1 of exercise 12.4: a loop over the classes inside the loop over the images.",
            _classes_together,
        ),
        Mistake(
            "the batch as a volume",
            "the images were stacked like slices of a scan, so one image keeps something and others nothing.",
            "hint 1 of exercise 12.4: each image for itself.",
            _batch_together,
        ),
        Mistake(
            "corners connect",
            "pieces that touch at a corner were taken for one.",
            "the text of exercise 12.4: connected by an edge, which is ndimage.label's default.",
            lambda labels, n: _kept(labels, n, structure=np.ones((3, 3))),
        ),
        Mistake(
            "filtered in place",
            "the maps are right, but they were written into the labels that were handed in.",
            "hint 1 of exercise 12.4: write into `kept`; the array of a tensor is the tensor's own memory.",
            lambda labels, n: labels.copy_(largest_components(labels, n)),
        ),
    ),
)

# ---------------------------------------------------------------- 12.5 volumes

Planes = Sequence[np.ndarray]
Score = Callable[[list[Record], list[np.ndarray], list[np.ndarray]], dict[str, tuple[float, float]]]
SPACING = {"scan a": (8.0, 1.5, 1.25), "scan b": (1.0, 3.0, 0.5)}


def _slices(seed: int = 0) -> tuple[list[Record], list[np.ndarray], list[np.ndarray]]:
    """Twelve and three slices of two scans of one patient in a muddle; the object ends before the scan."""
    records, found, truth = [], [], []
    for k, (volume, count) in enumerate((("scan a", 12), ("scan b", 3))):
        coarse = noise(2, 1, max(count // 2, 2), 3, 4, seed=seed + k, scale=1.0)
        whole = F.interpolate(coarse, (count, 9, 11), mode="trilinear")[:, 0].numpy()
        whole[:, -2:] -= 9.0
        whole[0, 1] += 0.8
        whole[0, -1, 4, 5] = 9.0  # one stray pixel where nothing is
        for i in range(count):
            name, path = f"{volume} slice {i}", Path(volume)
            records.append(
                Record(
                    name, path, path, "patient", "test", index=i, volume=volume, spacing_mm=SPACING[volume]
                )
            )
            found.append(whole[0, i] > 0)
            truth.append(whole[1, i] > -0.2)
    turns = noise(len(records), seed=seed + 5).argsort().tolist()
    return [records[i] for i in turns], [found[i] for i in turns], [truth[i] for i in turns]


def right_scores(
    records: list[Record],
    found: Planes,
    truth: Planes,
    order: Callable[[Record], Any] | None = lambda record: record.index,
    score: Callable[[np.ndarray, np.ndarray, Any], tuple[float, float]] = lambda p, t, mm: (
        dice(p, t),
        hd95(p, t, mm),
    ),
    key: Callable[[Record], Any] = lambda record: record.volume,
) -> dict[str, tuple[float, float]]:
    """One score for each volume, from parts, one of which a mistake replaces."""
    scores = {}
    for volume in dict.fromkeys(key(record) for record in records):
        places = [i for i, record in enumerate(records) if key(record) == volume]
        if order is not None:
            places.sort(key=lambda i: order(records[i]))
        p, t = (np.stack([planes[i] for i in places]) for planes in (found, truth))
        scores[volume] = score(p, t, records[places[0]].spacing_mm)
    return scores


def _numbers(made: dict[str, tuple[float, float]]) -> Tensor:
    return torch.tensor([[float(value) for value in made[volume]] for volume in sorted(made)])


def _score_probe(f: Score) -> list[Tensor]:
    return [_numbers(f(*_slices(seed))) for seed in (0, 10, 20)]


def _score_column(f: Score, column: int) -> bool:
    return all(
        same(_numbers(f(*_slices(seed)))[:, column], _numbers(right_scores(*_slices(seed)))[:, column])
        for seed in (0, 30, 40)
    )


def _score_order(f: Score) -> bool:
    """The slices in their order and in a muddle score the same."""
    records, found, truth = _slices(50)
    tidy = sorted(range(len(records)), key=lambda i: (records[i].volume, records[i].index))
    in_order = [records[i] for i in tidy], [found[i] for i in tidy], [truth[i] for i in tidy]
    return same(_numbers(f(records, found, truth)), _numbers(f(*in_order)))


def _score_kept(f: Score) -> bool:
    records, found, truth = _slices(60)
    before = list(records)
    f(records, found, truth)
    return records == before


def _by_slice(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return float(np.mean([dice(a, b) for a, b in zip(p, t, strict=True)])), hd95(p, t, mm)


def _flat_distances(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return dice(p, t), float(np.mean([hd95(a, b, mm[1:]) for a, b in zip(p, t, strict=True)]))


def _slice_by_slice(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return _by_slice(p, t, mm)[0], _flat_distances(p, t, mm)[1]


def _records_alone(records: list[Record], found: Planes, truth: Planes) -> dict[str, tuple[float, float]]:
    return right_scores(sorted(records, key=lambda record: record.index or 0), found, truth)


def _all_as_one(records: list[Record], found: Planes, truth: Planes) -> dict[str, tuple[float, float]]:
    tidy = sorted(range(len(records)), key=lambda i: (records[i].volume, records[i].index or 0))
    p, t = (np.stack([planes[i] for i in tidy]) for planes in (found, truth))
    return {v: (dice(p, t), hd95(p, t, SPACING[v])) for v in SPACING}


VOLUMES = Exercise(
    "12.5",
    "one score for each volume",
    _score_probe,
    (
        Property(
            "interface",
            "score_volumes(records, found, truth): volume id -> two numbers",
            lambda f: (
                takes(f, 3)
                and sorted(f(*_slices())) == list(SPACING)
                and all(len(pair) == 2 for pair in f(*_slices()).values())
            ),
        ),
        Property("Dice", "over the whole volume", lambda f: _score_column(f, 0)),
        Property("HD95", "over the whole volume, in mm", lambda f: _score_column(f, 1)),
        Property("order", "the same scores, in whatever order the slices come", _score_order),
        Property("quiet", "the list of records is left as it was", _score_kept),
    ),
    (
        Mistake(
            "mean over slices",
            "Dice is a mean over slices; a slice without object is then all or nothing.",
            "hint 3 of exercise 12.5: stack the slices, then one call of dice.",
            lambda r, f, t: right_scores(r, f, t, score=_by_slice),
        ),
        Mistake(
            "distances by slice",
            "HD95 is a mean over slices: the distance to the object in the next slice is never seen.",
            "hint 3 of exercise 12.5: stack the slices, then one call of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=_flat_distances),
        ),
        Mistake(
            "everything by slice",
            "both scores are means over slices: no volume was ever put together.",
            "hint 3 of exercise 12.5: stack the slices, then one call of dice and one of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=_slice_by_slice),
        ),
        Mistake(
            "only the records sorted",
            "the records were sorted and the masks were not, so each record has another one's mask.",
            "hint 2 of exercise 12.5: sort the numbers of the slices, which all three lists share.",
            _records_alone,
        ),
        Mistake(
            "by patient",
            "the slices were collected by their group; two scans of one patient are two volumes.",
            "the text of exercise 12.5: record.volume is the id of the scan.",
            lambda r, f, t: right_scores(r, f, t, key=lambda record: record.group),
        ),
        Mistake(
            "voxels",
            "HD95 is in voxels; the spacing was not used.",
            "hint 4 of exercise 12.5: the spacing is the third argument of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (dice(p, t), hd95(p, t))),
        ),
        Mistake(
            "axes exchanged",
            "the spacing was turned round: the thickness of a slice became the width of a pixel.",
            "hint 4 of exercise 12.5: slice, row, column, just as the record has it.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (dice(p, t), hd95(p, t, mm[::-1]))),
        ),
        Mistake(
            "as they come",
            "the slices were stacked in the order in which they came: neighbours in the stack are none.",
            "hint 2 of exercise 12.5: sort by index.",
            lambda r, f, t: right_scores(r, f, t, order=None),
        ),
        Mistake(
            "sorted by name",
            "the slices were sorted by their ids, where 10 comes before 2.",
            "hint 2 of exercise 12.5: sort by index, a number.",
            lambda r, f, t: right_scores(r, f, t, order=lambda record: record.id),
        ),
        Mistake(
            "all scans as one",
            "the slices of all scans were stacked into one volume.",
            "hint 1 of exercise 12.5: a list of slices for each volume id.",
            _all_as_one,
        ),
        Mistake(
            "Dice and distance exchanged",
            "the pair is the other way round: Dice comes first.",
            "the text of exercise 12.5: Dice, and HD95 in mm.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (hd95(p, t, mm), dice(p, t))),
        ),
    ),
)

EXERCISES = (MIRROR, PLUG, PASTE, KEEP, VOLUMES)

QUIZ = (
    Answer(
        "d",
        "the average that labels them moves in after_step alone, and Method's own does nothing, silently.",
        "step 2, the trap in the smallest example",
    ),
    Answer("b", "the distillation teaches what predicts, and nothing else.", "who learns from whom"),
    Answer("a", "two losses of different weight need two targets.", "step 3, a rival understood"),
    Answer(
        "c", "of many objects only one survives the filter; there is a switch for it.", "step 3, cleaning up"
    ),
    Answer(
        "d",
        "a patient is one case; slices without the organ would be all or nothing.",
        "step 5, the smallest example",
    ),
)
