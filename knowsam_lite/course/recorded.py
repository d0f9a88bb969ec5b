"""Stored results of long trainings for chapters 11 and 13; their commands are in `grids/README.md`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside, write_text

FOLDER = Path(__file__).parent / "grids"
DICE = 10_000  # stored steps of a Dice of 1
STEPS = 8  # stored steps per unit of a logit: one byte a pixel, -15.9 to 15.9
MAPS = ("supervised", "knowsam")


@dataclass(frozen=True)
class Grid:
    """Dice of a data set's test images: `last` and `best` (checkpoint on val), variant -> (seeds, images)."""

    title: str
    labeled: str
    steps: int
    image_size: int
    ids: tuple[str, ...]  # the test images, in order
    last: dict[str, NDArray[np.float64]]
    best: dict[str, NDArray[np.float64]]


def load_grid(name: str) -> Grid:
    """A recorded grid by its name. Raises UserError for an unknown one."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.json")))
        raise UserError(f"found no grid {name!r}, expected one of {known}: correct the name")
    told = json.loads(path.read_text("utf8"))
    last, best = ({v: np.array(s) / DICE for v, s in told[which].items()} for which in ("last", "best"))
    title, labeled, steps, size = (told[key] for key in ("title", "labeled", "steps", "image_size"))
    return Grid(title, labeled, steps, size, tuple(told["ids"]), last, best)


def load_margins(method: str, split: str) -> NDArray[np.float32]:
    """A trained method's margin at each pixel: z_1 - z_0, float32 (images of the split, 64, 64), in eighths.

    Images as in `open_dataset("synthetic:dermoscopy:160:1", 64).split(split)`. `method` is one of `MAPS`.
    """
    with np.load(FOLDER / "maps.npz") as stored:
        return stored[f"{method}_{split}"].astype(np.float32) / STEPS


def record_grid(name: str, folder: Path, variants: Sequence[str]) -> Path:
    """Keep the Dice of a grid's variants, for the seeds that all of them have, in grids/NAME.json."""
    from knowsam_lite.evaluation import case_dice

    found: dict[str, dict[int, dict]] = {}
    for variant in variants:
        paths = folder.glob(f"{variant.replace(' ', '-')}/*/scores.json")
        found[variant] = {int(path.parent.name): json.loads(path.read_text("utf8")) for path in paths}
    seeds = sorted(set.intersection(*(set(runs) for runs in found.values())))
    first = next(iter(found.values()))[seeds[0]]
    told = {
        "title": first["last"]["data"],
        **{key: first["config"][key] for key in ("labeled", "steps", "image_size")},
        "ids": first["last"]["ids"],
    }
    for which in ("last", "best"):
        told[which] = {
            variant: [
                np.rint(DICE * case_dice(s["cases"][s["prediction"]])).astype(int).tolist() for s in scores
            ]
            for variant, scores in ((v, [runs[seed][which] for seed in seeds]) for v, runs in found.items())
        }
    path = FOLDER / f"{name}.json"
    write_text(path, json.dumps(told, separators=(",", ":")) + "\n")
    return path


@dataclass(frozen=True)
class Runs:
    """Dice on the val images of runs of one net: at some steps, and of each image at the end."""

    title: str
    steps: tuple[int, ...]  # when it was validated
    curves: dict[str, NDArray[np.float64]]  # variant -> (seeds, validations), mean over the images
    last: dict[str, NDArray[np.float64]]  # variant -> (seeds, images)


def load_runs(name: str) -> Runs:
    """Recorded runs by their name. Raises UserError for an unknown one."""
    path = FOLDER / "runs" / f"{name}.json"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.json")))
        raise UserError(f"found no runs {name!r}, expected one of {known}: correct the name")
    told = json.loads(path.read_text("utf8"))
    curves, last = ({v: np.array(s) for v, s in told[which].items()} for which in ("curves", "last"))
    return Runs(told["title"], tuple(told["steps"]), curves, last)


def record_runs(name: str, folder: Path, variants: Sequence[str]) -> Path:
    """Keep the val Dice of FOLDER/VARIANT/SEED, scored by `evaluate --split val`, in grids/runs/NAME.json.

    A variant is kept with all its seeds. Raises UserError if a run was scored on another split.
    """
    from knowsam_lite.evaluation import case_dice
    from knowsam_lite.runs.log import read_log

    told: dict = {"curves": {}, "last": {}}
    for variant in variants:
        for run in sorted(path.parent for path in (folder / variant).glob("*/metrics.json")):
            scores = json.loads((run / "metrics.json").read_text("utf8"))
            if scores["split"] != "val":
                raise UserError(f"found {run} scored on {scores['split']}, expected val: evaluate it on val")
            view = scores["prediction"]
            rows = [row for row in read_log(run) if row["kind"] == "val"]
            told |= {"title": scores["data"], "steps": [row["step"] for row in rows]}
            told["curves"].setdefault(variant, []).append([round(row["dice"][view], 4) for row in rows])
            told["last"].setdefault(variant, []).append(case_dice(scores["cases"][view]).round(4).tolist())
    path = FOLDER / "runs" / f"{name}.json"
    write_text(path, json.dumps(told) + "\n")
    return path


def record_maps(folder: Path) -> Path:
    """Keep the margins of both runs, FOLDER/METHOD/0, on the val and test images in grids/maps.npz."""
    from knowsam_lite.evaluation import predicted
    from knowsam_lite.runs.run import load_run

    kept = {}
    for method in MAPS:
        run = load_run(folder / method / "0")
        size, view = run.config.image_size, run.method.prediction_view
        for split in ("val", "test"):
            records = run.dataset.split(split)
            shown = predicted(run.method, run.dataset, records, size, run.device)
            z = np.stack([views[view].cpu().numpy() for _, _, _, views in shown])
            kept[f"{method}_{split}"] = np.clip(np.round((z[:, 1] - z[:, 0]) * STEPS), -127, 127).astype(
                np.int8
            )
    path = FOLDER / "maps.npz"
    write_aside(path, lambda file: np.savez_compressed(file, **kept))
    return path


if __name__ == "__main__":
    what, *names = sys.argv[1:]
    if what == "maps":
        print(record_maps(Path(names[0])))
    elif what == "runs":
        print(record_runs(names[0], Path(names[1]), names[2:]))
    else:
        print(record_grid(what, Path(names[0]), names[1:]))
