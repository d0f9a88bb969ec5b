"""A trained model goes to a model hub and comes back: the same masks, and nothing of the data on the way."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from helpers.model_hub import model_hub

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, Synthetic, write
from knowsam_lite.predict import Predictor

pytest.importorskip("huggingface_hub")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on a folder whose file names tell of patients."""
    place = tmp_path_factory.mktemp("hub")
    write(Synthetic("dermoscopy", n=16, size=40), place / "secret_ward")
    words = "train --method supervised_pair --image-size 32 --steps 2 --labeled 4 --val-every 2 --device cpu"
    assert main([*words.split(), "--data", str(place / "secret_ward"), "--out", str(place / "run")]) == 0
    return place / "run"


def asked(address, *words):
    """A command in a process of its own, for huggingface_hub reads its address once."""
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": "hf_x", "HF_HUB_DISABLE_XET": "1"}
    environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "knowsam_lite", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_model_comes_back_from_the_hub_and_predicts_the_same(run, tmp_path):
    with model_hub() as (address, held, made):
        sent = asked(address, "push", run, "lab/skin")
        assert sent.returncode == 0, sent.stderr
        seen = made[0].get("visibility", "private" if made[0].get("private") else "public")  # older: private
        assert made[0]["name"] == "skin" and seen == "private"
        assert set(held["lab/skin"]) == {"README.md", "best.safetensors", "config.json", "dataset.json"}
        back = asked(address, "pull", "lab/skin", tmp_path / "back")
        assert back.returncode == 0, back.stderr
    data = SegmentationFolder(run.parent / "secret_ward")
    picture = data.image(data.split("test")[0])
    [ours] = Predictor.from_run(run, device="cpu").native_logits([picture])
    [theirs] = Predictor.from_run(tmp_path / "back", "best", device="cpu").native_logits([picture])
    assert np.array_equal(ours.numpy(), theirs.numpy())


def test_nothing_of_the_data_is_in_what_is_sent(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["push", str(run), "lab/skin", "--dry-run"]) == 0
    assert "sent nothing" in capsys.readouterr().out
    names = [record.id for record in SegmentationFolder(run.parent / "secret_ward").records]
    for file in (tmp_path / "lab" / "skin").iterdir():
        content = file.read_bytes()
        assert not any(word.encode() in content for word in [*names, "secret_ward", str(tmp_path)]), file.name
    assert json.loads((tmp_path / "lab/skin/config.json").read_text())["steps"] == 2
    assert (tmp_path / "lab/skin/README.md").read_text().startswith("---\nlibrary_name: knowsam_lite\n")


def test_what_the_hub_does_not_have_is_one_line_and_leaves_nothing(tmp_path):
    with model_hub() as (address, _, _):
        back = asked(address, "pull", "lab/none", tmp_path / "back")
    assert back.returncode == 2 and back.stderr.count("\n") == 1 and "lab/none not reachable" in back.stderr
    assert not list(tmp_path.iterdir())
