"""Several processes train what one does: the same losses, equal weights, one line when one of them dies."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.two_ranks import train
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.data.sampler import StepBatches
from knowsam_lite.errors import UserError
from knowsam_lite.methods import METHODS
from knowsam_lite.parallel import ranks
from knowsam_lite.parallel.start import joined, own_device
from knowsam_lite.runs import checkpoints
from knowsam_lite.runs.log import read_log
from knowsam_lite.training import Trainer

HERE = Path(__file__).resolve().parent
PLAIN = ("plain:supervised_pair", "plain:mc", "plain:knowsam", "plain:ua_mt", "plain:dtc", "plain:mcf")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


def torchrun(*words: object, processes: int = 2) -> subprocess.Popen:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", processes, "--master-port", free_port()]
    command = [sys.executable, *map(str, [*launcher, *words])]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(process: subprocess.Popen, seconds: float = 300) -> str:
    text, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, text
    return text


APART = "apart:supervised_pair"


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """The folder in which both processes left what they ended with."""
    folder = tmp_path_factory.mktemp("two")
    finished(torchrun(HERE / "helpers" / "two_ranks.py", folder, *PLAIN, APART, *METHODS))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", [*PLAIN, APART, *METHODS])
def test_both_processes_end_with_the_same_weights(ended, name):
    files = [ended / f"{name.replace(':', '_')}.{rank}.json" for rank in range(2)]
    first, second = (json.loads(file.read_text("utf8")) for file in files)
    assert first == second and len(first) > 10


@pytest.mark.parametrize("name", PLAIN)
def test_two_processes_end_where_one_does(ended, name, tmp_path):
    alone, shared = train(name, tmp_path / "run"), torch.load(ended / f"{name.replace(':', '_')}.pt")
    assert alone.keys() == shared.keys()
    for key in alone:
        assert (shared[key] - alone[key]).abs().max() <= 1e-6, key


TINY = "train --method supervised_pair --image-size 32 --labeled 4 --steps 20 --val-every 4 --log-every 4"
DATA = ["--data", "synthetic:dermoscopy:24", "--test", "0", "--device", "cpu"]


def start(out: Path, *words: str) -> subprocess.Popen:
    return torchrun("-m", "knowsam_lite", *TINY.split(), *DATA, "--out", out, *words)


def workers(out: Path) -> list[int]:
    """The processes that train into `out`."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:  # it ended just now
                continue
            if str(out).encode() in words and b"torch.distributed.run" not in words:
                found.append(int(folder.name))
    return sorted(found)


