"""Data in the forms of other tools, nnU-Net, COCO and LabelMe, drawn and read by their own rules."""

import base64
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import picture
from PIL import Image, ImageDraw

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset

SIZE = (40, 48)


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def own(capsys, out, *words):
    return run(capsys, "data", "own", *words, "--out", out, "--workers", "1")


def masks_of(out: Path) -> dict[str, np.ndarray]:
    data = SegmentationFolder(out)
    assert not [finding for finding in check_dataset(out) if finding.severity == "error"]
    return {record.id: data.mask(record) for record in data.records}


# ---------------------------------------------------------------- nnU-Net


def nnunet(root: Path, first_version: bool = False, channels: int = 1) -> dict[str, np.ndarray]:
    """A folder of six volumes (x, y, z) and two for the test; returns the labels by case."""
    nibabel = pytest.importorskip("nibabel")
    labels = {}
    affine = np.diag([-1.5, -1.5, 4, 1])
    for part, count in (("Tr", 6), ("Ts", 2)):
        (root / f"images{part}").mkdir(parents=True)
        (root / f"labels{part}").mkdir()
        for i in range(count):
            rng = np.random.default_rng([count, i])
            name, label = f"{part}_liver_{i:03d}", rng.integers(0, 3, (20, 24, 3)).astype(np.uint8)
            for channel in range(channels):
                ending = "" if first_version else f"_{channel:04d}"
                values = (100 * label + 10 * channel).astype(np.int16)
                image = nibabel.Nifti1Image(values, affine)
                nibabel.save(image, root / f"images{part}/{name}{ending}.nii.gz")
            nibabel.save(nibabel.Nifti1Image(label, affine), root / f"labels{part}/{name}.nii.gz")
            labels[name] = label
    names = {"background": 0, "liver": 1, "tumour": 2}
    about = {"channel_names": {str(c): f"T{c + 1}" for c in range(channels)}, "labels": names}
    if first_version:
        about = {"modality": {"0": "CT"}, "labels": {str(value): name for name, value in names.items()}}
    (root / "dataset.json").write_text(json.dumps(about))
    return labels


@pytest.mark.parametrize("first_version", [False, True])
def test_nnunet_is_read_as_it_is(tmp_path, capsys, first_version):
    labels = nnunet(tmp_path / "nn", first_version)
    code, _, err = own(capsys, tmp_path / "own", "--nnunet", tmp_path / "nn")
    assert code == 0, err
    data = SegmentationFolder(tmp_path / "own")
    assert data.classes == ("background", "liver", "tumour")
    masks = masks_of(tmp_path / "own")
    for name, label in labels.items():
        planes = [mask for identity, mask in masks.items() if identity.startswith(name)]
        np.testing.assert_array_equal(np.stack(planes), label.T)  # (x, y, z) -> (slices, rows, columns)
    tests = {record.id.partition("_slice")[0] for record in data.split("test")}
    assert tests == {"Ts_liver_000", "Ts_liver_001"}


def test_of_several_channels_the_first_is_used_and_said(tmp_path, capsys):
    nnunet(tmp_path / "nn", channels=2)
    code, out, _ = own(capsys, tmp_path / "own", "--nnunet", tmp_path / "nn")
    assert code == 0 and "note: of the channels T1, T2 the first is used" in out
    data = SegmentationFolder(tmp_path / "own")
    assert {int(data.image(record).min()) for record in data.split("train")} == {0}


def test_the_hint_for_such_a_folder_converts_it(tmp_path, capsys):
    nnunet(tmp_path / "n n")
    code, out, _ = run(capsys, "check-data", tmp_path / "n n")
    assert code == 2 and out.count("error:") == 1
    command = out.split("`knowsam-lite ")[1].split("`")[0]
    import shlex

    assert main([*shlex.split(command), "--workers", "1"]) == 0
    assert masks_of(tmp_path / "n n_converted")


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({"background": 0, "whole": [1, 2], "core": [2]}, "regions"),
        ({"background": 0, "liver": 1, "ignore": 2}, "ignored"),
        ({"background": 0}, "two or more"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path, capsys, labels, says):
    nnunet(tmp_path / "nn")
    (tmp_path / "nn/dataset.json").write_text(json.dumps({"labels": labels}))
    code, _, err = own(capsys, tmp_path / "own", "--nnunet", tmp_path / "nn")
    assert code == 2 and says in err and err.count("\n") == 1 and not (tmp_path / "own").exists()


