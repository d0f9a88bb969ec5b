"""What a learner has done, kept between kernels in one small file.

Only a notebook that a person runs reads or writes it. Where it cannot be written nothing is kept, and
nothing is said: no notebook fails for it.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

VARIABLE = "KNOWSAM_LITE_PROGRESS"  # "off", or the path of the file
OPEN = "not started"


def place() -> Path | None:
    """The file: .knowsam_lite/progress.json in the home folder, or where KNOWSAM_LITE_PROGRESS says; None if
    that is "off" or there is no home folder.
    """
    chosen = os.environ.get(VARIABLE)
    if chosen == "off":
        return None
    try:
        return Path(chosen) if chosen else Path.home() / ".knowsam_lite" / "progress.json"
    except RuntimeError:
        return None


def load() -> dict[str, str]:
    """Exercise number -> state; empty where nothing is kept or the file is damaged."""
    path = place()
    try:
        found = json.loads(path.read_text("utf8")) if path else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(number): str(state) for number, state in found.items()}


def merged(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """The states of `old` renewed by `new`; an exercise that is open again keeps what it had reached."""
    return {**old, **{number: state for number, state in new.items() if state != OPEN or number not in old}}


def keep(results: Mapping[str, str]) -> None:
    """Add states to the file, which another notebook may have written meanwhile."""
    path = place()
    if path is None:
        return
    with suppress(OSError, UserError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(merged(load(), results), indent=1, sort_keys=True) + "\n")
