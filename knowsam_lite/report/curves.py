"""Loss terms and validation Dice over the steps."""

import numpy as np

from knowsam_lite.figures.look import color
from knowsam_lite.figures.training import Series, by_kind, smooth, term_looks
from knowsam_lite.report.chart import Axis, Chart, legend, log_axis
from knowsam_lite.report.markup import figure, section, tag


def curves(series: dict[str, Series]) -> str:
    """The section with both charts, from what `figures.curves` returns."""
    losses, dice = by_kind(series["losses"]), series["dice"]
    last = max(float(steps[-1]) for steps, _ in [*losses.values(), *dice.values()])
    x = Axis("step", 0, max(last, 1.0))
    parts = [_losses(losses, x)]
    parts.append(_dice(dice, x) if dice else tag("p", "Not validated: the data has no val images."))
    return section("Training", f'<div class="charts">{"".join(parts)}</div>')


def _losses(losses: Series, x: Axis) -> str:
    drawn = {
        name: (steps, smooth(np.where(np.isfinite(v), v, np.nan))) for name, (steps, v) in losses.items()
    }
    chart = Chart(x, log_axis("loss term, weighted", [v for _, vs in drawn.values() for v in vs.tolist()]))
    entries = []
    looks = term_looks(drawn)
    for name, (steps, values) in drawn.items():
        paint, line = looks[name]
        look = "bold" if name == "total" else "dashed" if line == "--" else ""
        chart.line(steps.tolist(), values.tolist(), paint, look)
        entries.append((f"{name} {losses[name][1][-1]:.3g}", paint, look))
    first, last = losses["total"][1][[0, -1]]
    says = "The supervised terms should fall; terms that are ramped up may rise. Numbers: last value."
    alt = f"Loss terms over the steps, logarithmic: the total goes from {first:.3g} to {last:.3g}."
    return figure(chart.svg(alt), says, legend(entries))


def _dice(dice: Series, x: Axis) -> str:
    chart = Chart(x, Axis("Dice on val", 0, 1))
    entries = []
    for position, (name, (steps, values)) in enumerate(dice.items()):
        paint = color(name, position)
        chart.line(steps.tolist(), values.tolist(), paint)
        chart.dots(steps.tolist(), values.tolist(), paint, radius=2.6)
        entries.append((f"{name} {values[-1]:.3f}", paint, ""))
    alt = (
        "Dice on the val images over the steps; at the end " + ", ".join(text for text, _, _ in entries) + "."
    )
    says = "Curves that still rise at the end call for more steps; falling ones indicate overfitting."
    return figure(chart.svg(alt), says, legend(entries))
