"""The grid of runs, each in its own one-thread process; finished runs are not repeated."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import torch
from tqdm.auto import tqdm

from knowsam_lite.compare.claims import BUSY, STOPPED, Claims
from knowsam_lite.config import Config
from knowsam_lite.data import is_synthetic
from knowsam_lite.data.fingerprint import absolute
from knowsam_lite.data.names import distinct
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text, writing
from knowsam_lite.machine import same_digits
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


def run_cell(cell: Cell, gpu: str | None = None) -> str:
    """Train and score one cell in its own process, or resume it; returns its error, "" if none.

    `gpu`: the only one that the process sees, as CUDA_VISIBLE_DEVICES names it; None changes nothing.

    A cell that another process trains, or has trained, is left to it.
    """
    if cell.scores.exists() or Claims().owner(cell.config.out):  # far cheaper than a process that finds out
        return ""
    # AVX-512 would round its digits in another way; but bf16 is multiplied by its instructions.
    digits = {} if cell.config.precision == "bf16" else same_digits()
    own = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if gpu is not None and cell.config.device == "auto":
        own["CUDA_VISIBLE_DEVICES"] = gpu
    done = subprocess.run(
        [sys.executable, "-m", "knowsam_lite.compare.cell"],
        input=cell.config.to_json(),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        env={**digits, **os.environ, **own},
    )
    failed = cell.config.out / "failed.txt"
    if done.returncode in (0, BUSY):
        failed.unlink(missing_ok=True)
        return ""
    if done.returncode == STOPPED:  # it waits to go on
        return "stopped, and saved"
    lines = done.stderr.strip().splitlines()
    failure = lines[-1].removeprefix("error: ") if lines else f"the process ended with code {done.returncode}"
    with suppress(UserError):  # it may be the disk that failed
        write_text(failed, f"{failure}\n")
    return failure


def gpus() -> list[str]:
    """The GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    count, named = torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:count] if named else [str(i) for i in range(count)]


def run_grid(cells: Sequence[Cell], workers: int) -> list[str]:
    """Run the cells that are not done, `workers` at a time, until all are; a failed one does not stop others.
    Of several GPUs each worker has one, in turn.

    Other processes and machines may work on the same cells: each is trained by one at a time, and one whose
    process died is taken over. Returns a line for each failure. Raises UserError for fewer than one worker.
    """
    if workers < 1:
        raise UserError(f"found {workers} workers, expected at least 1: change --workers")
    claims = Claims()
    failures: dict[Cell, str] = {}
    places: SimpleQueue[str | None] = SimpleQueue()
    for _, gpu in zip(range(workers), cycle(gpus() or [None]), strict=False):
        places.put(gpu)

    def run(cell: Cell) -> str:
        gpu = places.get()
        try:
            return run_cell(cell, gpu)
        finally:
            places.put(gpu)

    with (
        ThreadPoolExecutor(workers) as pool,
        tqdm(desc="grid", total=len(cells), dynamic_ncols=True) as bar,
    ):
        while waiting := [cell for cell in cells if not cell.scores.exists() and cell not in failures]:
            free = [cell for cell in waiting if not claims.owner(cell.config.out)]
            bar.update(len(cells) - len(waiting) - bar.n)
            try:
                for cell, failure in zip(free, pool.map(run, free), strict=True):
                    if failure:
                        failures[cell] = f"{cell.config.out}: {failure}"
                    bar.update(cell.scores.exists())
                if not free:
                    time.sleep(claims.beat)
            except (KeyboardInterrupt, SystemExit) as stop:  # by Ctrl-C, by submitit before a job ends
                pool.shutdown(cancel_futures=True)  # the running cells were told, too, and save; no others
                if isinstance(stop, SystemExit):
                    raise
                raise KeyboardInterrupt("the same command resumes the grid") from None
    return list(failures.values())


def save_grid(cells: Sequence[Cell], baselines: Sequence[str], out: Path) -> None:
    """Write `out`/grid.json, from which other machines join; the folders of its cells are below `out`."""
    rows = [
        {
            "variant": cell.variant,
            "folder": cell.config.out.relative_to(out).as_posix(),
            "config": json.loads(cell.config.to_json()),
        }
        for cell in cells
    ]
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    saved = {"baselines": list(baselines), "from": os.getcwd(), "cells": rows}
    write_text(out / "grid.json", json.dumps(saved, indent=1))


def load_grid(out: Path) -> tuple[list[Cell], list[str]]:
    """The cells and baselines of `save_grid`, seen from here: `out` and the working folder may be others than
    where the grid was begun. Raises UserError if there is no grid.
    """
    path = out / "grid.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        cells = []
        for row in saved["cells"]:
            config = Config.from_json(json.dumps(row["config"]))
            data = config.data if is_synthetic(config.data) else _seen(config.data, saved["from"])
            file = config.checkpoint and Path(_seen(str(config.checkpoint), saved["from"]))
            here = replace(config, data=data, checkpoint=file, out=out / row["folder"])
            cells.append(Cell(row["variant"], here))
        return cells, saved["baselines"]
    except FileNotFoundError:
        raise UserError(
            f"found no {path}, expected the grid that `compare` began: check the folder"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"found {path} damaged ({error}), expected a grid: give `compare` again") from None


def _seen(path: str, folder: str) -> str:
    """A path that was given in `folder`, as it is to be given in the working folder."""
    return path if os.path.isabs(path) else os.path.relpath(os.path.join(folder, path))
