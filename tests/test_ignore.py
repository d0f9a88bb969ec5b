"""Pixels of no known class: -1 in training, nothing in losses, scores and statistics, kept in copies."""

import json

import numpy as np
import pytest
import torch
from helpers.data_folders import make_folder, square
from helpers.pictures import PALETTE, write_png
from helpers.volume_folders import make_h5, make_nifti, save_h5, save_nifti, volume
from PIL import Image

from knowsam_lite import losses
from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, open_dataset
from knowsam_lite.data.check import check_dataset, check_for_training
from knowsam_lite.data.masks import UNKNOWN
from knowsam_lite.data.mend import mend
from knowsam_lite.data.sampler import StepBatches
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import at_native_size, score_split
from knowsam_lite.methods.mcf import rectify_loss
from knowsam_lite.metrics import dice, score_case
from knowsam_lite.report.gather import Gatherer

TRUTH = square(1).astype(np.int16)
TRUTH[10:20, 20:30] = UNKNOWN


def folder(root, ignore=200, values=(0, 255), write=None):
    """A folder whose masks hold TRUTH, its unknown pixels as `ignore`."""
    make_folder(root)
    description = {"classes": ["background", "square"], "mask_values": list(values), "ignore": ignore}
    (root / "dataset.json").write_text(json.dumps(description))
    for path in (root / "masks").iterdir():
        stored = np.array([*values, ignore])[TRUTH]
        Image.fromarray(stored.astype(np.uint8)).save(path) if write is None else write(path)
    return root


def test_ignored_pixels_are_minus_one_from_every_kind_of_file(tmp_path):
    colors = np.array([[0, 0, 0], [255, 0, 0], [255, 255, 255]])
    forms = {
        "gray": folder(tmp_path / "gray"),
        "painted": folder(
            tmp_path / "painted",
            [255, 255, 255],
            ([0, 0, 0], [255, 0, 0]),
            lambda path: Image.fromarray(colors.astype(np.uint8)[TRUTH]).save(path),
        ),
        "palette": folder(
            tmp_path / "palette", 2, (0, 1), lambda path: write_png(path, TRUTH % 3, 2, PALETTE, colors)
        ),
    }
    for name, root in forms.items():
        data = SegmentationFolder(root)
        assert np.array_equal(data.mask(data.records[0]), TRUTH), name
        assert data.mask(data.records[0]).dtype == np.int16


@pytest.mark.parametrize("make", [make_h5, make_nifti])
@pytest.mark.parametrize("value", [-1, 255])
def test_ignored_voxels_of_volumes(tmp_path, make, value):
    root = make(tmp_path / "d")
    classes = {"classes": ["background", "a", "b"], "mask_values": [0, 1, 2], "ignore": value}
    (root / "dataset.json").write_text(json.dumps(classes))
    image, label = volume(91 if make is make_h5 else 4)
    label = label.astype(np.int16)
    label[:, :3] = value
    if make is make_h5:
        save_h5(root / "data/patient091_frame01.h5", image, label)
    else:
        save_nifti(root / "masks/v4.nii.gz", label)
    data = open_dataset(root)
    found = np.stack([data.mask(record) for record in data.split("test")])
    assert np.array_equal(found, np.where(label == value, UNKNOWN, label))


