"""Freed memory is kept while something trains, and handed back after it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from knowsam_lite.cli import main
from knowsam_lite.fast import allocator as memory
from knowsam_lite.fast.allocator import KEEP, USUAL, freed_memory_kept, glibc

# 64 blocks of 1 MB are written and freed ten times over, within and without; then what is left is measured.
PROGRAM = """
import resource
import numpy as np
from knowsam_lite.fast.allocator import freed_memory_kept

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [np.full(2**17, 1.0) for _ in range(64)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

with freed_memory_kept():
    with freed_memory_kept():
        work()
    kept = work()
    held = resident()
print(kept, held - resident(), sep="\\n")
"""

needs_glibc = pytest.mark.skipif(glibc() is None, reason="another C library than glibc")


@needs_glibc
def test_pages_are_asked_for_once_and_handed_back_at_the_end():
    outcome = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    faults, returned = map(int, outcome.stdout.split())
    assert faults < 1000  # 640 MB are 164000 pages of 4 kB
    assert returned > 50 * 2**20


@needs_glibc
def test_the_outermost_one_decides_even_after_an_error(monkeypatch):
    told = []
    monkeypatch.setattr(memory, "set_options", lambda libc, options: told.append(options))
    with pytest.raises(ZeroDivisionError), freed_memory_kept(), freed_memory_kept():
        assert told == [KEEP]
        raise ZeroDivisionError
    assert told == [KEEP, USUAL]
    with freed_memory_kept():
        assert told == [KEEP, USUAL, KEEP]


@needs_glibc
def test_glibc_accepts_every_option():
    libc = glibc()
    with freed_memory_kept():
        accepted = [libc.mallopt(option, value) for option, value in (KEEP | USUAL | KEEP).items()]
    assert accepted == [1, 1, 1]


def test_elsewhere_nothing_happens(monkeypatch):
    monkeypatch.setattr(memory, "glibc", lambda: None)
    monkeypatch.setattr(memory, "set_options", pytest.fail)
    with freed_memory_kept():
        assert np.full(2**17, 1.0).sum() == 2**17


@needs_glibc
@pytest.mark.parametrize(
    ("told", "off"),
    [
        ("", False),
        ("glibc.malloc.perturb=0", False),
        ("glibc.malloc.tcache_count=7", False),
        ("glibc.malloc.tcache_count=0", True),
        ("glibc.malloc.perturb=0:glibc.malloc.tcache_count=0", True),
    ],
)
def test_bench_says_when_the_small_cache_is_on(told, off, monkeypatch, capsys):
    monkeypatch.setenv("GLIBC_TUNABLES", told)
    assert memory.small_cache_is_off() is off
    assert main(["bench", "data", "--workers", "0", "--batch", "2", "--image-size", "32"]) == 0
    assert ("GLIBC_TUNABLES" not in capsys.readouterr().err) is off


def test_make_train_switches_the_small_cache_off():
    makefile = (Path(__file__).parents[1] / "Makefile").read_text("utf8")
    assert f"train: export GLIBC_TUNABLES := {memory.SMALL_CACHE}=0\n" in makefile
