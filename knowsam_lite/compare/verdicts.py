"""The verdict on a difference between two methods: by itself, and among all of a column."""

from collections.abc import Sequence

from knowsam_lite.compare.results import Block, Entry
from knowsam_lite.methods import SKD
from knowsam_lite.metrics import Difference, crossed, holm

LEVEL = 0.05  # chance of a wrong claim, of a whole column
LEAST = 3  # seeds of a verdict: of two, up to 17 % of differences that are none would be called (simulated)


def differences(block: Block, baseline: str) -> dict[str, str]:
    """Every other entry against `baseline`, in words: variant -> text, see `said_of`."""
    base = block.entries[baseline]
    return said_of([(entry, base) for name, entry in block.entries.items() if name != baseline])


def gains_by_sam(block: Block) -> dict[str, str]:
    """NAME+skd against NAME wherever both are there, in words: variant -> text, see `said_of`."""
    plain = {name: name.removesuffix(SKD) for name in block.entries if name.endswith(SKD)}
    pairs = [(name, own) for name, own in plain.items() if own in block.entries]
    return said_of([(block.entries[name], block.entries[own]) for name, own in pairs])


def said_of(pairs: Sequence[tuple[Entry, Entry]]) -> dict[str, str]:
    """Each entry against the one beside it, in words: variant of the entry -> text.

    The `crossed` difference, with how many seeds the entry is ahead, and Cohen's d. "better" and "worse" hold
    for all of them together (Holm, 5 %); a difference that alone would be one is a "tie (Holm)". Fewer than
    three seeds get no verdict.
    """
    deltas = [entry.last - base.last for entry, base in pairs]
    groups = [base.scores[0]["last"].get("groups") for _, base in pairs]  # not in scores that are older
    found = [crossed(delta, group) for delta, group in zip(deltas, groups, strict=True)]
    said = {}
    for (entry, _), delta, d, p in zip(pairs, deltas, found, holm([d.p for d in found]), strict=True):
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
