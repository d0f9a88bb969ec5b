"""Near-duplicate pictures, found with perceptual hashes."""

import numpy as np
from PIL import Image

from knowsam_lite.data.records import Record

SIDE = 16  # a hash has SIDE x SIDE bits
# Bits that may differ. In five public sets saving as JPEG of quality 50, halving the size or 25 % more light
# changed at most 28 of the 256 in 99.6 % of 2,529 cases; two pictures of different patients differed in 50 or
# more, and two frames of different colonoscopy videos in 32 or more.
NEAR = 28
FLAT = 2.0  # standard deviation of the grey values below which a picture is too uniform to compare
ROWS = 1024  # pictures compared with all others at once


def fingerprint(image: np.ndarray) -> np.ndarray | None:
    """The perceptual hash (pHash, from the lowest frequencies) of a picture uint8 (H, W, 3): bool (256,).

    None for a uniform picture, which would match every other.
    """
    import imagehash

    if image.std() < FLAT:
        return None
    return np.asarray(imagehash.phash(Image.fromarray(image), hash_size=SIDE).hash).ravel()


def near_pairs(prints: np.ndarray) -> list[tuple[int, int, int]]:
    """Pairs (i, j, bits that differ), i < j, of hashes bool (N, bits) that differ in at most NEAR bits."""
    signs = prints.astype(np.float32) * 2 - 1
    pairs = []
    for start in range(0, len(signs), ROWS):
        # The product of two hashes of -1 and 1 is bits - 2 x (bits that differ).
        differ = (signs.shape[1] - signs[start : start + ROWS] @ signs.T) / 2
        for row, column in np.argwhere(differ <= NEAR):
            if start + row < column:
                pairs.append((int(start + row), int(column), int(differ[row, column])))
    return pairs


def both_slices(a: Record, b: Record) -> bool:
    """Whether two records are slices of volumes: at one height those of two patients look alike, above all
    when the volumes are registered to each other, without being copies.
    """
    return bool(a.volume and b.volume)


def groups_of(pairs: list[tuple[int, int, int]], count: int) -> list[list[int]]:
    """The connected groups, of two or more, of the numbers 0 .. count - 1 that the pairs link."""
    parent = list(range(count))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j, _ in pairs:
        parent[max(root(i), root(j))] = min(root(i), root(j))
    groups: dict[int, list[int]] = {}
    for i in range(count):
        groups.setdefault(root(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]
