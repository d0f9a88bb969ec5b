"""`knowsam-lite evaluate RUN`: scores, pictures and the page of a run, on any split."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Score a run on a split and write its metrics and pictures."""

    run: Annotated[Path, tyro.conf.Positional]  # folder that `train` wrote
    data: str | None = None  # another data set, or where the run's own is now
    split: Literal["train", "val", "test"] = "test"
    out: Path | None = None  # folder for the results; default: the run's, or one in it
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    device: str = "auto"
    json: bool = False  # print the scores as one JSON object, last


def evaluate(arguments: Sequence[str]) -> int:
    """score a run on a split"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite evaluate")
    from knowsam_lite.report.write import table, write_report
    from knowsam_lite.runs.run import load_run, scores_folder

    run = load_run(options.run, options.data, options.which, options.device)
    out = options.out or scores_folder(options.run, options.split, options.which, options.data)
    result, paths = write_report(run, options.split, options.which, out)
    count = f"{len(result['ids'])} {result['case']}s"
    print(f"{options.split}, {count}, {options.which} checkpoint:\n{table(result)}")
    print("wrote " + ", ".join(str(path) for path in paths))
    if options.json:
        print(json.dumps(result["summary"]))
    return 0
