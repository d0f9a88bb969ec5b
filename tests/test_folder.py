"""Reading data folders: what is right, and that each wrong thing gets one line that helps."""

import json
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, picture, read_index, square, write_index
from PIL import Image

from knowsam_lite.data import SegmentationFolder, open_dataset
from knowsam_lite.data import folder as folder_module
from knowsam_lite.data.check import check_for_training
from knowsam_lite.errors import UserError


def fails(match: str, action, *arguments) -> str:
    """The one line of the UserError that `action` raises."""
    with pytest.raises(UserError, match=match) as caught:
        action(*arguments)
    message = str(caught.value)
    assert "\n" not in message and "found" in message and "expected" in message
    return message


def test_reads_description_records_images_and_masks(tmp_path):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    assert (data.name, data.classes, data.num_classes, data.spacing_mm) == (
        "squares",
        ("background", "square"),
        2,
        None,
    )
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [8, 2, 2]
    record = data.split("train")[3]
    assert np.array_equal(data.image(record), picture(3))
    assert np.array_equal(data.mask(record), square(1)) and data.mask(record).dtype == np.uint8
    assert data.image_size(record) == (24, 32)


def test_maps_mask_values_to_class_indices(tmp_path):
    root = make_folder(tmp_path / "d")
    description = {"classes": ["background", "a", "b"], "mask_values": [10, 200, 3], "spacing_mm": [1.5, 0.5]}
    (root / "dataset.json").write_text(json.dumps(description))
    values = np.array([[10, 200], [3, 10]], np.uint8).repeat(12, 0).repeat(16, 1)
    Image.fromarray(values).save(root / "masks/i00.png")
    data = SegmentationFolder(root)
    assert data.mask(data.records[0])[::12, ::16].tolist() == [[0, 1], [2, 0]]
    assert data.spacing_mm == (1.5, 0.5) and data.name == "d"


def test_an_empty_mask_cell_means_unlabelled_in_train_and_an_error_elsewhere(tmp_path):
    root = make_folder(tmp_path / "d")
    change_row(root, 0, mask="")
    data = SegmentationFolder(root)
    assert data.records[0].mask is None
    fails("i00: found no mask", data.mask, data.records[0])
    change_row(root, 0, mask="", split="test")
    fails("only train may lack masks", SegmentationFolder, root)


def test_slices_of_one_volume_belong_together(tmp_path):
    root = make_folder(tmp_path / "d")
    rows = (root / "index.csv").read_text().splitlines()
    wide = [f"{rows[0]},volume", *(f"{row},scan {i // 4}" for i, row in enumerate(rows[1:]))]
    (root / "index.csv").write_text("\n".join(wide))
    fails("found volume 'scan 2' in test and val, expected a volume in one split", SegmentationFolder, root)
    cells = [row.split(",") for row in wide[1:]]
    whole = [",".join([*cell[:3], "", "train", cell[5]]) for cell in cells]
    (root / "index.csv").write_text("\n".join([wide[0], *whole]))
    groups = {record.group for record in SegmentationFolder(root).records}
    assert groups == {"scan 0", "scan 1", "scan 2"}


def save_exif(path: Path) -> np.ndarray:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 270 degrees to view
    stored = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40, 8, 0), 8, 1)
    Image.fromarray(np.repeat(stored[..., None], 3, 2)).save(path, exif=exif)
    return np.rot90(stored, -1)


def test_images_of_every_mode_become_rgb_bytes(tmp_path):
    root = make_folder(tmp_path / "d")
    data = SegmentationFolder(root)
    record, path = data.records[0], root / "images/i00.png"
    grey = square(90)
    for mode in ("L", "LA", "RGBA", "P", "1"):
        Image.fromarray(grey).convert(mode).save(path)
        image = data.image(record)
        assert image.shape == (24, 32, 3) and image.dtype == np.uint8, mode
        assert (image == image[..., :1]).all(), mode
    Image.fromarray(square().astype(np.uint16) * 4).save(path)  # 10 bits in 16
    assert np.array_equal(data.image(record)[..., 0], square())
    turned = save_exif(path)
    assert np.array_equal(data.image(record)[..., 0], turned) and data.image_size(record) == turned.shape


def test_masks_of_every_mode_keep_their_values(tmp_path):
    root = make_folder(tmp_path / "d")
    data = SegmentationFolder(root)
    path = root / "masks/i00.png"
    for mode in ("L", "1", "RGB", "RGBA", "LA"):
        Image.fromarray(square()).convert(mode).save(path)
        assert np.array_equal(data.mask(data.records[0]), square(1)), mode
    Image.fromarray(picture(1)).save(path)
    fails("colour picture", data.mask, data.records[0])


