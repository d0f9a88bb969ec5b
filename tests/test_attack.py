"""Kills, full disks and mutated checkpoints at random: nothing half-made is taken for whole, and what goes on
ends as if nothing had happened.

A few by default; KNOWSAM_LITE_ATTACK=60 asks for that many kills, a third as many full disks, and fifty times
as many mutated files. KNOWSAM_LITE_SEED sets the seed (0).
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_folders import make_folder
from PIL import Image
from safetensors.torch import load_file

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.runs.checkpoints import load_best, load_last
from knowsam_lite.runs.run import build_method, read_config
from knowsam_lite.sam.weights import read_tensors

COUNT = int(os.environ.get("KNOWSAM_LITE_ATTACK", "4"))
SEED = int(os.environ.get("KNOWSAM_LITE_SEED", "0"))
TRAIN = ["train", "--data", "synthetic:dermoscopy:32", "--method", "supervised", "--students", "paper"]
TRAIN += ["--steps", "6", "--image-size", "32", "--labeled", "4", "--batch-labeled", "2"]
TRAIN += ["--val-every", "2", "--log-every", "1"]
GRID = ["compare", "--data", "synthetic:dermoscopy:32", "--labeled", "4", "--methods", "supervised"]
GRID += ["--baselines", "supervised", "--seeds", "1", "--budget", "ci", "--steps", "6", "--workers", "1"]

# What is attacked in turn, by kills and by full disks.
TURNS = ["train", "own", "train", "predict", "train", "evaluate"]
TURNS += ["train", "fix", "own", "compare", "train", "evaluate"]
FULL = ["train", "own", "predict", "evaluate", "fix"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]


def disks() -> int:
    """How many disks are filled."""
    return max(COUNT // 3, 2)


def start(words, log: Path) -> int:
    """The command in a forked child (no import anew), its output in `log`; returns the process id."""
    child = os.fork()
    if child:
        return child
    code = 70  # of a traceback
    try:
        with open(log, "w") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            code = main([str(word) for word in words])
    finally:
        os._exit(code)


def finish(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_after(words, log: Path, moment: float) -> bool:
    """Whether the command was still running when it was killed."""
    child = start(words, log)
    time.sleep(moment)
    ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return not ended


def require_whole(root: Path) -> None:
    """Everything that has its final name can be read to its end."""
    for path in root.rglob("*"):
        if path.name.startswith(".") or path.is_dir() or any(p.startswith(".") for p in path.parts):
            continue
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


def state_of(run: Path) -> dict:
    """What a training learned: its tensors, optimizers, random state, and the losses and scores logged."""
    last = torch.load(run / "last.pt", weights_only=True)
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in r.items() if k != "seconds"} for r in rows if r["kind"] in ("train", "val")]
    return {"last": last, "best": load_file(run / "best.safetensors"), "rows": kept}


def require_equal(found: dict, wanted: dict) -> None:
    assert found["rows"] == wanted["rows"] and found["last"]["progress"] == wanted["last"]["progress"]
    for part in (lambda s: s["last"]["method"], lambda s: s["best"], lambda s: s["last"]["optimizers"]):
        torch.testing.assert_close(part(found), part(wanted), rtol=0, atol=0)
    assert torch.equal(found["last"]["random"], wanted["last"]["random"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Undisturbed: a folder, a run, predictions, a prepared folder and a grid, and how long each took."""
    root = tmp_path_factory.mktemp("whole")
    make_folder(root / "d", train=20)
    seconds = {}
    wanted = {*TURNS[:COUNT], *FULL[: disks()]}
    for name, words in commands(root, root).items():
        if name not in wanted:
            continue
        began = time.perf_counter()
        assert finish(start(words, root / "log")) == 0, (root / "log").read_text()
        seconds[name] = time.perf_counter() - began
    return root, seconds


def commands(data: Path, out: Path) -> dict[str, list]:
    """Each command with its output below `out`; `evaluate` and `predict` come after `train`."""
    own = ["--images", data / "d/images", "--masks", data / "d/masks", "--workers", "1"]
    return {
        "train": [*TRAIN, "--out", out / "run"],
        "evaluate": ["evaluate", out / "run", "--split", "val"],
        "predict": ["predict", out / "run", data / "d/images", out / "predicted", "--overlay"],
        "own": ["data", "own", *own, "--out", out / "own"],
        "fix": ["check-data", data / "d", "--fix", out / "fixed"],
        "compare": [*GRID, "--out", out / "grid"],
    }


