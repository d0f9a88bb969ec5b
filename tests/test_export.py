"""An exported model answers as `Predictor` does, from the bytes of a picture on."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from helpers.base import tiny_teacher

from knowsam_lite.cli import main
from knowsam_lite.commands.export import dice_of
from knowsam_lite.commands.export import pictures as calibration
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic, open_dataset
from knowsam_lite.data.transforms import resize
from knowsam_lite.errors import UserError
from knowsam_lite.methods import KnowSAM, SamOnly
from knowsam_lite.predict import Predictor
from knowsam_lite.predict.model_card import model_card
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.run import scores_folder

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
from knowsam_lite.predict import export  # noqa: E402, what it needs is there

DATA = "synthetic:dermoscopy:24"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of the pair."""
    out = tmp_path_factory.mktemp("run") / "pair"
    words = "train --method supervised_pair --image-size 32 --steps 6 --labeled 4 --val-every 6 --device cpu"
    assert main([*words.split(), "--data", DATA, "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def exported(run):
    """The model, its int8 version and its card, written by the command."""
    path = run.parent / "new" / "model.onnx"
    assert main(["export", str(run), str(path), "--int8"]) == 0
    return path


def pictures(n: int) -> list[np.ndarray]:
    """Of sizes above and below the model's."""
    rng = np.random.default_rng(0)
    sizes = [tuple(rng.integers(33, 90, 2)) if i % 3 else tuple(rng.integers(12, 32, 2)) for i in range(n)]
    blobs = [rng.integers(0, 256, (6, 6, 3), np.uint8) for _ in sizes]
    return [cv2.resize(blob, size[::-1]) for blob, size in zip(blobs, sizes, strict=True)]


@pytest.mark.parametrize("length", [32, 33, 50, 64, 100, 257])
def test_shrinking_is_opencvs_area_average_to_the_level(length):
    image = np.random.default_rng(length).integers(0, 256, (length, length, 3), np.uint8)
    matrix = export.resampling(length, 32)
    ours = (matrix @ torch.from_numpy(image).permute(2, 0, 1).float() @ matrix.T + 0.5).floor()
    theirs = cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
    assert np.abs(ours.numpy() - theirs).max() <= (0 if length % 32 == 0 else 1)
    assert (ours.numpy() != theirs).mean() < 1e-3


@pytest.mark.parametrize("length", [8, 20, 31])
def test_growing_is_opencvs_bilinear_within_its_rounding(length):
    image = np.random.default_rng(length).integers(0, 256, (length, length, 3), np.uint8)
    matrix = export.resampling(length, 32)
    ours = (matrix @ torch.from_numpy(image).permute(2, 0, 1).float() @ matrix.T + 0.5).floor()
    theirs = cv2.resize(image, (32, 32), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    assert np.abs(ours.numpy() - theirs).max() <= 1


def test_fifty_pictures_of_any_size_get_the_predictors_answer(run, exported):
    predictor, model = Predictor.from_run(run, device="cpu"), export.OnnxPredictor(exported, threads=1)
    data = open_dataset(DATA, 32)
    found = [data.image(record) for record in data.records] + pictures(26)
    shrunk = 0
    for picture, z in zip(found, predictor.native_logits(found), strict=True):
        p = model.probabilities(picture)
        assert p.shape == (2, *picture.shape[:2])
        if min(picture.shape[:2]) >= 32:  # where OpenCV rounds as the graph does
            np.testing.assert_allclose(p, z.softmax(dim=0).numpy(), atol=1e-4)
            shrunk += 1
    assert len(found) == 50 and shrunk > 35
    [classes] = model(found[:1])
    assert classes.dtype == np.uint8 and (classes == model.probabilities(found[0]).argmax(axis=0)).all()


def test_several_pictures_at_once_are_those_alone(exported):
    model = export.OnnxPredictor(exported, threads=1)
    batch = np.random.default_rng(1).integers(0, 256, (3, 40, 48, 3), np.uint8)
    [together] = model.session.run(["probabilities"], {"image": batch})
    for picture, p in zip(batch, together, strict=True):
        np.testing.assert_allclose(model.probabilities(picture), p, atol=1e-6)


def test_the_file_says_what_it_is(exported):
    about = export.OnnxPredictor(exported).about
    assert about["classes"] == ["background", "lesion"] and about["mask_values"] == [0, 255]
    assert about["views"] == {"probabilities": "fused", "u_net": "U-Net", "v_net": "V-Net"}
    assert about["image_size"] == 32 and about["method"] == "supervised_pair"
    assert [entry.version for entry in onnx.load(exported).opset_import if not entry.domain] == [export.OPSET]


def test_int8_is_smaller_and_mostly_agrees(exported):
    small = exported.with_suffix(".int8.onnx")
    assert small.stat().st_size < 0.5 * exported.stat().st_size
    data = open_dataset(DATA, 32)
    found = [data.image(record) for record in data.records[:8]]
    both = zip(export.OnnxPredictor(exported)(found), export.OnnxPredictor(small)(found), strict=True)
    assert np.mean([(a == b).mean() for a, b in both]) > 0.9


def test_the_card_says_what_was_measured(exported):
    card = exported.with_suffix(".md").read_text()
    for words in ("4 images with masks", "background (mask value 0)", "## What it is not for", "Dice 0."):
        assert words in card
    assert card.count("model.int8.onnx") == 1


def test_the_card_gives_the_scores_of_its_weights_alone(run):
    predictor = Predictor.from_run(run, device="cpu")
    own = model_card(run, predictor, "m", {})
    assert predictor.step == 6 and "| | Dice |" in own and "6 of 6, 0" in own
    other = model_card(run, replace(predictor, step=3), "m", {})
    assert "those of step 6, these weights are of step 3" in other and "| | Dice |" not in other
    place = scores_folder(run, "test", "best")
    place.mkdir()
    scores = json.loads((run / "metrics.json").read_text())
    (place / "metrics.json").write_text(json.dumps({**scores, "step": 3, "data": "those of step 3"}))
    assert "images of those of step 3" in model_card(run, replace(predictor, step=3), "m", {})
    assert model_card(run, predictor, "m", {}) == own


def test_pixels_of_unknown_class_do_not_count(run):
    class Partly(Synthetic):
        def mask(self, record):
            truth = super().mask(record).astype(np.int64)
            truth[:, 20:] = -1
            return truth

    data = Partly("dermoscopy", n=24, size=32)

    def model(pictures):
        return [
            np.pad(np.ones((32, 12), np.uint8), ((0, 0), (20, 0))) for _ in pictures
        ]  # unknown pixels alone

    truths = [data.mask(record) for record in data.split("val")]
    assert dice_of(model, data, "val") == np.mean([not (truth == 1).any() for truth in truths])


def test_without_val_images_int8_says_which_split_there_is(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Synthetic, "split", lambda self, name: [] if name == "val" else self.records)
    assert main(["export", str(run), str(tmp_path / "model.onnx"), "--int8"]) == 2
    assert "found no val images" in capsys.readouterr().err


def test_where_sam_predicts_it_is_exported(tmp_path):
    method = SamOnly(Config(image_size=32, method="sam_only"), 2, tiny_teacher(2, 32)).eval()
    predictor = Predictor(method, 32, Classes(("background", "object"), (0, 255)), torch.device("cpu"))
    export.export(predictor, tmp_path / "sam.onnx")
    model = export.OnnxPredictor(tmp_path / "sam.onnx", threads=1)
    for picture in pictures(6):
        [z] = predictor.native_logits([picture])
        ours, theirs = z.softmax(dim=0).numpy(), model.probabilities(picture)
        assert np.abs(ours - theirs).max() < 1e-4


@pytest.mark.parametrize("size", [(16, 300), (300, 20), (24, 40), (31, 33)])
def test_a_side_that_shrinks_is_averaged_though_the_other_grows(size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    rows, columns = (export.resampling(length, 32) for length in size)
    exact = rows @ torch.from_numpy(image).permute(2, 0, 1).float() @ columns.T
    assert np.abs(exact.numpy() - resize(image, 32).transpose(2, 0, 1)).max() <= 1.6  # it rounds twice


def test_int8_is_calibrated_on_what_the_network_gets():
    data = Synthetic("dermoscopy", n=8, size=48)
    whole, squares = list(calibration(data, 0)), list(calibration(data, 32))
    assert {image.shape for image in whole} == {data.image(data.records[0]).shape}
    assert {image.shape for image in squares} == {(32, 32, 3)} and len(squares) == 4 * len(whole)


def test_sam_is_not_exported():
    method = KnowSAM(Config(image_size=32), 2, teacher=tiny_teacher(2))
    assert "SAM" in method.eval().views(torch.rand(1, 3, 32, 32))
    names = export.output_names(export.Exported(method, 32))
    assert list(names.values()) == ["fused", "U-Net", "V-Net"]
    ready = KnowSAM.for_prediction(Config(image_size=32), 2).eval()
    assert list(ready.views(torch.rand(1, 3, 32, 32))) == ["U-Net", "V-Net", "fused"]


def test_bad_input_is_one_line(run, tmp_path, monkeypatch, capsys):
    assert main(["export", str(run), str(tmp_path / "model.pt")]) == 2
    (tmp_path / "no.onnx").write_bytes(b"no model")
    for path, words in (
        (tmp_path / "no.onnx", "found no model of this library"),
        (tmp_path / "x", "found no "),
    ):
        with pytest.raises(UserError, match=words):
            export.OnnxPredictor(path)
    monkeypatch.setattr(export, "NEEDED", ("onnx", "no_such_package"))
    assert main(["export", str(run), str(tmp_path / "model.onnx")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "write" in lines[0] and "no_such_package" in lines[1] and "knowsam-lite[onnx]" in lines[1]
