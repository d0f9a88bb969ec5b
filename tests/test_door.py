"""What the user meets when the system fails: a line, an exit code, the old file, and nothing half-made."""

import errno
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
import torch
from helpers.data_folders import make_folder, picture
from PIL import Image

from knowsam_lite import files
from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic, write
from knowsam_lite.data.sampler import StepBatches, all_alive, read_ahead
from knowsam_lite.errors import UserError, exit_code
from knowsam_lite.files import beside, in_shell, new_folder, write_aside, write_text
from knowsam_lite.interrupt import Interrupt
from knowsam_lite.methods import Supervised
from knowsam_lite.runs import checkpoints
from knowsam_lite.runs.checkpoints import Progress, save_last
from knowsam_lite.training import Trainer

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and descriptors")
TINY = ["--method", "supervised", "--steps", "2", "--image-size", "32", "--labeled", "2"]
TINY += ["--batch-labeled", "2", "--val-every", "2", "--students", "paper"]


def command(*words, **more):
    """A program with a limit of 300 s; output as bytes."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
    line = [sys.executable, "-m", "knowsam_lite", *map(str, words)]
    return subprocess.run(line, capture_output=True, env=env, timeout=300, **more)


# ---------------------------------------------------------------- the exit code


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UserError("found x\nexpected y"), 2, "error: found x expected y\n"),
        (KeyboardInterrupt(), 130, "stopped: what was complete is kept\n"),
        (KeyboardInterrupt("the same command resumes it"), 130, "stopped: the same command resumes it\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            2,
            "error: found a/b unusable (Permission",
        ),
        (MemoryError(), 2, "error: found too little memory"),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), 2, "error: found too little memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate"), 2, "error: found too little memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_error_of_the_user_or_the_system_is_one_line_and_a_code(capsys, error, code, says):
    def fail():
        raise error

    assert exit_code(fail) == code
    err = capsys.readouterr().err
    assert err.startswith(says) and err.count("\n") == (1 if says else 0)


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)


def test_a_reader_that_stops_reading_is_no_error(tmp_path):
    folder = make_folder(tmp_path / "d", 40)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full((24, 32), 7, np.uint8)).save(path)
    for more in (["-u"], []):
        line = [sys.executable, *more, "-m", "knowsam_lite", "check-data", str(folder), "--json"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            process.stdout.close()
            assert (process.wait(100), process.stderr.read()) == (0, b"")


@LINUX
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_a_service_without_standard_streams_works(tmp_path, closed):
    folder = make_folder(tmp_path / "d")
    words = ["--images", folder / "images", "--masks", folder / "masks", "--out", tmp_path / "out"]
    done = command("data", "own", *words, preexec_fn=lambda: [os.close(each) for each in closed])
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out/masks").iterdir())) == 12


@pytest.mark.parametrize("code", ["cp1252", "ascii", "utf-8"])
def test_names_that_the_output_cannot_show_are_written_some_way(tmp_path, code):
    names = ["病人一", "Müller", "naïve"]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"M\xfcller"))
    for folder in ("images", "masks"):
        (tmp_path / "d" / folder).mkdir(parents=True)
        for name in names:
            mask = np.full((8, 9), 7, np.uint8)
            Image.fromarray(mask if folder == "masks" else picture(0, (8, 9))).save(
                tmp_path / "d" / folder / f"{name}.png"
            )
    done = command("check-data", tmp_path / "d", env={"PYTHONIOENCODING": code})
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert done.stdout.count(b"error: ") == len(names)


def test_names_that_are_no_unicode_go_through_training_mending_and_preparing(tmp_path, capsys):
    if sys.platform != "linux":
        pytest.skip("only Linux has such names")
    folder = make_folder(tmp_path / "d")
    (folder / "index.csv").unlink()
    for name in ("images", "masks"):
        os.rename(folder / name / "i00.png", os.fsencode(folder / name) + b"/M\xfcller.png")
    words = ["--data", folder, *TINY, "--labeled", "100%"]
    assert main([str(word) for word in ["train", *words, "--out", tmp_path / "run"]]) == 0
    assert main(["check-data", str(folder), "--fix", str(tmp_path / "fixed")]) == 0
    own = ["--images", str(folder / "images"), "--masks", str(folder / "masks"), "--workers", "1"]
    assert main(["data", "own", *own, "--out", str(tmp_path / "own")]) == 0
    assert main(["predict", str(tmp_path / "run"), str(folder / "images"), str(tmp_path / "out")]) == 0
    assert os.fsencode(tmp_path / "out/masks") + b"/M\xfcller.png" in [
        os.fsencode(path) for path in (tmp_path / "out/masks").iterdir()
    ]
    assert r"M\udcfcller" in (tmp_path / "fixed/index.csv").read_text(encoding="utf-8")


@LINUX
def test_without_a_home_folder_only_what_needs_one_says_so(tmp_path):
    program = (
        "import os, sys\nos.environ.pop('HOME', None)\n"
        "import pwd\ndef unknown(uid): raise KeyError(uid)\npwd.getpwuid = unknown\n"
        "from knowsam_lite.cli import main\nsys.exit(main())\n"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME", "KNOWSAM_LITE_CACHE")}
    line = [sys.executable, "-c", program, "data", "polyp", "--dry-run"]
    done = subprocess.run(line, capture_output=True, env=env, timeout=100, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "set KNOWSAM_LITE_CACHE" in done.stderr
    env["KNOWSAM_LITE_CACHE"] = str(tmp_path)  # the hint, followed
    done = subprocess.run(line, capture_output=True, env=env, timeout=100, text=True)
    assert done.returncode == 0 and str(tmp_path) in done.stdout


@LINUX
@pytest.mark.parametrize("what", ["own", "predict"])
def test_ctrl_c_outside_training_is_one_line(tmp_path, what, trained):
    many = make_folder(tmp_path / "many", 400)
    for path in (many / "images").iterdir():
        Image.fromarray(picture(1, (300, 300))).save(path)
        Image.fromarray(np.zeros((300, 300), np.uint8)).save(many / "masks" / path.name)
    for path in [*(many / "images").iterdir(), *(many / "masks").iterdir()]:
        for copy in range(4):  # enough that a busy machine is not done before the signal
            os.link(path, path.with_name(f"{path.stem}_{copy}.png"))
    words = {
        "own": [
            "data",
            "own",
            "--images",
            many / "images",
            "--masks",
            many / "masks",
            "--out",
            tmp_path / "o",
        ],
        "predict": ["predict", trained, many / "images", tmp_path / "out"],
    }[what]
    words += ["--out", tmp_path / "o"] if what == "own" else []
    ready = {"own": tmp_path / ".o.part/whole/masks", "predict": tmp_path / "out/masks"}[what]
    line = [sys.executable, "-m", "knowsam_lite", *map(str, words)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.time() + 60
        while not (ready.is_dir() and any(ready.iterdir())) and time.time() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert err.splitlines()[-1] == "stopped: what was complete is kept"
    assert not list(tmp_path.rglob("*.part")) and not (tmp_path / "o").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    run = tmp_path_factory.mktemp("trained") / "run"
    assert main(["train", "--data", "synthetic:dermoscopy:32", *TINY, "--out", str(run)]) == 0
    return run


# ---------------------------------------------------------------- files


def failing(file):
    file.write(b"half")
    raise OSError(errno.ENOSPC, "No space left on device")


def wrapped(file):
    try:
        failing(file)
    except OSError:
        raise RuntimeError("unexpected position") from None  # as PyTorch says it


@pytest.mark.parametrize("write", [failing, wrapped])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, write):
    (tmp_path / "a.bin").write_bytes(b"old")
    with pytest.raises(UserError, match=r"a\.bin not writable \(No space left on device\)"):
        write_aside(tmp_path / "a.bin", write)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.bin": b"old"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_what_is_no_error_of_the_system_comes_through_and_cleans_up(tmp_path, error):
    def fail(file):
        raise error

    with pytest.raises(error):
        write_aside(tmp_path / "a", fail)
    with pytest.raises(error), new_folder(tmp_path / "b"):
        raise error
    assert not list(tmp_path.iterdir())


def test_a_file_name_of_the_greatest_length_is_written(tmp_path):
    for name in ("x" * 251 + ".txt", "病" * 83 + ".png"):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"
    assert len(list(tmp_path.iterdir())) == 2
    assert beside(tmp_path / ("x" * 255), "part") != beside(tmp_path / ("x" * 254 + "y"), "part")


LIMIT = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from knowsam_lite.cli import main
sys.exit(main(sys.argv[2:]))
"""


