"""Live progress of a training below a notebook's cell: a bar and curves, replaced in place.

No widget is used: each is one ordinary output, so a notebook keeps only its last state.
"""

import json
from typing import Any

from knowsam_lite.course.show import picture
from knowsam_lite.figures import curves
from knowsam_lite.training import Trainer

WIDTH = 30  # characters of the bar


class Spot:
    """A place among a cell's outputs whose content can be replaced while the cell runs."""

    def __init__(self) -> None:
        self.handle: Any = None

    def put(self, content: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        """Show `content` (by type, such as "text/plain") in place of what was shown before."""
        from IPython.display import display

        if self.handle is None:
            self.handle = display(content, raw=True, metadata=metadata or {}, display_id=True)
        else:
            self.handle.update(content, raw=True, metadata=metadata or {})


def bar(name: str, step: int, steps: int, seconds: float) -> str:
    """One line: how far a run is, and how long it still takes at `seconds` per step."""
    full = WIDTH * step // steps
    left = seconds * (steps - step)
    blocks = "\u2588" * full + "\u2591" * (WIDTH - full)
    return f"{name} {blocks} {step} of {steps} steps, {seconds:.2f} s a step, {left:.0f} s to go"


class WatchedTrainer(Trainer):
    """A `Trainer` that shows each row of its log in a bar, and the curves whenever it saves."""

    spots: tuple[Spot, Spot] | None = None

    def fit(self, progress: bool = True) -> bool:
        """Train as `Trainer.fit` does; `progress`: whether to show anything."""
        if progress:
            self.spots = Spot(), Spot()
            self.draw()  # what was done before resuming
        return super().fit(progress=False)

    def write_row(self, row: dict) -> None:
        super().write_row(row)
        if row["kind"] == "train":
            self.count(row)

    def save(self, between: bool = False) -> None:
        super().save(between)
        self.draw()

    def count(self, row: dict) -> None:
        """Show the progress at a row of the log."""
        if self.spots:
            line = bar(self.method.name, row["step"], self.config.steps, row["seconds"])
            self.spots[0].put({"text/plain": line})

    def draw(self) -> None:
        """Show bar and curves of the log so far, if there is anything in it."""
        rows = [json.loads(line) for line in (self.run / "log.jsonl").read_text("utf8").splitlines()]
        train = [row for row in rows if row["kind"] == "train"]
        if self.spots and train:
            self.count(train[-1])
            alt = (
                f"Learning curves of {self.method.name} up to step {self.step}: on the left the weighted "
                "loss terms on a logarithmic axis, on the right the validation Dice of each map."
            )
            _, content, metadata = picture(curves, rows, alt=alt)
            self.spots[1].put(content, metadata)