@pytest.mark.parametrize(
    "ignore", [255, True, "255", [0, 0, 0], 1.5], ids=["of a class", "bool", "text", "color", "fraction"]
)
def test_an_ignore_that_is_none_is_refused(tmp_path, ignore):
    root = make_folder(tmp_path / "d")
    description = {"classes": ["a", "b"], "mask_values": [0, 255], "ignore": ignore}
    (root / "dataset.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"found ignore .*expected a value of its own"):
        SegmentationFolder(root)


def test_an_undeclared_value_is_offered_to_be_ignored_and_the_hint_works(tmp_path):
    root = folder(tmp_path / "d")
    description = json.loads((root / "dataset.json").read_text())
    description.pop("ignore")
    (root / "dataset.json").write_text(json.dumps(description))
    [error, *_] = [finding for finding in check_dataset(root) if finding.severity == "error"]
    assert '"ignore": 200 in dataset.json' in error.fix
    (root / "dataset.json").write_text(json.dumps(description | {"ignore": 200}))
    assert not [finding for finding in check_dataset(root) if finding.severity != "info"]


def test_statistics_leave_them_out(tmp_path):
    root = folder(tmp_path / "d")
    text = "\n".join(finding.message for finding in check_dataset(root))
    known = TRUTH != UNKNOWN
    assert f"square {100 * (TRUTH == 1).sum() / known.sum():.2f} %" in text
    assert f"{12 * (~known).sum()} pixels are ignored" in text


def test_batches_and_losses(tmp_path):
    data = SegmentationFolder(folder(tmp_path / "d"))
    check_for_training(data, {"i00", "i01"})
    batches = StepBatches(data, {"i00", "i01"}, seed=0, batch_labeled=2, batch_unlabeled=1, size=24)
    y = batches[0].y
    assert y.dtype == torch.int64 and set(y[:2].unique().tolist()) == {-1, 0, 1}
    torch.manual_seed(0)
    z = torch.randn(3, 2, 24, 24)
    other = torch.where((y == UNKNOWN)[:, None], torch.randn_like(z), z)  # differs where nothing is known
    for loss in (losses.cross_entropy, losses.dice_loss, losses.supervised_loss):
        torch.testing.assert_close(loss(z, y), loss(other, y))
    p = z.softmax(dim=1)
    torch.testing.assert_close(
        rectify_loss(p, p.flip(1), y), rectify_loss(other.softmax(dim=1), other.softmax(dim=1).flip(1), y)
    )


def test_a_batch_without_a_known_pixel_teaches_nothing():
    z = torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = losses.supervised_loss(z, torch.full((2, 8, 8), UNKNOWN))
    loss.backward()
    assert loss == 0 and z.grad is not None and not z.grad.any()


class Half(torch.nn.Module):
    """Predicts the object in the right half."""

    def views(self, x):
        z = torch.zeros(len(x), 2, *x.shape[2:])
        z[:, 1, :, x.shape[3] // 2 :] = 9.0
        return {"own": z}


def test_scores_count_known_pixels_alone(tmp_path):
    data = SegmentationFolder(folder(tmp_path / "d"))
    gathered = Gatherer("own")
    cases = score_split(Half(), data, "test", 32, torch.device("cpu"), watcher=gathered)["own"]
    z = Half().views(torch.zeros(1, 3, 32, 32))["own"][0]
    found, known = at_native_size(z, TRUTH.shape), TRUTH != UNKNOWN
    assert cases[0]["dice"] == [dice(found[known] == 1, TRUTH[known] == 1)]
    assert cases[0] == score_case(found * known, TRUTH * known, 2)
    assert gathered.pixels.sum() == 2 * known.sum()
    assert gathered.wrong.sum() == 2 * (found[known] != TRUTH[known]).sum()
    for shown in gathered.worst:
        assert shown.truth.dtype == np.uint8 and shown.truth.max() == 1


def test_a_case_without_a_known_pixel_has_no_score(tmp_path):
    root = folder(tmp_path / "d")
    Image.fromarray(np.full((24, 32), 200, np.uint8)).save(root / "masks/i11.png")
    with pytest.raises(UserError, match="i11: found a mask of ignored pixels alone"):
        score_split(Half(), SegmentationFolder(root), "test", 32, torch.device("cpu"))


def test_copies_keep_them(tmp_path):
    root = folder(tmp_path / "d")
    mend(root, tmp_path / "mended")
    given = ["--images", str(root / "images"), "--masks", str(root / "masks"), "--workers", "1"]
    for name, options in (("own", []), ("small", ["--size", "32"])):
        out = ["--values", "0", "255", "--ignore", "200", "--out", str(tmp_path / name), *options]
        assert main(["data", "own", *given, *out]) == 0
    for name in ("mended", "own", "small"):
        data = SegmentationFolder(tmp_path / name)
        assert all(np.array_equal(data.mask(record), TRUTH) for record in data.records), name
        assert data.coding.ignore is not None


@pytest.mark.slow
def test_training_with_ignored_pixels_ends_with_scores(tmp_path):
    root = folder(tmp_path / "d")
    options = ["--method", "supervised", "--steps", "4", "--labeled", "2", "--image-size", "32"]
    out = tmp_path / "run"
    assert main(["train", "--data", str(root), "--out", str(out), "--batch-labeled", "2", *options]) == 0
    for line in (out / "log.jsonl").read_text().splitlines():
        assert "NaN" not in line
    assert main(["evaluate", str(out)]) == 0


def test_the_unknown_class_is_that_of_the_losses():
    assert UNKNOWN == losses.UNKNOWN