def test_cmyk_transparency_and_two_kinds_of_16_bits(tmp_path):
    root = make_folder(tmp_path / "d")
    data, path = SegmentationFolder(root), root / "images/i00.tif"
    change_row(root, 0, image="images/i00.tif")
    record = SegmentationFolder(root).records[0]
    Image.fromarray(picture(1)).convert("CMYK").save(path)
    with Image.open(path) as stored:
        assert stored.mode == "CMYK"
    assert np.abs(data.image(record).astype(int) - picture(1)).max() <= 1
    clear = np.dstack([picture(2), np.zeros((24, 32), np.uint8)])  # all transparent, and yet the pixels count
    Image.fromarray(clear).save(path)
    assert np.array_equal(data.image(record), picture(2))
    deep = np.linspace(100, 4195, 24 * 32).reshape(24, 32)
    for stored in (deep.astype(np.uint16), deep.astype(np.float32), deep.astype(np.int32)):
        Image.fromarray(stored).save(path)
        assert np.abs(data.image(record)[..., 0] - (deep - 100) / 4095 * 255).max() < 0.6


def test_a_phone_picture_with_a_preview_is_one_picture(tmp_path):
    root = make_folder(tmp_path / "d")
    change_row(root, 0, image="images/i00.mpo")
    Image.fromarray(picture(1)).save(
        root / "images/i00.mpo", save_all=True, append_images=[Image.fromarray(picture(2))], quality=95
    )
    data = SegmentationFolder(root)
    assert data.image(data.records[0]).shape == (24, 32, 3)


def test_masks_of_16_bits_palettes_and_colors_are_mapped_as_declared(tmp_path):
    root = make_folder(tmp_path / "d")
    path, classes = root / "masks/i00.png", np.zeros((24, 32), np.uint8)
    classes[6:14, 8:16], classes[14:20, 8:16] = 1, 2
    table = np.array([0, 1000, 65535], np.uint16)
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 255]], np.uint8)
    painted = Image.fromarray(colors[classes])
    indexed = Image.fromarray(classes)
    indexed.putpalette(colors.ravel().tolist())
    transparent = painted.convert("RGBA")
    for values, files in (
        (table.tolist(), [Image.fromarray(table[classes])]),
        ([0, 1, 2], [indexed, Image.fromarray(classes)]),
        (colors.tolist(), [painted, indexed, transparent]),
    ):
        (root / "dataset.json").write_text(json.dumps({"classes": ["0", "1", "2"], "mask_values": values}))
        data = SegmentationFolder(root)
        for file in files:
            file.save(path)
            assert np.array_equal(data.mask(data.records[0]), classes), (values, file.mode)


def test_jpeg_masks_are_thresholded_and_the_changed_pixels_counted(tmp_path, capsys):
    root = make_folder(tmp_path / "d")
    change_row(root, 0, mask="masks/i00.jpg")
    Image.fromarray(square()).save(root / "masks/i00.jpg", quality=40)
    with Image.open(root / "masks/i00.jpg") as stored:
        changed = int((~np.isin(np.asarray(stored), (0, 255))).sum())
    data = SegmentationFolder(root)
    assert np.array_equal(data.mask(data.records[0]), square(1))
    assert changed > 0 and data.thresholded == {root / "masks/i00.jpg": changed}
    check_for_training(data, {"i00"})
    assert f"1 JPEG masks hold values between those declared, as JPEG leaves them: {changed} pixels" in (
        capsys.readouterr().err
    )


def test_names_with_capitals_spaces_and_accents(tmp_path):
    root = make_folder(tmp_path / "Müller's scans 1", train=8, val=0, test=0)
    (root / "index.csv").unlink()
    for number, name in enumerate(("A.PNG", "b c.Png", "\u00fcber.png", "e\u0301t\u00e9.png", "50%#1.PNG")):
        (root / f"images/i{number:02d}.png").rename(root / "images" / name)
        # the mask's name has its accents the other way round, as archives from another system have
        there = unicodedata.normalize("NFD", name) if number < 4 else name
        (root / f"masks/i{number:02d}.png").rename(root / "masks" / there)
    data = SegmentationFolder(root)
    assert len(data.records) == 8 and all(data.mask(record).any() for record in data.records)
    assert {"A", "b c", "50%#1"} <= {record.id for record in data.records}


