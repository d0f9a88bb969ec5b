"""The loop: exact resume after a kill, Ctrl-C, non-finite losses, and what a run leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers.base import small_net, tiny_teacher
from safetensors.torch import save_file

from knowsam_lite.config import RECIPES, Config
from knowsam_lite.data import Synthetic
from knowsam_lite.errors import UserError
from knowsam_lite.methods import KnowSAM, SupervisedPair
from knowsam_lite.runs.checkpoints import load_best, load_last, save_best
from knowsam_lite.runs.log import most_memory, read_log
from knowsam_lite.runs.run import choose_device, load_run, use_bf16
from knowsam_lite.training import Trainer

DATA = Synthetic("dermoscopy", n=32, size=32)


def config(tmp_path, **changes):
    few = {"image_size": 32, "steps": 12, "labeled": "4", "batch_labeled": 2, "batch_unlabeled": 2}
    return replace(
        Config(),
        data="synthetic:dermoscopy:32",
        out=tmp_path / "run",
        log_every=4,
        val_every=4,
        **few | changes,
    )


def trainer(c):
    torch.manual_seed(0)
    nets = small_net(2), small_net(2)
    return Trainer(DATA, c, KnowSAM(c, 2, *nets, teacher=tiny_teacher(2)))


def last_state(run):
    return torch.load(run / "last.pt", weights_only=True)


def same(a, b) -> bool:
    """Whether two states are equal, every tensor to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return all(map(same, a, b)) and len(a) == len(b) if isinstance(a, list) else a == b


def test_a_run_leaves_config_log_and_checkpoints(tmp_path):
    t = trainer(config(tmp_path))
    t.start()
    assert t.fit(progress=False)
    run = tmp_path / "run"
    assert sorted(p.name for p in run.iterdir()) == [
        "best.safetensors",
        "config.json",
        "dataset.json",
        "last.pt",
        "log.jsonl",
    ]
    assert Config.from_json((run / "config.json").read_text()) == t.config
    first, *rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert (first["kind"], first["step"], first["device"]) == ("start", 0, "cpu")
    kinds = ("train", "val", "saved")
    assert [(r["kind"], r["step"]) for r in rows] == [(k, s) for s in (4, 8, 12) for k in kinds]
    assert set(rows[1]["dice"]) == {"U-Net", "V-Net", "fused", "SAM"}
    assert rows[0]["total"] == pytest.approx(sum(rows[0]["losses"].values()))
    assert 0 < rows[2]["seconds"] < rows[5]["seconds"] < rows[8]["seconds"]
    assert rows[2]["peak_memory_bytes"] > 2**20


def test_the_memory_of_a_run_is_the_most_that_any_of_its_processes_took():
    began, went_on = {"kind": "saved", "peak_memory_bytes": 9}, {"kind": "saved", "peak_memory_bytes": 2}
    assert most_memory([began, {"kind": "start"}, went_on]) == 9
    assert most_memory([{"kind": "saved", "peak_memory_bytes": None}]) is None


def test_resume_is_exact(tmp_path):
    whole = trainer(config(tmp_path / "whole"))
    whole.start()
    whole.fit(progress=False)
    first = trainer(config(tmp_path / "cut"))
    first.start()
    stop = first.train_step
    first.train_step = lambda batch: (_ for _ in ()).throw(RuntimeError) if first.step == 9 else stop(batch)
    with pytest.raises(RuntimeError):  # as good as a kill: nothing is saved on the way out
        first.fit(progress=False)
    again = trainer(config(tmp_path / "cut"))
    again.resume()
    assert again.step == 8
    again.fit(progress=False)
    whole, cut = (last_state(tmp_path / name / "run") for name in ("whole", "cut"))
    for part in ("method", "optimizers", "progress", "random"):
        assert same(whole[part], cut[part]), part
    logs = []
    for name in ("whole", "cut"):  # what was learned; the time and memory that it took differ
        rows = map(json.loads, (tmp_path / name / "run/log.jsonl").read_text().splitlines())
        logs.append([{**row, "seconds": 0} for row in rows if row["kind"] in ("train", "val")])
    assert logs[0] == logs[1]


