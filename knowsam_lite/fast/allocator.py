"""Keeps freed memory in the process for reuse.

A training step frees and reallocates gigabytes. glibc returns large blocks to the system at once, which then
has to find and clear every page again: about a tenth of a step's time (docs/speed.md).
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)
KEEP = {TRIM_THRESHOLD: -1, MMAP_MAX: 0}  # never shrink the heap, and allocate every block there
# Final values of glibc's dynamic thresholds after large blocks were freed; setting one makes them fixed.
USUAL = {TRIM_THRESHOLD: 2**26, MMAP_THRESHOLD: 2**25, MMAP_MAX: 65536}
SMALL_CACHE = "glibc.malloc.tcache_count"  # number of cached blocks of each size

_inside = 0


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Within the context this process keeps freed memory; leaving the outermost one returns it to the system.

    Only for glibc on Linux; with another C library it does nothing.
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


def small_cache_is_off() -> bool:
    """Whether glibc's cache of small blocks was switched off when this process started.

    Cached blocks keep freed neighbors from merging: with the cache, a step at 256 px takes 0.1 to 0.6 GB more
    (docs/speed.md). Only `GLIBC_TUNABLES` in the environment switches it off; the Makefile sets it.
    True with another C library, which has no such cache.
    """
    return glibc() is None or f"{SMALL_CACHE}=0" in os.environ.get("GLIBC_TUNABLES", "").split(":")


def glibc() -> ctypes.CDLL | None:
    """glibc, if this process uses it."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def set_options(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
