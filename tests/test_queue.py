"""A grid that several processes share: each cell is trained by one of them at a time, one that lives."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from knowsam_lite.cli import main
from knowsam_lite.compare.claims import STOPPED, Claims
from knowsam_lite.compare.grid import grid, load_grid, run_cell, run_grid, save_grid
from knowsam_lite.compare.status import status
from knowsam_lite.config import Config
from knowsam_lite.runs.provenance import setting_differences

# KNOWSAM_LITE_CELLS=24 KNOWSAM_LITE_KILLS=12 is the large version.
CELLS = int(os.environ.get("KNOWSAM_LITE_CELLS", "4"))
KILLS = int(os.environ.get("KNOWSAM_LITE_KILLS", "2"))
SILENT = float(os.environ.get("KNOWSAM_LITE_SILENT", "3"))  # seconds


def hold_all(folder: Path, how_many: int, silent: float = 30) -> list[bool]:
    """What so many threads, each like a process of its own, get when they claim a folder at once."""
    gate, leave, got = threading.Barrier(how_many), threading.Event(), []

    def claim() -> None:
        claims = Claims(silent)
        gate.wait()
        with claims.held(folder) as mine:
            got.append(mine)
            leave.wait(10)

    threads = [threading.Thread(target=claim) for _ in range(how_many)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 10
    while len(got) < how_many and time.monotonic() < end:
        time.sleep(0.01)
    leave.set()
    for thread in threads:
        thread.join()
    return got


def test_of_many_one_gets_a_free_cell_and_gives_it_back(tmp_path):
    for _ in range(5):
        assert sorted(hold_all(tmp_path / "cell", 8)) == [False] * 7 + [True]
        assert not (tmp_path / "cell" / ".claim").exists()


def test_of_many_one_takes_over_from_a_dead_process(tmp_path):
    cell = tmp_path / "cell"
    cell.mkdir()
    for _ in range(5):
        (cell / ".claim").write_text("somebody 1 0000")
        os.utime(cell / ".claim", (1, 1))
        assert Claims().owner(cell) == ""
        assert sorted(hold_all(cell, 8)) == [False] * 7 + [True]


def test_a_living_process_keeps_its_claim_and_is_named(tmp_path):
    first, second = Claims(silent=0.6), Claims(silent=0.6)
    with first.held(tmp_path) as mine:
        time.sleep(1.5)  # longer than silence would be allowed
        assert mine and second.owner(tmp_path) == first.name
        with second.held(tmp_path) as too:
            assert not too
    assert second.owner(tmp_path) == ""


def test_who_may_only_read_sees_who_works(tmp_path, monkeypatch):
    def refused(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "free").mkdir()
    with Claims().held(tmp_path / "busy") as mine:
        assert mine
        monkeypatch.setattr(Path, "touch", refused)
        owner = (tmp_path / "busy/.claim").read_text()
        assert Claims().owner(tmp_path / "busy") == owner and Claims().owner(tmp_path / "free") == ""


def test_a_cell_that_was_stopped_waits_and_has_not_failed(tmp_path, monkeypatch):
    [cell] = grid(Config(out=tmp_path), ["synthetic:dermoscopy"], ["4"], {"mc": {"method": "mc"}}, [0])
    cell.config.out.mkdir(parents=True)
    done = subprocess.CompletedProcess([], STOPPED, "", "error: stopped, and saved")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    assert "stopped" in run_cell(cell) and "1 waiting" in status([cell])


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no SIGUSR2")
def test_a_job_that_ends_starts_no_other_cell(tmp_path, monkeypatch):
    """submitit answers the signal that announces the end of a job by leaving the process."""
    cells = grid(Config(out=tmp_path), ["synthetic:dermoscopy"], ["4"], {"mc": {"method": "mc"}}, range(4))
    tried = []

    def stopped(cell, gpu):
        tried.append(cell)
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(0.5)
        return "stopped, and saved"

    monkeypatch.setattr(sys.modules[grid.__module__], "run_cell", stopped)  # `grid` is a function, too
    before = signal.signal(signal.SIGUSR2, lambda *_: sys.exit(1))
    try:
        with pytest.raises(SystemExit):
            run_grid(cells, workers=1)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert tried == cells[:1]


@pytest.mark.parametrize(("named", "expected"), [(None, {"0", "1"}), ("7,GPU-b", {"7", "GPU-b"})])
def test_each_worker_has_a_gpu_of_its_own(tmp_path, monkeypatch, named, expected):
    base = Config(out=tmp_path)
    cells = grid(base, ["synthetic:dermoscopy"], ["4"], {"mc": {"method": "mc"}}, range(6))
    seen = []

    def process(*_, env, **__):
        seen.append(env.get("CUDA_VISIBLE_DEVICES"))
        time.sleep(0.05)
        return subprocess.CompletedProcess([], 2, "", "error: enough")

    monkeypatch.setattr(subprocess, "run", process)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if named:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert len(run_grid(cells, workers=2)) == 6 and set(seen) == expected
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen.clear()
    run_grid(cells, workers=1)
    assert set(seen) == {None}


def test_what_another_took_over_is_not_given_back(tmp_path):
    with Claims().held(tmp_path):
        (tmp_path / ".claim").write_text("another 1 0000")
    assert (tmp_path / ".claim").read_text() == "another 1 0000"


@pytest.mark.parametrize("takes", ["writes", "removes"])
def test_a_process_whose_claim_was_taken_is_told(tmp_path, takes):
    told = threading.Event()
    with Claims(silent=0.3, lost=told.set).held(tmp_path):
        assert not told.wait(0.4)
        claim = tmp_path / ".claim"
        claim.write_text("another 1 0000") if takes == "writes" else claim.unlink()
        assert told.wait(5)


def test_who_waits_comes_after_the_one_that_holds(tmp_path):
    order, waiting = [], Claims(silent=0.6)

    def wait() -> None:
        with waiting.waited(tmp_path):
            order.append("second")

    with Claims(silent=0.6).held(tmp_path):
        second = threading.Thread(target=wait)
        second.start()
        time.sleep(1)
        order.append("first")
    second.join(10)
    assert order == ["first", "second"] and waiting.owner(tmp_path) == ""


def words(out: Path) -> list[str]:
    methods = ["supervised", "supervised_pair"]
    options = ["--labeled", "4", "--budget", "ci", "--steps", "6", "--seeds", str(CELLS // len(methods))]
    return [
        "compare",
        "--data",
        "synthetic:dermoscopy:16",
        *options,
        "--methods",
        *methods,
        "--out",
        str(out),
    ]


def scores(out: Path) -> dict[str, dict]:
    """What every cell of a grid ended with, without what it cost."""
    found = {}
    for cell in load_grid(out)[0]:
        content = json.loads(cell.scores.read_text())
        kept = {name: content[name] for name in ("last", "best", "val")}
        found[str(cell.config.out.relative_to(out))] = kept
    return found


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, dict]:
    """The scores of the grid, trained by one process after another."""
    out = tmp_path_factory.mktemp("serial") / "grid"
    assert main([*words(out), "--workers", "1"]) == 0
    return scores(out)


def joining(out: Path) -> subprocess.Popen:
    """A worker in a session of its own, so that it can be killed together with its cell."""
    environment = {**os.environ, "KNOWSAM_LITE_SILENT": str(SILENT)}
    command = [sys.executable, "-m", "knowsam_lite", "compare", "--join", str(out), "--workers", "1"]
    with open(out / "joined.txt", "a") as said:
        return subprocess.Popen(command, env=environment, start_new_session=True, stdout=said, stderr=said)


@pytest.mark.skipif(sys.platform == "win32", reason="kills a session")
def test_workers_that_are_killed_at_random_end_with_the_scores_of_one(serial, tmp_path, capsys):
    out = tmp_path / "grid"
    begin = subprocess.Popen([sys.executable, "-m", "knowsam_lite", *words(out)], start_new_session=True)
    while not (out / "grid.json").exists():
        time.sleep(0.05)
    os.killpg(begin.pid, signal.SIGKILL)
    begin.wait()
    rng = random.Random(0)
    workers = [joining(out) for _ in range(3)]
    for _ in range(KILLS):
        time.sleep(rng.uniform(4, 10))
        if all(cell.scores.exists() for cell in load_grid(out)[0]):
            break
        victim = rng.randrange(3)
        os.killpg(workers[victim].pid, signal.SIGKILL)
        workers[victim].wait()
        workers[victim] = joining(out)
    for worker in workers:
        assert worker.wait(600) == 0, (out / "joined.txt").read_text()
    assert scores(out) == serial
    assert main(["compare", "--status", str(out)]) == 0
    assert f"{CELLS} done, 0 running, 0 failed, 0 waiting of {CELLS} cells" in capsys.readouterr().out


def test_jobs_of_submitit_end_with_the_same_scores(serial, tmp_path):
    pytest.importorskip("submitit")
    out = tmp_path / "grid"
    assert main([*words(out), "--cluster", "local", "--jobs", "2", "--gpus", "0", "--hours", "1"]) == 0
    end = time.monotonic() + 75 * CELLS
    while not all(cell.scores.exists() for cell in load_grid(out)[0]):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert scores(out) == serial
    assert list((out / "jobs").iterdir())


def test_a_grid_is_joined_from_any_folder_and_after_a_move(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    base = Config(out=Path("grid"), checkpoint=Path("sam.pt"))
    cells = grid(base, ["scans", "synthetic:cardiac"], ["4", "4"], {"mc": {"method": "mc"}}, [0])
    save_grid(cells, ["mc"], base.out)
    assert load_grid(base.out) == (cells, ["mc"])
    monkeypatch.chdir(tmp_path / "there")
    [first, second] = load_grid(tmp_path / "here/grid")[0]
    assert first.config.out == tmp_path / "here/grid/scans_4/mc/0"
    assert Path(first.config.data).resolve() == tmp_path / "here/scans"
    assert first.config.checkpoint.resolve() == tmp_path / "here/sam.pt"
    assert second.config.data == "synthetic:cardiac"
    assert not setting_differences(cells[0].config, first.config)
    (tmp_path / "here/grid").rename(tmp_path / "moved")
    assert load_grid(tmp_path / "moved")[0][0].config.out == tmp_path / "moved/scans_4/mc/0"


def test_a_failed_cell_is_shown_and_tried_again(tmp_path, capsys):
    out = tmp_path / "grid"
    bad = [*words(out), "--image-size", "24"]
    assert main([*bad, "--workers", "1"]) == 2
    main(["compare", "--status", str(out)])
    shown = capsys.readouterr().out
    assert f"{CELLS} failed" in shown and "24 x 24" in shown


def test_a_folder_without_a_grid_is_one_line(tmp_path, capsys):
    assert main(["compare", "--join", str(tmp_path)]) == 2
    assert "found no " in capsys.readouterr().err
