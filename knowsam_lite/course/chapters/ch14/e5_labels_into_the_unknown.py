"""Exercise 14.5, CutMix from labelled into unlabelled images."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.methods.knowsam_plus import with_labeled

Paste = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
COUNTS = ((2, 2), (2, 5), (4, 3))


def _given(labeled: int, unlabeled: int) -> tuple[Tensor, ...]:
    x_l, x_u = (noise(n, 3, 5, 6, seed=n + i).sigmoid() for i, n in enumerate((labeled, unlabeled)))
    y_l = noise(labeled, 3, 5, 6, seed=labeled + 7).argmax(dim=1)
    y_u = torch.full((unlabeled, 5, 6), -1)
    inside = noise(unlabeled, 5, 6, seed=unlabeled + 9) > 0
    inside[0] = False  # half of the images get no rectangle
    return x_l, y_l, x_u, y_u, inside


def _cases(f: Paste) -> list[list[Tensor]]:
    return [[t.clone() for t in f(*_given(*count))] for count in COUNTS]


def _part(f: Paste, which: int) -> list[Tensor]:
    return [case[which] for case in _cases(f)]


def _kept(f: Paste) -> bool:
    ok = True
    for count in COUNTS:
        given = _given(*count)
        f(*given)
        ok &= same(list(given), list(_given(*count)))
    return ok


def _modulo(n: int, of: int) -> Tensor:
    return torch.arange(n) % of


def _made(
    partner: Callable[[int, int], Tensor] = _modulo,
    mask: Callable[[Tensor], Tensor] = lambda inside: inside,
    labels: Callable[[Tensor, Tensor, Tensor], Tensor] = torch.where,
    shared: bool = False,
) -> Paste:
    """The paste, built from parts; each mistake replaces one."""

    def paste(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        chosen = partner(len(x_u), len(x_l))
        here = mask(inside)
        if shared:
            here = here[-1:].expand_as(here)
        return torch.where(here.unsqueeze(1), x_l[chosen], x_u), labels(here, y_l[chosen], y_u)

    return paste


def _in_place(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    x, y = with_labeled(x_l, y_l, x_u, y_u, inside)
    return x_u.copy_(x), y_u.copy_(y)


PASTED = Exercise(
    "14.5",
    "labels into the unknown",
    lambda f: [*(t for case in _cases(f) for t in case), torch.tensor(_kept(f))],
    (
        Property(
            "interface",
            "with_labeled(x_l, y_l, x_u, y_u, inside) returns images and labels of the unlabelled half",
            lambda f: (
                takes(f, 5)
                and all(
                    [t.shape for t in case] == [(n, 3, 5, 6), (n, 5, 6)]
                    for case, (_, n) in zip(_cases(f), COUNTS, strict=True)
                )
            ),
        ),
        Property(
            "images",
            "inside from the labelled partner, outside as they were",
            lambda f: same(_part(f, 0), _part(with_labeled, 0)),
        ),
        Property(
            "labels",
            "the partner's labels inside, unknown outside, int64",
            lambda f: same(_part(f, 1), _part(with_labeled, 1)),
        ),
        Property("kept", "what was given stays as it is", _kept),
    ),
    (
        Mistake(
            "labels not pasted",
            "the images changed and the labels did not: what is known inside is not used.",
            "hint 3: the same torch.where for the labels.",
            _made(labels=lambda here, known, unknown: unknown),
        ),
        Mistake(
            "labels everywhere",
            "the partner's labels were laid over the whole image; outside of the rectangle they are false.",
            "hint 3: only inside.",
            _made(labels=lambda here, known, unknown: known),
        ),
        Mistake(
            "outside for inside",
            "what lies outside was pasted: the rectangle is the only place that stayed.",
            "hint 2: torch.where takes its first tensor where the mask is True.",
            _made(mask=lambda inside: ~inside),
        ),
        Mistake(
            "one partner for all",
            "every image got the first labelled one; partners go in turn.",
            "hint 1: j mod N_l.",
            _made(lambda n, of: torch.zeros(n, dtype=torch.int64)),
        ),
        Mistake(
            "partners from the end",
            "partners go in turn from the first labelled image on.",
            "hint 1: torch.arange(len(x_u)) % len(x_l).",
            _made(lambda n, of: (of - 1 - torch.arange(n)) % of),
        ),
        Mistake(
            "one partner late",
            "each image got the next one's partner.",
            "hint 1: unlabelled image 0 gets labelled image 0.",
            _made(lambda n, of: (torch.arange(n) + 1) % of),
        ),
        Mistake(
            "one rectangle for all",
            "all images got the last one's rectangle; each has its own.",
            "hint 2: inside is (N_u, H, W).",
            _made(shared=True),
        ),
        Mistake(
            "changed in place",
            "the result is right, but what was given has changed: x_u is a part of the batch, and whoever "
            "reads the batch afterwards finds a pasted image.",
            "hint 2: torch.where makes a new tensor.",
            _in_place,
        ),
        Mistake(
            "unknown is background",
            "outside of the rectangle the labels became 0, which says background; nobody knows.",
            "hint 3: outside they stay -1.",
            _made(labels=lambda here, known, unknown: torch.where(here, known, 0)),
        ),
        Mistake(
            "the image inside out",
            "in the images what lies outside was pasted; the labels are right.",
            "hint 2: torch.where takes its first tensor where the mask is True.",
            lambda x_l, y_l, x_u, y_u, inside: (
                with_labeled(x_l, y_l, x_u, y_u, ~inside)[0],
                with_labeled(x_l, y_l, x_u, y_u, inside)[1],
            ),
        ),
        Mistake(
            "the labels inside out",
            "in the labels what lies outside was pasted; the images are right.",
            "hint 3: likewise, the first tensor where the mask is True.",
            lambda x_l, y_l, x_u, y_u, inside: (
                with_labeled(x_l, y_l, x_u, y_u, inside)[0],
                with_labeled(x_l, y_l, x_u, y_u, ~inside)[1],
            ),
        ),
        Mistake(
            "in equal parts",
            "the unlabelled images were divided among the labelled ones in order; partners go in turn.",
            "hint 1: j mod N_l.",
            _made(lambda n, of: torch.arange(n) * of // n),
        ),
    ),
    with_labeled,
)
