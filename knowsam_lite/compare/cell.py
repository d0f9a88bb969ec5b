"""One cell of a grid: `python -m knowsam_lite.compare.cell`, with its configuration on standard input."""

import json
import os
import sys
from dataclasses import replace
from statistics import mean
from typing import Any

import torch

from knowsam_lite.compare.claims import BUSY, STOPPED, Claims
from knowsam_lite.config import Config
from knowsam_lite.data import open_dataset
from knowsam_lite.errors import UserError, exit_code
from knowsam_lite.files import write_text
from knowsam_lite.report.gather import Gatherer
from knowsam_lite.report.write import score_run
from knowsam_lite.runs.checkpoints import load_best
from knowsam_lite.runs.log import most_memory, read_log
from knowsam_lite.training import Trainer


def run(config: Config) -> bool:
    """Train, or resume, and write scores.json; False if Ctrl-C stopped it before. Raises UserError."""
    torch.set_num_threads(1)
    dataset = open_dataset(config.data, config.image_size, config.val, config.test)
    if not dataset.split("test"):  # found now, not after hours
        raise UserError(
            f"found no test images in {config.data}, expected some to compare methods on: add rows with the "
            "split test to index.csv, or import labels with --split test"
        )
    trainer = Trainer(dataset, config)
    if (config.out / "last.pt").exists():
        trainer.resume()
    else:
        trainer.start()
    if not trainer.fit(progress=False):
        return False
    rows = read_log(config.out)
    result = trainer.result()
    gathered = Gatherer(result.method.prediction_view)
    scores = {"last": rounded(score_run(result, watcher=gathered))}
    scores["confidence"] = rounded(gathered.reliability())
    best = config.out / "best.safetensors"
    if best.exists():
        step = load_best(best, result.method)
        same = step == result.step  # nothing to score twice
        scores["best"] = scores["last"] if same else rounded(score_run(replace(result, step=step)))
    cost = {
        "seconds_per_step": mean(row["seconds"] for row in rows if row["kind"] == "train"),
        "peak_memory_bytes": most_memory(rows),
        "parameters": sum(p.numel() for p in result.method.parameters() if p.requires_grad),
    }
    val = len(result.dataset.split("val"))
    write_text(
        config.out / "scores.json",
        json.dumps({"config": json.loads(config.to_json()), "val": val, "cost": cost, **scores}),
    )
    return True


def rounded(scores: Any) -> Any:
    """Scores with six decimals, more than any test set can tell: those of a table lie with the sources."""
    if isinstance(scores, dict):
        return {name: rounded(value) for name, value in scores.items()}
    if isinstance(scores, list):
        return [rounded(value) for value in scores]
    return round(scores, 6) if isinstance(scores, float) else scores


def main() -> int:
    """Read the configuration and run it; what the user can mend is one line, see `errors.exit_code`."""
    return exit_code(_main)


def _main() -> int:
    config = Config.from_json(sys.stdin.read())
    claims = Claims(lost=lambda: os._exit(BUSY))  # at once: another process writes to this folder now
    with claims.held(config.out) as mine:
        if not mine:
            return BUSY
        if (config.out / "scores.json").exists() or run(config):
            return 0
    print("error: stopped, and saved", file=sys.stderr)
    return STOPPED


if __name__ == "__main__":
    sys.exit(main())
