"""The page that goes with an exported model: what it learned from, how well it works, what it is not for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from knowsam_lite.config import Config
from knowsam_lite.machine import versions
from knowsam_lite.predict.predictor import Predictor
from knowsam_lite.runs.run import read_config, scores_folder

UNKNOWN = "not recorded"
# What an exported model takes and gives.
GRAPH = (
    "pictures uint8 (N, H, W, 3), RGB, of any size in; `classes` uint8 (N, H, W) and `probabilities` "
    "(N, C, H, W) out"
)


def model_card(run: Path, predictor: Predictor, file: str, measured: Mapping[str, str]) -> str:
    """Markdown from what the run folder holds; `file`: its name and what it holds;
    `measured`: what the export itself found, by its name.
    """
    config, scores = read_config(run), _scores_of(run, predictor.step)
    described = _json(run / "dataset.json")
    about = {
        "file": file,
        "classes": ", ".join(
            f"{index} {name} (mask value {value})"
            for index, (name, value) in enumerate(
                zip(predictor.classes.names, predictor.classes.description("")["mask_values"], strict=True)
            )
        ),
        "works at": f"{predictor.image_size} px a side; {_what(predictor)} is resized to it, its answer back",
        **measured,
    }
    data = {
        "training data": str(described.get("name", config.data)),
        "labels": f"{len(scores['labeled'])} images with masks" if "labeled" in scores else config.labeled,
        "terms of the data": "those of its publisher; they go on to a model trained on it",
        "terms of the weights": _weights(config),
    }
    how = {
        "method": config.method + (f", SAM `{config.teacher}`" if _has_sam(predictor) else ""),
        "steps, seed": f"{predictor.step} of {config.steps}, {config.seed}",
        "versions": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    parts = [
        f"# {config.method} on {data['training data']}",
        _table(about),
        "## What it learned from",
        _table(data),
        "## How",
        _table(how),
        "## How well it works",
        _scores(scores, predictor.step),
        "## What it is not for",
        "Diagnosis or treatment. It was not tested on patients, scanners or hospitals other than those of "
        "its data, and a score on a public test set says little about them. Look at its masks before using "
        "them; where the two networks disagree they are least to be trusted.",
    ]
    if predictor.method.note:
        parts.insert(1, f"**{predictor.method.note[0].upper()}{predictor.method.note[1:]}.**")
    return "\n\n".join(parts) + "\n"


def _what(predictor: Predictor) -> str:
    """What the network sees at once."""
    if not predictor.tile:
        return "each picture"
    return f"each of overlapping squares of {predictor.tile} px (you cut the picture)"


def _json(path: Path) -> dict[str, Any]:
    """What a file of the run holds, or nothing where it was not written."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _has_sam(predictor: Predictor) -> bool:
    return hasattr(predictor.method, "teacher")


def _weights(config: Config) -> str:
    if config.students == "paper":
        return "none were used at the start"
    names = f"{config.encoder_a} and {config.encoder_b}"
    return f"its encoders started from {names}, pretrained on ImageNet, whose images have terms of their own"


def _scores_of(run: Path, step: int | None) -> dict[str, Any]:
    """What `evaluate` wrote about the weights of a step, on test images if it did; else about any others."""
    places = [scores_folder(run, split, which) for split in ("test", "val") for which in ("last", "best")]
    found = [scores for place in places if (scores := _json(place / "metrics.json"))]
    return next((scores for scores in found if scores["step"] == step), found[0] if found else {})


def _scores(scores: dict[str, Any], step: int | None) -> str:
    """The scores that `evaluate` wrote, if they are those of these weights."""
    if not scores:
        return f"{UNKNOWN.capitalize()}: `knowsam-lite evaluate RUN` measures it."
    if scores["step"] != step:
        return (
            f"{UNKNOWN.capitalize()}: the scores in the run folder are those of step {scores['step']}, these "
            f"weights are of step {step}; `knowsam-lite evaluate RUN --which last` or `best` measures them."
        )
    mean = scores["summary"][scores["prediction"]]
    rows = [
        f"| {name} | {each['dice']['mean']:.3f} [{each['dice']['low']:.3f}, {each['dice']['high']:.3f}] |"
        for name, each in mean.items()
    ]
    head = (
        f"Dice on {len(scores['ids'])} {scores['case']}s of {scores['data']} ({scores['split']}), mean and "
    )
    return "\n".join([f"{head}95 % interval over them:", "", "| | Dice |", "|---|---|", *rows])


def _table(rows: dict[str, str]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())])
