"""Methods x data sets x seeds: a grid of runs that goes on where it stopped, and one table."""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from knowsam_lite.checkpoints import load_best
from knowsam_lite.config import Config
from knowsam_lite.data import open_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import case_dice
from knowsam_lite.files import write_text
from knowsam_lite.methods import METHODS
from knowsam_lite.metrics import paired_bootstrap, summarize
from knowsam_lite.report import score_run
from knowsam_lite.training import Trainer


@dataclass(frozen=True)
class Cell:
    """One training of the grid and the folder that keeps it."""

    config: Config

    @property
    def scores(self) -> Path:
        """Where its scores lie once it is done."""
        return self.config.out / "scores.json"


def grid(
    base: Config, data: Sequence[str], labeled: Sequence[str], methods: Sequence[str], seeds: Sequence[int]
) -> list[Cell]:
    """All cells, seed by seed. `labeled` has one entry per data set. Raises UserError for unknown names."""
    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise UserError(f"found methods {unknown}, expected some of {', '.join(METHODS)}")
    if len(labeled) != len(data):
        raise UserError(
            f"found {len(labeled)} labelled sizes for {len(data)} data sets, expected one for each"
        )
    cells = []
    for seed in seeds:
        for address, spec in zip(data, labeled, strict=True):
            for method in methods:
                folder = f"{Path(address).name.replace(':', '-')}_{spec.replace('%', 'pct')}/{method}/{seed}"
                config = replace(base, data=address, labeled=spec, method=method, seed=seed)
                cells.append(Cell(replace(config, out=base.out / folder)))
    return cells


def run_cell(cell: Cell) -> str | None:
    """Train and score one cell, or go on with it; returns a UserError's message instead of raising it."""
    torch.set_num_threads(1)
    config = cell.config
    try:
        trainer = Trainer(open_dataset(config.data, config.image_size, config.val, config.test), config)
        if (config.out / "last.pt").exists():
            trainer.resume()
        else:
            trainer.start()
        if not trainer.fit(progress=False):
            return "interrupted"
        run = trainer.result()
        scores = {"last": score_run(run)}
        best = config.out / "best.safetensors"
        if best.exists():
            load_best(best, run.method)
            scores["best"] = score_run(run)
        val = len(run.dataset.split("val"))
        write_text(cell.scores, json.dumps({"config": json.loads(config.to_json()), "val": val, **scores}))
    except UserError as error:
        return str(error)
    return None


def run_grid(cells: Sequence[Cell], workers: int) -> list[str]:
    """Run the cells that are not done in `workers` one-thread processes; one failed cell stops no other."""
    waiting = [cell for cell in cells if not cell.scores.exists()]
    failures = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        bar = tqdm(pool.map(run_cell, waiting), "grid", len(cells), initial=len(cells) - len(waiting))
        for cell, failure in zip(waiting, bar, strict=True):
            if failure is not None:
                failures.append(f"{cell.config.out}: {failure}")
    return failures


def seeds_by_images(cells: Sequence[Cell], which: str, view: str) -> np.ndarray:
    """Dice (seeds, images) of one method on one data set, mean over foreground classes."""
    return np.stack([case_dice(json.loads(c.scores.read_text())[which]["cases"][view]) for c in cells])


def row(cells: Sequence[Cell], baseline: Sequence[Cell] | None) -> str:
    """One line of the table: Dice of the last checkpoint, of the best on val, and the difference."""
    method = METHODS[cells[0].config.method]
    scores = seeds_by_images(cells, "last", method.prediction_view)
    s = summarize(scores.mean(axis=1))
    seeds = " ".join(f"{v:.3f}" for v in scores.mean(axis=1))
    best = seeds_by_images(cells, "best", method.prediction_view).mean()
    difference = ""
    if baseline and baseline[0].config.method != method.name:
        reference = METHODS[baseline[0].config.method].prediction_view
        d = paired_bootstrap(scores, seeds_by_images(baseline, "last", reference))
        verdict = "tie" if d["tie"] else ("better" if d["difference"] > 0 else "worse")
        difference = f"{d['difference']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}] {verdict}"
    return f"| `{method.name}` | {s['mean']:.3f} +- {s['std']:.3f} | {seeds} | {best:.3f} | {difference} |"


def table(cells: Sequence[Cell], baseline: str) -> str:
    """Markdown: per data set one row a method, for the seeds that are done for all methods."""
    lines = []
    for address, spec in dict.fromkeys((c.config.data, c.config.labeled) for c in cells):
        mine = [c for c in cells if (c.config.data, c.config.labeled) == (address, spec)]
        seeds = [s for s in dict.fromkeys(c.config.seed for c in mine)]
        whole = [s for s in seeds if all(c.scores.exists() for c in mine if c.config.seed == s)]
        if not whole:
            continue
        done = json.loads(next(c for c in mine if c.config.seed == whole[0]).scores.read_text())
        images = len(done["last"]["ids"])
        lines += [
            f"**{done['last']['data']}**, {spec} labels, {images} test images, "
            f"seeds {', '.join(map(str, whole))}",
            "",
            f"| method | Dice, last step | each seed | best of {done['val']} val | against `{baseline}` |",
            "|---|---|---|---|---|",
        ]
        kept = {m: [c for c in mine if c.config.method == m and c.config.seed in whole] for m in METHODS}
        lines += [row(kept[m], kept.get(baseline)) for m in kept if kept[m]] + [""]
    return "\n".join(lines)
