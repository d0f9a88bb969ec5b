"""Exercise 07.4, mended and broken."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Scores = Callable[[Tensor, Tensor, Tensor], tuple[float, float]]


def _maps(classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Class maps of prompt, answer and truth, which mostly agree: (3, 5, 6) each."""
    y = noise(3, classes, 5, 6, seed=seed).argmax(dim=1)
    other = noise(2, 3, classes, 5, 6, seed=seed + 1).argmax(dim=2)
    swap = noise(2, 3, 5, 6, seed=seed + 2) > torch.tensor([-0.5, 1.5]).view(2, 1, 1, 1)
    asked = torch.where(swap[0], other[0], y)
    return asked, torch.where(swap[1], other[1], asked), y


def _share(part: Tensor, whole: Tensor) -> float:
    return (part & whole).sum().item() / max(whole.sum().item(), 1)


def _scored(asked: Tensor, answer: Tensor, y: Tensor) -> tuple[float, float]:
    wrong = asked != y
    return _share(answer == y, wrong), _share(answer != y, ~wrong)


def _numbers(f: Scores, *given: Tensor) -> Tensor:
    return torch.tensor([float(value) for value in f(*given)])


def _is(f: Scores, given: Sequence[Tensor], expected: tuple[float, float]) -> bool:
    made = _numbers(f, *given)
    return len(made) == 2 and same(made, torch.tensor(expected))


def _scores_probe(f: Scores) -> list[Tensor]:
    asked, _, y = _maps(3)
    made = [_numbers(f, *_maps(c, s)) for c, s in ((2, 0), (3, 5), (4, 9))]
    return [*made, _numbers(f, y, asked, y), _numbers(f, (y + 1) % 3, y, y)]


def _scores_ends(f: Scores) -> bool:
    asked, _, y = _maps(3)
    return _is(f, (asked, asked, y), (0.0, 0.0)) and _is(f, (asked, y, y), (1.0, 0.0))


def _scores_empty(f: Scores) -> bool:
    asked, _, y = _maps(3)
    share = (asked != y).float().mean().item()
    return _is(f, (y, asked, y), (0.0, share)) and _is(f, ((y + 1) % 3, y, y), (1.0, 0.0))


SCORES = Exercise(
    "07.4",
    "mended and broken",
    _scores_probe,
    (
        Property(
            "interface",
            "mended_and_broken(asked, answer, y) returns two numbers",
            lambda f: takes(f, 3) and len(_numbers(f, *_maps())) == 2,
        ),
        Property(
            "range",
            "between 0 and 1",
            lambda f: all(0 <= value <= 1 for value in f(*_maps(3))),
        ),
        Property("ends", "who copies gets (0, 0), who always knows better gets (1, 0)", _scores_ends),
        Property(
            "value",
            "the mended part of the wrong pixels, the broken part of the right ones; 2, 3 and 4 classes",
            lambda f: all(
                _is(f, _maps(c, s), _scored(*_maps(c, s))) for c, s in ((2, 0), (3, 5), (4, 9), (2, 13))
            ),
        ),
        Property("empty", "where nothing could be mended, or broken, the share is 0", _scores_empty),
    ),
    (
        Mistake(
            "shares of all pixels",
            "you divide by all pixels; each share has its own: the wrong ones, and the right ones.",
            "hint 2: divide by wrong.sum() and by (~wrong).sum().",
            lambda a, b, y: (
                ((a != y) & (b == y)).float().mean().item(),
                ((a == y) & (b != y)).float().mean().item(),
            ),
        ),
        Mistake(
            "exchanged",
            "the two numbers change places.",
            "the text: mended first.",
            lambda a, b, y: _scored(a, b, y)[::-1],
        ),
        Mistake(
            "kept, not mended",
            "you count the errors that were kept; the mended ones are the rest.",
            "hint 1: wrong before, right after.",
            lambda a, b, y: (_share(b != y, a != y), _share(b != y, a == y)),
        ),
        Mistake(
            "changed, not mended",
            "a wrong class replaced by another wrong class counts as mended.",
            "hint 1: the answer must equal the truth.",
            lambda a, b, y: (_share(b != a, a != y), _share(b != y, a == y)),
        ),
        Mistake(
            "question and answer exchanged",
            "the question was taken for the answer.",
            "hint 1: wrong is where asked differs from the truth.",
            lambda a, b, y: _scored(b, a, y),
        ),
        Mistake(
            "errors left over",
            "the second share counts all wrong pixels of the answer; broken are those that were right.",
            "hint 2: broken looks at ~wrong alone.",
            lambda a, b, y: (_share(b == y, a != y), (b != y).float().mean().item()),
        ),
        Mistake(
            "one divisor for both",
            "both shares were divided by the question's wrong pixels; the broken ones were right.",
            "hint 2: divide by wrong.sum() and by (~wrong).sum().",
            lambda a, b, y: (
                _share(b == y, a != y),
                ((a == y) & (b != y)).sum().item() / max((a != y).sum().item(), 1),
            ),
        ),
        Mistake(
            "kept, not broken",
            "the second share counts the right pixels that stayed right; the broken ones are the rest.",
            "hint 2: right before, wrong after.",
            lambda a, b, y: (_share(b == y, a != y), _share(b == y, a == y)),
        ),
        Mistake(
            "counts, not shares",
            "you return numbers of pixels; each is to be divided by those that could be mended, or broken.",
            "hint 2: each share has its own divisor.",
            lambda a, b, y: (
                ((a != y) & (b == y)).sum().item(),
                ((a == y) & (b != y)).sum().item(),
            ),
        ),
        Mistake(
            "image by image",
            "you took the mean of one share per image; the pixels of all images are counted together.",
            "the text: over all images together.",
            lambda a, b, y: tuple(
                sum(shares) / len(y) for shares in zip(*map(_scored, a, b, y), strict=True)
            ),
        ),
        Mistake(
            "0 / 0 of Python numbers",
            "where nothing was wrong, or nothing right, Python refuses to divide by 0.",
            "hint 3: divide by max(count, 1).",
            lambda a, b, y: (
                ((a != y) & (b == y)).sum().item() / (a != y).sum().item(),
                ((a == y) & (b != y)).sum().item() / (a == y).sum().item(),
            ),
        ),
        Mistake(
            "divided by nothing",
            "0 / 0: where nothing was wrong, or nothing right, your share is not a number.",
            "hint 3: divide by at least 1.",
            lambda a, b, y: (
                (((a != y) & (b == y)).sum() / (a != y).sum()).item(),
                (((a == y) & (b != y)).sum() / (a == y).sum()).item(),
            ),
        ),
    ),
    _scored,
)
