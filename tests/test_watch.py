"""A folder that fills: complete images once each, a broken one is a line, Ctrl-C ends it."""

import os
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from helpers.base import small_net
from helpers.data_folders import picture
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Supervised
from knowsam_lite.predict import Predictor
from knowsam_lite.predict import watch as watching
from knowsam_lite.predict.files import Wanted
from knowsam_lite.predict.watch import arrivals, watch
from knowsam_lite.runs.classes import Classes

CLASSES = Classes(("background", "object"), (0, 255))


@pytest.fixture
def predictor():
    method = Supervised(Config(image_size=32), 2, small_net(2)).eval()
    return Predictor(method, 32, CLASSES, torch.device("cpu"))


def steps(*actions: Callable[[], object]) -> Callable[[], bool]:
    """A wait that does one thing at each call, and ends after the last."""
    rest: Iterator[Callable[[], object]] = iter(actions)

    def go_on() -> bool:
        action = next(rest, None)
        if action is not None:
            action()
        return action is not None

    return go_on


def nothing() -> None:
    pass


def test_an_image_counts_when_it_stopped_growing_and_once(tmp_path):
    (tmp_path / "there.png").write_bytes(b"1234")
    (tmp_path / "done.png").write_bytes(b"1234")
    growing = tmp_path / "deep/new.png"
    growing.parent.mkdir()
    seen = []

    def write(content: bytes) -> Callable[[], object]:
        return lambda: (growing.write_bytes(content), seen.append(content))

    moved = tmp_path / "moved.tmp"
    moved.write_bytes(b"12")
    go_on = steps(
        write(b""),
        write(b"1"),
        write(b"12"),
        nothing,
        nothing,
        lambda: moved.rename(tmp_path / "m.png"),
        nothing,
        nothing,
    )
    found = [(path.name, len(seen)) for path in arrivals(tmp_path, lambda path: path.stem == "done", go_on)]
    assert found == [("there.png", 1), ("new.png", 3), ("m.png", 3)]


def test_a_file_with_other_content_is_another_image(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    go_on = steps(nothing, lambda: path.write_bytes(b"12"), nothing, path.unlink, nothing)
    assert [p.name for p in arrivals(tmp_path, lambda _: False, go_on)] == ["a.png", "a.png"]


def test_masks_come_as_predict_writes_them_and_a_broken_image_is_a_line(predictor, tmp_path, capsys):
    home, out = tmp_path / "in", tmp_path / "out"
    home.mkdir()
    images = {name: picture(i, (20 + i, 30)) for i, name in enumerate(("a", "b"))}
    for name, image in images.items():
        Image.fromarray(image).save(home / f"{name}.png")
    (home / "broken.png").write_bytes((home / "a.png").read_bytes()[:700])
    (home / "b.jpg").write_bytes((home / "b.png").read_bytes())
    (home / "notes.txt").write_text("no image")
    watch(predictor, home, out, Wanted(overlay=True), steps(nothing, nothing))
    for name, image in images.items():
        [labels] = predictor([image])
        assert (np.asarray(Image.open(out / "masks" / f"{name}.png")) == labels * 255).all()
    assert sorted(path.name for path in (out / "overlays").iterdir()) == ["a.png", "b.png"]
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "same name" in said.err and "broken.png: found no readable image" in said.err
    os.utime(home / "a.png")
    watch(predictor, home, out, Wanted(), steps(nothing, nothing))  # again: only what is newer than its mask
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [str(home / "a.png")]


def test_started_again_it_leaves_what_is_done(predictor, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "out/masks").mkdir(parents=True)
    for name in "abc":
        Image.fromarray(picture(0)).save(tmp_path / f"in/{name}.png")
    (tmp_path / "out/masks/a.png").write_bytes(b"mask")
    (tmp_path / "out/masks/b.tif").write_bytes(b"mask")  # of one too large for memory
    watch(predictor, tmp_path / "in", tmp_path / "out", Wanted(), steps(nothing, nothing))
    assert capsys.readouterr().out.startswith(str(tmp_path / "in/c.png"))
    assert (tmp_path / "out/masks/a.png").read_bytes() == b"mask"
    assert not (tmp_path / "out/masks/b.png").exists()


def test_a_picture_that_came_before_keeps_its_mask_after_a_new_start(predictor, tmp_path, capsys):
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(picture(0, (24, 20))).save(folder / "a.png")
    watch(predictor, folder, out, Wanted(), steps(nothing, nothing))
    before = (out / "masks/a.png").read_bytes()
    arrive = steps(lambda: Image.fromarray(picture(1, (16, 40))).save(folder / "a.jpg"), nothing, nothing)
    watch(predictor, folder, out, Wanted(), arrive)
    assert (out / "masks/a.png").read_bytes() == before
    assert "a.jpg: found a.png with the same name" in capsys.readouterr().err


def test_ctrl_c_ends_it_with_130_and_faults_with_2(predictor, tmp_path, monkeypatch, capsys):
    def stop() -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "pause", stop)
    monkeypatch.setattr(Predictor, "from_run", lambda *_: predictor)
    words = ["predict", "run", str(tmp_path), str(tmp_path.parent / "out"), "--watch"]
    assert main(words) == 130 and capsys.readouterr().err.startswith("stopped")
    assert main([*words, "--split", "test"]) == 2
    assert main(["predict", "run", str(tmp_path / "no"), "out", "--watch"]) == 2
    assert main(["predict", "run", str(tmp_path), str(tmp_path / "out"), "--watch"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--split test" in lines[0] and "found no folder" in lines[1] and "where the images are" in lines[2]


def test_a_full_disk_is_not_taken_for_a_bad_image(predictor, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "in/a.png")
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(UserError, match="not writable"):
        watch(predictor, tmp_path / "in", tmp_path / "out", Wanted(), steps(nothing, nothing))