def test_bad_pictures_are_named(tmp_path):
    root = make_folder(tmp_path / "d")
    data = SegmentationFolder(root)
    image, mask = root / "images/i00.png", root / "masks/i00.png"
    Image.fromarray(square(7)).save(mask)
    assert "7" in fails(
        r"masks/i00.png: found mask values 7, expected only 0, 255", data.mask, data.records[0]
    )
    Image.fromarray(square(255, (24, 24))).save(mask)
    fails("a mask of 24x24 px for an image of 32x24 px", data.mask, data.records[0])
    mask.unlink()
    fails("masks/i00.png: found no such file", data.mask, data.records[0])
    mask.mkdir()
    fails("masks/i00.png: found no readable image", data.mask, data.records[0])
    whole = image.read_bytes()
    for bad in (b"no image", whole[: len(whole) // 2]):
        image.write_bytes(bad)
        fails("images/i00.png: found no readable image", data.image, data.records[0])


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    for limit in (500, 100):  # above the limit Pillow warns, above twice the limit it raises
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        fails("expected at most the safe limit", data.image, data.records[0])


def test_without_description_two_classes_are_assumed_and_others_explained(tmp_path):
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").unlink()
    data = SegmentationFolder(root)
    assert data.num_classes == 2 and data.mask(data.records[0]).max() == 1
    Image.fromarray(square(1)).save(root / "masks/i00.png")
    assert "write dataset.json" in fails("found mask values 1", data.mask, data.records[0])


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "no valid JSON"),
        ("[]", "found classes None"),
        ('{"classes": ["one"], "mask_values": [0]}', "two or more different names"),
        ('{"classes": ["a", "a"], "mask_values": [0, 1]}', "two or more different names"),
        ('{"classes": ["a", "b", "c"], "mask_values": [0, 255]}', "expected 3 different values"),
        ('{"classes": ["a", "b"], "mask_values": [0, 0]}', "expected 2 different values"),
        ('{"classes": ["a", "b"], "mask_values": [0, 1], "spacing_mm": [0, 1]}', "spacing_mm"),
    ],
)
def test_bad_descriptions(tmp_path, text, match):
    root = make_folder(tmp_path / "d")
    (root / "dataset.json").write_text(text)
    fails(match, SegmentationFolder, root)


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        ({"split": "training"}, "line 2: found split 'training', expected train, val, test"),
        ({"image": "../images/i00.png"}, "expected one inside the data set's folder"),
        ({"mask": "/etc/passwd"}, "expected one inside the data set's folder"),
        ({"image": ""}, "found id 'i00' and image ''"),
        ({"id": "i01"}, "found id 'i01' 2 times"),
        ({"group": "g08"}, "found group 'g08' in train and val"),
    ],
)
def test_bad_rows(tmp_path, cells, match):
    root = make_folder(tmp_path / "d")
    change_row(root, 0, **cells)
    fails(match, SegmentationFolder, root)


def test_bad_index_files(tmp_path):
    root = make_folder(tmp_path / "d")
    rows = read_index(root)
    write_index(root, [row[:4] for row in rows], ["id", "image", "mask", "group"])
    fails("found columns id,image,mask,group, expected id,image,mask,group,split", SegmentationFolder, root)
    write_index(root, [])
    fails("found no image", SegmentationFolder, root)
    (root / "index.csv").write_bytes(b"\xff\xfe\x00")
    fails("no readable table", SegmentationFolder, root)


def test_the_first_of_several_faults_is_named_and_the_others_counted(tmp_path):
    root = make_folder(tmp_path / "d")
    for number in (0, 1, 2):
        change_row(root, number, split="x")
    assert "2 more faults" in fails("line 2", SegmentationFolder, root)


def test_plain_pair_of_folders(tmp_path):
    root = make_folder(tmp_path / "d", train=10, val=0, test=0)
    (root / "index.csv").unlink()
    (root / "masks/i00.png").rename(root / "masks/i00_segmentation.png")
    data = SegmentationFolder(root, val=0.2, test=0.3, seed=1)
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [5, 2, 3]
    assert data.records == SegmentationFolder(root, val=0.2, test=0.3, seed=1).records
    assert data.split("test") != SegmentationFolder(root, val=0.2, test=0.3, seed=2).split("test")
    assert data.mask(data.records[0]).any()
    fails("val fraction 1.5", SegmentationFolder, root, 1.5)
    fails("at least one left for training", SegmentationFolder, root, 0.5, 0.5)


def test_plain_pairs_name_what_is_missing_or_extra(tmp_path):
    root = make_folder(tmp_path / "d", train=10, val=0, test=0)
    (root / "index.csv").unlink()
    (root / "masks/i03.png").rename(root / "masks/other.png")
    message = fails("images/i03.png: found no mask for it", SegmentationFolder, root)
    assert "1 more fault" in message
    shutil.copy(root / "images/i03.png", root / "images/other.png")
    (root / "images/i03.png").unlink()
    (root / "images/i04.png").unlink()
    fails("masks/i04.png: found no image for it", SegmentationFolder, root)


def test_what_is_no_data_set(tmp_path):
    fails("found no folder there", SegmentationFolder, tmp_path / "nowhere")
    fails("neither index.csv nor", open_dataset, tmp_path)


def test_opening_reads_no_picture(tmp_path, monkeypatch):
    root = make_folder(tmp_path / "d")
    for name in ("read_image", "read_size", "read_stored", "read_frame"):
        monkeypatch.setattr(folder_module, name, lambda path: pytest.fail(f"opened {path}"))
    assert len(SegmentationFolder(root).split("train")) == 8
