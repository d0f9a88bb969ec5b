"""The grid of runs, each in its own one-thread process; finished runs are not repeated."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from knowsam_lite.config import Config
from knowsam_lite.data.fingerprint import absolute
from knowsam_lite.data.names import distinct
from knowsam_lite.errors import UserError
from knowsam_lite.methods import method_named


@dataclass(frozen=True)
class Cell:
    """One training of the grid: the table row it belongs to, and its configuration."""

    variant: str
    config: Config

    @property
    def scores(self) -> Path:
        """The path of its scores, written when it is done."""
        return self.config.out / "scores.json"


def grid(
    base: Config,
    data: Sequence[str],
    labeled: Sequence[str],
    variants: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
) -> list[Cell]:
    """All cells, seed by seed, each in a folder of its own. `labeled` has one entry per data set; a variant
    is a name and what it changes in `base`. Raises UserError for unknown methods and different lengths.
    """
    for changes in variants.values():
        method_named(str(changes.get("method", base.method)))  # fails before anything is trained
    if len(labeled) != len(data):
        raise UserError(
            f"found {len(labeled)} labelled sizes for {len(data)} data sets, expected one for each"
        )
    folders = distinct(data, lambda address: slug(os.path.basename(absolute(address))))
    rows = distinct(variants, slug)
    cells = []
    for seed in seeds:
        for address, spec in zip(data, labeled, strict=True):
            for variant, changes in variants.items():
                folder = Path(f"{folders[address]}_{slug(spec)}", rows[variant], str(seed))
                config = replace(base, data=address, labeled=spec, seed=seed, **changes)
                cells.append(Cell(variant, replace(config, out=base.out / folder)))
    return cells


def slug(name: str) -> str:
    """A name as part of a path: "bcp+skd" stays, "10%" becomes "10pct"."""
    return re.sub(r"[^\w.+-]+", "-", name.replace("%", "pct")).strip("-")


def run_cell(cell: Cell) -> str:
    """Train and score one cell in its own process, or resume it; returns its error, "" if none."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "knowsam_lite.compare.cell"],
        input=cell.config.to_json(),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        env={**os.environ, **threads},
    )
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1].removeprefix("error: ") if lines else f"the process ended with code {done.returncode}"


def run_grid(cells: Sequence[Cell], workers: int) -> list[str]:
    """Run the cells that are not done, `workers` at a time; a failed cell does not stop the others.

    Returns a line for each failure.
    """
    waiting = [cell for cell in cells if not cell.scores.exists()]
    failures = []
    with ThreadPoolExecutor(workers) as pool:
        try:
            bar = tqdm(pool.map(run_cell, waiting), "grid", len(cells), initial=len(cells) - len(waiting))
            for cell, failure in zip(waiting, bar, strict=True):
                if failure:
                    failures.append(f"{cell.config.out}: {failure}")
        except KeyboardInterrupt:  # the running cells receive it, too, and save; start no others
            pool.shutdown(cancel_futures=True)
            raise KeyboardInterrupt("the same command resumes the grid") from None
    return failures
