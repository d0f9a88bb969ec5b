"""Corrected masks come into the data set as training will read them, and nothing there is overwritten."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, picture, read_index, square, write_index
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, choose_labeled
from knowsam_lite.suggest.polygons import coco, labelme
from knowsam_lite.suggest.take import open_partly_labeled, take_labels

NAMES = ("background", "square")
NEW = ["i03", "i04", "i05"]


def disc(seed: int) -> np.ndarray:
    """Classes uint8 (24, 32) with a disc, another for each seed."""
    y, x = np.mgrid[:24, :32]
    return ((y - 10 - seed % 3) ** 2 + (x - 14 - seed) ** 2 < 49).astype(np.uint8)


@pytest.fixture
def data(tmp_path):
    """Eight training images, of which i03 to i07 have no mask."""
    root = make_folder(tmp_path / "data")
    for row in range(3, 8):
        change_row(root, row, mask="")
        (root / f"masks/i0{row}.png").unlink()
    return root


def corrected(folder: Path, kind: str) -> Path:
    """Discs for the new images, as PNG, LabelMe's files or a COCO file."""
    folder.mkdir()
    masks = {name: disc(i) for i, name in enumerate(NEW)}
    for name, mask in masks.items():
        if kind == "png":
            Image.fromarray(mask * 255).save(folder / f"{name}.png")
        elif kind == "labelme":
            (folder / f"{name}.json").write_text(labelme(mask, NAMES, f"{name}.png"))
    if kind == "coco":
        (folder / "all.json").write_text(coco([(f"{name}.png", mask) for name, mask in masks.items()], NAMES))
    return folder


def state(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["png", "labelme", "coco"])
def test_new_labels_are_what_was_drawn_and_training_finds_them(kind, data, tmp_path, capsys):
    before, place = state(data), corrected(tmp_path / "new", kind)
    assert main(["import-labels", str(data), str(place)]) == 0
    folder = SegmentationFolder(data)
    masks = {record.id: folder.mask(record) for record in folder.split("train") if record.mask}
    assert set(masks) == {"i00", "i01", "i02", *NEW} == choose_labeled(folder.records, "6", 0)
    for i, name in enumerate(NEW):
        assert (masks[name] != disc(i)).mean() < (0.001 if kind == "png" else 0.05)
    after = state(data)
    assert {path for path in before if before[path] != after.get(path)} == {str(data / "index.csv")}
    assert main(["import-labels", str(data), str(place)]) == 0 and state(data) == after
    first, *_, last = [line for line in capsys.readouterr().out.splitlines() if "labels in" in line]
    assert first.startswith("3 new") and last == "0 new labels in train, 3 that were there already"


def test_the_table_keeps_its_other_cells(data, tmp_path):
    rows = [[*row, f"note; {i}"] for i, row in enumerate(read_index(data))]
    rows[5][3] = "patient 5"
    with (data / "index.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows(
            [["id", "image", "mask", "group", "split", "Remark"], *rows]
        )
    take_labels(data, corrected(tmp_path / "new", "png"), "train")
    with (data / "index.csv").open(newline="") as file:
        found = list(csv.reader(file))
    expected = [[*row[:2], f"masks/{row[0]}.png" if row[0] in NEW else row[2], *row[3:]] for row in rows]
    assert found[1:] == expected and found[0][-1] == "remark"


@pytest.mark.parametrize("home", ["images", "."])
def test_a_plain_folder_of_images_becomes_a_data_set(home, tmp_path):
    root = tmp_path / "mine"
    (root / home).mkdir(parents=True)
    for i in range(6):
        Image.fromarray(picture(i)).save(root / home / f"i0{i}.png")
    assert len(open_partly_labeled(root).split("train")) == 6
    take_labels(root, corrected(tmp_path / "new", "png"), "test")
    Image.fromarray(disc(7) * 255).save(tmp_path / "i00_mask.png")
    taken = take_labels(root, tmp_path / "i00_mask.png", "train")
    assert taken.new == ["i00"] and sum(record.mask is None for record in taken.records) == 2
    folder = SegmentationFolder(root)
    assert [record.id for record in folder.split("test")] == NEW
    assert (folder.mask(folder.split("test")[1]) == disc(1)).all()


