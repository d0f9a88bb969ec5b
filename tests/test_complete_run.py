"""Chapter 10: what it says about the loop is what the loop does, and its live outputs."""

import json
import shutil
import subprocess
import types
from dataclasses import replace

import pytest
import torch
from helpers.base import small_net
from helpers.chapters import answer, chapter, code_cells, environment, nbval

from knowsam_lite.config import Config
from knowsam_lite.course import live
from knowsam_lite.course.builder import ROOT
from knowsam_lite.course.chapters.ch10 import e5_which_checkpoint
from knowsam_lite.data import Synthetic
from knowsam_lite.methods import SupervisedPair
from knowsam_lite.training import Trainer

NAME = "10_complete_run"
DATA = Synthetic("dermoscopy", n=32, size=32)


def trainer(folder, kind=Trainer, **changes) -> Trainer:
    sizes = {"image_size": 32, "steps": 6, "labeled": "4", "batch_labeled": 2, "log_every": 2, "val_every": 2}
    config = replace(Config(), method="supervised_pair", device="cpu", out=folder / "run", **sizes | changes)
    torch.manual_seed(0)
    return kind(DATA, config, SupervisedPair(config, 2, small_net(2), small_net(2)))


def test_the_schedule_is_the_one_of_the_loop(tmp_path):
    t = trainer(tmp_path)
    t.start()
    for step in range(6):
        t.train_step(t.batches[step])
        factor = t.optimizers[0].param_groups[0]["lr"] / t.base_rates[0][0]
        assert factor == pytest.approx(1 - max(step - 1, 0) / 6)


