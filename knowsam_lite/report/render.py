"""The page of a run, section by section."""

from dataclasses import dataclass
from typing import Any

from knowsam_lite.figures.training import Series
from knowsam_lite.report import about
from knowsam_lite.report.cases import cases
from knowsam_lite.report.curves import curves
from knowsam_lite.report.gather import Gatherer
from knowsam_lite.report.history import history
from knowsam_lite.report.markup import page, section, table, tag
from knowsam_lite.report.uncertainty import uncertainty
from knowsam_lite.runs.run import Run

DIGITS = {"dice": 3, "iou": 3, "hd95": 1, "asd": 1}
TITLES = {"dice": "Dice", "iou": "IoU", "hd95": "HD95", "asd": "ASD"}


@dataclass(frozen=True)
class Scored:
    """The results of scoring a run, from which the page is rendered."""

    run: Run
    which: str  # "last" or "best" checkpoint
    result: dict[str, Any]  # as in metrics.json
    gathered: Gatherer
    rows: list[dict[str, Any]]  # of log.jsonl
    series: dict[str, Series]  # "losses" and "dice", as `figures.curves` returns them
    seconds: float  # spent scoring the split


def render(scored: Scored) -> str:
    """The whole page as HTML."""
    result = scored.result
    title = f"{result['method']} on {result['data']}"
    parts = [
        tag("h1", title),
        tag("p", _subtitle(scored), class_="quiet"),
        tag("p", f"Note: {result['note']}.", class_="note", role="note") if result["note"] else "",
        _facts(scored),
        scores(result),
        history(scored.run.path, result, scored.which),
        cases(scored.run, scored.gathered),
        uncertainty(scored.gathered, result["ids"], result["prediction"], result["case"]),
        curves(scored.series),
        about.cost(scored.run, scored.rows, scored.seconds, len(result["ids"]), result["case"]),
        about.data_set(scored.run, result["labeled"]),
        about.configuration(scored.run.config),
        about.versions(scored.rows),
        "<footer>Everything on this page is in this one file; the numbers are also in metrics.json.</footer>",
    ]
    return page(title, "\n".join(part for part in parts if part))


def scores(result: dict[str, Any]) -> str:
    """One table per class, one row per view; also the mean over the classes if there are several."""
    unit = "px" if result["unit"] == "pixels" else "mm"
    by_class: dict[str, dict[str, Any]] = {}
    for view, classes in result["summary"].items():
        for name, metrics in classes.items():
            by_class.setdefault(name, {})[view] = metrics
    names = [name for name in by_class if name != "mean"]
    parts = [
        tag(
            "p",
            f"Mean ± standard deviation over {about.plural(len(result['ids']), result['case'])}, under it "
            "the bootstrap 95 % interval of the mean. "
            f"Bold: {result['prediction']}, the method's own prediction. Dice and IoU: higher is better; "
            f"distances in {unit}: lower is better.",
        )
    ]
    for name in names if len(names) == 1 else ["mean", *names]:
        parts.append(tag("h3", "Mean over the classes" if name == "mean" else name))
        metrics = list(next(iter(by_class[name].values())))
        head = ["map", *(TITLES[m] + (f" ({unit})" if DIGITS[m] == 1 else "") for m in metrics)]
        rows = [(view, _cells(by_class[name][view])) for view in by_class[name]]
        parts.append(table(head, rows, own=result["prediction"]))
    return section("Scores", *parts)


def _cells(metrics: dict[str, dict[str, float]]) -> list[str]:
    cells = []
    for metric, s in metrics.items():
        d = DIGITS[metric]
        interval = tag("small", f"{s['low']:.{d}f}–{s['high']:.{d}f}")
        spread = tag("span", f" ± {s['std']:.{d}f}")
        cells.append(f"{s['mean']:.{d}f}{spread}{interval}")
    return cells


def _subtitle(scored: Scored) -> str:
    result = scored.result
    count = about.plural(len(result["ids"]), f"{result['split']} {result['case']}")
    return f"{count}, {scored.which} checkpoint of a training of {result['step']} steps"


def _facts(scored: Scored) -> str:
    """The key numbers."""
    result, run = scored.result, scored.run
    own = result["summary"][result["prediction"]]
    d = own["mean"]["dice"]
    over = "mean over classes, " if len(run.dataset.classes) > 2 else ""
    interval = f"95 % interval {d['low']:.3f}–{d['high']:.3f}"
    facts = {
        f"Dice of {result['prediction']}, {over}{interval}": f"{d['mean']:.3f}",
        f"labelled training {about.plane_name(run.dataset)}s": str(len(result["labeled"])),
        "steps": str(result["step"]),
        "pixels a side": str(run.config.image_size),
    }
    items = "".join(f"<li>{tag('b', value)}{tag('span', name)}</li>" for name, value in facts.items())
    return f'<ul class="facts">{items}</ul>'
