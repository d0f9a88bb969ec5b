"""Exercise 12.1, a method of one's own."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.course.chapters.ch12.shared import CASES, STEPS, pull_of, small_batch, small_net
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import Method, ramp

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
    """The two terms, built from parts; each mistake replaces one or two. `flip`: for images, for answers."""

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
    """A method with these terms; `soft`: it predicts probabilities."""

    class Made(Method):
        name = "mirror"
        prediction_view = "U-Net"

        def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
            super().__init__(config, num_classes)
            self.net = small_net(num_classes) if net is None else net

        def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
            yield losses(self, batch, step)

        def predict(self, x: Tensor) -> Tensor:
            return self.net(x).softmax(dim=1) if soft else self.net(x)

    return Made


RIGHT_MIRROR = _mirror(_mirror_losses())
NOT_BACK = (lambda x: x.flip(-1), lambda z: z)


def _mirrors(kind: Any) -> Iterator[tuple[Any, Batch, int]]:
    """The method, a batch and the step, for each case."""
    for classes, labeled, unlabeled, step in CASES:
        method = kind(Config(image_size=16, steps=STEPS), classes, small_net(classes))
        yield method, small_batch(classes, labeled, unlabeled), step


def _mirror_batch(kind: Any) -> list[Tensor]:
    """The terms of a network with batch normalisation, on a batch whose halves differ."""
    method = kind(Config(image_size=16, steps=STEPS), 2, nn.Sequential(nn.BatchNorm2d(3), small_net(2)))
    batch = small_batch(2, 2, 3)
    batch.x[:2] *= 0.5
    terms = method.losses(batch, 9)
    return [terms[name] for name in MIRROR_TERMS]


def _mirror_probe(kind: Any) -> list[Tensor]:
    found = _mirror_batch(kind)
    for method, batch, step in _mirrors(kind):
        terms = method.losses(batch, step)
        for name in sorted(terms):
            found += [terms[name], *pull_of(terms[name], method.net)]
        found.append(method.predict(batch.x))
    return found


def _mirror_terms(kind: Any, name: str) -> list[Tensor]:
    return [method.losses(batch, step)[name] for method, batch, step in _mirrors(kind)]


def _mirror_gradients(kind: Any) -> list[Tensor]:
    made = []
    for method, batch, step in _mirrors(kind):
        terms = method.losses(batch, step)
        made += [g for name in MIRROR_TERMS for g in pull_of(terms[name], method.net)]
    return made


def _mirror_ramp(kind: Any) -> list[Tensor]:
    """The consistency at equal progress in runs of two lengths, and at several steps of one."""
    terms = []
    for steps, step in ((100, 50), (10, 5), (10, 0), (10, 9)):
        method = kind(Config(image_size=16, steps=steps), 2, small_net(2))
        terms.append(method.losses(small_batch(2, 2, 2), step)["consistency"])
    return terms


def _mirror_predict(kind: Any) -> bool:
    return all(same(method.predict(batch.x), method.net(batch.x)) for method, batch, _ in _mirrors(kind))


def _symmetric(kind: Any) -> bool:
    """A network that sees single pixels agrees with its mirror image."""
    method = kind(Config(image_size=16, steps=STEPS), 3, nn.Conv2d(3, 3, 1))
    return bool(method.losses(small_batch(3, 2, 2), 9)["consistency"].abs() < 1e-10)


MIRROR = Exercise(
    "12.1",
    "a method of your own",
    _mirror_probe,
    (
        Property(
            "interface",
            'parts(batch, step) yields "supervised" and "consistency", two single numbers',
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
            "hint 2: mirror the image, ask, mirror the answer.",
            _mirror(_mirror_losses(flip=NOT_BACK)),
        ),
        Mistake(
            "image not mirrored",
            "the network was asked about the image itself, and only its answer was mirrored.",
            "hint 2: the image has to be mirrored, too.",
            _mirror(_mirror_losses(flip=(lambda x: x, lambda z: z.flip(-1)))),
        ),
        Mistake(
            "upside down",
            "the image was turned upside down; left and right change places in a mirror.",
            "hint 2: the last axis is the width.",
            _mirror(_mirror_losses(flip=(lambda x: x.flip(-2),) * 2)),
        ),
        Mistake(
            "the target learns",
            "a gradient goes through the target: both answers are pulled towards each other.",
            "hint 3: the target under torch.no_grad(), or detached.",
            _mirror(_mirror_losses(stop=False)),
        ),
        Mistake(
            "the wrong one stopped",
            "the gradient stops at the answer to the image, and the mirrored one learns, the target.",
            "hint 3: the target, the mirrored answer, under torch.no_grad().",
            _mirror(_mirror_losses(stop=False, distance=lambda p, target: F.mse_loss(p.detach(), target))),
        ),
        Mistake(
            "summed over the classes",
            "the squared errors were added up over the classes, and averaged over the pixels only.",
            "hint 4: F.mse_loss takes the mean over everything.",
            _mirror(_mirror_losses(distance=lambda p, target: (p - target).square().sum(dim=1).mean())),
        ),
        Mistake(
            "sum for mean",
            "the squared errors were added up, not averaged.",
            "hint 4: F.mse_loss takes the mean.",
            _mirror(_mirror_losses(distance=lambda p, target: (p - target).square().sum())),
        ),
        Mistake(
            "cross-entropy alone",
            "the labelled images are learned by cross-entropy alone; the Dice loss is missing.",
            "hint 1: supervised_loss(logits, labels) is both.",
            _mirror(_mirror_losses(supervised=F.cross_entropy)),
        ),
        Mistake(
            "logits",
            "logits are compared in place of probabilities: being surer counts as being different.",
            "hint 3: softmax over the classes first.",
            _mirror(_mirror_losses(soft=lambda z: z)),
        ),
        Mistake(
            "no ramp",
            "the consistency has full weight from the first step on.",
            "hint 4: multiply it by the ramp.",
            _mirror(_mirror_losses(weight=lambda method, step: 1.0)),
        ),
        Mistake(
            "the number of the step",
            "the ramp was given the number of the step; it takes the fraction of the run.",
            "hint 4: self.progress(step).",
            _mirror(_mirror_losses(weight=lambda method, step: ramp(step))),
        ),
        Mistake(
            "all images",
            "the consistency runs over the labelled images, too; here it is asked of the unlabelled half.",
            "hint 1: what stands from batch.n_labeled on.",
            _mirror(_mirror_losses(compared=lambda z, n: z)),
        ),
        Mistake(
            "the labelled half",
            "the consistency is asked of the labelled images; the unlabelled ones teach nothing.",
            "hint 1: what stands from batch.n_labeled on.",
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
            "hint 1: the network is called with batch.x, and its answer is cut.",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart)),
        ),
        Mistake(
            "mirrored half apart",
            "of the mirror images only the unlabelled half was shown, so BatchNorm normalised the target by "
            "other images than the answer.",
            "hint 2: mirror the whole batch, and cut the answer.",
            _mirror(_mirror_losses(mirror_asked=_apart)),
        ),
        Mistake(
            "halves apart, not mirrored back",
            "two things at once: the answer to the mirror image was not mirrored back, and each half was "
            "asked about by itself.",
            "hints 1 and 2: the whole batch; mirror, ask, mirror the answer.",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart, flip=NOT_BACK)),
        ),
        Mistake(
            "mirrored half apart, not mirrored back",
            "two things at once: the answer to the mirror image was not mirrored back, and of the mirror "
            "images only the unlabelled half was shown.",
            "hint 2: mirror the whole batch, ask, mirror the answer, and cut it.",
            _mirror(_mirror_losses(mirror_asked=_apart, flip=NOT_BACK)),
        ),
        Mistake(
            "halves apart, the target learns",
            "two things at once: a gradient goes through the target, and each half was asked about alone.",
            "hints 1 and 3: the whole batch; the target under torch.no_grad().",
            _mirror(_mirror_losses(asked=_apart, mirror_asked=_apart, stop=False)),
        ),
        Mistake(
            "mirrored half apart, the target learns",
            "two things at once: a gradient goes through the target, and of the mirror images only the "
            "unlabelled half was shown.",
            "hints 2 and 3: mirror the whole batch; the target under torch.no_grad().",
            _mirror(_mirror_losses(mirror_asked=_apart, stop=False)),
        ),
    ),
    RIGHT_MIRROR,
)
