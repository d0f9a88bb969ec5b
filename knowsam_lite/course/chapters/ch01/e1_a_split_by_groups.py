"""Exercise 01.1, a split by groups."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes
from knowsam_lite.data.split import assign_splits, seeded_groups
from knowsam_lite.errors import UserError

Split = Callable[[Sequence[str], float, float, int], dict[str, str]]
PARTS = ("train", "val", "test")
# Eleven groups of different sizes, not in order.
GROUPS = [f"p{(7 * i) % 11:02d}" for i in range(11) for _ in range(1 + (3 * i) % 5)]
FRACTIONS = ((0.2, 0.3), (0.0, 0.25), (0.02, 0.02), (0.4, 0.0), (0.0, 0.0), (0.33, 0.41))


def _told(parts: dict[str, str]) -> Tensor:
    """A split as numbers: the part of each of the eleven groups (-1 if none), then the split's length."""
    names = sorted(set(GROUPS))
    return torch.tensor(
        [PARTS.index(parts[name]) if name in parts else -1 for name in names] + [len(parts)]
    ).float()


def _split_or_refusal(f: Split, groups: Sequence[str], val: float, test: float, seed: int) -> Tensor:
    """A refusal counts by its type; the wording is free."""
    try:
        return _told(f(groups, val, test, seed))
    except UserError:
        return torch.tensor(math.nan)


def _split_probe(f: Split) -> list[Tensor]:
    """Cases that must be refused are left out, so a mistake is recognised whether or not it refuses them."""
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
    """Sizes rounded to the nearest number of groups, at least one group in any part asked for."""
    sizes = []
    for val, test in FRACTIONS:
        parts = list(f(GROUPS, val, test, 0).values())
        sizes.append((parts.count("val"), parts.count("test")))
    return sizes == [(2, 3), (0, 3), (1, 1), (4, 0), (0, 0), (4, 5)]


def _parts(order: Sequence[str], val: float, test: float, size: Callable[[float], int]) -> dict[str, str]:
    """Split `order` into parts of `size(fraction * length)` entries."""
    held = [size(fraction * len(order)) if fraction else 0 for fraction in (test, val)]
    names = ["test"] * held[0] + ["val"] * held[1]
    return dict(zip(order, names + ["train"] * (len(order) - len(names)), strict=False))


def _at_least_one(wanted: float) -> int:
    return max(1, round(wanted))


def _floored(wanted: float) -> int:
    return max(1, int(wanted))


def _split_by_images(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Every image is drawn separately; a group goes where its last image went."""
    order = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    return _parts(order, val, test, _at_least_one)


def _until_share_of_images(wanted: Callable[[float], float]) -> Split:
    """Whole groups, added until a part has `wanted(fraction * number of images)` images."""

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
    """Whole groups; the running count of images decides where each part ends."""
    parts, seen = {}, 0
    for group in seeded_groups(groups, seed):
        share = seen / len(groups)
        parts[group] = "test" if share < test else "val" if share < test + val else "train"
        seen += list(groups).count(group)
    return parts


def _images_counted(refuses: bool) -> Split:
    """Draws groups, but takes each part's size as a fraction of the number of images."""

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
    """At least one group in each part, even if none was asked for."""
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
            "hint 1: seeded_groups holds each group once.",
            _split_by_images,
        ),
        Mistake(
            "share of the images",
            "groups were added until that share of the images was there; the fraction is of groups.",
            "hint 1: the number of images plays no part.",
            _until_share_of_images(float),
        ),
        Mistake(
            "share of the images, rounded",
            "groups were added until a rounded number of images was there; the fraction is of groups.",
            "hint 1: the number of images plays no part.",
            _until_share_of_images(round),
        ),
        Mistake(
            "share of the images, counted through",
            "a part ends where that share of the images has gone by; the fraction is of groups.",
            "hint 1: the number of images plays no part.",
            _share_counted_through,
        ),
        Mistake(
            "sizes from the number of images",
            "a part's size is a fraction of the number of images, and so many groups were taken.",
            "hint 1: the length of seeded_groups is the number of groups.",
            _images_counted(refuses=False),
        ),
        Mistake(
            "sizes from the number of images, refused",
            "a part's size is a fraction of the number of images, so hardly a group is left for training.",
            "hint 1: the length of seeded_groups is the number of groups.",
            _images_counted(refuses=True),
        ),
        Mistake(
            "rounded down",
            "the sizes are rounded down, so a small fraction leaves a part empty.",
            "hint 2: max(1, round(...)).",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, int),
        ),
        Mistake(
            "rounded down, but not to 0",
            "the sizes are rounded down: 3.63 groups became 3, and the nearest number is 4.",
            "hint 2: round(...), not int(...).",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, _floored),
        ),
        Mistake(
            "may be empty",
            "a small fraction rounds to 0 groups, and the part that was asked for is empty.",
            "hint 2: at least 1 unless the fraction is 0.",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, round),
        ),
        Mistake(
            "order of appearance",
            "the groups keep the order of the list: the seed does nothing, and a shuffled list changes all.",
            "hint 1: take the order of seeded_groups.",
            lambda g, val, test, seed: _parts(list(dict.fromkeys(g)), val, test, _at_least_one),
        ),
        Mistake(
            "validation first",
            "the validation groups come before the test groups; the order is test, val, train.",
            "the text: first the test groups.",
            lambda g, val, test, seed: {
                name: {"val": "test", "test": "val"}.get(part, part)
                for name, part in _parts(seeded_groups(g, seed), test, val, _at_least_one).items()
            },
        ),
        Mistake(
            "refuses nothing",
            "the split is right, but what makes no sense or leaves nothing to train on raises no UserError.",
            "hint 4: look at the fractions before anything else.",
            lambda g, val, test, seed: _parts(seeded_groups(g, seed), val, test, _at_least_one),
        ),
        Mistake(
            "training first",
            "the training groups are taken first; the order is test, val, train.",
            "the text: the rest is for training.",
            _training_first,
        ),
        Mistake(
            "a part that nobody asked for",
            "a fraction of 0 still gets a group; at least 1 holds only above 0.",
            "hint 2: unless the fraction is 0.",
            _always_one,
        ),
        Mistake(
            "a fraction of the rest",
            "the validation part is a fraction of what the test left; both are fractions of all groups.",
            "the equation: G is the number of all groups.",
            _val_of_the_rest,
        ),
    ),
    assign_splits,
)
