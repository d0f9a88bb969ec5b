"""Ctrl-C or SIGTERM stops training between two steps, so that everything can be saved first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


def ignore(*_: object) -> None:
    """Lets a helper process go on after Ctrl-C or SIGTERM, which terminals, torchrun and clusters send to all
    of a process group: its parent decides, and can still end it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):  # not on Windows
        os.setpgrp()


class Interrupt:
    """Ctrl-C asks for a stop after the current step; a second one stops at once. SIGTERM, which clusters and
    torchrun send, asks as well, and waits, and so does SIGUSR2, by which submitit announces the end of a job.
    """

    SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR2")  # the last is not on Windows

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int = signal.SIGINT, *_: object) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def listening(self) -> Iterator["Interrupt"]:
        if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
            yield self
            return
        numbers = [getattr(signal, name) for name in self.SIGNALS if hasattr(signal, name)]
        before = {number: signal.signal(number, self.ask) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
