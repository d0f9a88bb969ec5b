"""Chooses labelled and held-out images: always whole groups, always from a seed."""

import math
import re
from collections.abc import Sequence

import numpy as np

from knowsam_lite.data.records import Record
from knowsam_lite.errors import UserError

SPEC = re.compile(r"(\d+(?:\.\d+)?)(%|groups?)?")
SPEC_FIX = 'write a number of images ("15"), a share ("10%") or a number of groups ("3groups")'


def seeded_groups(groups: Sequence[str], seed: int) -> list[str]:
    """The distinct groups in an order that depends on their names and the seed alone."""
    names = sorted(set(groups))
    return [names[i] for i in np.random.default_rng(seed).permutation(len(names))]


def choose_labeled(records: Sequence[Record], spec: str, seed: int) -> set[str]:
    """The ids of the training images whose masks may be used, whole groups at a time.

    `spec` is "15" (groups in seeded order until at least 15 images are reached), "10%" (the same, up to that
    share of the training images, rounded up) or "3groups". With the same seed a smaller set is part of a
    larger one. Training records without a mask are never chosen. UserError if `spec` is malformed, empty or
    asks for more than there is.
    """
    amount, unit = _parse(spec)
    train = [record for record in records if record.split == "train"]
    masked: dict[str, list[str]] = {}
    for record in train:
        if record.mask is not None:
            masked.setdefault(record.group, []).append(record.id)
    available = len(masked) if unit == "groups" else sum(map(len, masked.values()))
    wanted = math.ceil(len(train) * amount / 100 - 1e-9) if unit == "%" else int(amount)
    what = "groups" if unit == "groups" else "images"
    if available == 0:
        raise UserError(
            "found no training image with a mask, expected at least one; "
            "add masks to the train rows of index.csv"
        )
    if wanted < 1:
        raise UserError(
            f"found an empty labelled set {spec!r}, expected at least one of {available} {what}; ask for more"
        )
    if wanted > available:
        raise UserError(
            f"found labelled set {spec!r} = {wanted} {what}, expected at most the {available} that "
            f"have a mask among the {len(train)} training images; ask for fewer"
        )
    chosen: set[str] = set()
    for count, group in enumerate(seeded_groups(list(masked), seed)):
        if (count if unit == "groups" else len(chosen)) >= wanted:
            break
        chosen.update(masked[group])
    return chosen


def _parse(spec: str) -> tuple[float, str]:
    """The amount and its unit ("", "%" or "groups")."""
    match = SPEC.fullmatch(str(spec).strip())
    if not match:
        raise UserError(f"found labelled set {spec!r}, expected an amount; {SPEC_FIX}")
    amount, unit = float(match[1]), match[2] or ""
    unit = "groups" if unit.startswith("group") else unit
    if unit != "%" and amount != int(amount):
        raise UserError(f"found labelled set {spec!r}, expected a whole number; {SPEC_FIX}")
    return amount, unit


def assign_splits(groups: Sequence[str], val: float, test: float, seed: int) -> dict[str, str]:
    """Each group's split: about the fractions `val` and `test` of the groups, at least one where above 0.

    UserError if a fraction is outside [0, 1) or if nothing would be left for training.
    """
    for name, fraction in (("val", val), ("test", test)):
        if not 0 <= fraction < 1:
            raise UserError(
                f"found {name} fraction {fraction}, expected 0 up to, not including, 1; change it"
            )
    order = seeded_groups(groups, seed)
    held = [max(1, round(fraction * len(order))) if fraction else 0 for fraction in (test, val)]
    if sum(held) >= len(order):
        raise UserError(
            f"found {len(order)} groups of which {sum(held)} would be held out (val {val}, test {test}), "
            "expected at least one left for training; lower the fractions or add images"
        )
    names = ["test"] * held[0] + ["val"] * held[1] + ["train"] * (len(order) - sum(held))
    return dict(zip(order, names, strict=True))
