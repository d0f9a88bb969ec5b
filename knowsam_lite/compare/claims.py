"""Who trains which cell of a grid that several machines share: one file a cell, safe on network disks."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from knowsam_lite.files import writing

BUSY = 75  # exit code of a process that found its cell claimed (EX_TEMPFAIL)
STOPPED = 130  # of one that Ctrl-C or SIGTERM stopped, and that saved
# Seconds without a sign of life after which a process counts as dead; more for a disk that shows changes
# late.
SILENT = float(os.environ.get("KNOWSAM_LITE_SILENT", "30"))


class Claims:
    """The claims of one process; `name` is its own among all that share the disk.

    A claim is a file made with O_EXCL, which only one process can make, and touched often.
    Ages are differences of times by the disk's own clock, so that the machines' clocks do not matter.
    A process that was silent for long (suspended, or away from the disk) may lose its claim: `lost` is
    called, from another thread.
    """

    def __init__(self, silent: float = SILENT, lost: Callable[[], None] = lambda: None):
        self.beat, self.silent, self.lost = silent / 6, silent, lost
        self.name = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(4)}"

    @contextmanager
    def held(self, folder: Path) -> Iterator[bool]:
        """Whether this process got the claim on `folder`, and then keeps it until the end of the context."""
        claim = folder / ".claim"
        with writing(claim):
            folder.mkdir(parents=True, exist_ok=True)
            mine = self._made(claim) or self._taken_over(claim)
        if not mine:
            yield False
            return
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(claim, done), daemon=True)
        beating.start()
        try:
            yield True
        finally:
            done.set()
            beating.join()
            with suppress(FileNotFoundError):  # or another's by now, if this process was away for long
                if claim.read_text(encoding="utf-8") == self.name:
                    claim.unlink()

    @contextmanager
    def waited(self, folder: Path) -> Iterator[None]:
        """Hold the claim on `folder`, after whoever has it."""
        while True:
            with self.held(folder) as mine:
                if mine:
                    yield
                    return
            time.sleep(self.beat / 10)

    def owner(self, folder: Path) -> str:
        """Who works on `folder`; "" if nobody does, or nobody alive."""
        claim = folder / ".claim"
        try:
            claim.stat()
            return "" if self._is_dead(claim) else claim.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""

    def _made(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.name)
        return True

    def _taken_over(self, claim: Path) -> bool:
        """Whether the claim was a dead process's and is now this one's.

        Of all that find it dead, the one that makes the file `.takeover` looks again and replaces it.
        """
        door = claim.with_name(".takeover")
        with suppress(FileNotFoundError):
            if not self._is_dead(claim):
                return False
            if door.exists() and self._is_dead(door):  # its maker died in the middle
                door.unlink(missing_ok=True)
        if not self._made(door):
            return False
        try:
            with suppress(FileNotFoundError):
                if not self._is_dead(claim):
                    return False
                claim.unlink()
            return self._made(claim)
        finally:
            door.unlink(missing_ok=True)

    def _is_dead(self, path: Path) -> bool:
        """Whether nobody touched the file for `silent` seconds of the disk's clock."""
        now = path.with_name(f".now.{self.name.rsplit(' ', 1)[1]}")
        try:
            now.touch()
            return now.stat().st_mtime - path.stat().st_mtime > self.silent
        except FileNotFoundError:
            raise
        except OSError:  # for those who may only read; the clock of this machine has to do
            return time.time() - path.stat().st_mtime > self.silent
        finally:
            with suppress(OSError):
                now.unlink()

    def _beat(self, claim: Path, done: threading.Event) -> None:
        while not done.wait(self.beat):
            with suppress(OSError):  # a network disk may be away for a moment
                if not claim.exists() or claim.read_text(encoding="utf-8") != self.name:
                    return self.lost()
                os.utime(claim)
