"""Applies a function to many items on all cores, with only a few in memory at a time."""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection, get_context, parent_process
from typing import TypeVar

from knowsam_lite.errors import UserError
from knowsam_lite.interrupt import ignore

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 8  # items per task
SMALL = 64  # up to this many items, starting processes takes longer than the work


def each(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[R]:
    """function(item) for each item, in order, by `workers` processes; their exceptions are raised here."""
    if workers <= 1 or len(items) <= SMALL:
        yield from map(function, items)
        return
    # "spawn": a forked process would inherit the locks of threads that do not exist in it.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker)
    try:
        waiting: deque[Future[list[R]]] = deque()
        for start in range(0, len(items), CHUNK):
            waiting.append(pool.submit(_several, function, items[start : start + CHUNK]))
            if len(waiting) > 4 * workers:  # so that results do not pile up
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            f"found one of {workers} processes killed, perhaps out of memory, expected it to finish: "
            "run again with --workers 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _several(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _prepare_worker() -> None:
    """One thread per process, which ends with its parent: a killed parent cannot stop its children."""
    import cv2

    ignore()
    cv2.setNumThreads(1)
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()


def _follow(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
