"""Every command sees the same files: linked ones, no hidden ones, and it says what it leaves out."""

import os
import shutil

import numpy as np
import pytest
from helpers.data_folders import COLUMNS, make_folder, picture, read_index, square, write_index
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset, check_for_training
from knowsam_lite.data.mend import mend
from knowsam_lite.data.walk import natural, walk
from knowsam_lite.errors import UserError
from knowsam_lite.predict.files import find_images

HIDDEN = (
    ".DS_Store",
    "._i00.png",
    ".git/x.png",
    "__MACOSX/i00.png",
    "@eaDir/i00.png",
    "Thumbs.db",
    "desktop.ini",
)


def plain(root, nested=False):
    """A pair of folders; with `nested` half of the pairs lie in subfolders."""
    make_folder(root)
    (root / "index.csv").unlink()
    for folder in ("images", "masks") if nested else ():
        for i in range(0, 12, 2):
            place = root / folder / f"patient {i % 4}" / "day"
            place.mkdir(parents=True, exist_ok=True)
            (root / folder / f"i{i:02d}.png").rename(place / f"i{i:02d}.png")
    return root


def seen_by_all(root, tmp_path) -> set[int]:
    """How many pairs each command sees: reading, check-data, --fix, data own and predict."""
    given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
    assert main(["data", "own", *given, "--out", str(tmp_path / "own")]) == 0
    mend(root, tmp_path / "mended")
    counts = {
        len(SegmentationFolder(place).records) for place in (root, tmp_path / "own", tmp_path / "mended")
    }
    text = "\n".join(finding.message for finding in check_dataset(root))
    counts.add(
        sum(int(line.split(": ")[1].split()[0]) for line in text.splitlines() if " readable masks" in line)
    )
    return counts | {len(find_images(root / "images", tmp_path / "out"))}


def test_subfolders_and_linked_folders(tmp_path):
    root = plain(tmp_path / "d", nested=True)
    for folder in ("images", "masks"):
        shutil.move(root / folder / "patient 0", tmp_path / f"share {folder}")
        (root / folder / "patient 0").symlink_to(tmp_path / f"share {folder}")
        (root / folder / "patient 2" / "loop").symlink_to(root / folder)  # a link to what holds it
    assert seen_by_all(root, tmp_path) == {12}
    assert "patient 0/day/i00" in {record.id for record in SegmentationFolder(root).records}


def test_what_is_hidden_is_never_taken(tmp_path):
    root = plain(tmp_path / "d")
    for folder in ("images", "masks"):
        for name in HIDDEN:
            (root / folder / name).parent.mkdir(exist_ok=True)
            (root / folder / name).write_bytes(b"\0\1")
    assert seen_by_all(root, tmp_path) == {12}
    assert not [finding for finding in check_dataset(root) if finding.severity != "info"]
    hidden = plain(tmp_path / ".cache" / "d")  # a hidden folder above what was asked for is no matter
    assert len(SegmentationFolder(hidden).records) == 12


def test_links_that_lead_nowhere_are_errors_everywhere(tmp_path, capsys):
    root = plain(tmp_path / "d")
    for folder in ("images", "masks"):
        (root / folder / "i03.png").unlink()
        (root / folder / "i03.png").symlink_to("../.git/annex/objects/KEY")
    errors = {finding.file: finding for finding in check_dataset(root) if finding.severity == "error"}
    assert set(errors) == {"images/i03.png", "masks/i03.png"}
    assert all("annex/objects/KEY, which is not there" in error.message for error in errors.values())
    with pytest.raises(UserError, match="found a link to"):
        find_images(root / "images", tmp_path / "out")
    given = ["--images", str(root / "images"), "--masks", str(root / "masks")]
    assert main(["data", "own", *given, "--out", str(tmp_path / "own")]) == 2
    assert "found a link to" in capsys.readouterr().err
    rows = [[f"i{i:02d}", f"images/i{i:02d}.png", f"masks/i{i:02d}.png", f"g{i}", "train"] for i in range(12)]
    write_index(root, rows)
    assert "found a link to" in {f.file: f.message for f in check_dataset(root)}["images/i03.png"]
    for folder in ("images", "masks"):  # the hint: fetch the data
        (root / ".git/annex/objects").mkdir(parents=True, exist_ok=True)
        shutil.copy(root / folder / "i04.png", root / ".git/annex/objects/KEY")
    assert not [finding for finding in check_dataset(root) if finding.severity == "error"]


