"""Chapter 01, data and metrics: properties, catalogued mistakes, and the quiz's key."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Stream
from knowsam_lite.data.split import assign_splits, seeded_groups
from knowsam_lite.errors import UserError
from knowsam_lite.metrics import BoolArray, dice, hd95, iou, surface

# ---------------------------------------------------------------- 01.1 a split by groups

Split = Callable[[Sequence[str], float, float, int], dict[str, str]]

PARTS = ("train", "val", "test")
# Eleven groups of unlike size, listed out of order.
GROUPS = [f"p{(7 * i) % 11:02d}" for i in range(11) for _ in range(1 + (3 * i) % 5)]
FRACTIONS = ((0.2, 0.3), (0.0, 0.25), (0.02, 0.02), (0.4, 0.0), (0.0, 0.0), (0.33, 0.41))


def _told(parts: dict[str, str]) -> Tensor:
    """A split as numbers: the part of each of the eleven groups, -1 where it has none, and their count."""
    names = sorted(set(GROUPS))
    return torch.tensor(
        [PARTS.index(parts[name]) if name in parts else -1 for name in names] + [len(parts)]
    ).float()


def _split_or_refusal(f: Split, groups: Sequence[str], val: float, test: float, seed: int) -> Tensor:
    """A refusal is known by its type: the wording is everybody's own."""
    try:
        return _told(f(groups, val, test, seed))
    except UserError:
        return torch.tensor(math.nan)


def _split_probe(f: Split) -> list[Tensor]:
    """What must be refused stays out, so that a mistake is known by its split whether it refuses or not."""
    made = [_split_or_refusal(f, GROUPS, val, test, seed) for val, test in FRACTIONS for seed in (0, 1)]
    return [*made, _split_or_refusal(f, GROUPS[::-1], 0.2, 0.3, 0)]


REFUSED = ((-0.1, 0.2), (0.2, -0.1), (1.0, 0.1), (0.1, 1.0), (0.5, 0.5), (0.0, 0.97), (0.97, 0.0))


def _refuses(f: Split, val: float, test: float) -> bool:
    try:
        f(GROUPS, val, test, 0)
    except UserError:
        return True
    return False


def _split_value(f: Split) -> bool:
    return all(
        f(GROUPS, val, test, seed) == assign_splits(GROUPS, val, test, seed)
        for val, test in FRACTIONS
        for seed in (0, 1, 5)
    )


def _split_sizes(f: Split) -> bool:
    """At least one group in a part that was asked for, rounded to the nearest number of groups."""
    sizes = []
    for val, test in FRACTIONS:
        parts = list(f(GROUPS, val, test, 0).values())
        sizes.append((parts.count("val"), parts.count("test")))
    return sizes == [(2, 3), (0, 3), (1, 1), (4, 0), (0, 0), (4, 5)]


def _parts(order: Sequence[str], val: float, test: float, size: Callable[[float], int]) -> dict[str, str]:
    """A split of this order, with the part's size that `size` makes of fraction times length."""
    held = [size(fraction * len(order)) if fraction else 0 for fraction in (test, val)]
    names = ["test"] * held[0] + ["val"] * held[1]
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=False))


def _at_least_one(wanted: float) -> int:
    return max(1, round(wanted))


def _floored(wanted: float) -> int:
    return max(1, int(wanted))


