"""Runs a command alone: without network, out of reach of other processes, ended when it takes too much."""

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

import psutil

from knowsam_lite.course.grading.limits import Limits

EVERY = 0.1  # seconds between two looks at a process
PRINTED = 20_000  # bytes of printed text that are kept
BASE = 2.0  # GB that PyTorch and this library may take before the limit of a submission counts
NAMESPACES = ("--net", "--pid", "--ipc", "--mount-proc", "--fork", "--kill-child")
_users = count(70_000)  # numbers of users that no system gives to people


@dataclass(frozen=True)
class Outcome:
    """How a command ended: `ended` says why it was stopped, or "" if it ended by itself with `code`."""

    code: int
    ended: str
    seconds: float
    printed: str  # the beginning of what it wrote to both its streams


@cache
def namespaces() -> tuple[str, ...]:
    """The command that gives a program a network and processes of its own; empty where not allowed."""
    user = () if _is_root() else ("--user", "--map-root-user")
    command = ("unshare", *user, *NAMESPACES)
    if shutil.which("unshare") is None:
        return ()
    return command if subprocess.run([*command, "true"], capture_output=True).returncode == 0 else ()


def has_own_user() -> bool:
    """True if no other process belongs to the user that a command runs as."""
    return bool(namespaces()) or bool(_changes_user())


@cache
def _changes_user() -> bool:
    return _is_root() and shutil.which("setpriv") is not None


def _is_root() -> bool:
    return os.geteuid() == 0


def _as_nobody(user: int) -> list[str]:
    """A user without rights, except to read the interpreter, which may lie in the administrator's home.

    For the administrator, the number of whose processes Linux does not limit.
    """
    kept = "-all,+dac_read_search"
    ids = ["--reuid", str(user), "--regid", str(user), "--clear-groups", "--no-new-privs"]
    return ["setpriv", *ids, "--inh-caps", kept, "--bounding-set", kept, "--ambient-caps", kept]


def run(command: Sequence[str], folder: Path, limits: Limits, environment: dict[str, str]) -> Outcome:
    """Run `command` in `folder`, which becomes its HOME and the place of its files.

    It ends, with everything it started, when it takes more than `limits`. That it writes nowhere else, and
    starts few processes from one moment to the next, the command has to see to: it calls `confine` before
    it runs foreign code.
    """
    words = [*namespaces()]
    if _changes_user():
        user = next(_users)
        words += _as_nobody(user)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user, user)
    folder.chmod(0o700)
    variables = {**environment, "HOME": str(folder), "TMPDIR": str(folder), "USER": "learner"}
    begun = time.monotonic()
    with open(folder / "printed.txt", "w+b") as printed:
        process = subprocess.Popen(
            [*words, *command],
            cwd=folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        try:
            ended = _watch(process, folder, limits)
        finally:
            _end(process)
        printed.seek(0)
        text = printed.read(PRINTED).decode("utf-8", "replace")
    return Outcome(process.returncode, ended, time.monotonic() - begun, text)


def _watch(process: subprocess.Popen, folder: Path, limits: Limits) -> str:
    """Wait for the end of a process, or for the limit that it breaks: says which."""
    end = time.monotonic() + limits.seconds
    while True:
        with suppress(subprocess.TimeoutExpired):
            process.wait(EVERY)
            return ""
        family = _family(process)
        if time.monotonic() > end:
            return f"took longer than {limits.seconds:g} s"
        if len(family) > limits.processes:
            return f"started more than {limits.processes} processes"
        if sum(map(_memory, family)) > (limits.memory + BASE) * 1e9:
            return f"took more than {limits.memory:g} GB of memory"
        if _size(folder) > limits.disk * 1e9:
            return f"wrote more than {limits.disk:g} GB"


def _family(process: subprocess.Popen) -> list[psutil.Process]:
    """A process that still runs, and all that it started."""
    with suppress(psutil.NoSuchProcess):
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    return []


def _memory(process: psutil.Process) -> int:
    """Bytes of memory of a process, its part of what it shares with others included."""
    with suppress(psutil.Error):
        used = process.memory_full_info()
        return getattr(used, "pss", used.uss)
    return 0


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it was removed meanwhile
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def _end(process: subprocess.Popen) -> None:
    """End a process and all that it started. In a space of its own they end with it in any case."""
    if process.poll() is None:
        for each in _family(process):
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


def read_foreign(path: Path, most: int) -> bytes:
    """The content of a file that foreign code wrote; b"" if it is no plain file or above `most` bytes."""
    try:
        place = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with open(place, "rb") as file:
        about = os.fstat(place)
        return file.read() if stat.S_ISREG(about.st_mode) and about.st_size <= most else b""
