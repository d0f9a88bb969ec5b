"""Folders with one fault each: check-data names the file, says what it found and how to mend it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, picture, read_index, square, write_index
from helpers.volume_folders import make_h5, make_nifti, save_h5, save_nifti, volume
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import Synthetic
from knowsam_lite.data.check import check_dataset


def save(array: np.ndarray, path: Path, **options) -> None:
    Image.fromarray(array).save(path, **options)


def describe(root: Path, classes: list[str], values: list) -> None:
    (root / "dataset.json").write_text(json.dumps({"classes": classes, "mask_values": values}))


def no_mask(root):
    (root / "masks/i00.png").unlink()


def no_image(root):
    (root / "images/i00.png").unlink()


def name_in_other_case(root):
    (root / "images/i00.png").rename(root / "images/i00.PNG")


def mask_without_row(root):
    save(square(), root / "masks/Änderung 1.PNG")


def image_without_mask(root):
    (root / "index.csv").unlink()
    (root / "masks/i00.png").unlink()


def mask_without_image(root):
    (root / "index.csv").unlink()
    (root / "images/i00.png").unlink()


def two_files_of_one_name(root):
    (root / "index.csv").unlink()
    save(picture(5), root / "images/i00.JPG")


def other_size(root):
    save(square(255, (24, 30)), root / "masks/i00.png")


def mask_of_one_pixel(root):
    save(np.full((1, 1), 255, np.uint8), root / "masks/i00.png")


def object_of_one_pixel(root):
    mask = np.zeros((24, 32), np.uint8)
    mask[3, 4] = 255
    save(mask, root / "masks/i00.png")


def undeclared_value(root):
    save(square(7), root / "masks/i00.png")


def class_255(root):
    describe(root, ["none", "a", "b"], [0, 1, 2])
    mask = square(1)
    mask[0, 0] = 2
    for path in (root / "masks").iterdir():
        save(mask, path)
    mask[23] = 255
    save(mask, root / "masks/i00.png")


def no_picture(root):
    (root / "images/i00.png").write_text("not a picture")


def cut_short(root):
    whole = (root / "images/i00.png").read_bytes()
    (root / "images/i00.png").write_bytes(whole[: len(whole) // 2])


def empty_image_file(root):
    (root / "images/i00.png").write_bytes(b"")


def empty_mask_file(root):
    (root / "masks/i00.png").write_bytes(b"")


def unreadable_file(root):
    (root / "images/i00.png").unlink()
    (root / "images/i00.png").symlink_to("i00.png")  # a loop: the system refuses to open it


def huge_image(root):
    Image.new("1", (20_000, 20_000)).save(root / "images/i00.png")


def several_pages(root):
    pages = [Image.fromarray(picture(i)) for i in range(3)]
    pages[0].save(root / "images/i00.tif", save_all=True, append_images=pages[1:])
    change_row(root, 0, image="images/i00.tif")
    (root / "images/i00.png").unlink()


def painted_mask(root):
    mask = np.zeros((24, 32, 3), np.uint8)
    mask[6:14, 8:16] = 255, 0, 0
    save(mask, root / "masks/i00.png")


def undeclared_color(root):
    describe(root, ["none", "square"], [[0, 0, 0], [255, 255, 255]])
    painted_mask(root)


def fractional_mask(root):
    save(square().astype(np.float32) / 510, root / "masks/i00.tif")
    change_row(root, 0, mask="masks/i00.tif")
    (root / "masks/i00.png").unlink()


def jpeg_mask(root):
    save(square(), root / "masks/i00.jpg", quality=60)
    change_row(root, 0, mask="masks/i00.jpg")
    (root / "masks/i00.png").unlink()


def jpeg_mask_of_three_classes(root):
    jpeg_mask(root)
    describe(root, ["none", "square", "other"], [0, 255, 128])


def swapped_folders(root):
    (root / "index.csv").unlink()
    for a, b in (("images", "other"), ("masks", "images"), ("other", "masks")):
        (root / a).rename(root / b)


def class_that_nobody_drew(root):
    describe(root, ["none", "square", "other"], [0, 255, 128])


def group_in_two_splits(root):
    change_row(root, 0, group="g11")


def id_twice(root):
    change_row(root, 0, id="i01")


def path_outside(root):
    change_row(root, 0, image="../i00.png")


def unknown_split(root):
    change_row(root, 0, split="training")


def test_image_without_mask(root):
    change_row(root, 11, mask="")


def column_missing(root):
    write_index(root, [row[:4] for row in read_index(root)], ["id", "image", "mask", "group"])


def index_in_another_code(root):
    (root / "index.csv").write_bytes(b"\xff\xfe\x00")


def index_without_rows(root):
    write_index(root, [])


def description_cut_short(root):
    (root / "dataset.json").write_text('{"classes": [')


def one_value_too_few(root):
    describe(root, ["none", "a", "b"], [0, 255])


def same_picture_in_two_splits(root):
    shutil.copy(root / "images/i00.png", root / "images/i11.png")


def look_alike_in_two_splits(root):
    scene = Synthetic("dermoscopy", n=1)
    for name, options in (("i00.png", {}), ("i11.jpg", {"quality": 60})):
        save(scene.image(scene.records[0]), root / "images" / name, **options)
        save(square(size=(64, 64)), root / "masks" / f"{name[:3]}.png")
    (root / "images/i11.png").unlink()
    change_row(root, 11, image="images/i11.jpg")


def picture_for_a_volume(root):
    change_row(root, 0, mask="masks/v0.png")


def cut_volume(root):
    whole = (root / "images/v0.nii.gz").read_bytes()
    (root / "images/v0.nii.gz").write_bytes(whole[: len(whole) // 2])


def volume_of_other_length(root):
    save_nifti(root / "masks/v0.nii.gz", volume(0)[1][:3])


def nan_in_h5(root):
    image, label = volume(90)
    image[1, 2, 3] = np.nan
    save_h5(root / "data/patient090_frame01.h5", image, label)


def undeclared_label_in_h5(root):
    image, label = volume(90)
    label[0, 0, 0] = 9
    save_h5(root / "data/patient090_frame01.h5", image, label)


def no_label_in_h5(root):
    save_h5(root / "data/slices/patient000_frame01_slice_1.h5", volume(0)[0][0], None)


def listed_but_missing(root):
    (root / "data/slices/patient000_frame01_slice_1.h5").unlink()


# Fault: severity, the file named, words of the message, words of the fix.
PICTURES = {
    no_mask: ("error", "masks/i00.png", "no such file", "correct its path"),
    no_image: ("error", "images/i00.png", "no such file", "correct its path"),
    name_in_other_case: ("error", "images/i00.png", "no such file", "i00.PNG"),
    mask_without_row: ("warning", "masks/Änderung 1.PNG", "no valid row", "add a row"),
    image_without_mask: ("error", "images/i00.png", "no mask for it", "add the mask"),
    mask_without_image: ("error", "masks/i00.png", "no image for it", "add the image"),
    two_files_of_one_name: ("error", "images/i00.png", "with the same name", "rename one"),
    other_size: ("error", "masks/i00.png", "30x24 px for an image of 32x24 px", "resize"),
    mask_of_one_pixel: ("error", "masks/i00.png", "1x1 px for an image of 32x24 px", "replace"),
    object_of_one_pixel: ("warning", "masks/i00.png", "1 foreground pixels", "look at the mask"),
    undeclared_value: ("error", "masks/i00.png", "mask values 7, expected only 0, 255", "dataset.json"),
    class_255: ("error", "masks/i00.png", "mask values 255, expected only 0, 1, 2", "dataset.json"),
    no_picture: ("error", "images/i00.png", "no readable image", "replace"),
    cut_short: ("error", "images/i00.png", "no readable image", "replace"),
    empty_image_file: ("error", "images/i00.png", "0 bytes", "copy it again"),
    empty_mask_file: ("error", "masks/i00.png", "0 bytes", "copy it again"),
    unreadable_file: ("error", "images/i00.png", "symbolic links", "replace"),
    huge_image: ("error", "images/i00.png", "400 million pixels, expected at most", "--tile"),
    several_pages: ("error", "images/i00.tif", "3 pictures in one file", "its own file"),
    painted_mask: ("error", "masks/i00.png", "colour picture as mask", "[red, green, blue]"),
    undeclared_color: (
        "error",
        "masks/i00.png",
        "values [255, 0, 0], expected only [0, 0, 0]",
        "mask_values",
    ),
    fractional_mask: ("error", "masks/i00.tif", "fractional values", "8-bit PNG"),
    jpeg_mask: ("warning", "masks/i00.jpg", "1 JPEG masks (this is the first) in which", "--fix"),
    jpeg_mask_of_three_classes: ("error", "masks/i00.jpg", "mask values 1", "as PNG"),
    swapped_folders: ("error", "masks/i00.png", "a mask as image", "swap them"),
    class_that_nobody_drew: ("warning", "d", "no pixel of class 'other'", "classes or mask_values"),
    group_in_two_splits: ("error", "index.csv", "group 'g11' in test and train", "same split"),
    id_twice: ("error", "index.csv", "id 'i01' 2 times", "rename"),
    path_outside: ("error", "index.csv line 2", "inside the data set's folder", "relative"),
    unknown_split: ("error", "index.csv line 2", "'training'", "correct the split"),
    test_image_without_mask: ("error", "index.csv line 13", "no mask for 'i11' in test", "add the mask"),
    column_missing: ("error", "index.csv", "expected id,image,mask,group,split", "add split"),
    index_in_another_code: ("error", "index.csv", "no readable table", "UTF-8"),
    index_without_rows: ("error", "index.csv", "no image", "add a row"),
    description_cut_short: ("error", "dataset.json", "no valid JSON", "write"),
    one_value_too_few: ("error", "dataset.json", "expected 3 different values", "write"),
    same_picture_in_two_splits: ("warning", "images/i00.png", "the same picture as i00 and i11", "--fix"),
    look_alike_in_two_splits: ("warning", "images/i00.png", "near-duplicates i00 (train) and i11", "--fix"),
}
NIFTI = {
    picture_for_a_volume: ("error", "index.csv line 2", "expected two pictures or two volumes", "same kind"),
    cut_volume: ("error", "images/v0.nii.gz", "no readable volume", "replace"),
    volume_of_other_length: ("error", "masks/v0.nii.gz", "3 slices of 32x24 px for", "replace"),
}
H5 = {
    nan_in_h5: ("error", "data/patient090_frame01.h5", "1 values that are no finite number", "replace"),
    undeclared_label_in_h5: ("error", "dataset.json", "labels [0, 1, 2, 9]", "write dataset.json"),
    no_label_in_h5: ("error", "data/slices/patient000_frame01_slice_1.h5", "no label", "as `label`"),
    listed_but_missing: (
        "error",
        "data/slices/patient000_frame01_slice_1.h5",
        "no such file",
        "take its name from train_slices.list",
    ),
}
ALL = [(make_folder, f, e) for f, e in PICTURES.items()]
ALL += [(make_nifti, f, e) for f, e in NIFTI.items()] + [(make_h5, f, e) for f, e in H5.items()]
test_image_without_mask.__test__ = False  # a fault, named for what is without a mask


@pytest.mark.parametrize(("make", "fault", "expected"), ALL, ids=[fault.__name__ for _, fault, _ in ALL])
def test_each_fault_is_named_with_file_and_fix(tmp_path, capsys, make, fault, expected):
    severity, file, found, fix = expected
    root = make(tmp_path / "d")
    assert not [finding for finding in check_dataset(root) if finding.severity != "info"]
    fault(root)
    findings = [finding for finding in check_dataset(root) if finding.severity != "info"]
    about = [finding for finding in findings if finding.file == file]
    assert len(about) == 1, findings
    assert about[0].severity == severity and found in about[0].message and fix in about[0].fix
    assert "found" in about[0].message and "expected" in about[0].message and "\n" not in str(about[0])
    assert main(["check-data", str(root)]) == (2 if severity == "error" else 0)
    assert str(about[0]) in capsys.readouterr().out


def test_there_are_enough_of_them():
    assert len(ALL) >= 25 and len({fault.__name__ for _, fault, _ in ALL}) == len(ALL)
