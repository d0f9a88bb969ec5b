"""Exercise 02.5, the soft Dice loss."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.losses import UNKNOWN, dice_loss

Loss = Callable[..., Tensor]


def _task(classes: int, seed: int = 0, unknown: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (3, C, 6, 5) and labels; the last class is only in the first image, some pixels are unknown."""
    z = noise(3, classes, 6, 5, seed=seed)
    y = noise(3, classes, 6, 5, seed=seed + 50).argmax(dim=1)
    y[1:][y[1:] == classes - 1] = 0
    if unknown:
        y[:, 2, :3], y[0, 4] = UNKNOWN, UNKNOWN
    return z, y


def _absent() -> tuple[Tensor, Tensor]:
    """A class that is absent and hardly predicted at all: the case `smooth` is for."""
    z = torch.tensor([0.0, -8.0]).view(1, 2, 1, 1).repeat(1, 1, 6, 5)
    return z, torch.zeros(1, 6, 5, dtype=torch.int64)


def _loss_probe(f: Loss) -> list[Tensor]:
    tasks = [_task(3), _task(2, 1, unknown=False), _absent()]
    return [
        *(f(z, y) for z, y in tasks),
        f(*_task(3), 1.0),
        f(_task(2)[0].bfloat16(), _task(2)[1]),
        *(g for z, y in tasks for g in gradients(lambda t, y=y: f(t, y), z)),
    ]


def _loss_value(f: Loss) -> bool:
    return all(same(f(*_task(c, s)), dice_loss(*_task(c, s))) for c, s in ((2, 2), (3, 3), (5, 4)))


def _loss_smooth(f: Loss) -> bool:
    z, y = _absent()
    return same(
        [f(z, y), f(z, y, 0.5), f(*_task(3), 2.0)],
        [dice_loss(z, y), dice_loss(z, y, 0.5), dice_loss(*_task(3), 2.0)],
    )


def _loss_half(f: Loss) -> bool:
    """The same number as from these logits in float32: a wrong formula may still be computed in it."""
    z, y = _task(2)
    return same(f(z.bfloat16(), y), f(z.bfloat16().float(), y))


def _loss_unknown(f: Loss) -> bool:
    """A column of unknown pixels counts as much as none, whatever its logits."""
    z, y = _task(3, unknown=False)
    y[:, :, 0] = UNKNOWN
    return same(f(z, y), f(z[..., 1:], y[..., 1:]))


def _loss_gradient(f: Loss) -> bool:
    z, y = _task(4, 5)
    return same(gradients(lambda t: f(t, y), z), gradients(lambda t: dice_loss(t, y), z))


