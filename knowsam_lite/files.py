"""Files and folders that are whole or not there: a kill or a full disk leaves the old one, never a half."""

import hashlib
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from knowsam_lite.errors import UserError, reason_of

LEFT = 3600.0  # seconds after which a file that nobody finished is taken for a killed process's
NAME_BYTES = 255  # the longest file name of common file systems


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an error of the system inside, however a library wraps it, into a UserError that names `path`."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = reason_of(error)
        if not reason:
            raise
        raise UserError(
            f"found {path} not writable ({reason}), expected a folder with room: make room, or choose "
            "another output folder (a run can be copied)"
        ) from None


def write_aside(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file under a temporary name with `write`, then rename it. Raises UserError if that fails."""
    with writing(path):
        file = _aside(path)
        aside = Path(file.name)
        try:
            with file:
                write(file)
                file.flush()
                os.fsync(file.fileno())  # a network drive reports a full disk only here
            os.replace(aside, path)
        except BaseException:
            with suppress(OSError):
                aside.unlink(missing_ok=True)
            raise


def _aside(path: Path) -> BinaryIO:
    """A new file beside `path`, of this process alone: another may be writing the same path now.

    What a killed process left is removed after an hour.
    """
    usual = beside(path, "part")
    with suppress(OSError):
        if time.time() - usual.stat().st_mtime > LEFT:
            usual.unlink()
    try:
        return open(usual, "xb")
    except FileExistsError:
        return open(beside(path, f"{secrets.token_hex(4)}.part"), "xb")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder that only one process may write to. Raises UserError if another process holds it."""
    from filelock import FileLock, Timeout  # not needed by most imports

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            with suppress(NotImplementedError):  # a disk without locks
                lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"found {folder} in use by another process, expected none: wait, or give another folder"
            ) from None
    try:
        yield
    finally:
        with suppress(OSError):  # some systems remove it themselves on release
            (folder / ".lock").unlink()
        lock.release()


def write_text(path: Path, text: str) -> None:
    """Write a text file (UTF-8) as `write_aside` does; what is no Unicode in a name appears as \\udcfc."""
    data = text.encode("utf-8", "backslashreplace")
    write_aside(path, lambda file: file.write(data))


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` to write into; it takes the name at the end, or is removed after an error.

    Raises UserError if `out` has no name of its own ("."), holds files or cannot be written.
    """
    if not out.name:
        raise UserError(f"found {out}, expected the name of a new folder: give it one")
    with writing(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"found files in {out}, expected a new or empty folder: choose another")
        aside = beside(out, "part")
        shutil.rmtree(aside, ignore_errors=True)  # what a killed process left
        try:
            aside.mkdir(parents=True)
            yield aside
            if out.exists():
                out.rmdir()
            os.rename(aside, out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


def beside(path: Path, ending: str) -> Path:
    """The hidden path .NAME.ENDING in the same folder; where that is too long, a hash stands for NAME."""
    name = f".{path.name}.{ending}"
    if len(os.fsencode(name)) > NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{ending}"
    return path.with_name(name)


def in_shell(path: Path | str) -> str:
    """A path as a shell takes it: in quotes where it holds blanks or signs of the shell."""
    return subprocess.list2cmdline([str(path)]) if os.name == "nt" else shlex.quote(str(path))


def ignores_case(folder: Path) -> bool:
    """Whether `folder`, or the first existing one above it, takes NAME and name for the same file."""
    home = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())
    with writing(folder), tempfile.NamedTemporaryFile(prefix=".case", dir=home) as file:
        return Path(home, Path(file.name).name.upper()).exists()
