"""Uncertainty against error: does the network know where it is wrong?"""

import numpy as np
from scipy.stats import spearmanr

from knowsam_lite.calibration import calibration_error
from knowsam_lite.figures.look import OTHERS, color
from knowsam_lite.report.chart import Axis, Chart, legend
from knowsam_lite.report.gather import BINS, Gatherer
from knowsam_lite.report.markup import details, figure, section, table, tag

OBSERVED, EXPECTED, PIXELS = OTHERS[2], OTHERS[0], OTHERS[3]
HIGH = 0.5  # uncertainty above which the text counts pixels and errors


def uncertainty(gathered: Gatherer, ids: list[str], view: str, case: str) -> str:
    """The section with the error rate by uncertainty, the pixels behind it, and uncertainty against Dice."""
    edges = np.linspace(0, 1, BINS + 1)
    figures = [_reliability(gathered, edges), _shares(gathered, edges), _scatter(gathered, ids, view, case)]
    text = (
        f"Uncertainty is the entropy of {view}, from 0 (certain) to 1 (a guess), at each of "
        f"{gathered.pixels.sum():,} pixels. {_summary(gathered)}"
    )
    return section(
        "Uncertainty against error",
        tag("p", text),
        f'<div class="charts">{"".join(figures)}</div>',
        details("The bins as a table", _table(gathered, edges)),
    )


def rates(gathered: Gatherer) -> tuple[np.ndarray, np.ndarray]:
    """Observed and expected error rate of each bin, (BINS,) each; nan where a bin is empty."""
    pixels = np.where(gathered.pixels > 0, gathered.pixels, np.nan)
    return gathered.wrong / pixels, gathered.expected / pixels


def _reliability(gathered: Gatherer, edges: np.ndarray) -> str:
    observed, expected = rates(gathered)
    axis = Axis("share of pixels that are wrong", 0, _ceiling([*observed, *expected]))
    chart = Chart(Axis("uncertainty", 0, 1), axis)
    chart.bars(edges.tolist(), observed.tolist(), OBSERVED)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    chart.line(middles, expected.tolist(), EXPECTED)
    chart.dots(middles, expected.tolist(), EXPECTED)
    alt = "Error rate in ten bins of uncertainty: " + ", ".join(
        "no pixel" if np.isnan(rate) else f"{rate:.3f}" for rate in observed
    )
    names = legend(
        [("observed", OBSERVED, "bold"), ("expected by the network, mean of 1 - max p", EXPECTED, "")]
    )
    says = "Bars should rise to the right; bars above the line mean that the network is surer than it may be."
    return figure(chart.svg(f"{alt}."), says, names)


def _shares(gathered: Gatherer, edges: np.ndarray) -> str:
    """The share of all pixels, and of all wrong pixels, in each bin."""
    pixels = gathered.pixels / gathered.pixels.sum()
    wrong = gathered.wrong / max(gathered.wrong.sum(), 1)
    chart = Chart(Axis("uncertainty", 0, 1), Axis("share of all", 0, _ceiling([*pixels, *wrong])))
    chart.bars(edges.tolist(), pixels.tolist(), PIXELS)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    chart.line(middles, wrong.tolist(), OBSERVED)
    chart.dots(middles, wrong.tolist(), OBSERVED)
    alt = "Pixels in each bin: " + ", ".join(f"{count:,}" for count in gathered.pixels) + "."
    names = legend([("pixels", PIXELS, "bold"), ("wrong pixels", OBSERVED, "")])
    says = "Where the pixels lie, and where the wrong ones lie: the further right the wrong ones, the better."
    return figure(chart.svg(alt), says, names)


def _ceiling(values: list[float]) -> float:
    """The next tenth above all values, at most 1; empty bins (nan) do not count."""
    return float(min(np.ceil(np.nanmax([*values, 0.1]) * 10 - 1e-9) / 10, 1))


def _scatter(gathered: Gatherer, ids: list[str], view: str, case: str) -> str:
    top = max(max(gathered.uncertainty) * 1.08, 0.01)
    chart = Chart(Axis(f"mean uncertainty of the {case}", 0, top), Axis("Dice", 0, 1))
    names = [f"{i}: Dice {d:.3f}" for i, d in zip(ids, gathered.dice, strict=True)]
    chart.dots(gathered.uncertainty, gathered.dice, color(view), names, radius=3.5)
    low, high = min(gathered.dice), max(gathered.dice)
    alt = f"Mean uncertainty against Dice, a dot {case} by {case}: Dice from {low:.3f} to {high:.3f}."
    says = (
        f"A dot is one {case}; a cloud that falls to the right means that uncertainty predicts bad results."
    )
    return figure(chart.svg(alt), f"{says}{_correlation(gathered)}")


def _correlation(gathered: Gatherer) -> str:
    """Spearman's rank correlation, where it is defined."""
    spread = [len(set(values)) for values in (gathered.uncertainty, gathered.dice)]
    if min(spread) < 3:
        return ""
    return f" Spearman's rank correlation: {spearmanr(gathered.uncertainty, gathered.dice)[0]:+.2f}."


def _summary(gathered: Gatherer) -> str:
    """The share of the errors where the network is unsure."""
    wrong = gathered.wrong.sum()
    if not wrong:
        return "No pixel is wrong."
    high = round(HIGH * BINS)
    part = gathered.pixels[high:].sum() / gathered.pixels.sum()
    gap = calibration_error(gathered.pixels, gathered.expected, gathered.wrong)
    return (
        f"{wrong / gathered.pixels.sum():.1%} of them are wrong. Above {HIGH:g} lie {part:.1%} "
        f"of all pixels and {gathered.wrong[high:].sum() / wrong:.1%} of the wrong ones. Observed and "
        f"expected error rates are {gap:.3f} apart, mean over the pixels (expected calibration error over "
        "these bins)."
    )


def _table(gathered: Gatherer, edges: np.ndarray) -> str:
    observed, expected = rates(gathered)
    rows = []
    for i in range(BINS):
        share = ["", ""] if not gathered.pixels[i] else [f"{observed[i]:.4f}", f"{expected[i]:.4f}"]
        rows.append(
            (
                f"{edges[i]:.1f} to {edges[i + 1]:.1f}",
                [f"{gathered.pixels[i]}", f"{gathered.wrong[i]}", *share],
            )
        )
    return table(["uncertainty", "pixels", "wrong", "share wrong", "expected"], rows)
