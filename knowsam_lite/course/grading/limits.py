"""What one submission may use, and the rules that a process sets itself before it runs foreign code."""

import ctypes
import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2]
# Landlock: what Linux lets any process forbid itself, see the kernel's userspace-api/landlock.rst.
CREATE, ADD, RESTRICT = 444, 445, 446  # numbers of its system calls, the same on all processors
READ = 0b1101  # execute and read files, list folders
READ_FILE, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 1, 1 << 14
RIGHTS = {1: 13, 2: 14}  # version -> number of rights to files; later versions have 15 that matter here
NO_NEW_PRIVILEGES = 38  # of prctl


@dataclass(frozen=True)
class Limits:
    """What one submission may use before it is ended."""

    seconds: float = 300  # by the clock
    memory: float = 4  # GB, beyond what PyTorch and this library take, all its processes together
    disk: float = 0.2  # GB, in its folder, printed text included
    processes: int = 16  # each with two threads at most


def confine(folder: Path, limits: Limits, alone: bool) -> bool:
    """Bind this process and its children to the limits, for good; writing is left in `folder` alone.

    `alone`: no other process belongs to this user, so that processes can be counted. False if this system has
    no Landlock: then files outside are protected by their owners and modes only.
    """
    gigabyte = 1 << 30
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, int(limits.disk * gigabyte))
    if alone:
        _limit(resource.RLIMIT_NPROC, 2 * limits.processes)  # Linux counts threads
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken = pages * os.sysconf("SC_PAGE_SIZE")  # PyTorch for CUDA maps gigabytes that it never uses
        _limit(resource.RLIMIT_AS, taken + int(limits.memory * gigabyte))
    return sys.platform == "linux" and _landlock(folder)


def _limit(what: int, value: int) -> None:
    hard = resource.getrlimit(what)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _landlock(folder: Path) -> bool:
    """Forbid reading outside of Python, system libraries and this package, and writing outside `folder`."""
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    rights = (1 << RIGHTS.get(version, 15)) - 1
    handled = ctypes.create_string_buffer(struct.pack("Q", rights), 8)
    rules = libc.syscall(CREATE, handled, ctypes.c_size_t(8), ctypes.c_uint32(0))
    _allow(libc, rules, _readable(), READ)
    _allow(libc, rules, [Path(os.devnull)], (READ_FILE | WRITE_FILE | TRUNCATE) & rights)
    _allow(libc, rules, [folder], rights)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    done = libc.syscall(RESTRICT, rules, ctypes.c_uint32(0)) == 0
    os.close(rules)
    return done


def _readable() -> Iterable[Path]:
    """Folders that Python, PyTorch and this library read from."""
    pythons = [sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()]
    system = ["/usr", "/lib", "/lib64", "/proc", "/sys", "/dev", "/etc/fonts"]
    return {path for path in (Path(each) for each in [*pythons, *system, str(PACKAGE)]) if path.is_dir()}


def _allow(libc: ctypes.CDLL, rules: int, paths: Iterable[Path], rights: int) -> None:
    for path in paths:
        place = os.open(path, os.O_PATH)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
        libc.syscall(ADD, rules, ctypes.c_int(1), rule, ctypes.c_uint32(0))
        os.close(place)
