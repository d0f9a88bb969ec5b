"""Puts near-duplicate pictures into one group, so that they stay in one split."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from knowsam_lite.data.duplicates import fingerprint, groups_of, near_pairs
from knowsam_lite.data.images import read_image
from knowsam_lite.data.prepare.pool import each
from knowsam_lite.data.prepare.read import large_pictures
from knowsam_lite.data.prepare.recipe import Item
from knowsam_lite.data.slices import is_volume


def grouped(items: Sequence[Item], workers: int) -> list[Item]:
    """The items with near-duplicates, and the groups they belong to, merged; official splits are kept.

    Volumes keep their groups: their pictures are slices, which look alike anyway.
    """
    places = [i for i, item in enumerate(items) if not item.split and not is_volume(item.image)]
    prints = list(each(_print, [items[i] for i in places], workers))
    shown = [i for i, found in zip(places, prints, strict=True) if found is not None]
    pairs = []
    if shown:
        stacked = np.stack([found for found in prints if found is not None])
        pairs = [(shown[i], shown[j], bits) for i, j, bits in near_pairs(stacked)]
    first: dict[str, int] = {}
    pairs += [(first.setdefault(items[i].group, i), i, 0) for i in places]
    result = list(items)
    for group in groups_of(pairs, len(items)):
        for i in group:
            result[i] = replace(items[i], group=items[group[0]].group)
    return result


def _print(item: Item) -> np.ndarray | None:
    with large_pictures():
        return fingerprint(read_image(item.image))
