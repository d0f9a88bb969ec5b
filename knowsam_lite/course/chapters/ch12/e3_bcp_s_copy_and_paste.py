"""Exercise 12.3, BCP's copy and paste."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.losses import UNKNOWN
from knowsam_lite.methods.bcp import paste

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
    """An empty rectangle changes no image and leaves each half its own targets."""
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
    """True labels outside, pseudo-labels inside, in both halves."""
    x_l, y_l, x_u, y_u, inside = parts
    to_u, to_l = torch.arange(len(x_l)) % len(x_u), torch.arange(len(x_u)) % len(x_l)
    true = torch.where(inside, UNKNOWN, torch.cat([y_l, y_l[to_l]]))
    return paste(*parts)[0], true, torch.where(inside, torch.cat([y_u[to_u], y_u]), UNKNOWN)


def _forgotten(*halves: str) -> Paste:
    """Pixels are pasted without their labels: true ones, pseudo-labels, or both."""

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
    """Every image is paired with the first image of the other half."""
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


def _one_half_filled(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x, true, pseudo = paste(*parts)
    return torch.cat([x[: len(parts[0])], parts[2]]), true, pseudo


def _pasted_twice(*parts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The second direction pastes from the result of the first."""
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
            "hint 1: torch.where takes its first choice inside.",
            lambda x_l, y_l, x_u, y_u, inside: paste(x_l, y_l, x_u, y_u, ~inside),
        ),
        Mistake(
            "one way only",
            "the labelled images got their rectangle, the unlabelled ones stayed as they were.",
            "hint 2: the other direction needs its own list of partners.",
            _one_way,
        ),
        Mistake(
            "targets left behind",
            "the images are mixed, but not their labels: pasted pixels have the label of what they cover.",
            "hint 4: in the first half true labels survive outside, in the second inside.",
            _images_only,
        ),
        Mistake(
            "pasted truth forgotten",
            "the inside of a labelled image lost its true labels when pasted into an unlabelled one.",
            "hint 4: in the second half the true labels stand inside, those of the partner.",
            _forgotten("true"),
        ),
        Mistake(
            "pasted opinions forgotten",
            "the inside of an unlabelled image lost its pseudo-labels when pasted into a labelled one.",
            "hint 4: in the first half the pseudo-labels stand inside, the partner's.",
            _forgotten("pseudo"),
        ),
        Mistake(
            "all that was pasted forgotten",
            "pasted pixels have no label at all, neither a true one nor a pseudo-label: they teach nothing.",
            "hint 4: what is pasted brings its partner's labels along.",
            _forgotten("true", "pseudo"),
        ),
        Mistake(
            "unknown is background",
            "pixels of the other kind got class 0, so both losses teach that they are background.",
            "hint 4: unknown is -1.",
            lambda *parts: (paste(*parts)[0], *(t.clamp(min=0) for t in paste(*parts)[1:])),
        ),
        Mistake(
            "one map for both",
            "both targets hold all labels, true ones and opinions: then neither can count half.",
            "hint 4: the pseudo-labels are -1 just where the true ones are not.",
            _one_map,
        ),
        Mistake(
            "both halves alike",
            "in the second half the true labels stand outside, as in the first; there they belong inside.",
            "hint 4: in the second half the true labels survive inside.",
            _halves_alike,
        ),
        Mistake(
            "one partner for all",
            "every image is paired with the first one of the other half.",
            "hint 2: partners by remainder, a list for each direction.",
            _one_partner,
        ),
        Mistake(
            "targets exchanged",
            "true labels and pseudo-labels are returned in the other order: opinions would count full.",
            "the text: images, true labels, pseudo-labels.",
            lambda *parts: tuple(paste(*parts)[i] for i in (0, 2, 1)),
        ),
        Mistake(
            "the shorter half",
            "only as many images as the shorter half has are mixed, and the others are lost.",
            "hint 2: partners by remainder, a list for each direction.",
            _shorter,
        ),
        Mistake(
            "the unlabelled images left as they were",
            "the targets are right, but the unlabelled images got no labelled inside.",
            "the text: unlabelled image j gets the inside of a labelled one.",
            _one_half_filled,
        ),
        Mistake(
            "pasted twice",
            "the second direction pastes from images that are mixed already: the inside comes home again.",
            "hint 3: paste from the originals both times.",
            _pasted_twice,
        ),
    ),
    paste,
)
