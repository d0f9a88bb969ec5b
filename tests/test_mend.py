"""Near-duplicates are found and shown; a mended copy is whole, and the original stays as it was."""

import csv
import hashlib
import json
import shutil

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, picture, square
from helpers.volume_folders import make_nifti
from PIL import Image, ImageEnhance

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, Synthetic
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.duplicates import NEAR, fingerprint, groups_of, near_pairs
from knowsam_lite.data.mend import mend
from knowsam_lite.errors import UserError

SCENES = Synthetic("colonoscopy", n=24, size=96)


def scene(number: int) -> np.ndarray:
    return SCENES.image(SCENES.records[number])


def altered(image: np.ndarray) -> np.ndarray:
    """The picture as another camera program would have saved it: brighter, smaller."""
    brighter = ImageEnhance.Brightness(Image.fromarray(image)).enhance(1.15)
    return np.asarray(brighter.resize((64, 64)))


def test_altered_copies_are_near_and_other_pictures_are_not():
    images = [scene(i) for i in range(12)]
    prints = np.array([fingerprint(image) for image in [*images, *map(altered, images)]])
    pairs = near_pairs(prints)
    assert {(i, j) for i, j, _ in pairs} == {(i, i + 12) for i in range(12)}
    assert all(bits == int((prints[i] != prints[j]).sum()) <= NEAR for i, j, bits in pairs)
    assert groups_of(pairs, 24) == [[i, i + 12] for i in range(12)]


def test_more_pictures_than_are_compared_at_once(monkeypatch):
    prints = np.random.default_rng(0).random((50, 256)) < 0.5
    prints[43] = prints[4]
    monkeypatch.setattr("knowsam_lite.data.duplicates.ROWS", 7)
    assert near_pairs(prints) == [(4, 43, 0)]


def test_a_chain_is_one_group_and_a_black_picture_is_like_none():
    assert groups_of([(0, 1, 3), (3, 1, 2), (4, 5, 0)], 7) == [[0, 1, 3], [4, 5]]
    assert fingerprint(np.zeros((32, 32, 3), np.uint8)) is None and near_pairs(np.zeros((1, 256), bool)) == []


def with_scenes(root, train=8, val=2, test=2):
    """A folder of synthetic scenes, 96 px; i02 in train is an altered i01, i11 in test an altered i00."""
    make_folder(root, train, val, test)
    for number in range(train + val + test):
        save_scene(root, number, scene(number))
    save_scene(root, 2, altered(scene(1)))
    save_scene(root, 11, altered(scene(0)))
    return root


def save_scene(root, number, image):
    Image.fromarray(image).save(root / f"images/i{number:02d}.png")
    Image.fromarray(square(255, image.shape[:2])).save(root / f"masks/i{number:02d}.png")


def test_leaks_are_reported_as_pairs_and_duplicates_listed_when_asked(tmp_path, capsys):
    root = with_scenes(tmp_path / "d")
    [leak] = [finding for finding in check_dataset(root) if finding.severity != "info"]
    assert leak.severity == "warning" and "near-duplicates i00 (train) and i11 (test)" in leak.message
    assert main(["check-data", str(root), "--find-duplicates"]) == 0
    out = capsys.readouterr().out
    assert "2 groups of pictures look alike" in out
    assert "alike: i00, i11" in out and "alike: i01, i02" in out
    assert "no group is in two splits" in out and "different splits look alike" not in out
    for number in (0, 11):
        change_row(root, number, group="one")
    change_row(root, 11, split="train")
    clean = "\n".join(finding.message for finding in check_dataset(root, find_duplicates=True))
    assert "no two of 12 pictures in different splits look alike" in clean
    assert "1 groups of pictures look alike" in clean and "alike: i00, i11" not in clean


def test_a_folder_with_only_some_splits_is_valid(tmp_path):
    for name, counts in (("a", (0, 0, 4)), ("b", (5, 0, 0)), ("c", (0, 3, 2))):
        findings = check_dataset(make_folder(tmp_path / name, *counts))
        assert {finding.severity for finding in findings} == {"info"}


def state(root) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def break_much(root):
    """One of each fault that can be mended, and an image that cannot."""
    Image.fromarray(square(255, (96, 96))).save(root / "masks/i03.jpg", quality=40)
    change_row(root, 3, mask="masks/i03.jpg")
    Image.fromarray(square(255, (96, 96))).resize((48, 48), Image.Resampling.NEAREST).save(
        root / "masks/i04.png"
    )
    (root / "masks/i05.png").write_bytes(b"")
    (root / "images/i06.png").write_bytes(b"")
    change_row(root, 7, image="masks/i07.png", mask="images/i07.png")
    change_row(root, 8, group="g10")  # val, and g10 is a test image's group
    change_row(root, 9, split="nowhere")


