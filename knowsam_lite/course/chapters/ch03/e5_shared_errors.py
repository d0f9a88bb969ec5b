"""Exercise 03.5, shared errors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.losses import UNKNOWN

Shared = Callable[[Tensor, Tensor, Tensor], float]


def shared_errors(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    """Of the pixels where at least one network errs, the part where both do: 0 never together, 1 always.

    Logits (N, C, H, W) twice and labels (N, H, W), where -1 (unknown) counts for nothing; nan if none errs.
    """
    known = y != UNKNOWN
    wrong_1 = (z_1.argmax(dim=1) != y) & known
    wrong_2 = (z_2.argmax(dim=1) != y) & known
    either = (wrong_1 | wrong_2).sum()
    return ((wrong_1 & wrong_2).sum() / either).item()


def _answers(classes: int, seed: int, unknown: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Two answers that are right at most pixels, and labels."""
    y = noise(3, classes, 9, 8, seed=seed + 40).argmax(dim=1)
    truth = torch.nn.functional.one_hot(y, classes).movedim(-1, 1) * 3.0
    z_1, z_2 = (truth + noise(3, classes, 9, 8, seed=seed + i) for i in (0, 20))
    z_1[1] -= 3 * truth[1]  # the first one is wrong more often
    if unknown:
        y[0, :4], y[2, :, 3] = UNKNOWN, UNKNOWN
    return z_1, z_2, y


TASKS = ((2, 1, False), (3, 2, False), (2, 3, True), (4, 4, True))


def _number(value: Any) -> Tensor:
    return torch.tensor(float(value))


def _shared_probe(f: Shared) -> list[Tensor]:
    z_1, _, y = _answers(3, 5)
    perfect = 9.0 * torch.nn.functional.one_hot(y.clamp(min=0), 3).movedim(-1, 1)
    try:
        nothing = _number(f(perfect, perfect, y))
    except ZeroDivisionError:
        nothing = torch.tensor(-1.0)
    found = [_number(f(*_answers(*task))) for task in TASKS]
    for task in TASKS:  # the second one is wrong more often here
        first, second, labels = _answers(*task)
        found.append(_number(f(second, first, labels)))
    return [*found, _number(f(z_1, perfect, y)), nothing]


def _shared_value(unknown: bool) -> Callable[[Shared], bool]:
    def holds(f: Shared) -> bool:
        tasks = [task for task in TASKS if task[2] == unknown]  # fresh ones for each: f may write into them
        return all(same(_number(f(*_answers(*t))), _number(shared_errors(*_answers(*t)))) for t in tasks)

    return holds


def _shared_ends(f: Shared) -> bool:
    y = torch.zeros(1, 2, 2, dtype=torch.int64)
    right, left = torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    right[:, 1, :, 1], left[:, 1, :, 0] = 5.0, 5.0  # wrong in the right and in the left column
    right[:, 0, :, 0], left[:, 0, :, 1] = 5.0, 5.0
    return (f(right, right, y), f(right, left, y)) == (1.0, 0.0)


def _nobody_errs(f: Shared) -> bool:
    y = torch.zeros(1, 2, 2, dtype=torch.int64)
    z = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    return bool(_number(f(z, z, y)).isnan())


def _symmetric(f: Shared) -> bool:
    z_1, z_2, y = _answers(3, 6)
    return same(_number(f(z_1, z_2, y)), _number(f(z_2, z_1, y)))


