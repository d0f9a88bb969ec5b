"""The verdict on a difference between two methods: by itself, and among all of a column."""

from knowsam_lite.compare.results import Block
from knowsam_lite.metrics import Difference, crossed, holm

LEVEL = 0.05  # chance of a wrong claim, of a whole column
LEAST = 3  # seeds of a verdict: of two, up to 17 % of differences that are none would be called (simulated)


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
