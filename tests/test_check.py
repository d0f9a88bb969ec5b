"""check-data lists every fault in one run; the check before training opens no mask of an unlabelled image."""

import json
import shutil

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, square
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, Synthetic, choose_labeled
from knowsam_lite.data.check import as_json, check_dataset, check_for_training, report
from knowsam_lite.errors import UserError


def faults(root, **options) -> dict[str, str]:
    """Message by file of all that is not summary."""
    return {f.file: f.message for f in check_dataset(root, **options) if f.severity != "info"}


def test_a_good_folder_has_a_summary_and_no_fault(tmp_path, capsys):
    root = make_folder(tmp_path / "d")
    findings = check_dataset(root)
    assert {finding.severity for finding in findings} == {"info"}
    text = "\n".join(finding.message for finding in findings)
    for part in (
        "train: 8 images, 8 readable masks",
        "24x32",
        "square 8.33 %",
        "0 masks hold background only",
    ):
        assert part in text
    assert report(findings) == 0
    assert capsys.readouterr().out.endswith("0 errors, 0 warnings\n")


def test_all_faults_are_listed_in_one_run(tmp_path, capsys):
    root = make_folder(tmp_path / "d", train=10)
    Image.fromarray(square(9)).save(root / "masks/i00.png")
    Image.fromarray(square(255, (24, 30))).save(root / "masks/i01.png")
    (root / "masks/i02.png").unlink()
    (root / "images/i03.png").write_bytes(b"no image")
    shutil.copy(root / "images/i04.png", root / "images/i10.png")
    Image.fromarray(square()).save(root / "masks/extra.png")
    change_row(root, 5, split="nowhere")
    change_row(root, 6, group="g11")
    change_row(root, 8, image="../i08.png")
    change_row(root, 9, id="i07")
    findings = check_dataset(root)
    found = faults(root)
    assert "found mask values 9" in found["masks/i00.png"]
    assert "30x24 px for an image of 32x24" in found["masks/i01.png"]
    assert "no such file" in found["masks/i02.png"]
    assert "no readable image" in found["images/i03.png"]
    assert "same picture as i04 and i10 in train and val" in found["images/i04.png"]
    assert "no valid row of index.csv names" in found["masks/extra.png"]
    assert "'nowhere'" in found["index.csv line 7"]
    assert "inside the data set's folder" in found["index.csv line 10"]
    index = [finding.message for finding in findings if finding.file == "index.csv"]
    assert any("group 'g11' in train and val" in message for message in index)
    assert any("id 'i07' 2 times" in message for message in index)
    assert all(finding.fix for finding in findings if finding.severity == "error")
    assert sum(finding.file == "images/i03.png" for finding in findings) == 1
    assert report(findings) == 2
    last = json.loads(as_json(findings))
    assert (
        len(last["findings"]) == len(findings)
        and last["errors"] == sum(finding.severity == "error" for finding in findings) == 8
    )


def test_the_json_is_one_object_and_last_also_beside_a_sheet_and_a_mended_copy(tmp_path, capsys):
    root = make_folder(tmp_path / "d")
    (root / "masks/i00.png").unlink()
    words = ["--sheet", tmp_path / "sheet.png", "--fix", tmp_path / "mended", "--json"]
    main(["check-data", *map(str, [root, *words])])
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith("{") for line in lines].count(True) == 1
    assert json.loads(lines[-1])["errors"] == 0 and any(line.startswith("error: masks/i00") for line in lines)


def test_only_some_splits_are_read(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "masks/i00.png").write_bytes(b"")
    assert "masks/i00.png" in faults(root, only=["train"])
    assert not faults(root, only=["val", "test"])


def test_folders_that_are_none_and_broken_descriptions(tmp_path):
    assert "found no folder" in faults(tmp_path / "x")[str(tmp_path / "x")]
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").write_text("{")
    (root / "index.csv").write_text("a,b\n1,2\n")
    found = faults(root)
    assert "no valid JSON" in found["dataset.json"] and "found columns a,b" in found["index.csv"]


def test_plain_pairs_are_checked_too(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    (root / "masks/i00.png").unlink()
    (root / "images/i01.png").unlink()
    Image.fromarray(square(3)).save(root / "masks/i02.png")
    assert set(faults(root)) == {"images/i00.png", "masks/i01.png", "masks/i02.png"}


@pytest.mark.parametrize("number", [0, 8, 10])
def test_a_bad_mask_that_training_needs_stops_it(tmp_path, number):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    check_for_training(data, {"i00", "i01"})
    data.records[number].mask.write_bytes(b"no image")
    with pytest.raises(UserError, match=f"i{number:02d}[.]png: found no readable image"):
        check_for_training(data, {"i00", "i01"})


def test_masks_of_unlabelled_images_stay_closed_and_their_images_are_checked(tmp_path):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    for record in data.records[2:8]:
        record.mask.write_bytes(b"no image")
    check_for_training(data, {"i00", "i01"})
    data.records[5].image.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"images/i05\.png: found no readable image"):
        check_for_training(data, {"i00", "i01"})


def test_an_empty_labelled_set_stops_it():
    with pytest.raises(UserError, match="found an empty labelled set"):
        check_for_training(Synthetic("shapes", n=8), set())


class Own:
    """Somebody's own data set: only what `SegmentationData` asks for."""

    name, classes, num_classes, spacing_mm = "own", ("background", "a"), 2, None

    def __init__(self, mask: np.ndarray) -> None:
        self.records, self._mask = Synthetic("shapes", n=8).records, mask

    def split(self, name):
        return [record for record in self.records if record.split == name]

    def image(self, record):
        return np.zeros((8, 8, 3), np.uint8)

    def mask(self, record):
        return self._mask


def test_a_data_set_of_ones_own_is_checked_for_classes_and_sizes():
    labeled = choose_labeled(Own(np.zeros((8, 8), np.uint8)).records, "2", 0)
    check_for_training(Own(np.ones((8, 8), np.uint8)), labeled)
    with pytest.raises(UserError, match="found class 2 in the mask, expected 0 to 1"):
        check_for_training(Own(np.full((8, 8), 2, np.uint8)), labeled)
    with pytest.raises(UserError, match="expected equal sizes"):
        check_for_training(Own(np.ones((8, 9), np.uint8)), labeled)