def _dice(
    squares: bool = True,
    over: tuple[int, ...] = (0, 2, 3),
    first: int = 0,
    ignore: bool = True,
    probabilities: Callable[[Tensor], Tensor] = lambda z: z.float().softmax(dim=1),
) -> Loss:
    """A wrong soft Dice loss: the right one with one part changed."""

    def loss(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
        known = (y != UNKNOWN).unsqueeze(1) | (not ignore)
        p = probabilities(z) * known
        truth = F.one_hot(y.clamp(min=0), z.shape[1]).movedim(-1, 1) * known
        p, truth = p[:, first:], truth[:, first:]
        size = p * p if squares else p
        dice = (2 * (p * truth).sum(over) + smooth) / (size.sum(over) + truth.sum(over) + smooth)
        return 1 - dice.mean()

    return loss


def _winners(z: Tensor) -> Tensor:
    return F.one_hot(z.argmax(dim=1), z.shape[1]).movedim(-1, 1).float() + 0 * z


def _parts_of(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities, truth, and the mask of known pixels."""
    known = (y != UNKNOWN).unsqueeze(1)
    truth = F.one_hot(y.clamp(min=0), z.shape[1]).movedim(-1, 1) * known
    return z.float().softmax(dim=1), truth, known


def _half_known(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    p, truth, _ = _parts_of(z, y)
    above, below = 2 * (p * truth).sum((0, 2, 3)), (p * p).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((above + smooth) / (below + smooth)).mean()


def _summed(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    return z.shape[1] * dice_loss(z, y, smooth)


def _once(z: Tensor, y: Tensor, smooth: float = 1e-5) -> Tensor:
    p, truth, known = _parts_of(z, y)
    p = p * known
    above, below = (p * truth).sum((0, 2, 3)), (p * p).sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((above + smooth) / (below + smooth)).mean()


LOSS = Exercise(
    "02.5",
    "the soft Dice loss",
    _loss_probe,
    (
        Property(
            "interface",
            "dice_loss(z, y, smooth) takes logits and labels; smooth is 1e-5 if left out",
            lambda f: takes(f, 3) and takes(f, 2) and isinstance(f(*_task(2)), Tensor),
        ),
        Property("shape", "one single number", lambda f: f(*_task(3)).shape == ()),
        Property("dtype", "float32, and computed in it, also from half-precision logits", _loss_half),
        Property("value", "1 minus the mean of the classes' soft Dice, for 2, 3 and 5 classes", _loss_value),
        Property("unknown", "pixels of label -1 change nothing", _loss_unknown),
        Property(
            "smooth",
            "added above and below: right where a class is absent, and for other smooth",
            _loss_smooth,
        ),
        Property("gradient", "the logits get the gradient of that value", _loss_gradient),
    ),
    (
        Mistake(
            "Dice, not 1 minus it",
            "your number grows as the prediction gets better; a loss has to fall.",
            "the equation above begins with 1 minus.",
            lambda z, y, smooth=1e-5: 1 - dice_loss(z, y, smooth),
        ),
        Mistake(
            "half precision stays",
            "half-precision logits give a half-precision loss, whose sums have lost all but a few digits.",
            "hint 1: z.float() before the softmax.",
            _dice(probabilities=lambda z: z.softmax(dim=1)),
        ),
        Mistake(
            "float32 at the end",
            "your number is float32, but it was made of half-precision sums, so most digits are wrong.",
            "hint 1: z.float() before the softmax.",
            lambda z, y, smooth=1e-5: _dice(probabilities=lambda z: z.softmax(dim=1))(z, y, smooth).float(),
        ),
        Mistake(
            "float32 behind the softmax",
            "the softmax was made in half precision, and float32 comes too late for its digits.",
            "hint 1: z.float() before the softmax.",
            _dice(probabilities=lambda z: z.softmax(dim=1).float()),
        ),
        Mistake(
            "no squares",
            "the denominator holds the sum of p; here it is the sum of p squared.",
            "hint 3: the denominator.",
            _dice(squares=False),
        ),
        Mistake(
            "image by image",
            "you made one ratio per image and averaged; the sums run over the whole batch.",
            "hint 3: which axes remain?",
            _dice(over=(2, 3)),
        ),
        Mistake(
            "one ratio for all classes",
            "the sums run over the classes as well, so large classes drown the small ones.",
            "hint 3: which axes remain?",
            _dice(over=(0, 1, 2, 3)),
        ),
        Mistake(
            "no background",
            "the mean leaves out class 0; here it runs over all C classes.",
            "hint 3: the mean runs over all classes.",
            _dice(first=1),
        ),
        Mistake(
            "unknown pixels count",
            "pixels of label -1 count as background; they should count for nothing.",
            "hint 2: multiply p and the truth by what is known.",
            _dice(ignore=False),
        ),
        Mistake(
            "another smooth",
            "smooth is 1 if it is left out; it should be 1e-5, or small objects hardly count.",
            "the text: smooth is 1e-5 if it is left out.",
            lambda z, y, smooth=1.0: dice_loss(z, y, smooth),
        ),
        Mistake(
            "one_hot of -1",
            "F.one_hot was given the label -1, which it does not take.",
            "hint 2: y.clamp(min=0) first, and multiply by what is known.",
            lambda z, y, smooth=1e-5: dice_loss(z, F.one_hot(y, z.shape[1]).argmax(dim=-1), smooth),
        ),
        Mistake(
            "winners",
            "you compared winners; argmax has no gradient, so the network would learn nothing.",
            "hint 1: soft means with probabilities.",
            _dice(probabilities=_winners),
        ),
        Mistake(
            "sigmoid",
            "each class got a sigmoid of its own; the classes exclude each other, so softmax.",
            "hint 1: softmax over axis 1.",
            _dice(probabilities=lambda z: z.float().sigmoid()),
        ),
        Mistake(
            "softmax over the width",
            "the softmax runs along the last axis, the width; the classes lie on axis 1.",
            "hint 1: softmax(dim=1).",
            _dice(probabilities=lambda z: z.float().softmax(dim=-1)),
        ),
        Mistake(
            "logits in place of probabilities",
            "you compared the logits themselves, which are no probabilities.",
            "hint 1: softmax over axis 1.",
            _dice(probabilities=lambda z: z.float()),
        ),
        Mistake(
            "unknown pixels in the prediction",
            "unknown pixels are out of the truth, but still in the sum of p squared.",
            "hint 2: multiply both by `known`.",
            _half_known,
        ),
        Mistake(
            "the sum over the classes",
            "you added the classes up; their mean is wanted.",
            "hint 3: the mean comes last.",
            _summed,
        ),
        Mistake(
            "a factor 2 too few",
            "the overlap is counted once above, but twice below: a perfect prediction has no loss of 0.",
            "the equation: 2 times the overlap.",
            _once,
        ),
        Mistake(
            "softmax over the images",
            "the softmax runs over the images of the batch; the classes lie on axis 1.",
            "hint 1: softmax(dim=1).",
            _dice(probabilities=lambda z: z.float().softmax(dim=0)),
        ),
    ),
    dice_loss,
)
