"""Ctrl-C stops training between two steps, so that everything can be saved first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def ignore(*_: object) -> None:
    """Lets a helper process go on after Ctrl-C, which the terminal sends to all: its parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Interrupt:
    """Ctrl-C asks for a stop after the current step; a second one stops at once."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, *_: object) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def listening(self) -> Iterator["Interrupt"]:
        if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
            yield self
            return
        before = signal.signal(signal.SIGINT, self.ask)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)
