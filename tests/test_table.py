"""index.csv as spreadsheets and other systems leave it, and the lists of the h5 layout."""

import numpy as np
import pytest
from helpers.data_folders import COLUMNS, change_row, make_folder, read_index, write_index
from helpers.volume_folders import make_h5, save_h5, volume

from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset, check_for_training
from knowsam_lite.errors import UserError


def rewrite(
    root, cell=lambda text: text, separator=",", code="utf-8", end="\r\n", before="", columns=COLUMNS
):
    """index.csv again, with each cell changed, in another form."""
    lines = [list(columns), *[[cell(text) for text in row] for row in read_index(root)]]
    text = before + end.join(separator.join(line) for line in lines) + end
    (root / "index.csv").write_bytes(text.encode(code))


FORMS = {
    "backslashes": {"cell": lambda text: text.replace("/", "\\")},
    "dots": {"cell": lambda text: text.replace("images/", "./images/")},
    "semicolons": {"separator": ";"},
    "tabs in UTF-16": {"separator": "\t", "code": "utf-16"},
    "bars": {"separator": "|"},
    "Excel's first line": {"separator": ";", "before": "sep=;\r\n", "code": "utf-8-sig"},
    "capitals": {"cell": str.capitalize, "columns": [name.upper() for name in COLUMNS]},
    "blanks": {"cell": lambda text: f" {text}\u00a0"},
    "old Macintosh": {"end": "\r"},
    "empty lines": {"end": "\n\n\n"},
    "quotes": {"cell": lambda text: f'"{text}"', "columns": [f'"{name}"' for name in COLUMNS]},
}


@pytest.mark.parametrize("form", FORMS)
def test_tables_of_every_form_are_the_same_data(tmp_path, form):
    root = make_folder(tmp_path / "d")
    if form == "capitals":  # the files' names are not changed by a spreadsheet
        for column in ("image", "mask"):
            for i, row in enumerate(read_index(root)):
                change_row(root, i, **{column: row[COLUMNS.index(column)]})
    before = SegmentationFolder(root).records
    options = dict(FORMS[form])
    if form == "capitals":
        options["cell"] = lambda text: text.capitalize() if text in ("train", "val", "test") else text
    rewrite(root, **options)
    assert SegmentationFolder(root).records == before


def test_absolute_paths_inside_are_relative_ones(tmp_path):
    root = make_folder(tmp_path / "d")
    before = SegmentationFolder(root).records
    rewrite(root, lambda text: str(root / text) if "/" in text else text)
    assert SegmentationFolder(root).records == before
    change_row(root, 0, image=str(tmp_path / "i00.png"))
    change_row(root, 1, image="C:\\data\\i01.png")
    errors = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert [error.file for error in errors] == ["index.csv line 2", "index.csv line 3"]
    assert all("inside the data set's folder" in error.message for error in errors)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "None", "<NA>", "null"])
def test_words_for_an_empty_cell(tmp_path, word):
    root = make_folder(tmp_path / "d")
    change_row(root, 0, mask=word, group=word)
    change_row(root, 1, group=word)
    records = SegmentationFolder(root).records
    assert records[0].mask is None and [record.group for record in records[:2]] == ["i00", "i01"]


def test_lost_zeros_are_named_as_on_disk_and_the_hint_mends_them(tmp_path):
    root = make_folder(tmp_path / "d")
    for i, row in enumerate(read_index(root)):
        change_row(root, i, id=str(i), image=row[1].replace("i0", "i"))
    errors = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert len(errors) == 10
    for i, error in enumerate(errors):
        name = error.fix.removeprefix("write the name as on disk, ")
        change_row(root, i, image=f"images/{name}")
    assert not [finding for finding in check_dataset(root) if finding.severity != "info"]


def test_cells_and_columns_too_many_are_named(tmp_path):
    root = make_folder(tmp_path / "d")
    text = (root / "index.csv").read_text().replace("images/i00.png", "images/i00, left.png")
    (root / "index.csv").write_text(text)
    with pytest.raises(UserError, match="line 2: found 'train' behind the 5 columns"):
        SegmentationFolder(root)
    write_index(root, [[*row, row[2]] for row in read_index(root)], [*COLUMNS, "Mask"])
    with pytest.raises(UserError, match="found the column mask 2 times"):
        SegmentationFolder(root)
    rewrite(make_folder(tmp_path / "e"), columns=["", *COLUMNS[:4]])
    with pytest.raises(UserError, match="add split to the first line"):
        SegmentationFolder(tmp_path / "e")


def test_labelled_masks_without_an_object_or_a_class(tmp_path, capsys):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    masks = {record.id: data.mask(record) for record in data.records}
    data.mask = lambda record: masks[record.id]
    masks["i00"] = masks["i00"] * 0
    with pytest.raises(UserError, match="nothing but background in the 1 labelled masks"):
        check_for_training(data, {"i00"})
    check_for_training(data, {"i00", "i01"})  # the hint: label more images
    assert not capsys.readouterr().err
    data.coding = type(data.coding)(("none", "square", "tumor"), (0, 255, 7))
    check_for_training(data, {"i00", "i01"})
    assert "none of the 2 labelled masks holds tumor" in capsys.readouterr().err


def test_h5_with_other_keys_axes_and_lists(tmp_path):
    root = make_h5(tmp_path / "d")
    image, label = volume(91)
    path = root / "data/patient091_frame01.h5"
    save_h5(path, np.moveaxis(image, 0, -1), np.moveaxis(label, 0, -1))
    [error] = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert "(24, 32, 4) where training slices have (24, 32)" in error.message
    hint = error.fix.split("(numpy.")[1].removesuffix("))") + ")"
    assert hint == "moveaxis(a, -1, 0)"
    save_h5(path, *(eval(f"np.{hint}", {"np": np, "a": np.moveaxis(a, 0, -1)}) for a in (image, label)))
    assert not [finding for finding in check_dataset(root) if finding.severity == "error"]
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "a") as file:
        file.move("image", "img")
    with pytest.raises(UserError, match=r"found no image inside \(img, label\).*file.move\(OLD, 'image'\)"):
        SegmentationFolder(root)
    with h5py.File(path, "a") as file:  # the hint
        file.move("img", "image")
    for name in ("train_slices", "val", "test"):
        text = (root / f"{name}.list").read_text()
        (root / f"{name}.list").write_bytes(text.replace("\n", ".h5 \r\n").encode("utf-8-sig"))
    assert len(SegmentationFolder(root).records) == 24
    (root / "val.list").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match=r"val.list: found no readable list"):
        SegmentationFolder(root)


def test_an_h5_file_in_use_is_named(tmp_path):
    h5py = pytest.importorskip("h5py")
    root = make_h5(tmp_path / "d")
    import subprocess
    import sys

    path = root / "data/patient091_frame01.h5"
    program = (
        f"import h5py, time; f = h5py.File({str(path)!r}, 'a'); print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match="another program has open for writing"):
            SegmentationFolder(root)
        other.kill()
    assert h5py is not None and SegmentationFolder(root).records  # the hint: close it there