def again(name: str, data: Path, out: Path) -> list:
    """What a user types after the command was stopped."""
    if name == "train" and (out / "run/last.pt").exists():
        return ["train", "--resume", out / "run"]
    return commands(data, out)[name]


def require_as_undisturbed(name: str, root: Path, out: Path) -> None:
    """The result of a command is that of the undisturbed one, to the bit."""
    if name == "train":
        require_equal(state_of(out / "run"), state_of(root / "run"))
    elif name == "compare":
        [cell], [wanted] = (list(p.glob("grid/*/*/0")) for p in (out, root))
        require_equal(state_of(cell), state_of(wanted))
        mine, theirs = (json.loads((c / "scores.json").read_text()) for c in (cell, wanted))
        assert [mine[w]["cases"] for w in ("last", "best")] == [theirs[w]["cases"] for w in ("last", "best")]
    elif name == "evaluate":
        scores = [json.loads((p / "run/val_last/metrics.json").read_text())["cases"] for p in (out, root)]
        assert scores[0] == scores[1]
    else:
        folder = {"predict": "predicted", "own": "own", "fix": "fixed"}[name]
        files = [{str(f.relative_to(p)): f.read_bytes() for f in p.rglob("*.png")} for p in (out, root)]
        for each in files:
            assert any(path.startswith(folder) for path in each)
        mine, theirs = ({k: v for k, v in each.items() if k.startswith(folder)} for each in files)
        assert mine == theirs
        if name != "predict":
            assert not [f for f in check_dataset(out / folder) if f.severity == "error"]
            assert len(SegmentationFolder(out / folder).records) == 24


def test_kills_at_random_moments(whole, tmp_path):
    root, seconds = whole
    random_ = random.Random(SEED)
    hit = 0
    for number in range(COUNT):
        name = TURNS[number % len(TURNS)]
        out = tmp_path / f"{number}"
        out.mkdir()
        if name in ("evaluate", "predict"):
            shutil.copytree(root / "run", out / "run")
            shutil.rmtree(out / "run/val_last", ignore_errors=True)
        for _ in range(random_.choice((1, 1, 2))):  # some are killed again while they go on
            words = again(name, root, out)
            hit += kill_after(words, out / "log", random_.uniform(0, 1.1 * seconds[name]))
            require_whole(out)
        done = finished(name, out)
        words = again(name, root, out)
        code = finish(start(words, out / "log"))
        said = (out / "log").read_text()
        assert code == 0 or (done and name == "fix"), (name, said)  # --fix refuses a folder that is there
        require_whole(out)
        require_as_undisturbed(name, root, out)
        shutil.rmtree(out)
    print(f"{COUNT} turns, {hit} kills while running, seed {SEED}")
    assert hit >= COUNT // 2


def finished(name: str, out: Path) -> bool:
    return (out / {"fix": "fixed", "own": "own"}.get(name, "nothing")).exists()