def test_a_case_without_its_counterpart_is_named(tmp_path, capsys):
    nnunet(tmp_path / "nn")
    (tmp_path / "nn/labelsTr/Tr_liver_002.nii.gz").unlink()
    code, _, err = own(capsys, tmp_path / "own", "--nnunet", tmp_path / "nn")
    assert code == 2 and "label for" in err and "Tr_liver_002_0000" in err


# ---------------------------------------------------------------- COCO


def coco(
    root: Path, annotations: list[dict], categories=((7, "cell"), (3, "gland")), images: int = 6
) -> Path:
    (root / "pictures").mkdir(parents=True)
    for i in range(images):
        Image.fromarray(picture(i, SIZE)).save(root / f"pictures/p{i}.png")
    listed = [
        {"id": 10 + i, "file_name": f"p{i}.png", "height": SIZE[0], "width": SIZE[1]} for i in range(images)
    ]
    about = [{"id": 7, "name": "cell"}, {"id": 3, "name": "gland"}]
    content = {"images": listed, "annotations": annotations, "categories": about}
    (root / "all.json").write_text(json.dumps(content))
    return root


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(image, category, segmentation, number=1):
    return {"id": number, "image_id": 10 + image, "category_id": category, "segmentation": segmentation}


def coco_command(root):
    return "--coco", root / "all.json", "--images", root / "pictures"


def test_coco_polygons_and_run_lengths_become_masks_and_the_later_object_lies_above(tmp_path, capsys):
    pytest.importorskip("pycocotools")
    runs = [3 * SIZE[0] + 5, 10, SIZE[0] * SIZE[1] - 3 * SIZE[0] - 15]  # column by column
    root = coco(
        tmp_path,
        [
            annotation(0, 7, [box(4, 6, 20, 16), box(30, 6, 34, 10)], 1),
            annotation(0, 3, [box(10, 10, 26, 20)], 2),
            annotation(1, 3, {"size": list(SIZE), "counts": runs}, 3),
        ],
    )
    code, out, err = own(capsys, tmp_path / "own", *coco_command(root))
    assert code == 0, err
    assert "4 images without annotation get an empty mask" in out
    data, masks = SegmentationFolder(tmp_path / "own"), masks_of(tmp_path / "own")
    assert data.classes == ("background", "gland", "cell")  # by the categories' ids
    wanted = np.zeros(SIZE, np.uint8)
    wanted[6:16, 4:20] = wanted[6:10, 30:34] = 2
    wanted[10:20, 10:26] = 1
    np.testing.assert_array_equal(masks["p0"], wanted)
    wanted = np.zeros(SIZE, np.uint8)
    wanted[5:15, 3] = 1
    np.testing.assert_array_equal(masks["p1"], wanted)
    assert not any(masks[f"p{i}"].any() for i in range(2, 6))


@pytest.mark.parametrize("turn", [3, 6])
def test_annotations_of_a_photograph_that_exif_turns_need_a_word(tmp_path, capsys, turn):
    pytest.importorskip("pycocotools")
    root = coco(tmp_path, [annotation(0, 7, [box(0, 0, 10, 6)])])
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(picture(0, SIZE)).save(root / "pictures/p0.png", exif=exif)
    code, _, err = own(capsys, tmp_path / "own", *coco_command(root))
    assert code == 2 and "say --drawn-on stored" in err
    code, _, err = own(capsys, tmp_path / "own", *coco_command(root), "--drawn-on", "stored")
    assert code == 0, err
    drawn = np.zeros(SIZE, np.uint8)
    drawn[:6, :10] = 1
    found = masks_of(tmp_path / "own")["p0"]
    np.testing.assert_array_equal(found > 0, (drawn[::-1, ::-1] if turn == 3 else np.rot90(drawn, -1)) > 0)