def test_a_mended_copy_has_no_fault_and_the_original_stays(tmp_path, capsys):
    root = with_scenes(tmp_path / "d")
    break_much(root)
    before = state(root)
    assert main(["check-data", str(root), "--fix", str(tmp_path / "mended")]) == 0
    assert state(root) == before
    out = capsys.readouterr().out
    for line in (
        "i03: JPEG mask,",
        "i04: mask resized from (48, 48) to (96, 96)",
        "i05: unlabelled from now on, for its mask is bad (found an empty file",
        "images/i06.png: found an empty file",
        "i07: image and mask swapped",
        "index.csv line 11: found split 'nowhere'",
        "group g00: look alike, i00, i11",
        "group g00: was in test and train, now in train",
        "group g10: was in test and val, now in train, i08, i10",
    ):
        assert line in out, line
    assert out.endswith("0 errors, 0 warnings\n")
    data = SegmentationFolder(tmp_path / "mended")
    by_id = {record.id: record for record in data.records}
    assert set(by_id) == {f"i{n:02d}" for n in range(12)} - {"i06", "i09"} and by_id["i05"].mask is None
    for name, size in (("i03", (96, 96)), ("i07", (96, 96))):
        assert np.array_equal(data.mask(by_id[name]), square(1, size))
    assert np.array_equal(data.image(by_id["i07"]), scene(7))
    assert data.mask(by_id["i04"]).shape == (96, 96)
    assert by_id["i11"].split == "train" and by_id["i11"].group == by_id["i00"].group


def test_plain_folders_get_an_index_values_and_unlabelled_images(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    (root / "dataset.json").unlink()
    for path in (root / "masks").iterdir():
        Image.fromarray(square(1)).save(path)
    (root / "masks/i00.png").unlink()
    (root / "images/i01.png").rename(root / "images/1 è.PNG")
    (root / "masks/i01.png").rename(root / "masks/1 è.png")
    done = mend(root, tmp_path / "mended")
    assert "dataset.json: declared mask value 0 as background, 1 as object" in done
    assert "i00.png: no mask, unlabelled from now on" in done
    data = SegmentationFolder(tmp_path / "mended")
    assert len(data.records) == 12 and sum(record.mask is None for record in data.records) == 1
    assert json.loads((tmp_path / "mended/dataset.json").read_text())["mask_values"] == [0, 255]
    with open(tmp_path / "mended/index.csv", newline="", encoding="utf-8") as file:
        assert {"1 è"} < {row["id"] for row in csv.DictReader(file)}
    assert not [finding for finding in check_dataset(data.root) if finding.severity != "info"]


def test_a_dark_photograph_is_not_taken_for_a_mask(tmp_path):
    root = make_folder(tmp_path / "d")
    photograph = Image.fromarray((picture(0) // 8).astype(np.uint8))
    photograph.save(root / "images/i00.jpg")
    Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32)).save(root / "masks/i00.png")
    change_row(root, 0, image="images/i00.jpg")
    done = mend(root, tmp_path / "mended")
    assert any("i00: unlabelled from now on" in line for line in done), done
    data = SegmentationFolder(tmp_path / "mended")
    assert np.array_equal(data.image(data.records[0]), SegmentationFolder(root).image(data.records[0]))


def test_nothing_is_mended_by_a_description_that_cannot_be_read(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").write_text('{"classes": ["background", "vessel"], "mask_values": [255, 0],}')
    with pytest.raises(UserError, match=r"dataset\.json"):
        mend(root, tmp_path / "mended")
    assert not (tmp_path / "mended").exists()


def test_two_masks_among_many_pictures_are_kept(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    for path in sorted((root / "masks").iterdir())[2:]:
        path.unlink()
    mend(root, tmp_path / "mended")
    records = SegmentationFolder(tmp_path / "mended").records
    assert sorted(record.id for record in records if record.mask is not None) == ["i00", "i01"]
    assert {record.split for record in records} == {"train"}


def test_what_cannot_be_mended(tmp_path):
    root = make_folder(tmp_path / "d")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        mend(root, root)
    with pytest.raises(UserError, match="mends no volumes"):
        mend(make_nifti(tmp_path / "volumes"), tmp_path / "out")
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match="no readable image"):
        mend(root, tmp_path / "out")
    (tmp_path / "file").write_text("in the way")
    shutil.copytree(make_folder(tmp_path / "good"), tmp_path / "same")
    with pytest.raises(UserError, match="not writable"):
        mend(tmp_path / "same", tmp_path / "file/out")
    assert not (tmp_path / "out").exists() and picture(0).any()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".part")]