@contextlib.contextmanager
def disk(path: Path, size: int):
    """A disk of `size` bytes; the test skips where it may not be mounted."""
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", path], capture_output=True)
    if made.returncode:
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def one_line(text: str) -> str:
    """The error in the output of a command, after progress bars and notes."""
    lines = [line for line in re.split(r"[\r\n]+", text) if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in text, text
    return lines[0]


def test_disks_that_are_full_at_random_moments(whole, tmp_path):
    root, _ = whole
    random_ = random.Random(SEED)
    needed = {}
    for name, folder in zip(FULL, ("run", "own", "predicted", "run", "fixed"), strict=True):
        needed[name] = sum(f.stat().st_size for f in (root / folder).rglob("*") if f.is_file())
    needed["evaluate"] = 1_000_000
    count, met = disks(), 0
    for number in range(count):
        name = FULL[number % len(FULL)]
        place = tmp_path / f"{number}"
        kept = needed["train"] + 2**16 if name in ("evaluate", "predict") else 0
        with disk(place, kept + max(int(random_.uniform(0.02, 1.1) * needed[name]), 2**13)):
            if kept:
                shutil.copytree(root / "run", place / "run")
                shutil.rmtree(place / "run/val_last", ignore_errors=True)
            code = finish(start(again(name, root, place), tmp_path / "log"))
            if code:
                met += 1
                said = one_line((tmp_path / "log").read_text())
                assert code == 2 and "No space left" in said, said
                assert not list(place.rglob("*.part")), list(place.rglob("*"))
            require_whole(place)
            subprocess.run(["mount", "-o", f"remount,size={2**28}", place], check=True)  # room is made
            if code or not finished(name, place):
                code = finish(start(again(name, root, place), tmp_path / "log"))
                assert code == 0, (tmp_path / "log").read_text()
            require_whole(place)
            require_as_undisturbed(name, root, place)
    print(f"{count} disks, {met} of them full, seed {SEED}")
    assert met


# ---------------------------------------------------------------- mutated checkpoints


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, removed, doubled or moved; the head, where sizes are, more often than the rest."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        top = len(found) if rng.random() < 0.5 else min(len(found), 4096)
        at, length = int(rng.integers(0, top)), int(rng.integers(1, 64))
        kind = rng.integers(0, 4)
        if kind == 0:
            found[at : at + length] = rng.bytes(min(length, len(found) - at))
        elif kind == 1:
            found[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            del found[at : at + length]
        else:
            found[at:at] = found[at : at + length]
        if not found:
            return b""
    return bytes(found)


FUZZ = """
import resource, sys
from test_attack import fuzz
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
print(fuzz(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
"""


def fuzz(run: str, count: int, seed: int) -> str:
    """Reads mutated copies of a run's checkpoints; the counts of what was refused and what was read."""
    import resource

    rng = np.random.default_rng(seed)
    folder = Path(run)
    method = build_method(read_config(folder), 2)
    optimizers = method.optimizers()
    originals = {name: (folder / name).read_bytes() for name in ("last.pt", "best.safetensors")}
    refused = read = 0
    for number in range(count):
        name = ("last.pt", "best.safetensors")[number % 2]
        path = folder / "mutated" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(mutated(originals[name], rng))
        readers = [lambda p: load_last(p, method, optimizers), read_tensors]
        if number % 2:
            readers[0] = lambda p: load_best(p, method)
        for reader in readers:
            try:
                reader(path)
                read += 1
            except UserError:
                refused += 1
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert used < 2, f"{used:.2f} GB"
    return f"{refused} refused, {read} read, {used:.2f} GB at most, seed {seed}"


def test_mutated_checkpoints_are_refused_or_read_and_nothing_else(whole):
    root, _ = whole
    line = [sys.executable, "-c", FUZZ, str(root / "run"), str(50 * COUNT), str(SEED)]
    paths = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(line, capture_output=True, text=True, env=env)
    print(done.stdout)
    assert done.returncode == 0 and "refused" in done.stdout, done.stderr[-3000:]


class Evil:
    """Pickled, it would make a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_no_code_is_run_from_a_checkpoint(whole, tmp_path):
    root, _ = whole
    run, made = root / "run", tmp_path / "made"
    content = torch.load(run / "last.pt", weights_only=True)
    method = build_method(read_config(run), 2)
    for name in ("method", "progress", "random"):
        path = tmp_path / f"{name}.pt"
        torch.save({**content, name: Evil(made)}, path)
        for read in (lambda p: load_last(p, method, method.optimizers()), read_tensors):
            with pytest.raises(UserError, match="unreadable"):
                read(path)
    assert not made.exists()


def test_a_small_file_cannot_fill_the_memory(whole, tmp_path):
    import zipfile

    root, _ = whole
    method = build_method(read_config(root / "run"), 2)
    with zipfile.ZipFile(root / "run/last.pt") as old, zipfile.ZipFile(tmp_path / "last.pt", "w") as new:
        for entry in old.infolist():
            data = bytes(2**28) if entry.filename.endswith("data/0") else old.read(entry)
            new.writestr(entry.filename, data, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "last.pt").stat().st_size < 2**25
    with pytest.raises(UserError, match="unreadable"):
        load_last(tmp_path / "last.pt", method)
    content = io.BytesIO((8 + 2**40).to_bytes(8, "little") + b"{}")
    (tmp_path / "best.safetensors").write_bytes(content.getvalue())
    with pytest.raises(UserError, match="unreadable"):
        load_best(tmp_path / "best.safetensors", method)
