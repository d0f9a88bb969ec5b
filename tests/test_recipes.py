"""Which recipe is taken, what stands in for what is missing, and how steps are fitted to minutes."""

import json

import pytest
from helpers.data_folders import make_folder

from knowsam_lite.cli import main
from knowsam_lite.commands.train import _defaults
from knowsam_lite.config import LESSON, RECIPES, Config
from knowsam_lite.errors import UserError


def nowhere(source, teacher):
    raise UserError(f"found no weights of {teacher}, expected them: run `knowsam-lite weights {teacher}`")


def test_synthetic_images_are_for_lessons_and_others_for_a_useful_model(monkeypatch):
    monkeypatch.setattr("knowsam_lite.sam.sources.Published.find", lambda source, teacher: None)
    pytest.importorskip("segmentation_models_pytorch", reason="pip install 'knowsam-lite[pretrained]'")
    assert _defaults(None, []) == _defaults(None, ["--data", "synthetic:cardiac"]) == LESSON == Config()
    laptop = _defaults(None, ["--steps", "5", "--data", "my_images"])
    assert laptop == RECIPES["laptop"] and laptop.students == "pretrained" and laptop.teacher == "mobile_sam"
    assert _defaults("paper", ["--data", "my_images"]) == RECIPES["paper"]


def test_what_is_missing_is_said_in_a_line_and_something_stands_in(monkeypatch, capsys):
    monkeypatch.setattr("knowsam_lite.sam.sources.Published.find", nowhere)
    monkeypatch.setattr("knowsam_lite.sam.sources.Installed.find", nowhere)
    config = _defaults(None, ["--data", "my_images"])
    assert (config.students, config.teacher, config.teacher_size) == ("paper", "sam_mini", None)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(line.startswith("Note: ") for line in lines)
    assert "weights efficientnet_lite0" in lines[0] and "run `knowsam-lite weights mobile_sam`" in lines[1]
    assert _defaults(None, ["--data", "my_images", "--checkpoint=f"]).teacher == "mobile_sam"
    capsys.readouterr()
    _defaults(None, ["--data", "my_images", "--students=paper", "--teacher", "sam_mini"])
    assert capsys.readouterr().out == "", "what was chosen by hand is not missed"
    _defaults(None, ["--data", "my_images", "--method", "supervised_pair"])
    assert len(capsys.readouterr().out.splitlines()) == 1, "nor a SAM by a method that asks none"


def test_steps_are_fitted_to_minutes(tmp_path, capsys):
    data = make_folder(tmp_path / "data")
    few = ["--recipe", "lesson", "--labeled", "2", "--batch-labeled", "1", "--batch-unlabeled", "1"]
    out = ["--image-size", "64", "--val-every", "10000", "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(["train", "--data", str(data), *few, *out, "--minutes", "0.05"]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if " s a step: " in line)
    steps = json.loads((tmp_path / "run" / "config.json").read_text())["steps"]
    assert f" {steps} steps in 0.05 minutes" in said and 1 <= steps < 300
    assert main(["train", "--resume", str(tmp_path / "run"), "--minutes", "1"]) == 2
    assert "found --minutes beside --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--encoder-rate -1", "found encoder_rate -1"),
        ("--threshold nan", "found threshold nan"),
        ("--threshold 95", "found threshold 95"),
        ("--mix-start 24", "found mix_start 24"),
        ("--learning-rate inf", "found learning_rate inf"),
        ("--temperature 0", "found temperature 0"),
        ("--seed 99999999999999999999", "found seed 99999999999999999999"),
        ("--tile 1", "found tile 1"),
        ("--minutes -3", "found --minutes -3"),
        ("--minutes nan", "found --minutes nan"),
    ],
)
def test_settings_that_mean_nothing_are_one_line(tmp_path, words, says, capsys):
    assert main(["train", *words.split(), "--device", "cpu", "--out", str(tmp_path / "run")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {says}") and not (tmp_path / "run").exists()


def test_a_word_that_a_setting_does_not_have_is_named():
    with pytest.raises(UserError, match="found pseudo 'Soft', expected one of soft, hard"):
        Config(pseudo="Soft")


@pytest.mark.parametrize("text", ["[]", "3", '{"steps": "300"}', '{"steps": null}'])
def test_a_configuration_that_somebody_spoiled_is_one_line(text):
    with pytest.raises(UserError, match=r"expected config\.json of a run"):
        Config.from_json(text)


def test_a_run_of_an_older_version_is_read_with_what_it_did():
    old = json.loads(Config(steps=7).to_json())
    for name in ("students", "encoder_a", "warm_up", "teacher_size", "target"):
        del old[name]
    assert Config.from_json(json.dumps(old)) == Config(steps=7)
    with pytest.raises(UserError, match=r"unknown fields \['nonsense'\]"):
        Config.from_json(json.dumps({**old, "nonsense": 1}))