@LINUX
@pytest.mark.parametrize(("size", "val"), [(3_000, "0.2"), (1_000_000, "0.2"), (1_000_000, "0")])
def test_a_quota_met_while_training_is_one_line_and_leaves_no_half_file(tmp_path, size, val):
    write(Synthetic("dermoscopy", n=12, size=32), tmp_path / "d")
    words = [*TINY, "--data", tmp_path / "d", "--val", val, "--out", tmp_path / "run"]
    line = [sys.executable, "-c", LIMIT, str(size), "train", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100)
    lines = [text for text in done.stderr.splitlines() if "it/s" not in text and text.strip()]
    assert done.returncode == 2 and lines[-1].startswith("error: ") and "(File too large)" in lines[-1]
    assert "Traceback" not in done.stderr and not list(tmp_path.rglob("*.part"))
    for path in tmp_path.glob("run/*.json"):
        json.loads(path.read_text())


def test_paths_in_hints_are_quoted_where_a_shell_would_split_them():
    assert in_shell("runs/a") == "runs/a"
    assert in_shell("my runs/a b") == ("'my runs/a b'" if os.name != "nt" else '"my runs/a b"')


def test_two_images_for_one_mask_are_refused_where_capitals_do_not_count(
    tmp_path, monkeypatch, trained, capsys
):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "A.png"):
        Image.fromarray(picture(0)).save(tmp_path / "in" / name)
    if len(list((tmp_path / "in").iterdir())) < 2:
        pytest.skip("this file system ignores capitals")
    assert main(["predict", str(trained), str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out/masks").iterdir())) == 2
    monkeypatch.setattr("knowsam_lite.predict.files.ignores_case", lambda out: True)
    assert main(["predict", str(trained), str(tmp_path / "in"), str(tmp_path / "out2")]) == 2
    assert "A.png and a.png" in capsys.readouterr().err
    assert files.ignores_case(tmp_path / "not" / "there") is False and not list(tmp_path.glob(".case*"))


# ---------------------------------------------------------------- batches and GPUs


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_unlabelled_image_is_one_line_with_and_without_loader_processes(tmp_path, workers, capsys):
    folder = make_folder(tmp_path / "d", 12)
    data = (folder / "images/i07.png").read_bytes()
    (folder / "images/i07.png").write_bytes(data[: len(data) // 2])
    words = ["train", "--data", folder, *TINY, "--method", "mc", "--steps", "12", "--workers", workers]
    code = main([str(word) for word in [*words, "--out", tmp_path / "run"]])
    err = capsys.readouterr().err
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(said) == 1 and said[0].startswith(f"error: {folder / 'images/i07.png'}: found")
    assert "Traceback" not in err


def test_a_loader_process_that_is_killed_is_one_line():
    class Deadly(Synthetic):
        def image(self, record):
            os.kill(os.getpid(), signal.SIGKILL)

    data = Deadly("dermoscopy", n=20, size=32)
    labeled = [record.id for record in data.split("train")][:4]
    batches = StepBatches(data, labeled, seed=0, batch_labeled=2, batch_unlabeled=2, size=32)
    with pytest.raises(UserError, match="--workers"), all_alive(1):
        next(read_ahead(batches, range(3), 1, False))


@pytest.mark.skipif(not hasattr(os, "setpgrp"), reason="no process groups")
def test_a_signal_to_the_whole_group_leaves_the_processes_that_prepare_batches_to_their_parent():
    data = Synthetic("dermoscopy", n=20, size=32)
    labeled = [record.id for record in data.split("train")][:4]
    batches = StepBatches(data, labeled, seed=0, batch_labeled=2, batch_unlabeled=2, size=32)
    with all_alive(2), Interrupt().listening() as stop:
        ahead = read_ahead(batches, range(30), 2, False)
        _ = [next(ahead) for _ in range(2)]  # one of each helper
        helpers = multiprocessing.active_children()
        assert len(helpers) == 2 and all(os.getpgid(one.pid) != os.getpgrp() for one in helpers)
        os.kill(os.getpid(), signal.SIGTERM)  # a group's signal reaches this process alone
        assert stop.asked and len(list(ahead)) == 28


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no SIGUSR2")
def test_the_signal_before_the_end_of_a_cluster_job_asks_to_stop():
    with Interrupt().listening() as stop:
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGUSR2)
        assert stop.asked


def test_a_full_gpu_is_not_said_to_be_a_broken_checkpoint(tmp_path):
    method = Supervised(Config(method="supervised"), 2)
    [optimizer] = method.optimizers()
    save_last(tmp_path / "last.pt", method, [optimizer], Progress(1, 0.5, []))
    for error, expected in (
        (torch.cuda.OutOfMemoryError("full"), torch.cuda.OutOfMemoryError),
        (KeyError("state"), UserError),
    ):
        optimizer.load_state_dict = Mock(side_effect=error)
        with pytest.raises(expected):
            checkpoints.load_last(tmp_path / "last.pt", method, [optimizer])


@pytest.mark.parametrize(("saved", "here"), [(2, 1), (1, 2), (0, 1), (3, 0)])
def test_resuming_with_another_number_of_gpus(tmp_path, monkeypatch, saved, here):
    sizes = {"image_size": 32, "labeled": "4", "batch_labeled": 2, "val_every": 2}
    config = Config(method="supervised", steps=2, out=tmp_path / "run", device="cpu", **sizes)
    data = Synthetic("dermoscopy", n=20, size=32)
    first = Trainer(data, config)
    first.start()
    first.fit(progress=False)
    content = torch.load(tmp_path / "run/last.pt", weights_only=True)
    content["random_cuda"] = [torch.full((16,), i, dtype=torch.uint8) for i in range(saved)]
    torch.save(content, tmp_path / "run/last.pt")
    states = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: here)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda all_: states.update(enumerate(all_)))
    again = Trainer(data, config)
    again.resume()
    assert again.step == 2 and set(states) == set(range(min(saved, here)))


def test_processes_that_began_on_cpus_go_on_with_gpus(monkeypatch):
    state = {"random": torch.get_rng_state(), "random_cuda": []}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(checkpoints.ranks, "size", lambda: 2)
    monkeypatch.setattr(checkpoints.ranks, "rank", lambda: 1)
    checkpoints.set_random_state({**state, "others": [state]})


def test_predicted_h5_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    from knowsam_lite.data.volumes import write_labels

    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["image"] = np.zeros((2, 3, 4))
    monkeypatch.setattr(os, "replace", lambda a, b: failing(io.BytesIO()))
    with pytest.raises(UserError, match="No space"):
        write_labels(tmp_path / "out.h5", np.zeros((2, 3, 4), np.uint8), tmp_path / "in.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["in.h5"]
