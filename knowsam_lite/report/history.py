"""The rounds of labelling so far: labelled images against Dice, from the runs that lie beside this one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowsam_lite.figures.look import color
from knowsam_lite.report.about import plural
from knowsam_lite.report.chart import Axis, Chart
from knowsam_lite.report.markup import figure, section, table, tag
from knowsam_lite.runs.run import scores_folder


@dataclass(frozen=True)
class Round:
    """A scored run: its folder's name, how many labelled images it had, and Dice with its 95 % interval."""

    name: str
    labels: int
    dice: float
    low: float
    high: float


def history(path: Path, result: dict[str, Any], which: str = "last") -> str:
    """The section, or "" unless runs beside `path` learned from other numbers of labels; `result` is its
    own, as in metrics.json, by its "last" or "best" weights.

    A run counts if its method, its data's name, the split and the scored images are the same.
    """
    beside = sorted(folder for folder in path.resolve().parent.iterdir() if folder != path.resolve())
    place = scores_folder(Path(), result["split"], which)
    found = [(folder.name, other) for folder in beside for other in scores_in(folder / place)]
    same = [(name, other) for name, other in found if _key(other) == _key(result)]
    rounds = [round_of(name, other) for name, other in [*same, (path.resolve().name, result)]]
    rounds.sort(key=lambda each: (each.labels, each.name))
    if len({each.labels for each in rounds}) < 2:
        return ""
    view, split = result["prediction"], result["split"]
    others = sum(other["method"] == result["method"] for _, other in found) - len(same)
    left_out = f" Not shown, for they were scored on other images: {plural(others, 'run')}." if others else ""
    says = (
        f"Dots: Dice of {view} on the same {len(result['ids'])} {split} cases, with 95 % intervals.{left_out}"
    )
    head = ["run", "labelled images", "Dice", "95 % interval"]
    rows = [
        (each.name, [str(each.labels), f"{each.dice:.3f}", f"{each.low:.3f}–{each.high:.3f}"])
        for each in rounds
    ]
    intro = tag("p", f"The runs beside this one with the same method, data set and {split} cases.")
    drawing = figure(_chart(rounds, view, split), says)
    return section(
        "Labels and Dice",
        intro,
        f'<div class="charts">{drawing}</div>',
        table(head, rows, path.resolve().name),
    )


def scores_in(folder: Path) -> Iterator[dict[str, Any]]:
    """What metrics.json of a folder holds; nothing if there is none that can be read."""
    try:
        found = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        _key(found), round_of(folder.name, found)
    except (OSError, ValueError, LookupError, TypeError):
        return
    yield found


def _key(result: dict[str, Any]) -> tuple[object, ...]:
    return result["method"], result["data"], result["split"], result["prediction"], result["ids"]


def round_of(name: str, result: dict[str, Any]) -> Round:
    """The round of a run, from its scores as in metrics.json."""
    dice = result["summary"][result["prediction"]]["mean"]["dice"]
    return Round(name, len(result["labeled"]), dice["mean"], dice["low"], dice["high"])


def _chart(rounds: list[Round], view: str, split: str) -> str:
    """Labels against Dice: a line through the mean of each number of labels, dots and intervals."""
    counts = sorted({each.labels for each in rounds})
    means = [_mean([each.dice for each in rounds if each.labels == count]) for count in counts]
    room = 0.05 * (counts[-1] - counts[0])
    chart = Chart(
        Axis("labelled training images", max(counts[0] - room, 0), counts[-1] + room),
        Axis(f"Dice on {split}", 0, 1),
    )
    paint = color(view)
    chart.line(counts, means, paint)
    for each in rounds:
        chart.line([each.labels, each.labels], [each.low, each.high], paint)
    names = [f"{each.name}: {each.labels} labels, Dice {each.dice:.3f}" for each in rounds]
    chart.dots([each.labels for each in rounds], [each.dice for each in rounds], paint, names)
    pairs = zip(counts, means, strict=True)
    alt = ", ".join(f"{dice:.3f} with {count} labelled images" for count, dice in pairs)
    return chart.svg(f"Dice on {split}: {alt}.")


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