def test_packed_run_lengths_are_those_of_pycocotools(tmp_path, capsys):
    packer = pytest.importorskip("pycocotools.mask")
    masks = [np.random.default_rng(i).random(SIZE) < (0.02, 0.5, 0.98)[i] for i in range(3)]
    masks.append(np.ones(SIZE, bool))
    packed = [packer.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode() for mask in masks]
    marks = [annotation(i, 7, {"size": list(SIZE), "counts": text}, i + 1) for i, text in enumerate(packed)]
    assert own(capsys, tmp_path / "own", *coco_command(coco(tmp_path, marks)))[0] == 0
    found = masks_of(tmp_path / "own")
    for i, mask in enumerate(masks):
        np.testing.assert_array_equal(found[f"p{i}"] > 0, mask)


@pytest.mark.parametrize(
    ("segmentation", "says"),
    [
        ([[4, 6, 20, 16]], "three points"),
        ([], "a box alone is no mask"),
        ({"size": [9, 9], "counts": [40, 41]}, "do not cover (40, 48) pixels"),
        ({"size": list(SIZE), "counts": [40, 41]}, "do not cover (40, 48) pixels"),
        ({"size": list(SIZE), "counts": "~~~~"}, "cannot be drawn"),
        (None, "cannot be drawn"),
    ],
)
def test_a_segmentation_that_is_none_is_named(tmp_path, capsys, segmentation, says):
    pytest.importorskip("pycocotools")
    root = coco(tmp_path, [annotation(0, 7, segmentation, 41)])
    code, _, err = own(capsys, tmp_path / "own", *coco_command(root))
    assert code == 2 and "annotation 41" in err and says in err and not (tmp_path / "own").exists()


def test_an_image_of_another_size_than_was_annotated_is_refused(tmp_path, capsys):
    pytest.importorskip("pycocotools")
    root = coco(tmp_path, [annotation(0, 7, [box(4, 6, 20, 16)])])
    Image.fromarray(picture(0, SIZE[::-1])).save(root / "pictures/p0.png")
    code, _, err = own(capsys, tmp_path / "own", *coco_command(root))
    assert code == 2 and "p0.png" in err and "(48, 40)" in err and "(40, 48)" in err


def test_names_of_another_machine_are_found_and_what_is_not_listed_is_counted(tmp_path, capsys):
    pytest.importorskip("pycocotools")
    root = coco(tmp_path, [annotation(0, 7, [box(4, 6, 20, 16)])])
    text = (root / "all.json").read_text().replace('"p0.png"', r'"C:\\export\\p0.png"')
    (root / "all.json").write_text(text)
    Image.fromarray(picture(9, SIZE)).save(root / "pictures/later.png")
    code, out, err = own(capsys, tmp_path / "own", *coco_command(root))
    assert code == 0, err
    assert "1 images that all.json does not name are left out" in out
    assert sum(mask.any() for mask in masks_of(tmp_path / "own").values()) == 1


# ---------------------------------------------------------------- LabelMe


def labelme(root: Path, shapes: list[dict], images: int = 6) -> Path:
    root.mkdir()
    for i in range(images):
        Image.fromarray(picture(i, SIZE)).save(root / f"p{i}.png")
        about = {"imagePath": f"p{i}.png", "imageHeight": SIZE[0], "imageWidth": SIZE[1], "imageData": None}
        (root / f"p{i}.json").write_text(json.dumps({**about, "shapes": shapes if i == 0 else shapes[:1]}))
    return root


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def test_labelme_shapes_are_drawn_as_labelme_draws_them(tmp_path, capsys):
    stored = io.BytesIO()
    Image.fromarray(np.eye(5, dtype=np.uint8) * 255).save(stored, "PNG")
    triangle = [(5.4, 3.2), (30.7, 8.1), (12.0, 25.9)]
    code_of_mask = base64.b64encode(stored.getvalue()).decode()
    root = labelme(
        tmp_path / "lm",
        [
            shape("tumour", triangle),
            shape("cyst", [(20, 10), (10, 5)], "rectangle"),
            shape("tumour", [(35, 30), (38, 30)], "circle"),
            shape("cyst", [(2, 30), (7, 35)], "mask", mask=code_of_mask),
            shape("_background_", [(14, 6), (16, 8)], "rectangle"),
        ],
    )
    code, _, err = own(capsys, tmp_path / "own", "--labelme", root)
    assert code == 0, err
    assert SegmentationFolder(tmp_path / "own").classes == ("background", "cyst", "tumour")
    wanted = Image.new("L", SIZE[::-1])
    pen = ImageDraw.Draw(wanted)
    pen.polygon(triangle, outline=2, fill=2)
    pen.rectangle((10, 5, 20, 10), outline=1, fill=1)
    pen.ellipse((32, 27, 38, 33), outline=2, fill=2)
    pen.rectangle((14, 6, 16, 8), outline=0, fill=0)
    wanted = np.array(wanted)
    wanted[np.arange(30, 35), np.arange(2, 7)] = 1
    np.testing.assert_array_equal(masks_of(tmp_path / "own")["p0"], wanted)