def test_masks_that_lie_in_the_folder_keep_the_split_that_training_gives_them(tmp_path):
    root = make_folder(tmp_path / "mine")
    (root / "index.csv").unlink()
    expected = {record.id: record.split for record in SegmentationFolder(root).records}
    for name in ("new1", "new2"):
        Image.fromarray(picture(9)).save(root / f"images/{name}.png")
    taken = take_labels(root, root / "masks", "train")
    assert taken.new == [] and len(taken.same) == 12
    found = {record.id: record.split for record in SegmentationFolder(root).records}
    assert found == {**expected, "new1": "train", "new2": "train"}


def test_an_image_that_the_table_does_not_name_gets_a_row(data, tmp_path, capsys):
    Image.fromarray(picture(50)).save(data / "images/late.png")
    Image.fromarray(disc(1) * 255).save(tmp_path / "late.png")
    Image.fromarray(picture(51)).save(data / "images/later.png")
    assert main(["import-labels", str(data), str(tmp_path / "late.png")]) == 2
    warning, error = capsys.readouterr().err.splitlines()  # i00 is of group g00: whose is late?
    assert "late, later not in index.csv" in warning and "found no image 'late'" in error
    write_index(data, [[*row[:3], row[0], row[4]] for row in read_index(data)])
    assert main(["import-labels", str(data), str(tmp_path / "late.png")]) == 0
    assert read_index(data)[-2] == ["late", "images/late.png", "masks/late.png", "late", "train"]
    assert read_index(data)[-1] == ["later", "images/later.png", "", "later", "train"]


def test_a_coco_image_without_annotation_is_not_taken_for_an_empty_one(data, tmp_path, capsys):
    sheet = tmp_path / "all.json"
    sheet.write_text(coco([("i03.png", disc(1)), ("i04.png", np.zeros((24, 32), np.uint8))], NAMES))
    assert take_labels(data, sheet, "train").new == ["i03"]
    assert "i04.png" in capsys.readouterr().err


def other_mask(data: Path, new: Path) -> None:
    Image.fromarray(square()).save(new / "i00.png")
    Image.fromarray(255 - square()).save(data / "masks/i00.png")


def forgotten_file(data: Path, new: Path) -> None:
    Image.fromarray(square()).save(data / "masks/i03.png")


def no_image(data: Path, new: Path) -> None:
    Image.fromarray(square()).save(new / "nobody.png")


def broken(data: Path, new: Path) -> None:
    (new / "i05.png").write_bytes(b"no image")


def other_size(data: Path, new: Path) -> None:
    Image.fromarray(square(size=(12, 16))).save(new / "i05.png")


def other_values(data: Path, new: Path) -> None:
    Image.fromarray(square(3)).save(new / "i05.png")


def other_label(data: Path, new: Path) -> None:
    shutil.rmtree(new)
    new.mkdir()
    (new / "i03.json").write_text(labelme(disc(1), ("background", "lesion"), "i03.png"))


def two_kinds(data: Path, new: Path) -> None:
    (new / "i03.json").write_text(labelme(disc(1), NAMES, "i03.png"))
    (new / "all.json").write_text(coco([("i03.png", disc(1))], NAMES))


def damaged_json(data: Path, new: Path) -> None:
    (new / "i03.json").write_text("{")


def nothing(data: Path, new: Path) -> None:
    shutil.rmtree(new)
    new.mkdir()


def twice(data: Path, new: Path) -> None:
    Image.fromarray(disc(0) * 255).save(new / "i03_mask.png")