def _wrong_share(share: Callable[[Tensor, Tensor, Tensor], Tensor], unknown_counts: bool = False) -> Shared:
    """A wrong measure: `share(wrong_1, wrong_2, known)`, all (N, H, W)."""

    def measure(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
        known = (y != UNKNOWN) | unknown_counts
        wrong_1, wrong_2 = ((z.argmax(dim=1) != y) & known for z in (z_1, z_2))
        return share(wrong_1, wrong_2, known).item()

    return measure


def _of_either(both: Tensor, wrong_1: Tensor, wrong_2: Tensor) -> Tensor:
    return both.sum() / (wrong_1 | wrong_2).sum()


def _same_answer(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    known, first, second = y != UNKNOWN, z_1.argmax(dim=1), z_2.argmax(dim=1)
    wrong_1, wrong_2 = (first != y) & known, (second != y) & known
    return _of_either(wrong_1 & wrong_2 & (first == second), wrong_1, wrong_2).item()


def _by_image(wrong_1: Tensor, wrong_2: Tensor, known: Tensor) -> Tensor:
    both, either = ((wrong_1 & wrong_2).sum((1, 2)), (wrong_1 | wrong_2).sum((1, 2)))
    return (both / either).mean()


def _both_right(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    right_1, right_2 = (z.argmax(dim=1) == y for z in (z_1, z_2))
    return _of_either(right_1 & right_2, right_1, right_2).item()


def _python_numbers(z_1: Tensor, z_2: Tensor, y: Tensor) -> float:
    wrong_1, wrong_2 = ((z.argmax(dim=1) != y) & (y != UNKNOWN) for z in (z_1, z_2))
    return int((wrong_1 & wrong_2).sum()) / int((wrong_1 | wrong_2).sum())


SHARED = Exercise(
    "03.5",
    "shared errors",
    _shared_probe,
    (
        Property(
            "interface",
            "shared_errors(z_1, z_2, y) returns one number (float)",
            lambda f: takes(f, 3) and isinstance(f(*_answers(2, 1)), float),
        ),
        Property("ends", "1 if both err at the same pixels, 0 if never at the same one", _shared_ends),
        Property(
            "value",
            "pixels at which both are wrong, out of those at which at least one is",
            _shared_value(unknown=False),
        ),
        Property("unknown", "and the same where some labels are unknown", _shared_value(unknown=True)),
        Property("symmetric", "it does not matter which network comes first", _symmetric),
        Property("no error", "nan if no pixel is wrong", _nobody_errs),
    ),
    (
        Mistake(
            "of the first one's errors",
            "you divided by the errors of the first network; those of the second count as well.",
            "hint 3: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / a.sum()),
        ),
        Mistake(
            "of the second one's errors",
            "you divided by the errors of the second network; those of the first count as well.",
            "hint 3: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / b.sum()),
        ),
        Mistake(
            "of the worse one's errors",
            "you divided by the errors of the network that errs more; those of the other count as well.",
            "hint 3: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / torch.maximum(a.sum(), b.sum())),
        ),
        Mistake(
            "of all pixels",
            "you divided by all pixels; then a good pair shares little just because it errs little.",
            "hint 3: at least one of them errs.",
            _wrong_share(lambda a, b, known: (a & b).sum() / known.sum()),
        ),
        Mistake(
            "of the sum",
            "you divided by the sum of both, and so counted the shared errors twice.",
            "hint 3: or, not plus.",
            _wrong_share(lambda a, b, known: (a & b).sum() / (a.sum() + b.sum())),
        ),
        Mistake(
            "the Dice of the errors",
            "that is twice the overlap over the sum; here it is the overlap over the union.",
            "hint 3: or, not plus.",
            _wrong_share(lambda a, b, known: 2 * (a & b).sum() / (a.sum() + b.sum())),
        ),
        Mistake(
            "the part that is not shared",
            "your number is 1 for networks that never err together: it is 1 minus the one wanted.",
            "hint 3: both of them, above the line.",
            _wrong_share(lambda a, b, known: (a ^ b).sum() / (a | b).sum()),
        ),
        Mistake(
            "unknown is an error",
            "pixels of label -1 count as errors of both; nobody knows what is right there.",
            "hint 2: and the label is known.",
            _wrong_share(lambda a, b, known: _of_either(a & b, a, b), unknown_counts=True),
        ),
        Mistake(
            "unknown is background",
            "you turned the label -1 into class 0, so those pixels count; nobody knows what is right there.",
            "hint 2: and the label is known.",
            lambda z_1, z_2, y: shared_errors(z_1, z_2, y.clamp(min=0)),
        ),
        Mistake(
            "the largest along another axis",
            "argmax ran along the images or the pixels; the classes lie on axis 1.",
            "hint 1: z.argmax(dim=1).",
            lambda z_1, z_2, y: shared_errors(z_1.argmax(dim=-1)[:, None], z_2.argmax(dim=-1)[:, None], y),
        ),
        Mistake(
            "image by image",
            "you took the mean of one ratio per image; the sums run over all pixels of all images.",
            "hint 3: count over the whole batch.",
            _wrong_share(_by_image),
        ),
        Mistake(
            "right, not wrong",
            "you counted the pixels at which the networks are right.",
            "hint 2: wrong means not the label.",
            _both_right,
        ),
        Mistake(
            "0 where nobody errs",
            "the value is right, but without any error you say 0, as if the errors were never shared.",
            "hint 3: 0 / 0 of tensors is nan, and may stay so.",
            _wrong_share(lambda a, b, known: (a & b).sum() / (a | b).sum().clamp(min=1)),
        ),
        Mistake(
            "0 / 0 of Python numbers",
            "the value is right, but where no pixel is wrong Python refuses to divide by 0.",
            "hint 3: divide the tensors, and only then .item().",
            _python_numbers,
        ),
        Mistake(
            "the same wrong class",
            "you ask that both name the same wrong class; it is enough that both are wrong.",
            "hint 3: both are wrong, each in its own way.",
            _same_answer,
        ),
    ),
    shared_errors,
)
