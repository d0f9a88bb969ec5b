"""Exercise 09.4, two-way copy and paste."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.mixing import Mixed, mix

Mixing = Callable[..., Any]
HALVES = ((3, 3), (2, 5), (4, 1))  # labelled, unlabelled


def _halves(n_l: int, n_u: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Images, labels and chosen cells of both halves; all images differ, and so do all labels."""
    generator = torch.Generator().manual_seed(seed)
    x_l, x_u = (noise(n, 3, 8, 12, seed=seed + n).sigmoid() for n in (n_l, n_u + 10))
    y_l = torch.arange(n_l).view(-1, 1, 1).expand(-1, 8, 12)
    y_u = 100 + torch.arange(n_u).view(-1, 1, 1).expand(-1, 8, 12)
    regions = torch.stack([torch.randperm(16, generator=generator) < 5 for _ in range(n_l + n_u)])
    regions = regions.view(-1, 4, 4)
    return x_l, y_l, x_u[:n_u], y_u, regions[:n_l], regions[n_l:]


def _mix_probe(f: Mixing) -> list[Tensor]:
    kept = torch.tensor(_mix_harmless(f))
    return [*(t for n_l, n_u in HALVES for t in f(*_halves(n_l, n_u, n_l))), kept]


def _mix_value(f: Mixing) -> bool:
    return all(same(f(*_halves(n_l, n_u, 7)), mix(*_halves(n_l, n_u, 7))) for n_l, n_u in HALVES)


def _mix_labels(f: Mixing) -> bool:
    """If each pixel's value is its label, that still holds after mixing."""
    for n_l, n_u in HALVES:
        _, y_l, _, y_u, *regions = _halves(n_l, n_u, 3)
        x_l, x_u = (y.unsqueeze(1).expand(-1, 3, -1, -1).float() for y in (y_l, y_u))
        x, y = f(x_l, y_l, x_u, y_u, *regions)
        if not same(x, y.unsqueeze(1).expand(-1, 3, -1, -1).float()):
            return False
    return True


def _mix_ends(f: Mixing) -> bool:
    """No cell chosen: nothing changes. All chosen: the images swap places."""
    x_l, y_l, x_u, y_u, r_l, r_u = _halves(3, 3)
    nothing = f(x_l, y_l, x_u, y_u, torch.zeros_like(r_l), torch.zeros_like(r_u))
    all_ = f(x_l, y_l, x_u, y_u, torch.ones_like(r_l), torch.ones_like(r_u))
    return same(nothing, [torch.cat([x_l, x_u]), torch.cat([y_l, y_u])]) and same(
        all_, [torch.cat([x_u, x_l]), torch.cat([y_u, y_l])]
    )


def _mix_harmless(f: Mixing) -> bool:
    given = [t.clone() for t in _halves(3, 3)]
    f(*given)
    return same(given, _halves(3, 3))


