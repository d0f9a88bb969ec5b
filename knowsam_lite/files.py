"""Atomic writes: a kill leaves the old file or the new one, never half of one."""

import os
from collections.abc import Callable
from pathlib import Path

from knowsam_lite.errors import UserError


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Write the file under a temporary name with `write`, then rename it. Raises UserError if that fails."""
    aside = path.with_name(f"{path.name}.part")
    try:
        write(aside)
        os.replace(aside, path)
    except OSError as error:
        found = f"found {path} not writable ({error.strerror})"
        raise UserError(f"{found}, expected a folder with room: choose another") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file as `write_aside` does."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))
