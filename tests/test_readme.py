"""The README keeps its word: its example runs, its commands exist."""

import re
from pathlib import Path

import pytest
import torch

from knowsam_lite.cli import COMMANDS
from knowsam_lite.data import KINDS
from knowsam_lite.sam import pretrain

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf8")


def test_the_example_runs(tmp_path, monkeypatch):
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(compile(code, "README.md", "exec"), scope)
    assert scope["masks"].shape == (3, 64, 64) and scope["masks"].dtype == torch.int64
    assert (tmp_path / "runs/discs/best.safetensors").exists()
    assert len([line for line in code.splitlines() if line.strip()]) <= 25


def test_every_command_and_option_exists(capsys):
    used = set(re.findall(r"knowsam-lite (data [a-z0-9]+|[a-z-]+)", README))
    assert used and {command.split()[0] for command in used} <= set(COMMANDS)
    for command in used:
        name, *rest = command.split()
        with pytest.raises(SystemExit):
            COMMANDS[name]([*rest, "--help"])
        known = capsys.readouterr().out
        lines = re.findall(rf"knowsam-lite {command}((?: [^`\n]*|\\\\\n)*)", README)
        options = {word for line in lines for word in re.findall(r"--[a-z-]+", line.split("#")[0])}
        assert all(option in known for option in options), (command, options)


def test_no_reported_table_stands_on_what_sam_mini_was_pretrained_on():
    """sam_mini saw pictures of `shapes` alone, and no table reports on them."""
    drawn = {name for name in vars(pretrain) if name in KINDS or name in ("scene", "open_dataset")}
    assert drawn == {"scene"} and pretrain.scene.__module__ == "knowsam_lite.data.shapes"
    page = (ROOT / "docs" / "from_scratch.md").read_text("utf8")
    reported = set(re.findall(r"synthetic:([a-z]+)", page))
    assert reported and "shapes" not in reported and reported <= set(KINDS)