def _bilinear(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    """Cells with soft edges, cut at one half: their corners are rounded."""
    size = x_l.shape[-2:]
    soft = [
        F.interpolate(r[:, None].float(), size, mode="bilinear", align_corners=False)[:, 0] > 0.5
        for r in (r_l, r_u)
    ]
    return mix(x_l, y_l, x_u, y_u, *soft)


def _images_only(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    return Mixed(mix(x_l, y_l, x_u, y_u, r_l, r_u).x, torch.cat([y_l, y_u]))


def _one_after_the_other(
    x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor
) -> Mixed:
    n = len(x_l)
    first = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    second = mix(first.x[:n], first.y[:n], x_u, y_u, r_l, r_u)
    return Mixed(torch.cat([first.x[:n], second.x[n:]]), torch.cat([first.y[:n], second.y[n:]]))


def _one_board(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    return mix(x_l, y_l, x_u, y_u, r_l, r_l[torch.arange(len(x_u)) % len(x_l)])


def _swapped_boards(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    to_u, to_l = torch.arange(len(x_l)) % len(x_u), torch.arange(len(x_u)) % len(x_l)
    return mix(x_l, y_l, x_u, y_u, r_u[to_u], r_l[to_l])


def _last_partner(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    """When the partners run out, repeats the last one."""
    n_l, n_u = len(x_l), len(x_u)
    to_u, to_l = torch.arange(n_l).clamp(max=n_u - 1), torch.arange(n_u).clamp(max=n_l - 1)
    l = mix(x_l, y_l, x_u[to_u], y_u[to_u], r_l, r_l)
    u = mix(x_l[to_l], y_l[to_l], x_u, y_u, r_u, r_u)
    return Mixed(torch.cat([l.x[:n_l], u.x[n_u:]]), torch.cat([l.y[:n_l], u.y[n_u:]]))


def _unlabelled_first(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    x, y = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    return Mixed(x.roll(len(x_u), dims=0), y.roll(len(x_u), dims=0))


def _first_partner(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    l = mix(x_l, y_l, x_u[:1], y_u[:1], r_l, r_u[:1])
    u = mix(x_l[:1], y_l[:1], x_u, y_u, r_l[:1], r_u)
    return Mixed(torch.cat([l.x[: len(x_l)], u.x[1:]]), torch.cat([l.y[: len(x_l)], u.y[1:]]))


def _no_remainder(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    x_u[torch.arange(len(x_l))], x_l[torch.arange(len(x_u))]
    return mix(x_l, y_l, x_u, y_u, r_l, r_u)


def _no_partners(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    paste = F.interpolate(r_l.unsqueeze(1).float(), x_l.shape[-2:]) > 0.5
    return Mixed(torch.where(paste, x_u, x_l), y_l)  # fails here for halves of unequal size


def _spoiling(x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, r_l: Tensor, r_u: Tensor) -> Mixed:
    made = mix(x_l, y_l, x_u, y_u, r_l, r_u)
    x_l.copy_(made.x[: len(x_l)])
    return made


MIX = Exercise(
    "09.4",
    "two-way copy and paste",
    _mix_probe,
    (
        Property(
            "interface",
            "mix(x_l, y_l, x_u, y_u, regions_l, regions_u) returns images and labels",
            lambda f: takes(f, 6) and len(f(*_halves(3, 3))) == 2,
        ),
        Property(
            "shape",
            "(N_l + N_u, 3, H, W) and (N_l + N_u, H, W), labelled half first",
            lambda f: [t.shape for t in f(*_halves(2, 5))] == [(7, 3, 8, 12), (7, 8, 12)],
        ),
        Property(
            "dtype",
            "images stay float32, labels int64",
            lambda f: [t.dtype for t in f(*_halves(3, 3))] == [torch.float32, torch.int64],
        ),
        Property("labels", "every pixel brings its own label along", _mix_labels),
        Property("ends", "no chosen cell changes nothing, all exchange the images", _mix_ends),
        Property(
            "value",
            "the partner's pixels in an image's own chosen cells, halves of equal and unequal size",
            _mix_value,
        ),
        Property("invariance", "what you were given is not changed", _mix_harmless),
    ),
    (
        Mistake(
            "the labels stay behind",
            "the images are mixed, but not their labels: pasted pixels have the label of what they cover.",
            "hint 3: the same torch.where for labels as for images.",
            _images_only,
        ),
        Mistake(
            "inside out",
            "the chosen cells stay and all others are exchanged.",
            "hint 2: torch.where takes its second argument where the mask is true.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, ~r_l, ~r_u),
        ),
        Mistake(
            "one after the other",
            "the unlabelled images are filled from labelled images that were mixed already.",
            "hint 3: both ways start from the unmixed images.",
            _one_after_the_other,
        ),
        Mistake(
            "one board for both",
            "both images of a pair are cut at the labelled one's cells; each has its own board.",
            "hint 2: regions_l for the labelled images, regions_u for the others.",
            _one_board,
        ),
        Mistake(
            "the partner's board",
            "each image is cut at the cells of its partner instead of its own.",
            "hint 2: an image is filled where its own board is true.",
            _swapped_boards,
        ),
        Mistake(
            "the last partner again",
            "where the partners run out, the last one is used again; they should begin anew.",
            "hint 1: the remainder, i mod n.",
            _last_partner,
        ),
        Mistake(
            "unlabelled first",
            "the values are right, but the unlabelled half comes first.",
            "hint 3: labelled images first, as in every batch.",
            _unlabelled_first,
        ),
        Mistake(
            "a bilinear mask",
            "the boards were enlarged bilinearly, so the cells lose their corners.",
            "hint 2: F.interpolate without a mode repeats each cell.",
            _bilinear,
        ),
        Mistake(
            "boards turned",
            "rows and columns of the boards are exchanged.",
            "hint 2: cell (row, column) of the board covers rows and columns of the image.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, r_l.mT, r_u.mT),
        ),
        Mistake(
            "one partner for all",
            "every image gets its cells from the first image of the other half.",
            "hint 1: the remainder, i mod n.",
            _first_partner,
        ),
        Mistake(
            "equal halves taken for granted",
            "image i was looked for in the other half, where there are fewer images.",
            "hint 1: the remainder, i mod n.",
            _no_remainder,
        ),
        Mistake(
            "no partners",
            "image i was mixed with image i as it stands, which works for halves of equal size only.",
            "hint 1: x_u[to_u] first makes one partner for each labelled image.",
            _no_partners,
        ),
        Mistake(
            "only the labelled half",
            "the unlabelled images are as they were; both halves are filled.",
            "hint 3: images and labels of both halves.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, r_l, torch.zeros_like(r_u)),
        ),
        Mistake(
            "only the unlabelled half",
            "the labelled images are as they were; both halves are filled.",
            "hint 3: images and labels of both halves.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: mix(x_l, y_l, x_u, y_u, torch.zeros_like(r_l), r_u),
        ),
        Mistake(
            "labels as real numbers",
            "the values are right, but the labels are no longer integers.",
            "hint 3: torch.where of two int64 tensors stays int64.",
            lambda *given: Mixed(mix(*given).x, mix(*given).y.float()),
        ),
        Mistake(
            "what was given is changed",
            "the mixture is right, but the images that you were given are mixed now, too.",
            "the text: torch.where makes new tensors, x[mask] = ... does not.",
            _spoiling,
        ),
        Mistake(
            "pasted pixels unknown",
            "what came from an unlabelled image has the label -1; it brings its pseudo-label along.",
            "hint 3: the same torch.where for labels as for images.",
            lambda x_l, y_l, x_u, y_u, r_l, r_u: Mixed(
                mix(x_l, y_l, x_u, y_u, r_l, r_u).x,
                torch.cat(
                    [
                        mix(x_l, y_l, x_u, torch.full_like(y_u, -1), r_l, r_u).y[: len(x_l)],
                        mix(x_l, y_l, x_u, y_u, r_l, r_u).y[len(x_l) :],
                    ]
                ),
            ),
        ),
    ),
    mix,
)
