"""The pictures of a grid: learning curves, and predictions of all methods side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.compare.causes import causes, read_traits
from knowsam_lite.compare.results import Block, Entry
from knowsam_lite.data.records import cases_of
from knowsam_lite.evaluation import at_native_size, predicted
from knowsam_lite.figures import prediction_sheet, trends
from knowsam_lite.runs.log import read_log
from knowsam_lite.runs.run import load_run


def has_runs(block: Block) -> bool:
    """True if the runs themselves still exist; scores.json alone is enough for the tables."""
    cells = [cell for entry in block.entries.values() for cell in entry.cells]
    return all((cell.config.out / "last.pt").exists() for cell in cells)


def val_curve(entry: Entry) -> tuple[list[int], list[float]]:
    """Steps and Dice on val of the method's own prediction, mean over the seeds."""
    seeds = []
    for cell, scores in zip(entry.cells, entry.scores, strict=True):
        val = [row for row in read_log(cell.config.out) if row["kind"] == "val"]
        seeds.append({row["step"]: row["dice"][scores["last"]["prediction"]] for row in val})
    steps = list(seeds[0])
    return steps, [float(np.mean([seed[step] for seed in seeds])) for step in steps]


def draw_curves(block: Block, path: Path) -> dict[str, list[float]]:
    """Dice on val over the steps, one curve per variant; returns the curves."""
    curves = {name: val_curve(entry) for name, entry in block.entries.items()}
    shown = {name: curve for name, curve in curves.items() if curve[0]}
    return trends(shown, path, f"{block.title}: Dice on val", "step") if shown else {}


def draw_sheet(blocks: Sequence[Block], path: Path) -> dict[str, list[str]]:
    """One row per data set: its median test case, and each variant's prediction with the first seed.

    The median is by the mean Dice of all variants; a volume shows its middle slice.
    """
    names = [name for name in blocks[0].entries if all(name in block.entries for block in blocks)]
    return prediction_sheet([sheet_row(block, names) for block in blocks], path)


def draw_failures(block: Block, baselines: Sequence[str], path: Path) -> dict[str, list[str]]:
    """One row per cause: of its images the one where all variants together are worst, and what the baselines
    make of it with the first seed; returns the columns and rows. Nothing is drawn, and {} returned, for
    volumes.
    """
    of = read_traits(block)
    names = [name for name in baselines if name in block.entries]
    if of is None or not names:
        return {}
    dice = np.mean([entry.last[0] for entry in block.entries.values()], axis=0)
    shown: dict[int, str] = {}
    for cause, group in causes(of).items():
        for place in np.argsort(dice, kind="stable"):
            if group[place] and int(place) not in shown:
                shown[int(place)] = cause
                break
    return prediction_sheet([sheet_row(block, names, place, says) for place, says in shown.items()], path)


def sheet_row(
    block: Block, names: Sequence[str], chosen: int | None = None, title: str = ""
) -> dict[str, Any]:
    """A case of one data set, as `prediction_sheet` takes it: the chosen one, or the median by mean Dice."""
    if chosen is None:
        dice = np.mean([block.entries[name].last[0] for name in names], axis=0)
        chosen = int(np.argsort(dice, kind="stable")[len(dice) // 2])
    row: dict[str, Any] = {"maps": {}, "dice": {}}
    for name in names:
        entry = block.entries[name]
        run = load_run(entry.cells[0].config.out)
        slices = list(cases_of(run.dataset.split("test")).values())[chosen]
        record = slices[len(slices) // 2]
        config = run.config
        shown = predicted(
            run.method, run.dataset, [record], config.image_size, run.device, run.bf16, config.tile
        )
        _, _, truth, views = next(iter(shown))
        last = entry.scores[0]["last"]
        row["id"], row["image"], row["truth"] = title or block.title, run.dataset.image(record), truth
        row["maps"][name] = at_native_size(views[last["prediction"]], (truth.shape[0], truth.shape[1]))
        row["dice"][name] = float(entry.last[0][chosen])
    return row