def wait_for(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def step_of(out: Path) -> int:
    """The last step that a run logged."""
    try:
        return max(json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines())
    except (OSError, ValueError):
        return 0


def weights(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / "last.pt", weights_only=True)["method"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    finished(start(out))
    return weights(out)


needs_proc = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")


@needs_proc
@pytest.mark.parametrize("victims", ["one", "all"])
def test_after_sigkill_the_others_end_with_a_line_and_the_run_goes_on_to_the_same_weights(
    victims, whole, tmp_path
):
    for attempt in range(2):  # torchrun may end the survivor in the moment before it knows
        out = tmp_path / f"run{attempt}"
        process = start(out)
        wait_for(lambda out=out: step_of(out) >= 8 and (out / "last.pt").exists())
        found = workers(out)
        assert len(found) == 2
        for victim in found if victims == "all" else found[1:]:
            os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        text, _ = process.communicate(timeout=60)
        assert process.returncode != 0 and time.monotonic() - killed < 30
        own = [line for line in text.splitlines() if line.startswith("error: ")]
        if own or victims == "all":
            break
    assert len(own) == (victims == "one") and all("another process" in line for line in own)
    finished(torchrun("-m", "knowsam_lite", "train", "--resume", out))
    for key, tensor in weights(out).items():
        assert torch.equal(tensor, whole[key]), key


@needs_proc
def test_ctrl_c_on_one_process_stops_all_at_one_step_and_saves(whole, tmp_path):
    out = tmp_path / "run"
    process = start(out)
    log = out / "log.jsonl"  # after step 8 is saved: it stops between two validations, most likely
    wait_for(lambda: log.exists() and '"kind": "saved", "step": 8' in log.read_text())
    os.kill(workers(out)[1], signal.SIGINT)
    text, _ = process.communicate(timeout=60)
    assert text.count("stopped after step") == 1 and "--resume" in text
    finished(torchrun("-m", "knowsam_lite", "train", "--resume", out))
    for key, tensor in weights(out).items():
        assert torch.equal(tensor, whole[key]), key


def test_minutes_give_both_processes_the_same_steps(tmp_path):
    text = finished(start(tmp_path / "run", "--minutes", "0.02"))
    assert text.count("validation aside") == 1
    steps = Config.from_json((tmp_path / "run/config.json").read_text()).steps
    assert f": {steps} steps in 0.02 minutes" in text
    assert read_log(tmp_path / "run")[-1]["step"] == steps


def test_predictions_of_several_processes_go_to_devices_of_their_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert own_device("auto") == "auto"
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (own_device("auto"), own_device("cpu")) == ("cuda:1", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert own_device("auto") == "auto"


def test_each_rank_draws_noise_of_its_own_on_cpus_too(monkeypatch):
    drawn = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "rank", lambda rank=rank: rank)
        drawn.append(torch.rand(8, generator=torch.Generator().manual_seed(ranks.own_seed(5))))
    assert torch.equal(drawn[0], torch.rand(8, generator=torch.Generator().manual_seed(5)))
    assert not any(torch.equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_processes_on_the_cpu_need_no_gpu_of_their_own(monkeypatch):
    def reached(_: str) -> None:
        raise ValueError("rendezvous")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.distributed, "rendezvous", reached)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    for device, found in (("cpu", "rendezvous"), ("auto", "found 1 CUDA devices")):
        with pytest.raises(UserError, match=found), joined(device):
            pass


def trainer_of_two(monkeypatch, out: Path, **changes: object) -> Trainer:
    monkeypatch.setattr(ranks, "size", lambda: 2)
    monkeypatch.setattr(ranks, "rank", lambda: 0)
    config = replace(
        Config(device="cpu", image_size=32, labeled="4", steps=2, val_every=2, out=out), **changes
    )
    return Trainer(Synthetic("dermoscopy", n=24, size=32), config)


def test_who_is_gone_before_the_first_step_is_missed_before_it(monkeypatch, tmp_path):
    def gone(_: bool) -> bool:
        raise UserError("found no answer of another process")

    trainer = trainer_of_two(monkeypatch, tmp_path / "run", method="supervised")
    monkeypatch.setattr(ranks, "any_of", gone)
    monkeypatch.setattr(trainer, "train_step", lambda batch: pytest.fail("a step began"))
    with pytest.raises(UserError, match="no answer"):
        trainer.fit(progress=False)


@pytest.mark.parametrize("method", ["fixmatch", "unimatch", "bcp"])
def test_a_process_has_two_images_to_paste_into_each_other(method, monkeypatch, tmp_path):
    words = {"method": method, "batch_labeled": 2}
    with pytest.raises(UserError, match="found 1 labelled and 2 unlabelled images per batch and process"):
        trainer_of_two(monkeypatch, tmp_path / "run", batch_unlabeled=4, **words)
    assert trainer_of_two(monkeypatch, tmp_path / "run", batch_unlabeled=2, method="mc", batch_labeled=2)


def test_a_run_of_two_processes_is_not_resumed_by_one(monkeypatch, tmp_path):
    others = {"random": torch.get_rng_state(), "random_cuda": [], "others": [{}]}
    with pytest.raises(UserError, match="found a run of 2 processes, expected one of 1"):
        checkpoints.set_random_state(others)


def test_parts_of_a_batch_are_together_the_batch():
    def batches(share: tuple[int, int]) -> StepBatches:
        data = Synthetic("dermoscopy", n=40, size=32)
        ids = [record.id for record in data.split("train")[:8]]
        options = {"seed": 3, "batch_labeled": 4, "batch_unlabeled": 6, "size": 32, "unlabeled_aug": "strong"}
        return StepBatches(data, ids, **options, extra_views=2, share=share)

    whole, parts = batches((0, 1))[5], [batches((rank, 2))[5] for rank in range(2)]
    for name in ("x", "y"):
        values = [getattr(part, name) for part in parts]
        joined = [value[:2] for value in values] + [value[2:] for value in values]
        assert torch.equal(torch.cat(joined), getattr(whole, name))
    assert whole.ids == parts[0].ids[:2] + parts[1].ids[:2] + parts[0].ids[2:] + parts[1].ids[2:]
    assert torch.equal(torch.cat([part.strong for part in parts]), whole.strong)
    with pytest.raises(UserError, match="found 4 images in one half of the batch for 3 processes"):
        batches((0, 3))


def test_with_one_process_nothing_is_exchanged():
    x = torch.ones(3, requires_grad=True)
    assert ranks.size() == 1 and ranks.gathered("item") == ["item"] and ranks.any_of(True)
    x.grad = torch.full((3,), 2.0)
    ranks.average_gradients([x])
    assert torch.equal(x.grad, torch.full((3,), 2.0))
    assert ranks.interleaved([[0, 2, 4], [1, 3]]) == [0, 1, 2, 3, 4]


def test_processes_share_the_pictures_of_a_prediction(monkeypatch, tmp_path):
    run, images = tmp_path / "run", tmp_path / "images"
    words = "train --method supervised --image-size 32 --labeled 4 --steps 1 --device cpu"
    assert main([*words.split(), "--data", "synthetic:dermoscopy:24", "--out", str(run)]) == 0
    images.mkdir()
    data = Synthetic("dermoscopy", n=5, size=32)
    for record in data.records:
        Image.fromarray(data.image(record)).save(images / f"{record.id}.png")
    written: list[set[str]] = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", "2")
        out = tmp_path / f"out{rank}"
        assert main(["predict", str(run), str(images), str(out), "--device", "cpu"]) == 0
        written.append({path.name for path in (out / "masks").iterdir()})
    assert [len(names) for names in written] == [3, 2] and not written[0] & written[1]
