"""`knowsam-lite bench step|predict|data`: what things cost on this machine."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import tyro

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Options:
    """Time a training step, a prediction or the reading of data; prints one JSON object per line."""

    what: Annotated[Literal["step", "predict", "data"], tyro.conf.Positional]
    variant: str = "knowsam"  # a method; knowsam is the taught variant, official the authors'
    teacher: str = "sam_mini"  # its weights are random, which costs the same
    classes: int = 2  # background included
    batch: int = 4  # images, half of them labelled
    image_size: int = 64  # pixels a side
    students: Literal["paper", "pretrained"] = "paper"  # the pretrained ones with random weights, too
    teacher_size: int | None = None  # pixels a side at which the teacher looks; default: image_size
    ugda: bool = False  # a step after UGDA has begun
    rounds: int = 5  # repetitions of step and predict; the median is reported
    threads: int | None = None  # of PyTorch; default: PyTorch's choice
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of `step`; auto: bf16 only where the GPU has it
    device: str = "auto"
    data: str | None = None  # of `data`: a data set's address; default: PNGs drawn for it
    workers: int = 2  # of `data`: processes
    table: bool = False  # of `step`: also twice the batch, four classes, and twice the size
    profile: bool = False  # of `step`: where the time of one step goes


def bench(arguments: Sequence[str]) -> int:
    """time a training step, a prediction or the data on this machine"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite bench")
    if options.table:
        return table(options)
    if options.profile and options.what != "step":
        raise UserError(f"found --profile with {options.what}, expected step: leave it out")
    import torch

    from knowsam_lite import bench as timing

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    shape = timing.Shape(
        options.variant,
        options.teacher,
        options.classes,
        options.batch,
        options.image_size,
        options.ugda,
        options.precision,
        options.students,
        options.teacher_size,
    )
    if options.profile:
        print(timing.profile_step(shape, options.device))
        return 0
    if options.what == "step":
        result = timing.bench_step(shape, options.rounds, options.device)
    elif options.what == "predict":
        result = timing.bench_predict(shape, options.rounds, options.device)
    else:
        result = timing.bench_data(shape, options.data, options.workers)
    for note in timing.notes():
        print(f"note: {note}", file=sys.stderr)
    print(json.dumps(result))
    return 0


def table(options: Options) -> int:
    """How the cost of a step grows: each row runs in its own process, so that it has its own peak memory."""
    if options.what != "step":
        raise UserError(f"found --table with {options.what}, expected step: leave it out")
    rows: list[dict[str, Any]] = []
    changes: list[dict[str, Any]] = [
        {},
        {"batch": 2 * options.batch},
        {"classes": max(4, options.classes)},
        {"image_size": 2 * options.image_size},
        {"ugda": True},
    ]
    for change in changes:
        one = replace(options, table=False, **change)
        done = subprocess.run(command(one), capture_output=True, text=True, env=os.environ)
        if done.returncode:
            print(done.stderr.strip().splitlines()[-1], file=sys.stderr)
            return 2
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print("| batch | classes | size | UGDA | s a step | | memory | |\n|---|---|---|---|---|---|---|---|")
    for row in rows:
        s, m = row["seconds_per_step"], row["peak_memory_bytes"]
        x, y = s / rows[0]["seconds_per_step"], m / rows[0]["peak_memory_bytes"]
        shape = f"{row['batch']} | {row['classes']} | {row['image_size']} | {'yes' if row['ugda'] else ''}"
        print(f"| {shape} | {s:.3f} | x{x:.2f} | {m / 2**30:.2f} GiB | x{y:.2f} |")
    return 0


def command(options: Options) -> list[str]:
    """The command line for these options."""
    words = [sys.executable, "-m", "knowsam_lite", "bench", options.what]
    for name, value in asdict(options).items():
        if name == "what" or value is None or value is False:
            continue
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, str(value)]
    return words
