"""Where methods fail: Dice by what makes a test image hard."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from knowsam_lite.compare.results import Block
from knowsam_lite.data import open_dataset
from knowsam_lite.data.records import Record, SegmentationData, cases_of
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

RING = 0.05  # width of the ring around an object, as a fraction of the image's shorter side
SPECK = 0.001  # a part smaller than this fraction of the image is not counted as an object
QUARTER = 25  # percent of the test images that count as the smallest, the faintest, the most ragged
Traits = dict[str, float]


def traits(image: NDArray[np.uint8], mask: NDArray) -> Traits:
    """What may make an image hard, of the foreground of `mask` (H, W), all classes together.

    `size`: its share of the image. `contrast`: distance of the mean colour inside from that of a ring around
    it, of the greatest there is. `objects`: connected parts. `solidity`: share of its convex hull that the
    largest part fills, 1 for a convex outline. `cut`: 1 if it touches the frame. `image` is RGB (H, W, 3).
    Without foreground all are nan but `size` and `objects`, which are 0.
    """
    inside = (mask > 0).astype(np.uint8)
    count, _, boxes, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = boxes[1:, cv2.CC_STAT_AREA]
    found = {"size": float(inside.mean()), "objects": float((areas > SPECK * inside.size).sum())}
    if count == 1:
        return {**found, "contrast": np.nan, "solidity": np.nan, "cut": np.nan}
    width = max(1, round(RING * min(inside.shape)))
    around = cv2.dilate(inside, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1,) * 2)) - inside
    if around.any():
        gap = image[inside > 0].mean(axis=0) - image[around > 0].mean(axis=0)
        contrast = float(np.linalg.norm(gap) / np.linalg.norm([255] * 3))
    else:
        contrast = np.nan  # it fills the image
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    largest = max(outlines, key=cv2.contourArea)
    hull = cv2.contourArea(cv2.convexHull(largest))
    frame = np.concatenate([inside[0], inside[-1], inside[:, 0], inside[:, -1]])
    return {
        **found,
        "contrast": contrast,
        "solidity": float(cv2.contourArea(largest) / hull) if hull else 1.0,
        "cut": float(frame.any()),
    }


def causes(of: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.bool_]]:
    """The images in which each cause is at work, from their traits (images,): name -> bool (images,).

    Small, faint and ragged are the lowest quarter of the images; an image can be in several groups.
    """

    def lowest(name: str) -> NDArray[np.bool_]:
        return np.asarray(of[name] <= np.nanpercentile(of[name], QUARTER))

    groups = {
        "small": lowest("size"),
        "faint": lowest("contrast"),
        "several objects": of["objects"] > 1,
        "ragged outline": lowest("solidity"),
        "cut by the frame": of["cut"] == 1,
    }
    groups["none of these"] = ~np.any(list(groups.values()), axis=0)
    return {name: group for name, group in groups.items() if group.any()}


def read_traits(block: Block) -> dict[str, NDArray[np.float64]] | None:
    """The traits of a block's test images; None for volumes, and where the images are not at hand.

    They are kept in `traits.json` beside the block's rows, for reports where only scores are; where the masks
    are at hand and others than then, they are measured again.
    """
    if block.case == "volume":
        return None
    first = next(iter(block.entries.values()))
    config, ids = first.cells[0].config, first.scores[0]["last"]["ids"]
    path = Path(config.out).parents[1] / "traits.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    known = None
    if kept.get("ids") == ids:
        known = {name: np.array(values, float) for name, values in kept["traits"].items()}
    try:
        dataset = open_dataset(config.data, config.image_size, config.val, config.test)
        cases = cases_of(dataset.split("test"))
        masks = _digest(dataset, cases)
        if known is not None and kept.get("masks", masks) == masks:
            return known
        found = [traits(dataset.image(r), dataset.mask(r)) for slices in cases.values() for r in slices]
    except UserError:
        return known
    if list(cases) != ids:
        return known
    columns = {name: [round(each[name], 4) for each in found] for name in found[0]}
    write_text(path, json.dumps({"ids": ids, "masks": masks, "traits": columns}))
    return {name: np.array(values) for name, values in columns.items()}


def _digest(dataset: SegmentationData, cases: Mapping[str, Sequence[Record]]) -> str:
    """A short hash of all masks of the cases."""
    found = hashlib.blake2b(digest_size=8)
    for records in cases.values():
        for record in records:
            found.update(np.ascontiguousarray(dataset.mask(record)).tobytes())
    return found.hexdigest()


def failures(block: Block) -> list[dict[str, str]]:
    """A row for each method: its mean Dice over the images of each cause, and over all; empty for volumes."""
    of = read_traits(block)
    if of is None:
        return []
    groups = causes(of)
    rows = []
    for entry in block.entries.values():
        dice = entry.last.mean(axis=0)
        row = {"method": entry.variant, f"all ({len(dice)})": f"{dice.mean():.3f}"}
        row |= {f"{name} ({group.sum()})": f"{dice[group].mean():.3f}" for name, group in groups.items()}
        rows.append(row)
    return rows
