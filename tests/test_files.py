"""Two processes at one path or in one folder: each file is whole, and a run belongs to one training."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from helpers.data_folders import make_folder

from knowsam_lite.cli import main
from knowsam_lite.errors import UserError
from knowsam_lite.files import LEFT, alone, beside, new_folder, write_aside, write_text


def test_a_new_folder_has_a_name():
    with pytest.raises(UserError, match="expected the name of a new folder"), new_folder(Path(".")):
        pass


def test_two_writers_of_one_path_leave_a_whole_file(tmp_path):
    path = tmp_path / "mask.png"

    def slow(file):
        file.write(b"a" * 10)
        write_text(path, "other")  # in the middle of the first one
        file.write(b"a" * 10)

    write_aside(path, slow)
    assert path.read_bytes() == b"a" * 20
    assert os.listdir(tmp_path) == ["mask.png"]


def test_what_a_killed_writer_left_is_passed_by_and_removed_when_it_is_old(tmp_path):
    path = tmp_path / "last.pt"
    left = beside(path, "part")
    left.write_text("half")
    write_text(path, "whole")
    assert (path.read_text(), left.read_text()) == ("whole", "half")  # it might be another's
    os.utime(left, (0, time.time() - LEFT - 60))
    write_text(path, "again")
    assert path.read_text() == "again" and os.listdir(tmp_path) == ["last.pt"]


def hold(folder: Path, held) -> None:
    with alone(folder):
        held.set()
        time.sleep(600)


@pytest.fixture
def busy(tmp_path):
    """A folder that another process holds until it is killed: an event would wait for its answer for ever."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "run", held))
    other.start()
    try:
        assert held.wait(60)
        yield other
    finally:
        other.kill()
        other.join()


def test_a_folder_in_use_is_refused_and_is_free_again_after_a_kill(tmp_path, busy):
    with pytest.raises(UserError, match="in use by another process"), alone(tmp_path / "run"):
        raise AssertionError
    busy.kill()
    busy.join()
    with alone(tmp_path / "run"):
        assert os.listdir(tmp_path / "run") == [".lock"]
    assert os.listdir(tmp_path / "run") == []


def test_a_second_training_in_one_run_folder_is_one_line(tmp_path, busy, capsys):
    words = f"--data {make_folder(tmp_path / 'd')} --labeled 2 --steps 1 --image-size 16 --method supervised"
    assert main(["train", *words.split(), "--students", "paper", "--out", str(tmp_path / "run")]) == 2
    assert f"error: found {tmp_path / 'run'} in use" in capsys.readouterr().err
    assert os.listdir(tmp_path / "run") == [".lock"]