def test_files_of_other_kinds_are_named_by_every_command(tmp_path, capsys):
    root = plain(tmp_path / "d")
    for folder, ending in (("images", "heic"), ("masks", "npy")):
        for i in (1, 2):
            (root / folder / f"i{i:02d}.png").rename(root / folder / f"i{i:02d}.{ending}")
    warnings = [finding for finding in check_dataset(root) if finding.severity == "warning"]
    assert [finding.file for finding in warnings] == ["images", "masks"]
    assert (
        "2 files" in warnings[0].message
        and ".heic" in warnings[0].message
        and "i01.heic" in warnings[0].message
    )
    data = SegmentationFolder(root)
    check_for_training(data, {data.split("train")[0].id})
    assert capsys.readouterr().err.count("left out") == 2
    assert len(find_images(root / "images", tmp_path / "out")) == 10
    assert ".heic" in capsys.readouterr().err
    given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
    assert main(["data", "own", *given, "--out", str(tmp_path / "own")]) == 0
    assert capsys.readouterr().out.count("left out") == 2
    assert any("left out" in line and ".npy" in line for line in mend(root, tmp_path / "mended"))
    rows = [
        [path.stem, f"images/{path.name}", f"masks/{path.name}", path.stem, "train"]
        for path in sorted((root / "masks").glob("*.png"))
    ]
    write_index(root, rows)
    assert [finding.file for finding in check_dataset(root) if finding.severity == "warning"] == [
        "images",
        "masks",
    ]


@pytest.mark.parametrize("ending", ["_MASK.PNG", "_Segmentation.png", "_mask.Png", ".PNG"])
def test_names_of_masks_in_any_case(tmp_path, ending):
    root = plain(tmp_path / "d")
    for path in list((root / "masks").iterdir()):
        path.rename(path.with_name(path.stem + ending))
    assert seen_by_all(root, tmp_path) == {12}


def test_two_names_that_differ_in_case_are_two(tmp_path):
    root = plain(tmp_path / "d")
    for folder, array in (("images", picture(50)), ("masks", square(255) * 0)):
        Image.fromarray(array.astype(np.uint8)).save(root / folder / "I00.png")
    data = SegmentationFolder(root)
    masks = {record.id: data.mask(record).any() for record in data.records}
    assert masks["i00"] and not masks["I00"] and len(masks) == 13


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, monkeypatch):
    root = plain(tmp_path / "d")
    (root / "images" / "closed").mkdir()
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(
        UserError, match=r"closed: found a folder that cannot be opened \(Permission denied\)"
    ):
        walk(root / "images", (".png",))


@given(st.lists(st.integers(0, 10**30), min_size=2, max_size=6), st.integers(0, 3))
def test_numbers_in_names_count(numbers, zeros):
    names = [f"ct{'0' * zeros}{number}_x" for number in numbers]
    assert sorted(names, key=natural) == [f"ct{'0' * zeros}{number}_x" for number in sorted(numbers)]


def test_slices_that_are_pictures_are_in_natural_order(tmp_path):
    root = make_folder(tmp_path / "d", 1, 1, 12)
    rows = [[*row, ""] for row in read_index(root)[:2]]
    for z in range(1, 13):
        rows.append([f"ct_{z}", f"images/i{z + 1:02d}.png", f"masks/i{z + 1:02d}.png", "ct", "test", "ct"])
    write_index(root, rows[:2] + sorted(rows[2:]), [*COLUMNS, "volume"])
    assert [record.id for record in SegmentationFolder(root).split("test")] == [
        f"ct_{z}" for z in range(1, 13)
    ]
