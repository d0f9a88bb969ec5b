"""Loggers besides log.jsonl: each is a function that is called with every row of the log."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from knowsam_lite.errors import UserError

Row = dict[str, Any]


def row_logger(name: str, run: Path) -> Callable[[Row], None]:
    """The logger that `Config.logger` names, which writes into the run folder from its first row on."""
    loggers: dict[str, Callable[[Row], None]] = {"none": lambda row: None, "tensorboard": TensorBoard(run)}
    return loggers[name]


class TensorBoard:
    """Writes every number of the log for `tensorboard --logdir RUNS`. UserError without the package."""

    def __init__(self, run: Path):
        self.run = run
        self.writer: Any = None

    def __call__(self, row: Row) -> None:
        if self.writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UserError(
                    "found no tensorboard, expected it for --logger tensorboard: run "
                    "`pip install 'knowsam-lite[tensorboard]'`"
                ) from None
            self.writer = SummaryWriter(str(self.run / "tensorboard"))
        for tag, value in numbers(row, row["kind"]):
            self.writer.add_scalar(tag, value, row["step"])
        self.writer.flush()


def numbers(content: Row, prefix: str) -> Iterator[tuple[str, float]]:
    """The numbers of a row with their names: "val/dice/fused", "train/losses/a/supervised", ..."""
    for name, value in content.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{prefix}/{name}")
        elif isinstance(value, int | float) and name not in ("step", "kind"):
            yield f"{prefix}/{name}", float(value)
