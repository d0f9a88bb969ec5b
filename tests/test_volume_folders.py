"""Volumes as data sets: slices to train on, one score a volume, spacing kept. Oracle: scores by hand."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.data_folders import COLUMNS, change_row, make_folder, read_index, write_index
from helpers.volume_folders import SHAPE, SPACING, make_h5, make_nifti, save_h5, save_nifti, volume
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, choose_labeled, open_dataset
from knowsam_lite.data.check import check_dataset, check_for_training
from knowsam_lite.data.records import cases_of
from knowsam_lite.data.sampler import StepBatches, load_case
from knowsam_lite.data.slices import Slices, read_header
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import at_native_size, score_split, unit_of
from knowsam_lite.metrics import score_case


class Knows(torch.nn.Module):
    """A method that predicts class 1 where the first channel of the image is above `level`."""

    def __init__(self, level: float, num_classes: int) -> None:
        super().__init__()
        self.level, self.num_classes = level, num_classes

    def views(self, x):
        z = torch.zeros(len(x), self.num_classes, *x.shape[2:])
        z[:, 1] = torch.where(x[:, 0] > self.level, 1.0, -1.0)
        return {"own": z}


def test_slices_of_the_h5_layout(tmp_path):
    data = open_dataset(make_h5(tmp_path / "d"))
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [16, 4, 4]
    assert data.classes == ("background", "class 1", "class 2") and data.spacing_mm is None
    assert {record.group for record in data.split("train")} == {f"patient{i:03d}" for i in range(4)}
    assert list(cases_of(data.split("val"))) == ["patient090_frame01"]
    image, label = volume(90)
    for k, record in enumerate(data.split("val")):
        assert record.index == k and data.image_size(record) == SHAPE[1:]
        assert np.array_equal(data.mask(record), label[k])
        assert np.array_equal(data.image(record)[..., 1], np.round(image[k] * 255))


def test_slices_of_nifti_volumes_keep_axes_and_spacing(tmp_path):
    data = open_dataset(make_nifti(tmp_path / "d"))
    assert [len(data.split(name)) for name in ("train", "val", "test")] == [12, 4, 4]
    record = data.split("test")[2]
    image, label = volume(4)
    scaled = (image - image.min()) / (image.max() - image.min()) * 255
    assert record.id == "v4_slice2" and record.volume == "v4" and record.spacing_mm == SPACING
    assert np.array_equal(data.mask(record), label[2])
    assert np.abs(data.image(record)[..., 0] - scaled[2]).max() <= 0.51
    assert read_header(record.image).shape == SHAPE and not [
        finding for finding in check_dataset(data.root) if finding.severity != "info"
    ]


def test_plain_folders_of_volumes_are_split_by_volume(tmp_path):
    root = make_nifti(tmp_path / "d", ("train",) * 10)
    (root / "index.csv").unlink()
    data = SegmentationFolder(root, val=0.2, test=0.2)
    assert {name: len(cases_of(data.split(name))) for name in ("train", "val", "test")} == {
        "train": 6,
        "val": 2,
        "test": 2,
    }


@pytest.mark.parametrize("make", [make_h5, make_nifti])
def test_a_volume_is_one_case(tmp_path, make):
    """The score of stacked slices, which is not the mean of the slices' scores."""
    data = open_dataset(make(tmp_path / "d"))
    [case] = score_split(Knows(0.5, 3), data, "test", 32, torch.device("cpu"))["own"]
    records = data.split("test")
    truth = np.stack([data.mask(record) for record in records])
    planes = [Knows(0.5, 3).views(load_case(data, record, 32)[0][None])["own"][0] for record in records]
    found = np.stack([at_native_size(z, SHAPE[1:]) for z in planes])
    spacing = SPACING if make is make_nifti else None
    assert case == score_case(found, truth, 3, spacing)
    assert unit_of(data, "test") == ("mm" if spacing else "pixels")


def test_distances_are_in_mm_only_where_every_volume_says_its_spacing(tmp_path):
    root = make_nifti(tmp_path / "d")
    image, label = volume(9)
    save_h5(root / "images/v9.h5", image, label)
    write_index(root, [*read_index(root), ["v9", "images/v9.h5", "images/v9.h5", "p9", "test"]])
    data = open_dataset(root)
    assert unit_of(data, "val") == "mm" and unit_of(data, "test") == "pixels"
    description = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(description.replace("}", ', "spacing_mm": [5, 1, 1]}'))
    data = open_dataset(root)
    assert unit_of(data, "test") == "mm" and data.spacing_mm == (1, 1)
    spacings = {record.volume: record.spacing_mm for record in data.split("test")}
    assert spacings["v9"] == (5, 1, 1)


