"""Prediction from files to files: sizes and geometry come back, scores are evaluate's, SAM stays away."""

import json
from dataclasses import replace

import h5py
import nibabel
import numpy as np
import pytest
import torch
from helpers.base import small_net, tiny_teacher
from helpers.data_folders import make_folder, picture
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.data.images import scaled_to_bytes
from knowsam_lite.data.volumes import write_labels
from knowsam_lite.evaluation import predicted, score_split
from knowsam_lite.methods import METHODS, WITHOUT_SAM
from knowsam_lite.metrics import dice
from knowsam_lite.predict.files import find_images, overlay
from knowsam_lite.predict.predictor import Predictor, as_labels, batch_size, over_flips
from knowsam_lite.runs.pictures import as_numbers, as_picture
from knowsam_lite.runs.run import Classes, load_run
from knowsam_lite.training import Trainer

SIZES = [(40, 64), (33, 47), (80, 52), (64, 64), (20, 90)]


def few(out, **changes):
    sizes = {"image_size": 32, "steps": 2, "batch_labeled": 2, "batch_unlabeled": 2, "labeled": "4"}
    return replace(Config(data="synthetic:dermoscopy:30", out=out, **sizes), **changes)


def trained(out, **changes):
    config = few(out, **changes)
    trainer = Trainer(Synthetic("dermoscopy", n=30, size=32), config)
    trainer.start()
    trainer.fit(progress=False)
    return trainer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of `knowsam` with two steps behind it."""
    return trained(tmp_path_factory.mktemp("run") / "knowsam").run


@pytest.fixture
def pictures(tmp_path):
    rng = np.random.default_rng(0)
    for i, size in enumerate(SIZES):
        folder = tmp_path / "in" / ("deep/down" if i % 2 else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*size, 3), np.uint8)).save(folder / f"p{i}.png")
    return tmp_path / "in"


def test_masks_have_the_sizes_and_the_tree_of_their_images(run, pictures, tmp_path, capsys):
    asked = ["--overlay", "--probabilities", "--json"]
    assert main(["predict", str(run), str(pictures), str(tmp_path / "out"), *asked]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["images"] == 5
    for i, size in enumerate(SIZES):
        out, name = tmp_path / "out", f"{'deep/down/' if i % 2 else ''}p{i}"
        mask = np.asarray(Image.open(out / f"masks/{name}.png"))
        assert mask.shape == size and set(np.unique(mask)) <= {0, 255}
        drawn = np.asarray(Image.open(out / f"overlays/{name}.png"))
        assert drawn.shape == (*size, 3)
        p = np.load(out / f"probabilities/{name}.npz")["probabilities"]
        assert p.shape == (2, *size) and np.allclose(p.astype(float).sum(0), 1, atol=2e-3)
        assert ((p.argmax(0) * 255 == mask) | (abs(p[0] - p[1]) < 2e-3)).all()
    assert not list((tmp_path / "out").rglob("*.part"))


def test_batched_prediction_is_that_of_one_image_at_a_time(run):
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 255, (*size, 3), np.uint8) for size in SIZES * 4]
    predictor = Predictor.from_run(run, device="cpu")
    for image, z in zip(images, predictor.native_logits(images), strict=True):
        [alone] = predictor.native_logits([image])
        torch.testing.assert_close(z, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("which", ["last", "best"])
def test_the_files_score_as_evaluate_does(run, tmp_path, which):
    data = Synthetic("dermoscopy", n=30, size=48)
    (tmp_path / "in").mkdir()
    for record in data.split("test"):
        Image.fromarray(data.image(record)).save(tmp_path / "in" / f"{record.id}.png")
    arguments = ["predict", str(run), str(tmp_path / "in"), str(tmp_path / "out"), "--which", which]
    assert main(arguments) == 0
    whole = load_run(run, which=which, device="cpu")
    expected = score_split(whole.method, data, "test", 32, torch.device("cpu"))["fused"]
    for record, case in zip(data.split("test"), expected, strict=True):
        mask = np.asarray(Image.open(tmp_path / "out/masks" / f"{record.id}.png")) == 255
        assert dice(mask, data.mask(record) == 1) == pytest.approx(case["dice"][0], abs=1e-9)


def test_sam_is_neither_made_nor_read(run, monkeypatch):
    def never(*_, **__):
        raise AssertionError("SAM was asked for")

    for name in ("SamTeacher.__init__", "SamTeacher.encode"):
        monkeypatch.setattr(f"knowsam_lite.sam.teacher.{name}", never)
    monkeypatch.setattr("knowsam_lite.methods.with_sam.load_pretrained", never)
    monkeypatch.setattr("knowsam_lite.runs.run.open_dataset", never)  # nor is the training data
    predictor = Predictor.from_run(run)
    assert len(predictor([np.zeros((20, 30, 3), np.uint8)])) == 1


@pytest.mark.parametrize("name", [m.name for m in WITHOUT_SAM] + ["knowsam", "knowsam_mutual", "bcp+skd"])
def test_what_is_loaded_for_prediction_predicts_as_the_whole_method(name):
    kind, config = METHODS[name], replace(Config(), image_size=32)
    torch.manual_seed(0)
    whole = kind(config, 3).eval()
    part = kind.for_prediction(config, 3).eval()
    state = {
        n: t
        for n, t in whole.trained_state().items()
        if not (part.left_out() and n.startswith(part.left_out()))
    }
    part.load_state_dict({**part.state_dict(), **state}, strict=True)
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(part.predict(x), whole.predict(x))


def test_flips_are_a_mean_over_mirrored_views():
    weights = torch.randn(2, 3, 1, 1)
    x = torch.rand(2, 3, 8, 8)
    plain = torch.nn.functional.conv2d(x, weights)
    same = over_flips(lambda v: torch.nn.functional.conv2d(v, weights), x)
    torch.testing.assert_close(same.softmax(1), plain.softmax(1))  # what looks at pixels alone is unmoved
    shifts = torch.arange(8.0).expand(2, 2, 8, 8) * torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)
    there = over_flips(lambda v: shifts, x).softmax(1)
    expected = (shifts.softmax(1) + shifts.softmax(1).flip(-1)) / 2
    torch.testing.assert_close(there, expected)


# ---------------------------------------------------------------- volumes


def test_the_mask_that_says_done_is_written_last(run, pictures, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    assert main(["predict", str(run), str(pictures), str(tmp_path / "out"), "--probabilities"]) == 2
    assert "No space left" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.png"))


def test_a_volume_of_one_slice_is_scored_as_its_image(run):
    whole, data = load_run(run), Synthetic("dermoscopy", n=30, size=32)
    alone = Synthetic("dermoscopy", n=30, size=32)
    alone.records = [replace(record, volume=record.id) for record in alone.records]
    both = [score_split(whole.method, each, "test", 32, torch.device("cpu")) for each in (data, alone)]
    assert both[0] == both[1]


def test_nifti_keeps_its_geometry(run, tmp_path):
    affine = np.array([[-1.5, 0, 0, 10], [0, 1.25, 0.1, -4], [0, 0, 8, 3], [0, 0, 0, 1]])
    data = np.random.default_rng(0).normal(100, 30, (36, 28, 5)).astype(np.int16)
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((1.5, 1.25, 8))
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "scan.nii.gz")
    assert main(["predict", str(run), str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    found = nibabel.load(tmp_path / "out/masks/scan.nii.gz")
    source = nibabel.load(tmp_path / "in/scan.nii.gz")
    assert found.shape == (36, 28, 5) and found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(found.affine, source.affine)
    assert found.header.get_zooms() == source.header.get_zooms()
    assert found.header["qform_code"] == source.header["qform_code"]
    predictor = Predictor.from_run(run)
    gray = data.astype(float).T
    gray = np.round((gray - gray.min()) * 255 / (gray.max() - gray.min())).astype(np.uint8)
    by_hand = np.stack(predictor([np.repeat(plane[..., None], 3, 2) for plane in gray]))
    np.testing.assert_array_equal(np.asarray(found.dataobj).T, by_hand * 255)


def test_h5_keeps_shape_and_attributes(run, tmp_path):
    with h5py.File(tmp_path / "case.h5", "w") as file:
        file["image"] = np.random.default_rng(0).random((4, 30, 26), np.float32)
        file["image"].attrs["spacing"] = [8.0, 1.5, 1.5]
        file.attrs["patient"] = "p1"
    assert main(["predict", str(run), str(tmp_path / "case.h5"), str(tmp_path / "out")]) == 0
    with h5py.File(tmp_path / "out/masks/case.h5") as file:
        assert file["label"].shape == (4, 30, 26) and set(np.unique(file["label"])) <= {0, 255}
        assert list(file["label"].attrs["spacing"]) == [8, 1.5, 1.5] and file.attrs["patient"] == "p1"


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".h5"])
def test_labels_come_back_as_written(tmp_path, ending):
    like, labels = tmp_path / f"like{ending}", np.arange(24).reshape(2, 3, 4) * 20
    if ending == ".h5":
        with h5py.File(like, "w") as file:
            file["image"] = np.zeros((2, 3, 4), np.float32)
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 3, 2), np.float32), np.diag([2, 3, 4, 1.0])), like)
    write_labels(tmp_path / f"out{ending}", labels, like)
    if ending == ".h5":
        with h5py.File(tmp_path / "out.h5") as file:
            found = file["label"][:]
    else:
        found = np.asarray(nibabel.load(tmp_path / f"out{ending}").dataobj).T
    np.testing.assert_array_equal(found, labels)


def test_painted_classes_stay_indices_in_a_volume():
    labels = np.array([[[0, 1], [2, 1]]])
    painted = Classes(("b", "x", "y"), (0, 0xFF0000, 0x0080FF), painted=True)
    assert as_numbers(labels, painted).tolist() == labels.tolist()
    assert as_numbers(labels, Classes(("b", "x", "y"), (0, 7, 500))).tolist() == [[[0, 7], [500, 7]]]


@pytest.mark.parametrize("shape", [(1, 5), (300, 70), (9, 30, 40)])
def test_gray_values_are_scaled_as_a_whole_in_parts(shape, monkeypatch):
    values = np.random.default_rng(0).normal(50, 300, shape)
    values.flat[2] = np.nan
    finite = np.nan_to_num(values)
    low, high = finite.min(), finite.max()
    wanted = np.round((finite - low) * (255.0 / (high - low))).astype(np.uint8)
    for part in (100, 2**21):
        monkeypatch.setattr("knowsam_lite.data.images.PART", part)
        assert np.array_equal(scaled_to_bytes(values), wanted)


# ---------------------------------------------------------------- masks, overlays, faults


def test_masks_look_like_the_data_sets_own():
    labels = np.array([[0, 1], [2, 1]])
    plain = as_picture(labels, Classes(("b", "x", "y"), (0, 7, 500)))
    assert plain.dtype == np.uint16 and plain.tolist() == [[0, 7], [500, 7]]
    painted = as_picture(labels, Classes(("b", "x", "y"), (0, 0xFF0000, 0x0080FF), painted=True))
    assert painted.dtype == np.uint8 and painted[1].tolist() == [[0, 128, 255], [255, 0, 0]]


def test_overlay_leaves_the_background_alone_and_draws_borders():
    image = np.full((7, 7, 3), 100, np.uint8)
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    drawn = overlay(image, labels)
    assert (drawn[labels == 0] == 100).all()
    assert drawn[1, 1].tolist() == [0x56, 0xB4, 0xE9] and drawn[3, 3].tolist() == [94, 132, 153]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda run: (run / "config.json").unlink(), "config.json"),
        (lambda run: (run / "last.pt").write_bytes(b"PK half"), "unreadable checkpoint"),
        (lambda run: (run / "last.pt").unlink(), "last checkpoint of a run"),
        (lambda run: (run / "dataset.json").write_text("{"), "dataset.json"),
        (
            lambda run: (run / "dataset.json").write_text(
                '{"name": "x", "classes": ["a", "b", "c"], "mask_values": [0, 1, 2]}'
            ),
            "has shape",
        ),
    ],
)
def test_a_broken_run_is_one_line_and_code_2(fault, says, tmp_path, pictures, capsys):
    broken = trained(tmp_path / "broken", method="supervised").run
    fault(broken)
    assert main(["predict", str(broken), str(pictures), str(tmp_path / "out")]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ") and says in line


def test_bad_images_and_folders_are_named(run, tmp_path, pictures, capsys):
    def said(*arguments) -> str:
        assert main(["predict", str(run), *map(str, arguments)]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    (tmp_path / "none").mkdir()
    assert "found no image" in said(tmp_path / "none", tmp_path / "out")
    assert "found nothing at" in said(tmp_path / "nowhere", tmp_path / "out")
    assert "where the images are" in said(pictures, pictures / "out")
    (tmp_path / "file").write_text("")
    assert "not writable" in said(pictures, tmp_path / "file" / "out")
    Image.new("RGB", (20, 20)).save(pictures / "p0.jpg")
    assert "different names" in said(pictures, tmp_path / "out")
    (pictures / "p0.jpg").write_text("no picture")
    (pictures / "p0.png").unlink()
    assert "p0.jpg" in said(pictures, tmp_path / "out")


def test_a_pair_of_folders_is_predicted_without_its_masks(pictures, tmp_path):
    root = tmp_path / "pair"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
        Image.new("L", (20, 20)).save(root / name / "a.png")
    assert [file.name.name for file in find_images(root, tmp_path / "out")] == ["a"]


@pytest.mark.parametrize("place", ["", "images", "images/i00.png"])
@pytest.mark.parametrize("listed", [True, False])
def test_the_masks_of_a_data_set_are_not_overwritten(run, tmp_path, place, listed, capsys):
    root = make_folder(tmp_path / "d")
    if not listed:
        (root / "index.csv").unlink()
    before = {path: path.read_bytes() for path in (root / "masks").iterdir()}
    assert main(["predict", str(run), str(root / place), str(root)]) == 2
    assert "whose own masks predictions would replace" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in (root / "masks").iterdir()} == before


@pytest.mark.parametrize("place", ["photos", "photos/a.png"])
def test_masks_drawn_beside_a_folder_of_pictures_are_not_overwritten(run, tmp_path, place, capsys):
    (tmp_path / "photos").mkdir()
    Image.fromarray(picture(0)).save(tmp_path / "photos/a.png")
    for watching in ([], ["--watch"] if place == "photos" else []):
        assert main(["predict", str(run), str(tmp_path / place), str(tmp_path), *watching]) == 2
        assert "predictions would be taken for them" in capsys.readouterr().err
    assert not (tmp_path / "masks").exists()


def test_predictions_do_not_become_the_masks_of_a_data_set_that_has_none_yet(run, tmp_path, capsys):
    (tmp_path / "d/images").mkdir(parents=True)
    Image.fromarray(picture(0)).save(tmp_path / "d/images/a.png")
    for place in ("d", "d/images"):
        assert main(["predict", str(run), str(tmp_path / place), str(tmp_path / "d")]) == 2
        assert "predictions would replace, or become" in capsys.readouterr().err
    assert not (tmp_path / "d/masks").exists()


def test_masks_beside_plain_pictures_are_not_taken_for_pictures(tmp_path):
    for name in ("a.png", "deep/b.png", "masks/a.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0)).save(path)
    found = find_images(tmp_path / "in", tmp_path / "out")
    assert sorted(file.name.as_posix() for file in found) == ["a", "deep/b"]


def test_overlays_of_slices_and_pictures_of_one_name_are_different_files(run, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(picture(0)).save(folder / "a_0.png")
    nibabel.save(nibabel.Nifti1Image(np.zeros((20, 30, 2), np.float32), np.eye(4)), folder / "a.nii.gz")
    assert main(["predict", str(run), str(folder), str(tmp_path / "out"), "--overlay"]) == 0
    drawn = {p.relative_to(tmp_path / "out/overlays").as_posix() for p in tmp_path.rglob("overlays/**/*.png")}
    assert drawn == {"a_0.png", "a.nii.gz/0.png", "a.nii.gz/1.png"}


def test_own_modules_predict_too():
    method = METHODS["knowsam"](few(None), 2, small_net(2), small_net(2), tiny_teacher(2)).eval()
    predictor = Predictor(method, 32, Classes(("background", "disc"), (0, 255)), torch.device("cpu"))
    [labels] = predictor([np.zeros((31, 45, 3), np.uint8)])
    assert labels.shape == (31, 45) and labels.dtype == np.uint8


@pytest.mark.parametrize("classes", [2, 4])
def test_of_equally_likely_classes_the_first_is_taken(classes):
    z = torch.randint(0, 3, (classes, 64, 48)).float()  # most pixels have a tie
    assert (as_labels(z) == np.argmax(z.numpy(), axis=0)).all()


def test_fewer_large_images_are_predicted_at_once():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [batch_size(size, gpu) for size in (32, 128, 256, 512, 1024)] == [16, 16, 4, 1, 1]
    assert [batch_size(size, cpu) for size in (32, 64, 128, 256, 512)] == [16, 16, 8, 2, 1]


def test_whoever_stops_asking_for_predictions_leaves_the_method_in_training():
    data = Synthetic("dermoscopy", n=12, size=32)
    method = METHODS["supervised"](Config(), 2).train()
    shown = predicted(method, data, data.split("train"), 32, torch.device("cpu"))
    next(shown)
    assert not method.training
    shown.close()
    assert method.training
