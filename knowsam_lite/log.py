"""Reading log.jsonl, the rows that a training leaves in its run folder."""

import json
from pathlib import Path
from typing import Any

from knowsam_lite.errors import UserError


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's log, of kind "start", "train", "val" or "saved" (older ones: "train", "val").

    A last line that a kill cut short is left out. Raises UserError if there is no log or it is damaged.
    """
    path = run / "log.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"found no {path}, expected the log of a training: restore it") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise UserError(
                    f"found line {number} of {path} damaged, expected a row of JSON: restore or remove it"
                ) from None
    return rows