def test_pictures_may_be_slices_of_a_volume(tmp_path):
    root = make_folder(tmp_path / "d", test=4)
    rows = [[*row, {"test": "scan"}.get(row[4], "")] for row in read_index(root)]
    write_index(root, rows, [*COLUMNS, "volume"])
    data = open_dataset(root)
    assert list(cases_of(data.split("test"))) == ["scan"]
    assert len(score_split(Knows(0.5, 2), data, "test", 32, torch.device("cpu"))["own"]) == 1
    for folder in ("images", "masks"):
        Image.new("L", (16, 16)).save(root / folder / "i10.png")
    with pytest.raises(UserError, match="scan: found slices of"):
        score_split(Knows(0.5, 2), open_dataset(root), "test", 32, torch.device("cpu"))


def test_unlabelled_volumes_need_no_labels(tmp_path):
    root = make_nifti(tmp_path / "d")
    change_row(root, 0, mask="")
    (root / "masks/v1.nii.gz").unlink()
    data = open_dataset(root)
    labeled = {record.id for record in data.split("train") if record.volume == "v2"}
    assert len(choose_labeled(data.records, "1groups", 0)) == SHAPE[0]
    check_for_training(data, labeled)
    batches = StepBatches(data, labeled, seed=0, batch_labeled=2, batch_unlabeled=4, size=32)
    assert {name for step in range(4) for name in batches[step].ids} == {r.id for r in data.split("train")}


def test_training_on_slices_without_a_label_in_their_file(tmp_path):
    root = make_h5(tmp_path / "d")
    labeled = choose_labeled(open_dataset(root).records, "1groups", 0)
    for path in (root / "data/slices").iterdir():
        if path.stem not in labeled:
            save_h5(path, volume(7)[0][0], None)
    data = open_dataset(root)
    check_for_training(data, labeled)
    batches = StepBatches(data, labeled, seed=0, batch_labeled=2, batch_unlabeled=6, size=32)
    assert len({name for step in range(4) for name in batches[step].ids}) == 16


def test_volumes_in_memory_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("knowsam_lite.data.slices.KEPT_BYTES", 2 * np.prod(SHAPE))
    reader = Slices()
    for number in range(5):
        save_h5(tmp_path / f"{number}.h5", *volume(number))
        reader.image(tmp_path / f"{number}.h5", 0)
    assert len(reader._kept) == 2


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = tmp_path / "v.nii.gz"
    save_nifti(path, volume(0)[0])
    assert read_header(path).shape == SHAPE
    save_nifti(path, volume(0)[0][:2])
    assert read_header(path).shape == (2, *SHAPE[1:])


@pytest.mark.slow
@pytest.mark.parametrize("make", [make_h5, make_nifti])
def test_train_and_evaluate_from_the_command_line(tmp_path, capsys, make):
    root = make(tmp_path / "d")
    options = ["--method", "supervised", "--image-size", "32", "--steps", "4", "--labeled", "2groups"]
    out = tmp_path / "run"
    assert main(["train", "--data", str(root), "--out", str(out), "--batch-unlabeled", "2", *options]) == 0
    shown = capsys.readouterr().out
    assert ("mm" if make is make_nifti else " px") in shown
    assert main(["evaluate", str(out), "--split", "val", "--json"]) == 0
    assert "val, 1 volumes" in capsys.readouterr().out
    assert (out / "val_last/predictions.png").stat().st_size > 5000


@pytest.fixture
def acdc(real_data):
    for name in ("acdc", "acdc_h5"):
        if not (real_data / name).is_dir():
            pytest.skip(f"no {real_data / name}")
    return real_data


def test_h5_and_pictures_of_one_patient_are_equal(acdc):
    h5, png = open_dataset(acdc / "acdc_h5"), open_dataset(acdc / "acdc")
    slices = {record.id: record for record in h5.records}
    pictures = [record for record in png.records if record.group == "patient003"]
    assert len(pictures) == 10
    for k, picture in enumerate(sorted(pictures, key=lambda record: record.id), start=1):
        twin = slices[f"patient003_frame01_slice_{k}"]
        assert np.array_equal(h5.mask(twin), png.mask(picture))
        assert np.abs(h5.image(twin).astype(int) - png.image(picture)).max() <= 1


@pytest.mark.slow
def test_training_and_evaluation_on_real_volumes(acdc, tmp_path, capsys):
    out = tmp_path / "run"
    options = ["--steps", "5", "--labeled", "1groups", "--method", "mc", "--image-size", "32"]
    assert main(["train", "--data", str(acdc / "acdc_h5"), "--out", str(out), *options]) == 0
    assert "20 of 82 training images labelled, 20 val, 18 test; 4 classes" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--split", "val"]) == 0
    assert json.loads((out / "val_last/metrics.json").read_text())["ids"] == [
        "patient028_frame01",
        "patient028_frame02",
    ]


def test_real_volumes_without_their_lists_are_no_data_set(acdc, tmp_path):
    (tmp_path / "data").mkdir()
    shutil.copy(next((acdc / "acdc_h5/data").glob("*.h5")), tmp_path / "data")
    with pytest.raises(UserError, match="neither index"):
        open_dataset(tmp_path)
