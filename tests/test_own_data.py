"""docs/own_data.md as a new user goes through it: every block is run, from an empty folder."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import picture, square
from helpers.volume_folders import make_nifti
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import open_dataset
from knowsam_lite.data.description import Layout, read_description
from knowsam_lite.data.images import SUFFIXES
from knowsam_lite.data.layout import COLUMNS

PAGE = (Path(__file__).resolve().parents[1] / "docs/own_data.md").read_text(encoding="utf-8")
# The trainings that take long.
SHORT = {
    "--out runs/mine": "--steps 3 --image-size 32",
    "--out runs/squares": "--method supervised --steps 2 --image-size 32",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_every_command_runs_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before, after = blocks("python")
    exec(compile(before, "own_data.md", "exec"), {})
    commands = [line for block in blocks("bash") for line in block.splitlines()]
    assert len(commands) == 10
    shown = []
    for command in commands:
        program, *arguments = shlex.split(command)
        extra = next((more for part, more in SHORT.items() if part in command), "")
        assert program == "knowsam-lite" and main([*arguments, *shlex.split(extra)]) == 0, command
        shown.append(capsys.readouterr().out)
    assert "train: 24 images, 24 readable masks" in shown[0] and "0 errors" in shown[0]
    assert "wrote my_images_mended" in shown[1] and Path("my_images_mended/index.csv").is_file()
    assert "8 of 24 training images labelled" in shown[2]
    assert Path("runs/mine/report.html").is_file()
    assert "val, 8 images, best checkpoint" in shown[4]
    assert len(list(Path("predicted_in_squares/masks").iterdir())) == 40
    assert {path.name for path in Path("my-lab/lesions").iterdir()} > {"config.json", "README.md"}
    assert [len(list(Path("predicted", kind).iterdir())) for kind in ("masks", "overlays")] == [40, 40]
    scope: dict = {}
    exec(compile(after, "own_data.md", "exec"), scope)
    with Image.open("predicted/masks/dermoscopy_00000.png") as mask:
        assert (np.asarray(mask) == 255 * scope["labels"]).all() and scope["labels"].any()


@pytest.mark.parametrize("text", blocks("json"))
def test_every_description_is_accepted(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    layout = Layout("d")
    read_description(tmp_path, layout)
    assert not layout.findings and list(layout.classes) == json.loads(text)["classes"]


def test_the_index_is_accepted(tmp_path):
    [table] = blocks("csv")
    for line in table.splitlines()[1:]:
        for name, array in zip(line.split(",")[1:3], (picture(1), square()), strict=True):
            if name:
                (tmp_path / name).parent.mkdir(exist_ok=True)
                Image.fromarray(array).save(tmp_path / name)
    (tmp_path / "index.csv").write_text(table)
    data = open_dataset(tmp_path)
    assert table.splitlines()[0] == ",".join(COLUMNS)
    assert {record.id: record.group for record in data.split("train")} == {"a": "patient 1", "b": "patient 1"}
    assert sum(record.mask is None for record in data.records) == 1


def test_what_the_page_says_of_names_volumes_and_limits(tmp_path):
    root = make_nifti(tmp_path / "v", ("train",) * 5)
    (root / "index.csv").unlink()  # image and mask in images and masks
    assert open_dataset(root).split("test")[0].spacing_mm is not None
    for folder, name, array in (("images", "a.jpg", picture(1)), ("masks", "a_mask.png", square())):
        (tmp_path / "p" / folder).mkdir(parents=True)
        for number in range(5):
            Image.fromarray(array).save(tmp_path / "p" / folder / f"{number}{name}")
    assert len(open_dataset(tmp_path / "p").records) == 5
    assert Image.MAX_IMAGE_PIXELS is not None and "at most 89 million pixels" in PAGE
    assert Image.MAX_IMAGE_PIXELS // 10**6 == 89
    assert set(SUFFIXES) == {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
