"""What the annotator saves is what the data set's own reader sees, in every coding, or it is refused."""

import csv
import io
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import COLUMNS, change_row, make_folder, picture, read_index, square, write_index
from PIL import Image

from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.table import set_cell
from knowsam_lite.errors import UserError
from knowsam_lite.web.masks import UNKNOWN, Changed, MaskFolder

TURN = 0x0112


def declare(root, **description) -> None:
    (root / "dataset.json").write_text(json.dumps({"classes": ["background", "a", "b"], **description}))


def photograph(path, seed: int, turn: int = 1, size=(24, 32)) -> None:
    image = Image.fromarray(picture(seed, size))
    exif = Image.Exif()
    exif[TURN] = turn
    image.save(path, exif=exif)


def drawn(size, classes: int, unknown: bool = False) -> np.ndarray:
    labels = np.random.default_rng(1).integers(0, classes, size, np.uint8)
    if unknown:
        labels[:3] = UNKNOWN
    return labels


@pytest.mark.parametrize(
    "coding",
    [
        {"mask_values": [0, 100, 200]},
        {"mask_values": [2, 1, 0], "ignore": 255},
        {"mask_values": [0, 300, 65535], "ignore": 7},
        {"mask_values": [[0, 0, 0], [255, 0, 0], [1, 128, 255]]},
        {"mask_values": [[9, 0, 0], [255, 0, 0], [0, 128, 255]], "ignore": [255, 255, 255]},
    ],
    ids=["gray", "ignore", "16 bits", "painted", "painted, ignore"],
)
def test_the_reader_sees_what_was_drawn(tmp_path, coding):
    (tmp_path / "images").mkdir()
    photograph(tmp_path / "images/x.png", 0)
    declare(tmp_path, **coding)
    folder = MaskFolder(tmp_path)
    assert not folder.has_mask("x") and not folder.labels("x").any()
    labels = drawn((24, 32), 3, "ignore" in coding)
    version = folder.save("x", labels, "new")
    assert version == folder.version("x") and (folder.labels("x") == labels).all()
    opened = SegmentationFolder(make_pair(tmp_path))
    seen = opened.mask(next(record for record in opened.records if record.id == "x"))
    assert (np.where(seen == -1, UNKNOWN, seen) == labels).all()
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["x.png", "y.png", "z.png"]


def make_pair(root):
    """Two more pairs, as a folder that is divided into splits needs."""
    for seed, name in ((1, "y"), (2, "z")):
        photograph(root / f"images/{name}.png", seed)
        (root / f"masks/{name}.png").write_bytes((root / "masks/x.png").read_bytes())
    return root


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("drawn_on", ["stored", "shown"])
def test_a_turned_photograph_gets_its_mask_where_it_is_drawn(tmp_path, turn, drawn_on):
    (tmp_path / "images").mkdir()
    photograph(tmp_path / "images/x.jpg", 0, turn)
    declare(tmp_path, mask_values=[0, 1, 2], masks_drawn_on=drawn_on)
    folder = MaskFolder(tmp_path)
    labels = drawn((32, 24) if turn >= 5 else (24, 32), 3)
    folder.save("x", labels, "new")
    assert (folder.labels("x") == labels).all()
    size = Image.open(tmp_path / "masks/x.png").size
    assert size == ((32, 24) if drawn_on == "stored" or turn < 5 else (24, 32))


def test_where_nobody_knows_what_masks_are_drawn_on_nothing_is_written(tmp_path):
    (tmp_path / "images").mkdir()
    photograph(tmp_path / "images/x.jpg", 0, 3)
    with pytest.raises(UserError, match="masks_drawn_on"):
        MaskFolder(tmp_path).save("x", drawn((24, 32), 2), "new")
    assert list((tmp_path / "masks").iterdir()) == []