def volumes(data: Path, new: Path) -> None:
    import nibabel

    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 2), np.float32), np.eye(4)), data / "images/v.nii")
    change_row(data, 7, image="images/v.nii", mask="")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (other_mask, "found another mask there already"),
        (forgotten_file, "found another mask there already"),
        (no_image, "found no image 'nobody'"),
        (broken, "found no readable image"),
        (other_size, "found a mask of 16x12 px for an image of 32x24 px"),
        (other_values, "found mask values 3"),
        (other_label, "found the label 'lesion', expected square"),
        (two_kinds, "found several kinds of labels"),
        (damaged_json, "found no readable JSON"),
        (nothing, "found no mask in"),
        (twice, "found a second mask for i03"),
        (volumes, "found volumes in"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(spoil, words, data, tmp_path, capsys):
    new = corrected(tmp_path / "new", "png")
    spoil(data, new)
    before = state(data)
    assert main(["import-labels", str(data), str(new)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and words in line and state(data) == before


@pytest.mark.parametrize("count", [1, 2])
def test_the_first_masks_of_a_pair_of_folders_are_taken(tmp_path, count):
    root = make_folder(tmp_path / "d")
    (root / "index.csv").unlink()
    for path in sorted((root / "masks").iterdir())[count:]:
        path.unlink()
    taken = take_labels(root, root / "masks", "train")
    assert sum(record.mask is not None for record in taken.records) == count
    assert [row[4] for row in read_index(root)] == ["train"] * 12


def test_a_mask_that_the_table_names_and_nobody_has_is_taken(data, tmp_path, capsys):
    change_row(data, 3, mask="masks/i03.png")
    new = tmp_path / "back"
    new.mkdir()
    Image.fromarray(255 * disc(1)).save(new / "i03.png")
    assert main(["import-labels", str(data), str(new)]) == 0, capsys.readouterr().err
    opened = SegmentationFolder(data)
    assert (opened.mask(next(r for r in opened.records if r.id == "i03")) == disc(1)).all()


def test_a_group_stays_in_one_split(data, tmp_path, capsys):
    for row in (2, 3):
        change_row(data, row, group="one patient")
    assert main(["import-labels", str(data), str(corrected(tmp_path / "new", "png")), "--split", "test"]) == 2
    assert "'one patient' in test and train" in capsys.readouterr().err


def test_shapes_on_a_turned_photograph_need_a_word(data, tmp_path, capsys):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(3)).save(data / "images/i03.png", exif=exif)
    new = corrected(tmp_path / "new", "labelme")
    assert main(["import-labels", str(data), str(new)]) == 2
    assert '"masks_drawn_on": "shown"' in capsys.readouterr().err
    about = json.loads((data / "dataset.json").read_text())
    (data / "dataset.json").write_text(json.dumps({**about, "masks_drawn_on": "shown"}))
    take_labels(data, new, "train")
    folder = SegmentationFolder(data)
    [record] = [record for record in folder.records if record.id == "i03"]
    assert (folder.mask(record) != disc(0)).mean() < 0.05


def test_an_import_that_was_broken_off_goes_on_to_the_split_asked_for(tmp_path, monkeypatch):
    root, given = tmp_path / "photos", tmp_path / "given"
    for folder in (root, given):
        folder.mkdir()
    for i in range(12):
        Image.fromarray(picture(i)).save(root / f"p{i:02}.png")
    for i in range(10):
        Image.fromarray(disc(i) * 255).save(given / f"p{i:02}.png")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr("knowsam_lite.suggest.take.write_text", die)
        take_labels(root, given, "test")
    assert len(list((root / "masks").iterdir())) == 10
    taken = take_labels(root, given, "test")
    assert len(taken.new) == 10 and {r.split for r in taken.records if r.mask} == {"test"}
    assert take_labels(root, given, "test").new == []


def test_labelme_files_among_the_pictures_are_taken(tmp_path):
    images = tmp_path / "data/images"
    images.mkdir(parents=True)
    for i in range(3):
        Image.fromarray(picture(i)).save(images / f"p{i}.png")
    about = {"classes": list(NAMES), "mask_values": [0, 255]}
    (tmp_path / "data/dataset.json").write_text(json.dumps(about))
    (images / "p1.json").write_text(labelme(disc(1), NAMES, "p1.png"))
    taken = take_labels(tmp_path / "data", images, "train")
    assert taken.new == ["p1"] and sorted(record.id for record in taken.records) == ["p0", "p1", "p2"]


def test_masks_among_the_pictures_are_no_pictures(tmp_path):
    photos = tmp_path / "photos"
    (photos / "first_masks").mkdir(parents=True)
    for i in range(6):
        Image.fromarray(picture(i)).save(photos / f"p{i}.png")
    Image.fromarray(disc(0) * 255).save(photos / "first_masks/p0.png")
    taken = take_labels(photos, photos / "first_masks", "train")
    assert sorted(record.id for record in taken.records) == [f"p{i}" for i in range(6)]
    flat = tmp_path / "flat"
    flat.mkdir()
    for name in ("a", "new"):
        Image.fromarray(picture(9)).save(flat / f"{name}.png")
        Image.fromarray(disc(9) * 255).save(flat / f"{name}_mask.png")
    (flat / "index.csv").write_text("id,image,mask,group,split\na,a.png,a_mask.png,a,train\n")
    assert [record.id for record in open_partly_labeled(flat).records] == ["a", "new"]