def cli(*arguments, **kwargs):
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "knowsam_lite", *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, **kwargs
    )


def train_arguments(out, steps):
    options = {
        "data": "synthetic:dermoscopy:32",
        "method": "supervised",
        "image-size": 16,
        "labeled": 4,
        "steps": steps,
    }
    options |= {"batch-labeled": 2, "batch-unlabeled": 2, "val-every": 10, "log-every": 10, "out": out}
    return ["train", *(text for name, value in options.items() for text in (f"--{name}", value))]


def wait_for(path, process):
    for _ in range(600):
        if path.exists() or process.poll() is not None:
            return
        time.sleep(0.1)


@pytest.mark.slow
def test_resume_after_sigkill_ends_where_an_undisturbed_run_ends(tmp_path):
    assert cli(*train_arguments(tmp_path / "whole", 60)).wait() == 0
    process = cli(*train_arguments(tmp_path / "cut", 60))
    wait_for(tmp_path / "cut/last.pt", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = cli("train", "--resume", tmp_path / "cut")
    out, err = resumed.communicate()
    assert resumed.returncode == 0, err
    a, b = last_state(tmp_path / "whole"), last_state(tmp_path / "cut")
    assert json.loads(a["progress"]) == json.loads(b["progress"])
    torch.testing.assert_close(a["method"], b["method"], rtol=0, atol=0)
    assert "wrote " in out and "metrics.json" in out
    assert out.endswith(f"use it: knowsam-lite predict {tmp_path / 'cut'} PICTURES NEW_FOLDER --overlay\n")
    assert (tmp_path / "cut/predictions.png").stat().st_size > 1000


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    process = cli(*train_arguments(tmp_path / "run", 100_000))
    wait_for(tmp_path / "run/last.pt", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err
    assert f"go on with: knowsam-lite train --resume {tmp_path / 'run'}" in out
    step = json.loads(last_state(tmp_path / "run")["progress"])["step"]
    assert f"stopped after step {step} and saved" in out


def test_a_non_finite_loss_names_term_steps_and_samples_and_saves_nothing(tmp_path):
    c = config(tmp_path)
    t = Trainer(DATA, c, SupervisedPair(c, 2, small_net(2), small_net(2)))
    t.start()
    honest = t.method.parts

    def poisoned(batch, step):
        for terms in honest(batch, step):
            yield {**terms, "b/supervised": terms["b/supervised"] * float("nan")} if step == 5 else terms

    t.method.parts = poisoned
    with pytest.raises(
        UserError, match=r"'b/supervised' first at step 5 \(window 4 to 7; samples dermoscopy_"
    ):
        t.fit(progress=False)
    saved = last_state(tmp_path / "run")
    assert json.loads(saved["progress"])["step"] == 4
    assert all(v.isfinite().all() for v in saved["method"].values() if v.is_floating_point())


def test_best_and_last_load_back_complete(tmp_path):
    t = trainer(config(tmp_path))
    t.start()
    t.fit(progress=False)
    other = trainer(config(tmp_path / "other"))
    assert load_last(tmp_path / "run/last.pt", other.method).step == 12
    torch.testing.assert_close(other.method.state_dict(), t.method.state_dict())
    val = [row for row in read_log(tmp_path / "run") if row["kind"] == "val"]
    step = load_best(tmp_path / "run/best.safetensors", other.method)
    assert step == max(val, key=lambda row: row["dice"][t.method.prediction_view])["step"]
    save_best(tmp_path / "run/best.safetensors", other.method, 7)
    assert load_best(tmp_path / "run/best.safetensors", other.method) == 7
    save_file(other.method.trained_state(), tmp_path / "nameless.safetensors")
    with pytest.raises(UserError, match="found no step in"):
        load_best(tmp_path / "nameless.safetensors", other.method)
    with pytest.raises(UserError, match=r"does not fit method 'supervised_pair'.*unexpected teacher"):
        c = config(tmp_path)
        load_best(tmp_path / "run/best.safetensors", SupervisedPair(c, 2, small_net(2), small_net(2)))


def test_frozen_weights_are_not_saved_and_have_no_optimizer_state(tmp_path):
    t = trainer(config(tmp_path))
    names = t.method.trained_state().keys()
    assert not any(name.endswith("attn.qkv.weight") for name in names)
    optimized = {id(p) for o in t.optimizers for g in o.param_groups for p in g["params"]}
    assert optimized == {id(p) for p in t.method.parameters() if p.requires_grad}


@pytest.mark.parametrize("content", [b"", b"no checkpoint"])
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, content):
    t = trainer(config(tmp_path))
    t.start()
    (tmp_path / "run/last.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"unreadable checkpoint .*last.pt"):
        t.resume()


def test_a_run_folder_in_use_is_not_overwritten(tmp_path):
    t = trainer(config(tmp_path))
    t.start()
    t.fit(progress=False)
    with pytest.raises(UserError, match="--resume"):
        trainer(config(tmp_path)).start()


@pytest.mark.parametrize("name", ["index.csv", "dataset.json", "images/a.png"])
def test_a_folder_of_data_is_no_run_folder(tmp_path, name):
    path = tmp_path / "run" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UserError, match=r"found a data set in .*run"):
        trainer(config(tmp_path)).start()
    assert path.read_text() == "{}" and not (tmp_path / "run/config.json").exists()


def test_a_method_made_for_a_longer_run_rises_within_this_one(tmp_path):
    config = Config(steps=4, labeled="4", image_size=32, device="cpu", out=tmp_path / "run")
    method = SupervisedPair(replace(config, steps=4_000), 2, small_net(2), small_net(2))
    trainer = Trainer(Synthetic("dermoscopy", n=30, size=32), config, method)
    assert trainer.method.progress(2) == 0.5


def test_recipes_and_devices():
    paper = RECIPES["paper"]
    assert (paper.image_size, paper.steps, paper.teacher) == (256, 50_000, "sam_vit_b")
    assert (paper.batch_labeled, paper.batch_unlabeled, paper.optimizer) == (12, 12, "published")
    assert not use_bf16("auto", torch.device("cpu")) and use_bf16("bf16", torch.device("cpu"))
    with pytest.raises(UserError, match="no device 'cuda:99'"):
        choose_device("cuda:99")


def test_published_optimizers_are_sgd_and_adam(tmp_path):
    t = trainer(config(tmp_path, optimizer="published", learning_rate=0.01, weight_decay=1e-4))
    students, teacher = t.optimizers
    assert isinstance(students, torch.optim.SGD) and isinstance(teacher, torch.optim.Adam)
    group = students.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 1e-4)
    t.start()
    t.fit(progress=False)
    assert students.param_groups[0]["lr"] == pytest.approx(0.01 * (1 - 10 / 12))  # the rate of the last step


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(UserError, match="expected a run folder"):
        load_run(tmp_path)


