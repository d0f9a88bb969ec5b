"""log.jsonl: averages loss terms into rows, and reads them back."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.errors import UserError


@dataclass
class Window:
    """The loss terms since the last row of the log; they stay on the device until they are read."""

    steps: list[int] = field(default_factory=list)
    ids: list[list[str]] = field(default_factory=list)
    terms: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, step: int, ids: list[str], terms: dict[str, Tensor]) -> None:
        self.steps.append(step)
        self.ids.append(ids)
        self.terms.append({name: term.detach() for name, term in terms.items()})

    def read(self) -> dict[str, float]:
        """Mean of each term over the window.

        Raises UserError if one was not finite, with its name, steps and samples.
        """
        names = list(dict.fromkeys(name for terms in self.terms for name in terms))
        flat = (
            torch.stack([term for terms in self.terms for term in terms.values()]).tolist() if names else []
        )
        values: dict[str, list[float]] = {name: [] for name in names}
        at = 0
        bad: dict[str, list[int]] = {}
        for i, terms in enumerate(self.terms):
            for name in terms:
                value = flat[at]
                at += 1
                values[name].append(value)
                if not abs(value) < float("inf"):
                    bad.setdefault(name, []).append(i)
        if bad:
            name, where = next(iter(bad.items()))
            samples = sorted({sample for i in where for sample in self.ids[i]})
            raise UserError(
                f"found a non-finite loss term {name!r} first at step {self.steps[where[0]]} (window "
                f"{self.steps[0]} to {self.steps[-1]}; samples {', '.join(samples[:12])}), expected finite "
                "losses: lower the learning rate or look at these images; nothing non-finite was saved"
            )
        return {name: sum(v) / len(v) for name, v in values.items()}


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log, of kind "start", "train", "val" or "saved" (older ones: "train", "val").

    A last line cut short by a kill is skipped. Raises UserError if there is no log or it is damaged.
    """
    path = run / "log.jsonl"
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise UserError(f"found no {path}, expected a training log: restore it") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            rows.append({"kind": row["kind"], "step": row["step"], **row})
        except (ValueError, TypeError, LookupError):
            if number < len(lines):
                raise UserError(
                    f"found line {number} of {path} damaged, expected a row of JSON: restore or remove it"
                ) from None
    return rows


def most_memory(rows: Iterable[Mapping[str, Any]]) -> int | None:
    """Bytes: the most that any process of a run had taken when it saved; None where none was logged."""
    return max((row["peak_memory_bytes"] for row in rows if row.get("peak_memory_bytes")), default=None)
