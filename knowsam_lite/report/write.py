"""Writes the results of a finished run: scores as text and JSON, curves, a prediction sheet, and a page."""

import json
import time
from pathlib import Path

import numpy as np
import torch

from knowsam_lite.data.records import cases_of
from knowsam_lite.evaluation import (
    Case,
    Watcher,
    at_native_size,
    case_dice,
    predicted,
    score_split,
    summary,
    unit_of,
)
from knowsam_lite.files import write_text, writing
from knowsam_lite.runs.log import read_log
from knowsam_lite.runs.run import Run
from knowsam_lite.uncertainty import entropy_map

SHEET_CASES = 6


def score_run(run: Run, split: str = "test", watcher: Watcher | None = None) -> dict:
    """Score every view of a run's method on a split: ids, cases and summaries, as written to metrics.json.

    `watcher` is passed to `score_split`.
    """
    config, data = run.config, run.dataset
    scores = score_split(
        run.method,
        data,
        split,
        config.image_size,
        run.device,
        run.bf16,
        watcher=watcher,
        tile=config.tile,
    )
    records = cases_of(data.split(split))
    groups = [slices[0].group for slices in records.values()]
    return {
        "data": data.name,
        "split": split,
        "method": run.method.name,
        "prediction": run.method.prediction_view,
        "step": run.step,
        "unit": unit_of(data, split),
        "case": "volume" if any(record.volume for record in data.split(split)) else "image",
        "labeled": run.labeled_ids,
        "note": run.method.note,
        "ids": list(records),
        "groups": groups,
        "summary": {view: summary(cases, data.classes, groups) for view, cases in scores.items()},
        "cases": scores,
    }


def table(result: dict) -> str:
    """The summary as text: a line per view and class, mean +- std and the 95 % interval of Dice; a note."""
    unit = "px" if result["unit"] == "pixels" else "mm"
    lines = [f"{'map':8} {'class':18} {'Dice':>13} {'95 %':>15} {'IoU':>6} {'HD95':>9} {'ASD':>9}"]
    for view, classes in result["summary"].items():
        names = [name for name in classes if name != "mean"]
        for name in names if len(names) == 1 else [*names, "mean"]:
            m = classes[name]
            d = m["dice"]
            lines.append(
                f"{view:8} {name:18} {d['mean']:.3f} +- {d['std']:.3f} [{d['low']:.3f}, {d['high']:.3f}]"
                f" {m['iou']['mean']:6.3f} {m['hd95']['mean']:6.1f} {unit} {m['asd']['mean']:6.1f} {unit}"
            )
    return "\n".join([*lines, *([f"Note: {result['note']}."] if result["note"] else [])])


def sheet_cases(run: Run, split: str, scores: dict[str, list[Case]]) -> list[dict]:
    """Cases for the prediction sheet, from the worst to the best by the method's own prediction.

    A volume shows its middle slice, with the Dice of the whole.
    """
    data, view = run.dataset, run.method.prediction_view
    records = [slices[len(slices) // 2] for slices in cases_of(data.split(split)).values()]
    order = np.argsort(case_dice(scores[view]), kind="stable")
    chosen = order[np.linspace(0, len(order) - 1, min(SHEET_CASES, len(order))).round().astype(int)]
    cases = []
    rows = [records[i] for i in chosen]
    config = run.config
    shown = predicted(run.method, data, rows, config.image_size, run.device, run.bf16, config.tile)
    for i, (record, _, truth, views) in zip(chosen, shown, strict=True):
        size = (truth.shape[0], truth.shape[1])
        h = torch.nn.functional.interpolate(entropy_map(views[view][None])[None], size, mode="bilinear")[0, 0]
        cases.append(
            {
                "id": record.id,
                "image": data.image(record),
                "truth": truth.clip(0).astype(np.uint8),  # -1, unknown, is drawn as background
                "maps": {name: at_native_size(z, size) for name, z in views.items()},
                "uncertainty": h.cpu().numpy(),
                "dice": {name: float(case_dice([scores[name][i]])[0]) for name in views},
            }
        )
    return cases


def write_report(
    run: Run, split: str = "test", which: str = "last", out: Path | None = None
) -> tuple[dict, list[Path]]:
    """Score a split, write metrics.json, curves.png, predictions.png and report.html; returns the scores and
    the paths. `which`, the checkpoint that the run holds ("last" or "best"), is named on the page. `out` is
    another folder than the run's. Raises UserError if the split is empty, the folder cannot be written or
    the log is missing, damaged or without a training row.
    """
    from knowsam_lite.figures import curves, prediction_sheet  # matplotlib is not needed to train
    from knowsam_lite.report.gather import Gatherer
    from knowsam_lite.report.render import Scored, render

    folder = out or run.path
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    names = ("metrics.json", "curves.png", "predictions.png", "report.html")
    metrics, lines, sheet, page = paths = [folder / name for name in names]
    rows = read_log(run.path)
    series = curves(rows, lines)  # first, so that an empty log is found before the slow part
    began = time.perf_counter()
    gathered = Gatherer(run.method.prediction_view)
    result = score_run(run, split, gathered)
    seconds = time.perf_counter() - began
    result["uncertainty"] = gathered.as_dict()
    result["confidence"] = gathered.reliability()
    write_text(metrics, json.dumps(result, indent=1))
    prediction_sheet(sheet_cases(run, split, result["cases"]), sheet, classes=run.dataset.classes)
    write_text(page, render(Scored(run, which, result, gathered, rows, series, seconds)))
    return result, paths