def test_pictures_alone_get_masks_beside_them(tmp_path):
    (tmp_path / "photos/sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        photograph(tmp_path / "photos" / name, 0)
    folder = MaskFolder(tmp_path / "photos")
    assert list(folder.records) == ["a", "sub/b"]
    folder.save("sub/b", drawn((24, 32), 2), "new")
    assert np.unique(np.asarray(Image.open(tmp_path / "masks/sub/b.png"))).tolist() == [0, 255]
    again = MaskFolder(tmp_path / "photos")
    assert [again.has_mask(name) for name in again.records] == [False, True]


def test_a_data_set_keeps_its_masks_and_rows_but_for_what_was_drawn(tmp_path):
    root = make_folder(tmp_path / "data")
    rows = read_index(root)
    rows[0][2] = ""
    write_index(root, rows)
    (root / "masks/i00.png").unlink()
    folder = MaskFolder(root)
    labels = drawn((24, 32), 2)
    folder.save("i00", labels, "new")
    folder.save("i01", labels, folder.version("i01"))
    opened = SegmentationFolder(root)
    for record in opened.records:
        expected = labels if record.id in ("i00", "i01") else square(1)
        assert (opened.mask(record) == expected).all()
    rows[0][2] = "masks/i00.png"
    assert read_index(root) == rows


def test_a_mask_that_changed_meanwhile_is_not_overwritten_without_saying_so(tmp_path):
    root = make_folder(tmp_path / "data")
    folder = MaskFolder(root)
    version, labels = folder.version("i00"), drawn((24, 32), 2)
    Image.fromarray(square(255)[::-1]).save(root / "masks/i00.png")
    before = (root / "masks/i00.png").read_bytes()
    with pytest.raises(Changed, match="changed on disk"):
        folder.save("i00", labels, version)
    assert (root / "masks/i00.png").read_bytes() == before
    folder.save("i00", labels, None)
    assert (folder.labels("i00") == labels).all()


def test_a_new_mask_does_not_take_the_place_of_another_picture_s(tmp_path):
    root = make_folder(tmp_path / "data")
    change_row(root, 0, mask="masks/i01.png")
    change_row(root, 1, mask="")
    (root / "masks/i00.png").unlink()
    folder = MaskFolder(root)
    assert not folder.labels("i01").any() and not folder.has_mask("i01")
    labels = drawn((24, 32), 2)
    folder.save("i01", labels, "new")
    again = MaskFolder(root)
    assert (again.labels("i00") == square(1)).all() and (again.labels("i01") == labels).all()
    assert [row[2] for row in read_index(root)[:2]] == ["masks/i01.png", "masks/i01_.png"]


def test_folders_beside_it_that_cannot_be_opened_are_passed_over(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    photograph(tmp_path / "photos/a.png", 0)
    MaskFolder(tmp_path / "photos").save("a", drawn((24, 32), 2), "new")
    (tmp_path / "private").mkdir()
    (tmp_path / "lost+found").mkdir()
    photograph(tmp_path / "lost+found/a.png", 1)
    listed = Path.iterdir

    def iterdir(folder):
        if folder.name == "private":
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert MaskFolder(tmp_path / "photos").has_mask("a")


def test_a_new_mask_does_not_take_the_place_of_a_file_that_no_row_names(tmp_path):
    root = make_folder(tmp_path / "data")
    rows = read_index(root)
    rows[0][2] = ""
    write_index(root, rows)
    folder = MaskFolder(root)
    assert (folder.labels("i00") == square(1)).all()  # it is shown, and its version known
    with pytest.raises(Changed):
        folder.save("i00", drawn((24, 32), 2), "new")


def test_what_does_not_fit_is_refused_and_nothing_changes(tmp_path):
    root = make_folder(tmp_path / "data")
    rows = read_index(root)
    Image.fromarray(square()).save(root / "masks/i02.jpg", quality=100)
    rows[2][2] = "masks/i02.jpg"
    write_index(root, rows)
    folder, before = MaskFolder(root), {p: p.read_bytes() for p in (root / "masks").iterdir()}
    for name, labels, words in (
        ("i00", drawn((24, 31), 2), "found a mask of"),
        ("i00", drawn((24, 32), 2) + 1, "found class 2"),
        ("i00", drawn((24, 32), 2, unknown=True), "found class 255"),
        ("i02", drawn((24, 32), 2), "no PNG"),
        ("../i00", drawn((24, 32), 2), "found no picture"),
    ):
        with pytest.raises(UserError, match=words):
            folder.save(name, labels, None)
    assert {p: p.read_bytes() for p in (root / "masks").iterdir()} == before


def test_folders_that_cannot_be_annotated_are_one_line(tmp_path):
    (tmp_path / "empty").mkdir()
    root = make_folder(tmp_path / "data")
    for place, order, words in (
        (tmp_path / "no", (), "found no folder"),
        (tmp_path / "empty", (), "found no picture"),
        (root, ("background", "other"), "found the classes"),
    ):
        with pytest.raises(UserError, match=words):
            MaskFolder(place, order)
    (root / "dataset.json").write_text(
        json.dumps({"classes": ["a", "b"], "mask_values": [0, 1], "ignore": -1})
    )
    with pytest.raises(UserError, match="ignore -1"):
        MaskFolder(root)


def test_the_classes_come_in_the_order_of_the_run(tmp_path):
    root = make_folder(tmp_path / "data")
    folder = MaskFolder(root, ("square", "background"))
    assert (folder.labels("i00") == 1 - square(1)).all()
    folder.save("i00", square(1), None)
    assert (SegmentationFolder(root).stored_mask(folder.record("i00")).classes == 1 - square(1)).all()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(("delimiter", "end", "first"), [(",", "\n", ""), (";", "\r\n", "sep=;\r\n")])
def test_one_cell_changes_and_all_else_stays(tmp_path, encoding, delimiter, end, first):
    rows = [
        [*COLUMNS, "remark"],
        ["a", "images/a.png", "", "g, 1", "train", 'says "hm"'],
        ["ü", "i/ü.png", "m/ü.png", "g;2", "val", ""],
    ]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    path = tmp_path / "index.csv"
    path.write_bytes((first + text.getvalue()).encode(encoding))
    before = path.read_bytes().decode(encoding)
    set_cell(path, tuple(COLUMNS), "a", "mask", "masks/a.png")
    assert path.read_bytes().decode(encoding) == before.replace(
        f"images/a.png{delimiter}{delimiter}", f"images/a.png{delimiter}masks/a.png{delimiter}"
    )


def test_masks_of_another_folder_of_pictures_are_not_taken_for_these(tmp_path):
    for day in ("day1", "day2"):
        (tmp_path / day).mkdir()
        photograph(tmp_path / day / "IMG_1.png", 0)
    folder = MaskFolder(tmp_path / "day1")
    folder.save("IMG_1", drawn((24, 32), 2), "new")
    with pytest.raises(UserError, match="FOLDER/images and FOLDER/masks"):
        MaskFolder(tmp_path / "day2")
    (tmp_path / "day2/IMG_1.png").rename(tmp_path / "day2/IMG_2.png")
    assert not MaskFolder(tmp_path / "day2").has_mask("IMG_2")


def test_a_mask_that_no_row_names_is_shown_as_to_be_saved(tmp_path):
    root = make_folder(tmp_path / "d")
    labels = MaskFolder(root).labels("i00")
    change_row(root, 0, mask="")  # as after a kill between the mask and its row
    folder = MaskFolder(root)
    assert not folder.has_mask("i00") and (folder.labels("i00") == labels).all()
    folder.save("i00", labels, folder.version("i00"))
    assert MaskFolder(root).has_mask("i00")


def told(story: str) -> list[str]:
    """What happens on the annotator's page, with a slow server."""
    here = Path(__file__).parent
    pages = here.parent / "knowsam_lite/web/pages"
    done = subprocess.run(
        ["node", here / "helpers/annotate_races.js", pages, story], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_click_is_kept_whatever_is_done_while_sam_answers():
    said = [line for line in told("answers") if not line.startswith("saved")]
    assert said == [
        "10 of a, 0 prompts",
        "20 of a, 0 prompts",
        "stroke undefined",
        "left b 10",
        "30 of a, 0 prompts",  # two fingers, the first beside the picture, undo nothing
    ]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_what_is_drawn_while_a_save_is_on_its_way_is_saved_and_stays_with_its_picture():
    said = told("saves")
    assert "conflict" not in said and not any(line.startswith("saved b") for line in said)
    assert said[:4] == ["saved a 10", "dirty true", "saved a 20", "left a 20"]
    assert "at b, b new" in said and said[-1] == "a 50, dirty false, stroke null"
