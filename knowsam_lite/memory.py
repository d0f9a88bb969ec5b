"""Memory that was freed is kept for what comes next.

A training step frees gigabytes and asks for them again. glibc hands large blocks back to the system at once,
which then has to find and to clear every page anew: about a tenth of a step's time (docs/speed.md).
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
KEEP = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}  # never shrink the heap, and take every block from there
# Where glibc's own thresholds end once it has seen large blocks freed; it stops moving them when one is set.
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25, MMAP_MAX: 65536}
SMALL_CACHE = "glibc.malloc.tcache_count"  # how many blocks of each size it holds

_inside = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within, this process keeps what it frees; at the end of the outermost it hands it back.

    For Linux's glibc; with another C library nothing happens.
    """
    global _inside
    libc = glibc()
    if libc is None:
        yield
        return
    _inside += 1
    if _inside == 1:
        set_options(libc, KEEP)
    try:
        yield
    finally:
        _inside -= 1
        if _inside == 0:
            set_options(libc, USUAL)
            libc.malloc_trim(0)


def without_small_cache() -> None:
    """Start this program anew, if it was not told yet, with glibc's cache of small blocks switched off.

    PyTorch's blocks are aligned. glibc cuts each out of a larger piece, and its cache keeps the offcuts, some
    bytes, from growing together with their neighbors again: what is freed is then too small for the next
    block of its size. That leaves holes of 0.1 to 0.6 GB in a step at 256 px, and only a process that begins
    can be told.
    """
    told = os.environ.get("GLIBC_TUNABLES", "")
    if glibc() is None or SMALL_CACHE in told:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [told, f"{SMALL_CACHE}=0"]))
    with suppress(OSError):  # if it cannot be started anew, it goes on as it is
        os.execv(sys.executable, sys.orig_argv)


def glibc() -> ctypes.CDLL | None:
    """glibc, if this process has it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def set_options(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
