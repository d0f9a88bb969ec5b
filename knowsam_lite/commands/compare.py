"""`knowsam-lite compare`: methods x data sets x seeds, and one table."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import tyro


@dataclass(frozen=True)
class GridOptions:
    """The options of every grid."""

    data: tuple[str, ...]  # folders or synthetic:KIND[:N[:SEED]]
    labeled: tuple[str, ...]  # labelled images, one entry for each data set
    seeds: int = 3  # how many: 0, 1, 2, ...
    # 32 px, 20 steps | 64 px, 400 | the recipe `laptop`: 128 px, 400, pretrained | 256 px, 50,000
    budget: Literal["ci", "laptop", "pretrained", "gpu"] = "laptop"
    steps: int | None = None  # optimizer steps of each run instead of the budget's
    image_size: int | None = None  # pixels a side instead of the budget's
    teacher: str | None = None  # a name in BACKBONES instead of the budget's
    checkpoint: Path | None = None  # a file with its weights
    precision: Literal["auto", "fp32", "bf16"] | None = None  # instead of the budget's; bf16 on CPUs with AMX
    workers: int = 2  # one-thread processes
    report: bool = False  # train nothing, only report finished runs


@dataclass(frozen=True)
class CompareOptions(GridOptions):
    """Train several methods on several data sets with several seeds; a stopped grid resumes where it was.

    NAME+skd is method NAME with SAM distillation plugged in.
    """

    methods: tuple[str, ...] = ("supervised", "supervised_pair", "mc", "knowsam")  # spaces or commas
    baselines: tuple[str, ...] = ("supervised_pair", "knowsam")  # against which differences are taken
    out: Path = Path("runs/compare")


def compare(arguments: Sequence[str]) -> int:
    """train methods x data sets x seeds and print one table"""
    options = tyro.cli(CompareOptions, args=arguments, prog="knowsam-lite compare")
    names = [name for part in options.methods for name in part.split(",") if name]
    return run(options, {name: {"method": name} for name in names}, options.baselines, options.out)


def run(
    options: GridOptions, variants: Mapping[str, Mapping[str, Any]], baselines: Sequence[str], out: Path
) -> int:
    """Run a grid of variants and write its results; exit code 2 if a run failed."""
    from knowsam_lite.compare import changed_cells, grid, markdown, read_blocks, run_grid, write_leaderboard
    from knowsam_lite.config import BUDGETS

    given = {
        name: getattr(options, name) for name in ("steps", "image_size", "teacher", "checkpoint", "precision")
    }
    changes = {name: value for name, value in given.items() if value is not None}
    base = replace(BUDGETS[options.budget], out=out, **changes)
    cells = grid(base, options.data, options.labeled, variants, range(options.seeds))
    changed = changed_cells(cells)
    failures = [*changed.values(), *([] if options.report else run_grid(cells, options.workers))]
    blocks = read_blocks(cells, changed)
    if blocks:
        print(markdown(blocks, baselines))
        print("wrote " + ", ".join(str(path) for path in write_leaderboard(blocks, baselines, out)))
    else:
        print(f"nothing to report yet: no seed is done for all rows in {out}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 2 if failures else 0