@pytest.mark.parametrize(
    "bad", [shape("a", [(1, 1)], "point"), shape("a", [(1, 1), (2, 2)]), shape("a", [(1, 1), (9, 9)], "line")]
)
def test_a_shape_without_area_is_named(tmp_path, capsys, bad):
    root = labelme(tmp_path / "lm", [shape("a", [(1, 1), (9, 1), (9, 9)]), bad])
    code, _, err = own(capsys, tmp_path / "own", "--labelme", root)
    assert code == 2 and "p0.json shape 2" in err and bad["shape_type"] in err


def test_pictures_elsewhere_or_without_a_json_file(tmp_path, capsys):
    root = labelme(tmp_path / "lm", [shape("a", [(1, 1), (9, 1), (9, 9)])])
    (tmp_path / "pictures").mkdir()
    os.rename(root / "p0.png", tmp_path / "pictures/p0.png")
    text = (root / "p0.json").read_text().replace('"p0.png"', r'"..\\pictures\\p0.png"')
    (root / "p0.json").write_text(text)
    (root / "p5.json").unlink()
    code, out, err = own(capsys, tmp_path / "own", "--labelme", root)
    assert code == 0, err
    assert "1 images without a JSON file are left out" in out and set(masks_of(tmp_path / "own")) == {
        f"p{i}" for i in range(5)
    }
    (tmp_path / "pictures/p0.png").unlink()
    code, _, err = own(capsys, tmp_path / "again", "--labelme", root)
    assert code == 2 and "p0.json" in err and "p0.png" in err


def test_two_forms_at_once_are_refused(tmp_path, capsys):
    code, _, err = own(capsys, tmp_path / "own", "--nnunet", tmp_path, "--labelme", tmp_path)
    assert code == 2 and "--nnunet and --labelme" in err


# ---------------------------------------------------------------- names before, and sources that changed


def test_masks_may_have_something_in_front_of_their_names(tmp_path, capsys):
    (tmp_path / "all").mkdir()
    for i in range(6):
        Image.fromarray(picture(i, SIZE)).save(tmp_path / f"all/im{i}.png")
        Image.fromarray(np.full(SIZE, 255 * (i % 2), np.uint8)).save(tmp_path / f"all/gt_im{i}.png")
    options = ("--mask-prefix", "gt_", "--mask-suffix", "")
    code, _, err = own(capsys, tmp_path / "own", "--images", tmp_path / "all", *options)
    assert code == 0, err
    assert {name: mask.any() for name, mask in masks_of(tmp_path / "own").items()} == {
        f"im{i}": bool(i % 2) for i in range(6)
    }


def test_masks_corrected_since_are_not_answered_with_the_old_folder(tmp_path, capsys):
    root = labelme(tmp_path / "lm", [shape("a", [(1, 1), (9, 1), (9, 9)])])
    assert own(capsys, tmp_path / "own", "--labelme", root)[0] == 0
    code, out, _ = own(capsys, tmp_path / "own", "--labelme", root)
    assert code == 0 and "made earlier by the same command" in out
    text = (root / "p0.json").read_text().replace("[9, 9]", "[9, 19]")
    (root / "p0.json").write_text(text)
    code, _, err = own(capsys, tmp_path / "own", "--labelme", root)
    assert code == 2 and "not of these files as they are now" in err
