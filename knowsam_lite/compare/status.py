"""Where a grid stands: which cells are done, running, failed or waiting, and for how long still."""

from collections import Counter
from collections.abc import Sequence
from statistics import mean

from knowsam_lite.compare.claims import Claims
from knowsam_lite.compare.grid import Cell
from knowsam_lite.errors import UserError
from knowsam_lite.runs.log import read_log

STATES = ("done", "running", "failed", "waiting")


def status(cells: Sequence[Cell]) -> str:
    """A line for each running and failed cell, the counts, and the time left as the steps so far suggest."""
    claims, lines = Claims(), []
    counts: Counter[str] = Counter()
    seconds: list[float] = []  # of one step, in each cell that has begun
    left = 0
    for cell in cells:
        folder, failed = cell.config.out, cell.config.out / "failed.txt"
        owner = claims.owner(folder)
        step, pace = _progress(cell)
        seconds += [pace] if pace else []
        if cell.scores.exists():
            counts["done"] += 1
        elif owner:
            counts["running"] += 1
            lines.append(f"running: {folder}, step {step} of {cell.config.steps}, by {owner}")
        elif failed.exists():
            counts["failed"] += 1
            lines.append(f"failed: {folder}: {failed.read_text(encoding='utf-8').strip()}")
            continue
        else:
            counts["waiting"] += 1
        left += 0 if cell.scores.exists() else cell.config.steps - step
    lines.append(", ".join(f"{counts[state]} {state}" for state in STATES) + f" of {len(cells)} cells")
    if left and seconds and counts["running"]:
        hours = left * mean(seconds) / counts["running"] / 3600
        lines.append(f"about {hours:.1f} hours left with {counts['running']} at a time")
    return "\n".join(lines)


def _progress(cell: Cell) -> tuple[int, float]:
    """The last logged step of a cell and the seconds of one; 0 before the first."""
    try:
        rows = [row for row in read_log(cell.config.out) if row["kind"] == "train"]
    except UserError:
        return 0, 0.0
    return (rows[-1]["step"], float(rows[-1]["seconds"])) if rows else (0, 0.0)