def _split_by_images(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Every image is drawn by itself; the last of a group decides."""
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    return _parts(order, val, test, _at_least_one)


def _until_share_of_images(wanted: Callable[[float], float]) -> Split:
    """Whole groups, but until a part has so many images as `wanted` makes of fraction times images."""

    def wrong(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
        parts = {}
        order = iter(seeded_groups(groups, seed))
        for name, fraction in (("test", test), ("val", val)):
            taken = 0
            while taken < wanted(fraction * len(groups)):
                group = next(order)
                parts[group] = name
                taken += list(groups).count(group)
        return parts | {group: "train" for group in order}

    return wrong


def _share_counted_through(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Whole groups; the images counted from the first group on decide where each part ends."""
    parts, seen = {}, 0
    for group in seeded_groups(groups, seed):
        share = seen / len(groups)
        parts[group] = "test" if share < test else "val" if share < test + val else "train"
        seen += list(groups).count(group)
    return parts


def _images_counted(refuses: bool) -> Split:
    """Groups are drawn, but a part's size is a fraction of the number of images."""

    def wrong(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
        order = seeded_groups(groups, seed)
        n_test, n_val = (_at_least_one(part * len(groups)) if part else 0 for part in (test, val))
        if refuses and n_test + n_val >= len(order):
            raise UserError("found nothing left for training")
        names = ["test"] * n_test + ["val"] * n_val + ["train"] * len(order)
        return dict(zip(order, names, strict=False))

    return wrong


def _training_first(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    order = seeded_groups(groups, seed)
    parts = list(_parts(order, val, test, _at_least_one).values())
    return dict(zip(order, sorted(parts, key=["train", "test", "val"].index), strict=True))


def _always_one(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    """At least one group in each part, also where none was asked for."""
    tiny = 1e-9
    return _parts(seeded_groups(groups, seed), val or tiny, test or tiny, _at_least_one)


def _val_of_the_rest(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    order = seeded_groups(groups, seed)
    n_test = _at_least_one(test * len(order)) if test else 0
    n_val = _at_least_one(val * (len(order) - n_test)) if val else 0
    names = ["test"] * n_test + ["val"] * n_val + ["train"] * (len(order) - n_test - n_val)
    return dict(zip(order, names, strict=True))


SPLIT = Exercise(
    "01.1",
    "split by groups",
    _split_probe,
    (
        Property(
            "interface",
            "assign_splits(groups, val, test, seed) returns a dict",
            lambda f: takes(f, 4) and isinstance(f(GROUPS, 0.2, 0.3, 0), dict),
        ),
        Property(
            "complete",
            'each group once, each in "train", "val" or "test"',
            lambda f: (
                set(f(GROUPS, 0.2, 0.3, 0)) == set(GROUPS)
                and set(f(GROUPS, 0.2, 0.3, 0).values()) == set(PARTS)
            ),
        ),
        Property("sizes", "fractions of the number of groups, rounded, at least 1 unless 0", _split_sizes),
        Property(
            "value",
            "test, then val, then train, in the order of seeded_groups, for three seeds",
            _split_value,
        ),
        Property(
            "invariance",
            "the order and the number of a group's images change nothing",
            lambda f: (
                f(GROUPS, 0.2, 0.3, 0) == f(GROUPS[::-1], 0.2, 0.3, 0) == f(sorted(set(GROUPS)), 0.2, 0.3, 0)
            ),
        ),
        Property(
            "refusal",
            "UserError for a fraction outside [0, 1) and for nothing left to train on",
            lambda f: all(_refuses(f, *bad) for bad in REFUSED),
        ),
    ),
    (
        Mistake(
            "images in place of groups",
            "every image was drawn by itself, so the sizes count images and groups are torn apart.",
            "hint 1 of exercise 01.1: seeded_groups holds each group once.",
            _split_by_images,
        ),
        Mistake(
            "share of the images",
            "groups were added until that share of the images was there; the fraction is of groups.",
            "hint 1 of exercise 01.1: the number of images plays no part.",
            _until_share_of_images(float),
        ),
        Mistake(
            "share of the images, rounded",
            "groups were added until a rounded number of images was there; the fraction is of groups.",
            "hint 1 of exercise 01.1: the number of images plays no part.",
            _until_share_of_images(round),
        ),
        Mistake(
            "share of the images, counted through",
            "a part ends where that share of the images has gone by; the fraction is of groups.",
            "hint 1 of exercise 01.1: the number of images plays no part.",
            _share_counted_through,
        ),
        Mistake(
            "sizes from the number of images",
            "a part's size is a fraction of the number of images, and so many groups were taken.",
            "hint 1 of exercise 01.1: the length of seeded_groups is the number of groups.",
            _images_counted(refuses=False),
        ),
        Mistake(
            "sizes from the number of images, refused",
            "a part's size is a fraction of the number of images, so hardly a group is left for training.",
            "hint 1 of exercise 01.1: the length of seeded_groups is the number of groups.",
            _images_counted(refuses=True),
        ),
        Mistake(
            "rounded down",
            "the sizes are rounded down, so a small fraction leaves a part empty.",
            "hint 2 of exercise 01.1: max(1, round(...)).",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, int),
        ),
        Mistake(
            "rounded down, but not to 0",
            "the sizes are rounded down: 3.63 groups became 3, and the nearest number is 4.",
            "hint 2 of exercise 01.1: round(...), not int(...).",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, _floored),
        ),
        Mistake(
            "may be empty",
            "a small fraction rounds to 0 groups, and the part that was asked for is empty.",
            "hint 2 of exercise 01.1: at least 1 unless the fraction is 0.",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, round),
        ),
        Mistake(
            "order of appearance",
            "the groups keep the order of the list: the seed does nothing, and a shuffled list changes all.",
            "hint 1 of exercise 01.1: take the order of seeded_groups.",
            lambda g, val, test, seed: _parts(list(dict.fromkeys(g)), val, test, _at_least_one),
        ),
        Mistake(
            "validation first",
            "the validation groups come before the test groups; the order is test, val, train.",
            "the text of exercise 01.1: first the test groups.",
            lambda g, val, test, seed: {
                name: {"val": "test", "test": "val"}.get(part, part)
                for name, part in _parts(seeded_groups(g, seed), test, val, _at_least_one).items()
            },
        ),
        Mistake(
            "refuses nothing",
            "the split is right, but what makes no sense or leaves nothing to train on raises no UserError.",
            "hint 4 of exercise 01.1: look at the fractions before anything else.",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, _at_least_one),
        ),
        Mistake(
            "training first",
            "the training groups are taken first; the order is test, val, train.",
            "the text of exercise 01.1: the rest is for training.",
            _training_first,
        ),
        Mistake(
            "a part that nobody asked for",
            "a fraction of 0 still gets a group; at least 1 holds only above 0.",
            "hint 2 of exercise 01.1: unless the fraction is 0.",
            _always_one,
        ),
        Mistake(
            "a fraction of the rest",
            "the validation part is a fraction of what the test left; both are fractions of all groups.",
            "the equation of exercise 01.1: G is the number of all groups.",
            _val_of_the_rest,
        ),
    ),
)


# ---------------------------------------------------------------- 01.2 image and mask move alike

Warp = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _scene(size: tuple[int, int] = (20, 28), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images with smooth blobs and their masks: classes 0 to 3, and a corner that is unknown."""
    coarse = noise(2, 4, 5, 7, seed=seed)
    z = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    y = z.argmax(dim=1)
    y[:, :4, :4] = -1
    return z[:, :3].sigmoid(), y


def _moves() -> list[Tensor]:
    """Matrices (2, 2, 3): a turn, a small shift, a scaling that looks past the edge, a flip."""
    c, s = math.cos(0.43), math.sin(0.43)
    one = torch.tensor([[[c, -s, 0.0], [s, c, 0.0]], [[1.0, 0.0, 0.13], [0.0, 1.0, -0.27]]])
    two = torch.tensor([[[1.31, 0.1, 0.0], [0.0, 1.43, 0.07]], [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    return [one, two]


def _grid(x: Tensor, theta: Tensor, align: bool = False) -> Tensor:
    return F.affine_grid(theta, list(x.shape), align_corners=align)


def _read(x: Tensor, grid: Tensor, mode: str, padding: str = "reflection", align: bool = False) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align)


def _warped(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    return _read(x, grid, "bilinear"), _read(y[:, None].float(), grid, "nearest")[:, 0].long()


def _warp_probe(f: Warp) -> list[Tensor]:
    return [made for theta in _moves() for made in f(*_scene(), theta)]


def _warp_classes(f: Warp) -> bool:
    """No class appears that was not there: a mask of 0, 3 and -1 keeps to these."""
    x, y = _scene()
    y = torch.where(y >= 2, 3, torch.where(y == -1, -1, 0))
    return all(set(f(x, y, theta)[1].unique().tolist()) <= {-1, 0, 3} for theta in _moves())


def _warp_alike(f: Warp) -> bool:
    """An image that shows its own mask still shows it after the move, away from the borders of classes."""
    _, y = _scene()
    x = y[:, None].float().expand(-1, 3, -1, -1)
    for theta in _moves():
        image, mask = f(x, y, theta)
        inner = image == image.round()  # bilinear means of one class alone
        if not (image == mask[:, None])[inner].all() or inner.float().mean() < 0.5:
            return False
    return True


def _mask_bilinear(x: Tensor, y: Tensor, theta: Tensor, rounded: bool = False) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    classes = _read(y[:, None].float(), grid, "bilinear")[:, 0]
    return _read(x, grid, "bilinear"), (classes.round() if rounded else classes).long()


def _aligned(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta, align=True)
    mask = _read(y[:, None].float(), grid, "nearest", align=True)[:, 0].long()
    return _read(x, grid, "bilinear", align=True), mask


def _black(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    mask = _read(y[:, None].float(), grid, "nearest", "zeros")[:, 0].long()
    return _read(x, grid, "bilinear", "zeros"), mask


def _mask_left_float(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    image, mask = _warped(x, y, theta)
    return image, mask.float()


def _padded(padding: str, image_too: bool = True) -> Warp:
    """The right move with other pixels beyond the edge, in the mask and maybe in the image."""

    def wrong(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        grid = _grid(x, theta)
        mask = _read(y[:, None].float(), grid, "nearest", padding)[:, 0].long()
        return _read(x, grid, "bilinear", padding if image_too else "reflection"), mask

    return wrong


def _axis_kept(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    image, mask = _warped(x, y, theta)
    return image, mask[:, None]


def _first_move(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    return _warped(x, y, theta[:1].expand(len(x), -1, -1))


WARP = Exercise(
    "01.2",
    "image and mask move alike",
    _warp_probe,
    (
        Property(
            "interface",
            "warp(x, y, theta) returns images and masks",
            lambda f: takes(f, 3) and len(f(*_scene(), _moves()[0])) == 2,
        ),
        Property(
            "shape",
            "(N, 3, H, W) and (N, H, W), as they came, H and W unlike",
            lambda f: [t.shape for t in f(*_scene(), _moves()[0])] == [(2, 3, 20, 28), (2, 20, 28)],
        ),
        Property(
            "dtype",
            "images float32, masks int64",
            lambda f: [t.dtype for t in f(*_scene(), _moves()[0])] == [torch.float32, torch.int64],
        ),
        Property("classes", "a mask of 0, 3 and -1 holds 0, 3 and -1 afterwards", _warp_classes),
        Property("alike", "an image of the mask itself still fits the mask", _warp_alike),
        Property(
            "value",
            "the right values, also beyond the edge",
            lambda f: all(
                same(f(*_scene(seed=1), theta), _warped(*_scene(seed=1), theta)) for theta in _moves()
            ),
        ),
        Property(
            "invariance",
            "no move changes nothing",
            lambda f: same(f(*_scene(), torch.eye(2, 3).expand(2, 2, 3)), _scene()),
        ),
    ),
    (
        Mistake(
            "mask sampled bilinearly",
            "the mask was averaged between pixels and cut to whole numbers: classes appear that nobody drew.",
            'hint 3 of exercise 01.2: mode="nearest" for the mask.',
            _mask_bilinear,
        ),
        Mistake(
            "mask averaged and rounded",
            "the mask was averaged between pixels and rounded, which invents classes all the same.",
            'hint 3 of exercise 01.2: mode="nearest" for the mask.',
            lambda x, y, theta: _mask_bilinear(x, y, theta, rounded=True),
        ),
        Mistake(
            "mask not moved",
            "the image was moved and its mask stayed where it was.",
            "hint 1 of exercise 01.2: make the positions once and use them twice.",
            lambda x, y, theta: (_warped(x, y, theta)[0], y),
        ),
        Mistake(
            "image sampled with nearest",
            "the image was sampled with nearest, too, which makes its edges jagged.",
            'hint 2 of exercise 01.2: mode="bilinear" for the image.',
            lambda x, y, theta: (_read(x, _grid(x, theta), "nearest"), _warped(x, y, theta)[1]),
        ),
        Mistake(
            "black beyond the edge",
            "beyond the edge there is black, and in the mask a background that nobody drew.",
            'hint 2 of exercise 01.2: padding_mode="reflection", for both.',
            _black,
        ),
        Mistake(
            "corners aligned",
            "the coordinates run from the middle of the first pixel to that of the last one.",
            "hint 1 of exercise 01.2: align_corners=False, everywhere.",
            _aligned,
        ),
        Mistake(
            "mask left as float",
            "the mask is right but still of a floating-point type, which no loss takes as labels.",
            "hint 3 of exercise 01.2: .long() makes class indices of it.",
            _mask_left_float,
        ),
        Mistake(
            "edge pixels repeated",
            "beyond the edge the last pixels are repeated; the image should go on as its mirror image.",
            'hint 2 of exercise 01.2: padding_mode="reflection".',
            _padded("border"),
        ),
        Mistake(
            "mask ends at the edge",
            "the image goes on as its mirror image, but its mask is background there.",
            'hint 3 of exercise 01.2: the mask needs padding_mode="reflection", too.',
            _padded("zeros", image_too=False),
        ),
        Mistake(
            "unknown became background",
            "the label -1, unknown, was lost: those pixels are background now.",
            "the text of exercise 01.2: -1 has to survive; no clamp, no bytes.",
            lambda x, y, theta: _warped(x, y.clamp(min=0), theta),
        ),
        Mistake(
            "an axis too many",
            "the mask still has the axis that grid_sample wanted: (N, 1, H, W).",
            "hint 3 of exercise 01.2: [:, 0] takes the axis away.",
            _axis_kept,
        ),
        Mistake(
            "one move for all",
            "every image makes the move of the first one.",
            "the text of exercise 01.2: theta holds one matrix for each image.",
            _first_move,
        ),
    ),
)


# ---------------------------------------------------------------- 01.3 two streams

Steps = Callable[[Stream, Stream, int, int, int], list[Record]]

SIZES = ((2, 3), (1, 4), (3, 3), (4, 0))


def streams(labeled: int = 5, unlabeled: int = 13, seed: int = 0) -> tuple[Stream, Stream]:
    """A labelled stream of records called 0, 1, ... and an unlabelled one called 100, 101, ..."""

    def walk(first: int, size: int, name: int) -> Stream:
        ids = [str(first + i) for i in range(size)]
        return Stream([Record(i, Path(i), None, i, "train") for i in ids], seed, name)

    return walk(0, labeled, 0), walk(100, unlabeled, 1)


def _ids(records: Iterable[Record]) -> Tensor:
    return torch.tensor([float(record.id) for record in records])


def _by_position(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    return [labeled[step * n_l + i] for i in range(n_l)] + [unlabeled[step * n_u + i] for i in range(n_u)]


def _steps_probe(f: Steps) -> list[Tensor]:
    return [_ids(f(*streams(), step, *sizes)) for sizes in SIZES for step in (0, 3, 1, 40)]


def _steps_epoch(f: Steps) -> bool:
    """Five labelled and thirteen unlabelled records, one of each a step: each round holds every one once."""
    walked = [f(*streams(), step, 1, 1) for step in range(65)]
    rounds = [
        {walked[i][place].id for i in range(start, start + size)}
        for place, size in ((0, 5), (1, 13))
        for start in range(0, 65, size)
    ]
    return all(len(found) in (5, 13) for found in rounds) and len(rounds) == 18


def _pure(f: Steps) -> bool:
    late, _, again = (_ids(f(*streams(), step, 2, 3)) for step in (9, 2, 9))
    return same(late, again) and same(late, _ids(_by_position(*streams(), 9, 2, 3)))


def _with_replacement(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    generator = torch.Generator().manual_seed(step)
    return [
        stream.records[int(torch.randint(len(stream.records), (), generator=generator))]
        for stream, size in ((labeled, n_l), (unlabeled, n_u))
        for _ in range(size)
    ]


def _one_round(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    sizes = len(labeled.records), len(unlabeled.records)
    first = [labeled[(step * n_l + i) % sizes[0]] for i in range(n_l)]
    return first + [unlabeled[(step * n_u + i) % sizes[1]] for i in range(n_u)]


def _one_pace(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    start = step * (n_l + n_u)
    return [labeled[start + i] for i in range(n_l)] + [unlabeled[start + n_l + i] for i in range(n_u)]


def _sliding(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    return [labeled[step + i] for i in range(n_l)] + [unlabeled[step + i] for i in range(n_u)]


def _unlabeled_first(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    made = _by_position(labeled, unlabeled, step, n_l, n_u)
    return made[n_l:] + made[:n_l]


def _from_one_position(count: Callable[[int, int], int]) -> Steps:
    """Both streams are asked from the same position, a step times what `count` makes of the two sizes."""

    def wrong(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
        start = step * count(n_l, n_u)
        return [labeled[start + i] for i in range(n_l)] + [unlabeled[start + i] for i in range(n_u)]

    return wrong


def _by_turns(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    made = _by_position(labeled, unlabeled, step, n_l, n_u)
    pairs = [record for pair in zip(made[:n_l], made[n_l:], strict=False) for record in pair]
    both = min(n_l, n_u)
    return pairs + made[both:n_l] + made[n_l + both :]


STEPS = Exercise(
    "01.3",
    "the images of a step",
    _steps_probe,
    (
        Property(
            "interface",
            "step_records(labeled, unlabeled, step, n_labeled, n_unlabeled) returns a list of records",
            lambda f: takes(f, 5) and all(isinstance(r, Record) for r in f(*streams(), 0, 2, 3)),
        ),
        Property(
            "count",
            "n_labeled records of the labelled stream, then n_unlabeled of the other",
            lambda f: all(
                [float(r.id) >= 100 for r in f(*streams(), 2, n_l, n_u)] == [False] * n_l + [True] * n_u
                for n_l, n_u in SIZES
            ),
        ),
        Property(
            "value",
            "the records at the streams' next positions, for several sizes of batch",
            lambda f: all(
                same(_ids(f(*streams(seed=1), step, *s)), _ids(_by_position(*streams(seed=1), step, *s)))
                for s in SIZES
                for step in range(12)
            ),
        ),
        Property(
            "rounds", "within one round of a stream no image is missing and none comes twice", _steps_epoch
        ),
        Property("pure", "step 9 is the same, before and after step 2", _pure),
    ),
    (
        Mistake(
            "sliding by one",
            "each step moves on by one record only, so neighbouring batches share images.",
            "hint 1 of exercise 01.3: each step has taken n_labeled records.",
            _sliding,
        ),
        Mistake(
            "one pace for both",
            "both streams move on by the whole batch, so each leaves out what the other takes.",
            "hint 2 of exercise 01.3: each stream walks at its own pace.",
            _one_pace,
        ),
        Mistake(
            "the first round again and again",
            "after one round you begin the same round again: the order is never shuffled anew.",
            "hint 3 of exercise 01.3: a stream never ends, no % is needed.",
            _one_round,
        ),
        Mistake(
            "drawn with replacement",
            "images are drawn at random for each step: some come twice in a round, some not at all.",
            "hint 1 of exercise 01.3: ask the stream by position.",
            _with_replacement,
        ),
        Mistake(
            "the same batch at every step",
            "the step plays no part: every step gets the images of step 0.",
            "hint 1 of exercise 01.3: the stream has come to position step * n_labeled.",
            lambda labeled, unlabeled, step, n_l, n_u: _by_position(labeled, unlabeled, 0, n_l, n_u),
        ),
        Mistake(
            "unlabelled first",
            "the unlabelled records come first; the loss takes the first part for the labelled half.",
            "the text of exercise 01.3: first the labelled ones.",
            _unlabeled_first,
        ),
        Mistake(
            "the labelled stream's position for both",
            "the unlabelled stream is asked from the labelled one's position: it repeats or skips images.",
            "hint 2 of exercise 01.3: its position has nothing to do with n_labeled.",
            _from_one_position(lambda n_l, n_u: n_l),
        ),
        Mistake(
            "the whole batch as pace",
            "both streams move on by the whole batch and leave images out.",
            "hint 2 of exercise 01.3: each stream walks at its own pace.",
            _from_one_position(lambda n_l, n_u: n_l + n_u),
        ),
        Mistake(
            "the next step's images",
            "steps count from 0: your step 0 begins where step 1 should.",
            "hint 1 of exercise 01.3: before step 0 nothing has been taken.",
            lambda labeled, unlabeled, step, n_l, n_u: _by_position(labeled, unlabeled, step + 1, n_l, n_u),
        ),
        Mistake(
            "by turns",
            "labelled and unlabelled records take turns; the labelled ones should all come first.",
            "the text of exercise 01.3: first the labelled ones.",
            _by_turns,
        ),
        Mistake(
            "two lists in one",
            "you return a list of two lists; one list of records is wanted.",
            "the text of exercise 01.3: + joins two lists into one.",
            lambda labeled, unlabeled, step, n_l, n_u: [
                _by_position(labeled, unlabeled, step, n_l, 0),
                _by_position(labeled, unlabeled, step, 0, n_u),
            ],
        ),
    ),
)


# ---------------------------------------------------------------- 01.4 IoU in two ways

TwoWays = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _masks(seed: int = 0, shape: tuple[int, int, int] = (6, 7, 9)) -> tuple[Tensor, Tensor]:
    """Six images: both empty, one empty each way, a small object, two large ones."""
    pred, true = noise(*shape, seed=seed) > 0.4, noise(*shape, seed=seed + 50) > 0.9
    pred[0], true[0], pred[1], true[2] = False, False, False, False
    pred[3], true[3] = False, False
    pred[3, 2, 2:4], true[3, 2, 3:5] = True, True
    return pred, true


def _iou_both(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """By the library's `iou`: the mean over the images, and of all pixels as one image."""
    images = [iou(p, t) for p, t in zip(pred.numpy(), true.numpy(), strict=True)]
    return torch.tensor(images).mean(), torch.tensor(iou(pred.numpy(), true.numpy()))


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 4, 5, dtype=torch.bool), torch.zeros(2, 4, 5, dtype=torch.bool)


def _iou_probe(f: TwoWays) -> list[Tensor]:
    return [made for pair in (_masks(), _masks(3), _nothing()) for made in f(*pair)]


def _counts(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    return (pred & true).sum(dim=(1, 2)).float(), (pred | true).sum(dim=(1, 2)).float()


def _empty_is(value: float, pooled_value: float, left_out: bool = False) -> TwoWays:
    """The two ways with other values where nobody claims a pixel; such images may be left out."""

    def wrong(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        both, either = _counts(pred, true)
        images = torch.where(either > 0, both / either, value)
        pooled = torch.where(either.sum() > 0, both.sum() / either.sum(), pooled_value)
        return images.nanmean() if left_out else images.mean(), pooled

    return wrong


def _empty_images(name: str, says: str, hint: str, value: float, left_out: bool = False) -> list[Mistake]:
    """One mistake about empty images, with the pooled 0 / 0 right, unguarded, or 0 as well."""
    return [
        Mistake(name + more, says + also, hint, _empty_is(value, pooled_value, left_out))
        for more, also, pooled_value in (
            ("", "", 1.0),
            (", pooled nan", " And without any claimed pixel your pooled value is nan, not 1.", math.nan),
            (", pooled 0", " And without any claimed pixel your pooled value is 0, not 1.", 0.0),
        )
    ]


def _smoothed(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    both, either = _counts(pred, true)
    return ((both + 1) / (either + 1)).mean(), (both.sum() + 1) / (either.sum() + 1)


def _two_dice(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    images = [dice(p, t) for p, t in zip(pred.numpy(), true.numpy(), strict=True)]
    return torch.tensor(images).mean(), torch.tensor(dice(pred.numpy(), true.numpy()))


def _accuracy(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    right = (pred == true).float()
    return right.mean(dim=(1, 2)).mean(), right.mean()


def _ratios(
    divide: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    axes: tuple[int, ...] = (1, 2),
) -> TwoWays:
    """Both ways from `divide(overlap, pixels of pred, pixels of true, pixels of either)` of each image."""

    def wrong(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        both, either = pred & true, pred | true
        parts = [mask.sum(dim=axes).float() for mask in (both, pred, true, either)]
        whole = [part.sum() for part in parts]
        images, pooled = (torch.where(b > 0, a / b, 1.0) for a, b in (divide(*parts), divide(*whole)))
        return images.mean(), pooled

    return wrong


def _no_mean(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    both, either = _counts(pred, true)
    return torch.where(either > 0, both / either, 1.0), _iou_both(pred, true)[1]


IOU = Exercise(
    "01.4",
    "IoU in two ways",
    _iou_probe,
    (
        Property(
            "interface",
            "iou_two_ways(pred, true) returns two numbers",
            lambda f: takes(f, 2) and [t.ndim for t in f(*_masks())] == [0, 0],
        ),
        Property(
            "dtype",
            "twice float32",
            lambda f: [t.dtype for t in f(*_masks())] == [torch.float32] * 2,
        ),
        Property(
            "images",
            "the mean of the images' own IoU, where an image that nobody claims counts 1",
            lambda f: all(same(f(*_masks(s))[0], _iou_both(*_masks(s))[0]) for s in range(4)),
        ),
        Property(
            "pooled",
            "the IoU of all pixels as one image",
            lambda f: all(same(f(*_masks(s))[1], _iou_both(*_masks(s))[1]) for s in range(4)),
        ),
        Property(
            "empty",
            "1 and 1 where nobody claims a pixel",
            lambda f: [float(value) for value in f(*_nothing())] == [1.0, 1.0],
        ),
        Property(
            "invariance",
            "prediction and truth may change places",
            lambda f: same(f(*_masks()), f(*reversed(_masks()))),
        ),
    ),
    (
        *_empty_images(
            "nan",
            "an image in which nobody claims a pixel gives 0 / 0, and one nan spoils the mean.",
            "hint 2 of exercise 01.4: torch.where puts a 1 in its place.",
            math.nan,
        ),
        *_empty_images(
            "empty images left out",
            "images in which nobody claims a pixel are left out of the mean; they count 1.",
            "the text of exercise 01.4: an image without any claimed pixel counts 1.",
            math.nan,
            left_out=True,
        ),
        *_empty_images(
            "empty images count 0",
            "images in which nobody claims a pixel count 0, as they do with a small number in the divisor.",
            "hint 2 of exercise 01.4: torch.where puts a 1 in its place.",
            0.0,
        ),
        Mistake(
            "pooled nan",
            "the first number is right; the second is nan if there is not one claimed pixel in all images.",
            "hint 3 of exercise 01.4: 0 / 0 can happen to the pooled value, too.",
            _empty_is(1.0, math.nan),
        ),
        Mistake(
            "pooled 0",
            "the first number is right; the second is 0 if there is not one claimed pixel in all images.",
            "the text of exercise 01.4: then it is 1.",
            _empty_is(1.0, 0.0),
        ),
        Mistake(
            "smoothed by 1",
            "a 1 above and below mends 0 / 0 and bends every other value, those of small objects most.",
            "hint 2 of exercise 01.4: change the empty images alone.",
            _smoothed,
        ),
        Mistake(
            "Dice",
            "these are Dice scores: the divisor is the sum of both masks in place of their union.",
            "hint 1 of exercise 01.4: | is the union.",
            _two_dice,
        ),
        Mistake(
            "the same number twice",
            "your second number is the mean over the images again; pooling adds up before it divides.",
            "hint 3 of exercise 01.4: first add up, then divide.",
            lambda pred, true: (_iou_both(pred, true)[0],) * 2,
        ),
        Mistake(
            "exchanged",
            "the pooled value comes first and the mean over the images second.",
            "the text of exercise 01.4: the mean over the images is the first number.",
            lambda pred, true: _iou_both(pred, true)[::-1],
        ),
        Mistake(
            "share of right pixels",
            "background that both leave alone counts as right, so empty masks look good.",
            "the equation of exercise 01.4: only claimed pixels count.",
            _accuracy,
        ),
        Mistake(
            "the sum of both masks",
            "you divide by the pixels of both masks added up, in which the overlap counts twice.",
            "hint 1 of exercise 01.4: | is the union.",
            _ratios(lambda both, p, t, either: (both, p + t)),
        ),
        Mistake(
            "a share of the prediction",
            "you divide by the prediction's pixels alone, so what is missed costs nothing.",
            "hint 1 of exercise 01.4: | is the union.",
            _ratios(lambda both, p, t, either: (both, p)),
        ),
        Mistake(
            "a share of the truth",
            "you divide by the true pixels alone, so a prediction that claims everything is perfect.",
            "hint 1 of exercise 01.4: | is the union.",
            _ratios(lambda both, p, t, either: (both, t)),
        ),
        Mistake(
            "rows counted one by one",
            "you count each row or column of an image by itself, and each empty one counts 1.",
            "hint 1 of exercise 01.4: .sum(dim=(1, 2)) adds up a whole image.",
            _ratios(lambda both, p, t, either: (both, either), axes=(1,)),
        ),
        Mistake(
            "no mean",
            "your first result has one number for each image; their mean is wanted.",
            "the text of exercise 01.4: two numbers.",
            _no_mean,
        ),
        Mistake(
            "plain numbers",
            "you return plain numbers; tensors of type float32 are wanted.",
            "the text of exercise 01.4: no .item().",
            lambda pred, true: tuple(value.item() for value in _iou_both(pred, true)),
        ),
        Mistake(
            "double precision",
            "the values are right, but of type float64.",
            "the text of exercise 01.4: float32; no .double().",
            lambda pred, true: tuple(value.double() for value in _iou_both(pred, true)),
        ),
    ),
)


# ---------------------------------------------------------------- 01.5 HD95

Distance = Callable[[Any, Any], float]


def _pairs() -> list[tuple[BoolArray, BoolArray]]:
    """Masks that tell the definitions apart: blobs, a far speck, a ring, one at the edge, empty ones."""
    rows, columns = np.mgrid[:24, :31]
    disc = (rows - 10) ** 2 + (columns - 11) ** 2 <= 49
    oval = (rows - 12) ** 2 / 2 + (columns - 14) ** 2 <= 40
    speck = disc.copy()
    speck[19:22, 26:29] = True
    ring = disc & ((rows - 10) ** 2 + (columns - 11) ** 2 > 9)
    edge = (rows < 6) & (columns > 17)
    half = disc & (columns < 9)
    nothing = np.zeros_like(disc)
    return [
        (disc, oval),
        (speck, disc),
        (disc, speck),
        (ring, disc),
        (edge, oval),
        (half, disc),
        (disc, disc),
        (nothing, disc),
        (disc, nothing),
        (nothing, nothing),
    ]


FULL, EMPTY = _pairs()[:7], _pairs()[7:]


def _numbers(f: Distance, pairs: Sequence[tuple[BoolArray, BoolArray]]) -> Tensor:
    return torch.tensor([float(f(p, t)) for p, t in pairs])


def _distance_probe(f: Distance) -> list[Tensor]:
    return [_numbers(f, FULL), _numbers(f, EMPTY)]


def border_distances(
    p: BoolArray, t: BoolArray, edge: Callable[[BoolArray], BoolArray] = surface
) -> list[np.ndarray]:
    """From each border pixel of one mask (H, W) the distance to the nearest one of the other, both ways."""
    between = np.linalg.norm(np.argwhere(edge(p))[:, None] - np.argwhere(edge(t))[None], axis=2)
    return [between.min(axis=1), between.min(axis=0)]


def _other_distance(measure: Callable[[BoolArray, BoolArray], float]) -> Distance:
    """A wrong distance of masks that are not empty, with the library's rule for those that are."""
    return lambda p, t: float(measure(p, t)) if p.any() and t.any() else hd95(p, t)


def _other_rule(one: float, both: float) -> Distance:
    """The library's distance, with other values where one mask is empty, or both."""

    def wrong(p: BoolArray, t: BoolArray) -> float:
        if p.any() and t.any():
            return hd95(p, t)
        return one if p.any() or t.any() else both

    return wrong


def _unready(p: BoolArray, t: BoolArray) -> float:
    """No rule for empty masks: numpy finds no smallest distance and complains."""
    return float(np.percentile(np.concatenate(border_distances(p, t)), 95))


def _along_axes(p: BoolArray, t: BoolArray) -> float:
    between = np.abs(np.argwhere(surface(p))[:, None] - np.argwhere(surface(t))[None]).sum(axis=2)
    return float(np.percentile(np.concatenate([between.min(axis=1), between.min(axis=0)]), 95))


def _all_pairs(p: BoolArray, t: BoolArray) -> float:
    between = np.linalg.norm(np.argwhere(surface(p))[:, None] - np.argwhere(surface(t))[None], axis=2)
    return float(np.percentile(between, 95))


HD95 = Exercise(
    "01.5",
    "HD95",
    _distance_probe,
    (
        Property(
            "interface",
            "hd95_by_hand(pred, true) returns a float",
            lambda f: takes(f, 2) and isinstance(f(*FULL[0]), float),
        ),
        Property(
            "value",
            "the 95th percentile of the heap: blobs, a far speck, a ring, a mask at the edge",
            lambda f: same(_numbers(f, FULL), _numbers(hd95, FULL)),
        ),
        Property("identity", "0 for a mask and itself", lambda f: f(*FULL[6]) == 0),
        Property(
            "one empty",
            "the diagonal of the image, whichever of the two is empty",
            lambda f: same(_numbers(f, EMPTY[:2]), torch.full((2,), math.hypot(24, 31))),
        ),
        Property("both empty", "0: nothing is wrong", lambda f: f(*EMPTY[2]) == 0),
        Property(
            "invariance",
            "prediction and truth may change places, axes too",
            lambda f: all(
                same(_numbers(f, FULL), _numbers(g, FULL))
                for g in (lambda p, t: f(t, p), lambda p, t: f(p.T, t.T))
            ),
        ),
    ),
    (
        Mistake(
            "the largest distance",
            "this is the Hausdorff distance itself: a single far pixel decides.",
            "hint 3 of exercise 01.5: the 95th percentile of the heap.",
            _other_distance(lambda p, t: np.concatenate(border_distances(p, t)).max()),
        ),
        Mistake(
            "0.95 times the largest",
            "the largest distance times 0.95 is no percentile: a single far pixel still decides.",
            "hint 3 of exercise 01.5: np.percentile(heap, 95).",
            _other_distance(lambda p, t: 0.95 * np.concatenate(border_distances(p, t)).max()),
        ),
        Mistake(
            "a percentile of each direction",
            "you took the larger of two percentiles, one per direction: another definition of HD95.",
            "hint 3 of exercise 01.5: one heap of both directions.",
            _other_distance(lambda p, t: max(np.percentile(way, 95) for way in border_distances(p, t))),
        ),
        Mistake(
            "one direction only",
            "only the way from prediction to truth counts, so half of the truth may be missed for nothing.",
            "hint 3 of exercise 01.5: both directions.",
            _other_distance(lambda p, t: np.percentile(border_distances(p, t)[0], 95)),
        ),
        Mistake(
            "whole masks in place of borders",
            "distances between all pixels of the masks: each shared pixel is a 0 that hides the border.",
            "hint 2 of exercise 01.5: np.argwhere of the surfaces.",
            _other_distance(
                lambda p, t: np.percentile(np.concatenate(border_distances(p, t, lambda mask: mask)), 95)
            ),
        ),
        Mistake(
            "the mean",
            "this is the average surface distance, the mean of the heap.",
            "hint 3 of exercise 01.5: np.percentile(heap, 95).",
            _other_distance(lambda p, t: np.concatenate(border_distances(p, t)).mean()),
        ),
        Mistake(
            "an empty mask is free",
            "a prediction that finds nothing gets 0, the best there is.",
            "the text of exercise 01.5: one empty mask costs the diagonal.",
            _other_rule(0.0, 0.0),
        ),
        Mistake(
            "both empty is punished",
            "nothing to find and nothing found is right, and costs 0.",
            "hint 1 of exercise 01.5: see to both empty masks before the one.",
            _other_rule(math.hypot(24, 31), math.hypot(24, 31)),
        ),
        Mistake(
            "no rule for empty masks",
            "an empty mask has no border, and the smallest of no distances is an error.",
            "hint 1 of exercise 01.5: see to the empty masks first.",
            _unready,
        ),
        Mistake(
            "the mean of two percentiles",
            "you took one percentile per direction and their mean.",
            "hint 3 of exercise 01.5: one heap of both directions.",
            _other_distance(lambda p, t: np.mean([np.percentile(way, 95) for way in border_distances(p, t)])),
        ),
        Mistake(
            "not 95 per cent",
            "np.percentile counts in per cent: 0.95 asks for the smallest hundredth.",
            "hint 3 of exercise 01.5: np.percentile(heap, 95).",
            _other_distance(lambda p, t: np.percentile(np.concatenate(border_distances(p, t)), 0.95)),
        ),
        Mistake(
            "steps along the axes",
            "your distances count rows plus columns; the straight line between two pixels is shorter.",
            "hint 2 of exercise 01.5: np.linalg.norm.",
            _other_distance(_along_axes),
        ),
        Mistake(
            "all pairs",
            "the heap holds the distances of all pairs of border pixels; only the nearest partner counts.",
            "hint 2 of exercise 01.5: min along an axis.",
            _other_distance(_all_pairs),
        ),
        Mistake(
            "nan for an empty mask",
            "an empty mask gives nan; one empty costs the diagonal, both empty nothing.",
            "the text of exercise 01.5: the rule for empty masks.",
            _other_rule(math.nan, math.nan),
        ),
        Mistake(
            "infinity for an empty mask",
            "an empty mask is infinitely far; then one miss makes every mean infinite.",
            "the text of exercise 01.5: one empty mask costs the diagonal.",
            _other_rule(math.inf, 0.0),
        ),
    ),
)

EXERCISES = (SPLIT, WARP, STEPS, IOU, HD95)

QUIZ = (
    Answer("b", "frames of one video are neighbours; the video is the group.", "step 1, groups and leaks"),
    Answer("c", "class 2 is no mean of 1 and 3, and 1 is none of 0 and 2.", "step 2, augmentation"),
    Answer("a", "1 where nothing was there, 0 where an object was missed.", "step 4, empty masks"),
    Answer(
        "d",
        "the largest distance hangs on one pixel; the 95th percentile leaves out a twentieth.",
        "step 5, how far off, and the explorer",
    ),
    Answer("c", "the slices of one patient succeed or fail together.", "put together: how sure is the mean"),
)