def test_the_step_is_the_one_of_the_loop(tmp_path):
    library, taught = trainer(tmp_path / "a"), trainer(tmp_path / "b")
    for t in (library, taught):
        torch.manual_seed(0)
        t.method.train()
    library.train_step(library.batches[0])
    step = answer(NAME, "10.2")
    step(taught.method.losses(taught.batches[0], 0), taught.optimizers)
    for a, b in zip(library.method.parameters(), taught.method.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_choice_is_the_one_of_the_loop(tmp_path):
    t = trainer(tmp_path, steps=12)
    t.start()
    t.fit(progress=False)
    rows = [json.loads(line) for line in (t.run / "log.jsonl").read_text().splitlines()]
    best = e5_which_checkpoint.right_choice(rows, "fused")
    assert t.best == next(r["dice"]["fused"] for r in rows if r["kind"] == "val" and r["step"] == best)


class Screen:
    """Stands for the notebook: notes what is displayed, and what replaces it."""

    def __init__(self):
        self.shown, self.replaced = [], []

    def display(self, content, raw, metadata, display_id):
        assert raw and display_id
        self.shown.append((content, metadata))
        return types.SimpleNamespace(update=self.update)

    def update(self, content, raw, metadata):
        self.replaced.append((content, metadata))


def test_a_watched_training_shows_one_bar_and_one_figure(tmp_path, monkeypatch):
    screen = Screen()
    monkeypatch.setattr("IPython.display.display", screen.display)
    t = trainer(tmp_path, live.WatchedTrainer)
    t.start()
    assert t.fit()
    kinds = [sorted(content) for content, _ in screen.shown]
    assert kinds == [["text/plain"], ["image/png", "text/plain"]], "everything else replaces these two"
    assert len(screen.replaced) == 7  # rows at 2, 4, 6: bar 3 times; saves at 2, 4, 6: bar and curves 3 times
    assert screen.replaced[-2][0]["text/plain"].startswith(
        "supervised_pair " + "\u2588" * live.WIDTH + " 6 of 6"
    )
    content, metadata = screen.replaced[-1]
    assert content["image/png"].startswith(b"\x89PNG") and "step 6" in metadata["image/png"]["alt"]


def test_a_finished_run_shows_its_bar_and_curves_again(tmp_path, monkeypatch):
    t = trainer(tmp_path, live.WatchedTrainer)
    t.start()
    t.fit(progress=False)
    screen = Screen()
    monkeypatch.setattr("IPython.display.display", screen.display)
    again = trainer(tmp_path, live.WatchedTrainer)
    again.resume()
    assert again.fit()
    assert [sorted(content) for content, _ in screen.shown] == [["text/plain"], ["image/png", "text/plain"]]
    assert "6 of 6" in screen.shown[0][0]["text/plain"]


def test_watching_changes_nothing_and_can_be_left_out(tmp_path, monkeypatch):
    screen = Screen()
    monkeypatch.setattr("IPython.display.display", screen.display)
    watched, plain = trainer(tmp_path / "a", live.WatchedTrainer), trainer(tmp_path / "b")
    for t in (watched, plain):
        t.start()
        t.fit(progress=False)
    assert screen.shown == []
    for a, b in zip(watched.method.parameters(), plain.method.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_bar_counts():
    assert live.bar("x", 0, 4, 2.0).endswith("0 of 4 steps, 2.00 s a step, 8 s to go")
    assert live.bar("x", 1, 2, 0.5).count("\u2588") == live.WIDTH // 2


@pytest.mark.parametrize(("code", "found"), [(0, "sam_vit_b"), (2, "sam_mini")])
def test_without_weights_the_chapter_goes_on_with_sam_mini(code, found, capsys, monkeypatch):
    source = next(c.source for c in code_cells(chapter(NAME)) if "def teacher_at_hand" in c.source)
    outcome = subprocess.CompletedProcess([], code)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: outcome)
    namespace: dict = {}
    exec("import subprocess, sys\n" + source.split("\n\n\nreal_start = ")[0], namespace)
    assert namespace["teacher_at_hand"]("sam_vit_b") == found
    assert len(capsys.readouterr().out.splitlines()) == (code != 0)


@pytest.mark.parametrize(
    ("real", "code", "students", "teacher"),
    [
        (False, 0, "paper", ("sam_mini", None)),
        (True, 0, "pretrained", ("mobile_sam", 224)),
        (True, 2, "pretrained", ("sam_mini", None)),
    ],
)
def test_a_real_start_changes_students_and_teacher_not_the_method(
    real, code, students, teacher, monkeypatch, tmp_path
):
    cells = [c.source for c in code_cells(chapter(NAME))]
    chosen = [
        next(c for c in cells if text in c)
        for text in ("def teacher_at_hand", "address =", "config = replace(")
    ]
    source = "\n".join(chosen).replace("real_start = False", f"real_start = {real}")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess([], code))
    namespace: dict = {"runs": tmp_path, "budget": lambda smoke, ci, laptop, gpu: laptop}
    namespace["budget"].name = "laptop"
    imports = next(c for c in cells if c.startswith("import json"))
    exec(f"{imports}\n{source}", namespace)
    config = namespace["config"]
    assert (config.method, config.students) == ("knowsam", students)
    assert (config.teacher, config.teacher_size) == teacher
    assert (config.image_size, config.steps) == ((128, 1000) if real else (64, 200))


@pytest.mark.slow
def test_a_run_that_is_not_exact_goes_red_under_nbval(tmp_path):
    """The compared cell of the resume sees it when the random state is not put back."""
    shutil.copytree(ROOT / "knowsam_lite", tmp_path / "knowsam_lite")
    path = tmp_path / "knowsam_lite" / "runs" / "checkpoints.py"
    text = path.read_text("utf8")
    before = 'torch.set_rng_state(state["random"])'
    assert before in text
    path.write_text(text.replace(before, "pass"), encoding="utf-8")
    shutil.copy(ROOT / "solutions" / f"{NAME}.ipynb", tmp_path)
    outcome = subprocess.run(
        nbval([tmp_path / f"{NAME}.ipynb"]),
        cwd=tmp_path,
        env=environment("smoke", tmp_path),
        capture_output=True,
        text=True,
    )
    assert outcome.returncode == 1 and "bit: False" in outcome.stdout, outcome.stdout[-4000:]
