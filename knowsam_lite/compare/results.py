"""The results of a grid's cells, gathered: one block per data set, one entry per row."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from knowsam_lite.calibration import calibration_error
from knowsam_lite.compare.grid import Cell
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import case_dice


@dataclass(frozen=True)
class Entry:
    """One variant on one data set. Dice is the mean over foreground classes, of the method's prediction."""

    variant: str
    cells: list[Cell]  # one per seed
    scores: list[dict[str, Any]]  # the content of each scores.json
    last: NDArray[np.float64]  # Dice (seeds, cases) of the last checkpoint
    best: NDArray[np.float64] | None  # of the one that is best on val; None without val masks

    def cost(self, name: str) -> float:
        """Least of the seeds' "seconds_per_step", "peak_memory_bytes" or "parameters": other work adds."""
        return float(min(scores["cost"][name] for scores in self.scores))

    @property
    def distance(self) -> tuple[float, str]:
        """Median HD95 of all cases and classes with the last checkpoint, mean over the seeds, and its unit.

        A structure that is missed counts as the diagonal, and a few of them would decide the mean.
        """
        lasts = [scores["last"] for scores in self.scores]
        medians = [np.median([c["hd95"] for c in last["cases"][last["prediction"]]]) for last in lasts]
        return float(np.mean(medians)), lasts[0]["unit"]

    @property
    def calibration(self) -> float | None:
        """Expected calibration error of the prediction, mean over the seeds; None where no cell has it."""
        sums = [scores["confidence"] for scores in self.scores if "confidence" in scores]
        errors = [calibration_error(s["pixels"], s["confidence"], s["right"]) for s in sums]
        return float(np.mean(errors)) if errors else None


@dataclass(frozen=True)
class Block:
    """One data set with one number of labels: the entries, in the order of the grid."""

    title: str  # of the data set
    data: str  # its address
    labeled: str
    images: int  # test cases
    case: str  # "image" or "volume"
    val: int  # val images
    seeds: list[int]  # those done for every variant
    waiting: int  # cells that are not done
    entries: dict[str, Entry]


def read_entry(variant: str, cells: list[Cell]) -> Entry:
    """Read the scores of one variant's cells."""
    scores = [json.loads(cell.scores.read_text(encoding="utf-8")) for cell in cells]

    def dice(which: str) -> NDArray[np.float64]:
        return np.stack([case_dice(s[which]["cases"][s[which]["prediction"]]) for s in scores])

    best = dice("best") if all("best" in s for s in scores) else None
    return Entry(variant, cells, scores, dice("last"), best)


def _require_alike(data: str, entries: Mapping[str, Entry]) -> None:
    """UserError for cells that cannot be compared: other test images, units or labelled images."""
    first: dict[str, Any] = {}
    for entry in entries.values():
        for cell, scores in zip(entry.cells, entry.scores, strict=True):
            last = scores["last"]
            seen = {
                "were scored on other test images": last["ids"],
                "were scored in other units": last["unit"],
                f"learned from other labelled images (seed {cell.config.seed})": last.get("labeled"),
            }
            for what, value in seen.items():
                if value is not None and first.setdefault(what, value) != value:
                    raise UserError(
                        f"found cells of {data} that {what}, expected the same for all: its images, masks or "
                        "spacing changed meanwhile, so train the cells of before again, in another folder"
                    )


def read_blocks(cells: Sequence[Cell], changed: Collection[Cell] = ()) -> list[Block]:
    """A block for each data set, over the seeds that are done for all its variants; none done: no block.

    A cell that is `changed` counts as not done. Data sets of one name get their address as well. Raises
    UserError for cells that were scored on different images or in different units, and for cells of one seed
    that learned from different labels.
    """
    blocks = []
    for data, labeled in dict.fromkeys((c.config.data, c.config.labeled) for c in cells):
        mine = [c for c in cells if (c.config.data, c.config.labeled) == (data, labeled)]
        waiting = [c for c in mine if not c.scores.exists() or c in changed]
        unfinished = {c.config.seed for c in waiting}
        seeds = [s for s in dict.fromkeys(c.config.seed for c in mine) if s not in unfinished]
        if not seeds:
            continue
        entries = {
            v: read_entry(v, [c for c in mine if c.variant == v and c.config.seed in seeds])
            for v in dict.fromkeys(c.variant for c in mine)
        }
        first = next(iter(entries.values())).scores[0]
        last = first["last"]
        _require_alike(data, entries)
        blocks.append(
            Block(
                last["data"],
                data,
                labeled,
                len(last["ids"]),
                last["case"],
                first["val"],
                seeds,
                len(waiting),
                entries,
            )
        )
    titles = Counter(block.title for block in blocks)
    return [replace(b, title=f"{b.title} ({b.data})") if titles[b.title] > 1 else b for b in blocks]
