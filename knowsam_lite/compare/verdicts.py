"""What a difference between two methods is worth: over seeds and cases at once, and among all of a column."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from knowsam_lite.compare.results import Block
from knowsam_lite.metrics import effect_size, holm, members

LEVEL = 0.05  # chance of a wrong claim, of a whole column
LEAST = 3  # seeds of a verdict: of two, 14 % of differences that are none would be called (simulated)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its 95 % interval, the p of none, and Cohen's d of the cases."""

    mean: float
    low: float
    high: float
    p: float
    effect: float


def crossed(delta: ArrayLike, groups: Sequence[str] | None = None) -> Difference:
    """The mean of `delta` (seeds, cases) where both are a few of many: other seeds and cases differ, too.

    Two-way random effects: the mean's variance is that of the seeds' means plus that of the cases' means,
    less what both contain, and never less than either; the interval is Student's t with Satterthwaite's
    degrees of freedom (1946, "An approximate distribution of estimates of variance components"). Few seeds
    that differ make it wide: with three, up to 4.3 standard errors. Where there is no difference, and with
    three seeds, 3 to 8 % of the intervals leave out 0, by how much seeds vary (simulated), and up to 24 % of
    `metrics.paired_bootstrap`'s. `groups`: whom each case is of; those of a patient count together. Of one
    seed only the cases' share is known. Raises UserError for groups that do not fit.
    """
    of_seeds = np.atleast_2d(np.asarray(delta, dtype=np.float64))
    means = of_seeds.mean(axis=1, keepdims=True)
    places = members(groups, of_seeds.shape[1])
    # A group's share of its seed's mean, as a deviation from it: groups may differ in size.
    shares = [(of_seeds[:, place] - means).sum(axis=1) for place in places]
    x = means + np.stack(shares, axis=1) * len(places) / of_seeds.shape[1]
    (s, g), mean = x.shape, float(x.mean())
    seeds, cases = x.mean(axis=1) - mean, x.mean(axis=0) - mean
    rest = x - mean - seeds[:, None] - cases
    known = []  # variances of the mean, and their degrees of freedom
    if s > 1:
        known.append((float(seeds @ seeds) / (s - 1) / s, s - 1.0))
    if g > 1:
        known.append((float(cases @ cases) / (g - 1) / g, g - 1.0))
    if s > 1 and g > 1:
        known.append((float((rest**2).sum()) / ((s - 1) * (g - 1)) / (s * g), (s - 1.0) * (g - 1)))
        total = known[0][0] + known[1][0] - known[2][0]
        free = total**2 / max(sum(v**2 / f for v, f in known), np.finfo(float).tiny)
        known[2] = (total, max(free, 1.0))
    variance, free = max(known, default=(np.inf, 1.0))
    error = float(np.sqrt(variance))
    half = error * float(stats.t.ppf(0.975, free))
    t = abs(mean) / error if error else np.inf * bool(mean)
    p = float(2 * stats.t.sf(t, free)) if mean else 1.0
    return Difference(mean, mean - half, mean + half, p, effect_size(x.mean(axis=0)))


def differences(block: Block, baseline: str) -> dict[str, str]:
    """Every other entry against `baseline`, in words: variant -> text.

    The `crossed` difference, with how many seeds the entry is ahead, and Cohen's d. "better" and "worse" hold
    for all of them together (Holm, 5 %); a difference that alone would be one is a "tie (Holm)". Fewer than
    three seeds get no verdict.
    """
    base = block.entries[baseline]
    others = [entry for name, entry in block.entries.items() if name != baseline]
    groups = base.scores[0]["last"].get("groups")  # not in scores that are older
    deltas = [entry.last - base.last for entry in others]
    found = [crossed(delta, groups) for delta in deltas]
    said = {}
    for entry, delta, d, p in zip(others, deltas, found, holm([d.p for d in found]), strict=True):
        ahead = int((delta.mean(axis=1) > 0).sum())
        verdict = verdict_of(d, p) if len(delta) >= LEAST else "no verdict"
        said[entry.variant] = (
            f"{d.mean:+.3f} [{d.low:+.3f}, {d.high:+.3f}] {ahead}/{len(delta)} d {d.effect:+.2f} {verdict}"
        )
    return said


def verdict_of(difference: Difference, corrected: float) -> str:
    """The verdict by a difference's own p and by the one that is corrected for its column."""
    if difference.p >= LEVEL:
        return "tie"
    if corrected >= LEVEL:
        return "tie (Holm)"
    return "better" if difference.mean > 0 else "worse"
