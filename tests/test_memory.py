"""Freed memory is kept while something trains, and handed back after it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from knowsam_lite import memory
from knowsam_lite.memory import KEEP, USUAL, freed_memory_kept, glibc

# 64 blocks of 1 MB are written and freed ten times over, within and without; then what is left is measured.
PROGRAM = """
import resource
import numpy as np
from knowsam_lite.memory import freed_memory_kept

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
@pytest.mark.parametrize("told", ["", "glibc.malloc.perturb=0"])
def test_the_program_starts_anew_once_with_the_same_arguments(told, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys\n"
        "from knowsam_lite.memory import without_small_cache\n"
        "print('begins', flush=True)\n"
        "without_small_cache()\n"
        "print(os.getpid(), sys.argv[1:], os.environ['GLIBC_TUNABLES'], sys.flags.dont_write_bytecode)\n"
    )
    started = subprocess.Popen(
        [sys.executable, "-B", program, "an argument", "--x"],
        env={**os.environ, "GLIBC_TUNABLES": told},
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = started.communicate()[0].splitlines()
    settings = ":".join(filter(None, [told, "glibc.malloc.tcache_count=0"]))
    assert lines == ["begins", "begins", f"{started.pid} ['an argument', '--x'] {settings} 1"]


def test_who_has_chosen_a_size_of_the_cache_keeps_it(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=7")
    monkeypatch.setattr(memory.os, "execv", pytest.fail)
    memory.without_small_cache()
    assert memory.os.environ["GLIBC_TUNABLES"] == "glibc.malloc.tcache_count=7"
