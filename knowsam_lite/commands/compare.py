"""`knowsam-lite compare`: methods x data sets x seeds, and one table."""

import argparse
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

if TYPE_CHECKING:
    from knowsam_lite.compare import Cell
    from knowsam_lite.config import Config


@dataclass(frozen=True)
class GridOptions:
    """The options of every grid."""

    data: tuple[str, ...]  # folders or synthetic:KIND[:N[:SEED]]
    labeled: tuple[str, ...]  # labelled images, one entry for each data set
    seeds: int = 3  # how many, one after another
    first_seed: int = 0  # fresh seeds, say from 3 on, go to another --out
    # 32 px, 20 steps | 64 px, 400 | the recipe `laptop`: 128 px, 1,000, pretrained | 256 px, 50,000;
    # without it `lesson` for synthetic images and `pretrained` for others
    budget: Literal["ci", "lesson", "pretrained", "gpu"] | None = None
    steps: int | None = None  # optimizer steps of each run instead of the budget's
    image_size: int | None = None  # pixels a side instead of the budget's
    students: Literal["paper", "pretrained"] | None = None  # instead of the budget's
    val_every: int | None = None  # steps between two looks at val instead of the budget's
    teacher: str | None = None  # a name in BACKBONES instead of the budget's
    checkpoint: Path | None = None  # a file with its weights
    precision: Literal["auto", "fp32", "bf16"] | None = None  # instead of the budget's; bf16 on CPUs with AMX
    workers: int = 2  # one-thread processes; 0: only write the grid, for others to join
    report: bool = False  # train nothing, only report finished runs
    cluster: Literal["none", "slurm", "local"] = "none"  # send --jobs jobs that train the cells, and return
    jobs: int = 4  # of --cluster: how many at a time
    hours: float = 24.0  # of --cluster: longest time of a job
    gpus: int = 1  # of --cluster: for each job
    partition: str = ""  # of --cluster slurm


@dataclass(frozen=True)
class CompareOptions(GridOptions):
    """Train several methods on several data sets with several seeds; a stopped grid resumes where it was.

    NAME+skd is method NAME with SAM distillation plugged in. `compare --join FOLDER` helps to train a grid
    that was begun elsewhere, `compare --status FOLDER` says where it stands.
    """

    methods: tuple[str, ...] = ("supervised", "supervised_pair", "mc", "knowsam")  # spaces or commas
    baselines: tuple[str, ...] = ("supervised_pair", "knowsam")  # against which differences are taken
    # of unlabelled images: the budget's for all, or for each method as strong as it was published with
    augmentation: Literal["one", "published"] = "one"
    # a finished grid: each row gets the steps that the time of the first baseline's steps there pays for
    equal_minutes: Path | None = None
    out: Path = Path("runs/compare")  # the grid's folder; later `--join` and `--status` it


def compare(arguments: Sequence[str]) -> int:
    """train methods x data sets x seeds and print one table"""
    if {"--join", "--status"} & {argument.partition("=")[0] for argument in arguments}:
        return of_begun(arguments)
    options = tyro.cli(CompareOptions, args=arguments, prog="knowsam-lite compare")
    names = [name for part in options.methods for name in part.split(",") if name]
    variants: dict[str, dict[str, Any]] = {name: {"method": name} for name in names}
    if options.augmentation == "published":
        from knowsam_lite.methods import method_named

        for name in names:
            variants[name]["unlabeled_aug"] = method_named(name).published_aug
    if options.equal_minutes:
        from knowsam_lite.compare.minutes import steps_of_equal_time

        steps = steps_of_equal_time(options.equal_minutes, names, options.baselines[0])
        for name in names:
            variants[name]["steps"] = steps[name]
    return run(options, variants, options.baselines, options.out)


def of_begun(arguments: Sequence[str]) -> int:
    """`--join FOLDER` and `--status FOLDER`: a grid that was begun, whose options are in its folder."""
    from knowsam_lite.compare.grid import load_grid
    from knowsam_lite.compare.status import status

    choice = argparse.ArgumentParser("knowsam-lite compare", allow_abbrev=False)
    what = choice.add_mutually_exclusive_group()
    what.add_argument("--join", type=Path, metavar="FOLDER", help="take its cells until none is left")
    what.add_argument("--status", type=Path, metavar="FOLDER", help="say where this grid stands")
    choice.add_argument("--workers", type=int, default=2, help="of --join: one-thread processes")
    options = choice.parse_args(arguments)
    cells, baselines = load_grid(options.status or options.join)
    if options.status:
        print(status(cells))
        return 0
    begin = random.randrange(len(cells))  # those that join at once do not try one cell after another together
    order = [*cells[begin:], *cells[:begin]]
    return trained_and_reported(cells, baselines, options.join, options.workers, order)


def run(
    options: GridOptions, variants: Mapping[str, Mapping[str, Any]], baselines: Sequence[str], out: Path
) -> int:
    """Run a grid of variants and write its results; exit code 2 if a run failed."""
    from knowsam_lite.compare import grid
    from knowsam_lite.compare.cluster import Jobs, submit
    from knowsam_lite.compare.grid import save_grid
    from knowsam_lite.files import in_shell

    given = {
        name: getattr(options, name)
        for name in ("steps", "image_size", "students", "val_every", "teacher", "checkpoint", "precision")
    }
    changes = {name: value for name, value in given.items() if value is not None}
    base = replace(_budget(options), out=out, **changes)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    cells = grid(base, options.data, options.labeled, variants, seeds)
    if not options.report:
        save_grid(cells, baselines, out)
    if options.cluster != "none":
        jobs = Jobs(options.cluster, options.jobs, options.hours, options.gpus, partition=options.partition)
        names = [str(job.job_id) for job in submit(out, jobs)]
        print(f"sent {len(names)} jobs ({', '.join(names)}): knowsam-lite compare --status {in_shell(out)}")
        return 0
    return trained_and_reported(cells, baselines, out, 0 if options.report else options.workers)


def _budget(options: GridOptions) -> "Config":
    """The base configuration asked for, or the one that suits the data."""
    from knowsam_lite.config import BUDGETS
    from knowsam_lite.data import is_synthetic
    from knowsam_lite.errors import UserError

    if options.budget is not None:
        return BUDGETS[options.budget]
    drawn = {is_synthetic(address) for address in options.data}
    if len(drawn) > 1:
        raise UserError(
            "found synthetic and other images in one grid, expected a --budget for both: give lesson or "
            "pretrained"
        )
    return BUDGETS["lesson" if drawn == {True} else "pretrained"]


def trained_and_reported(
    cells: "list[Cell]",
    baselines: Sequence[str],
    out: Path,
    workers: int,
    order: "list[Cell] | None" = None,
) -> int:
    """Train what is not done with so many workers, 0 for none, then print and write the results.

    `order`: in which cells are tried, if not as they are.
    """
    from knowsam_lite.compare import changed_cells, markdown, read_blocks, run_grid, write_leaderboard
    from knowsam_lite.compare.claims import Claims

    changed = changed_cells(cells)
    failures = [*changed.values(), *(run_grid(order or cells, workers) if workers else [])]
    blocks = read_blocks(cells, changed)
    if blocks:
        with Claims().waited(out):  # all that joined end, and write, at the same time
            print(markdown(blocks, baselines))
            print("wrote " + ", ".join(str(path) for path in write_leaderboard(blocks, baselines, out)))
    else:
        print(f"nothing to report yet: no seed is done for all rows in {out}")
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    return 2 if failures else 0