def test_batches_that_cannot_be_trained_on_are_named(tmp_path):
    with pytest.raises(
        UserError, match="found 0 unlabelled images per batch, expected at least 1 for knowsam"
    ):
        trainer(config(tmp_path, batch_unlabeled=0))
    single = trainer(config(tmp_path, batch_labeled=1, batch_unlabeled=1))
    single.start()
    with pytest.raises(UserError, match="found one image of 4 x 4 tokens in a batch"):
        single.fit(progress=False)


def test_a_steps_time_leaves_out_validation_wherever_it_falls(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("knowsam_lite.training.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    class Clocked(Trainer):
        def train_step(self, batch):
            clock[0] += 2
            self.window.add(self.step, batch.ids, {"loss": torch.zeros(())})
            self.step += 1

        def validate(self):
            clock[0] += 100

        def save(self):
            clock[0] += 30

    sizes = {"image_size": 32, "labeled": "4", "batch_labeled": 2, "log_every": 4, "val_every": 6}
    config = Config(method="supervised", steps=17, out=tmp_path / "run", device="cpu", **sizes)
    trainer = Clocked(Synthetic("dermoscopy", n=20, size=32), config)
    trainer.start()
    assert trainer.fit(progress=False)
    rows = [row for row in read_log(trainer.run) if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [4, 8, 12, 16, 17] and {row["seconds"] for row in rows} == {2}
