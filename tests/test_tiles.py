"""Pictures larger than a network's field: cut for training, predicted in blended squares, read by rows."""

from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage.measure import label
from torch import nn

from knowsam_lite.cli import main
from knowsam_lite.data import SegmentationFolder, Synthetic, write
from knowsam_lite.data.sampler import StepBatches
from knowsam_lite.data.tiles import Tiles, starts
from knowsam_lite.evaluation import score_split
from knowsam_lite.metrics import iou
from knowsam_lite.predict import Predictor
from knowsam_lite.predict.tiles import blended, overlap_of
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.run import load_run
from knowsam_lite.suggest.look import look_at

WORDS = "--method supervised_pair --image-size 32 --steps 4 --labeled 3 --val-every 4 --device cpu"


class Bright(nn.Module):
    """A method whose answer for a pixel depends on this pixel alone: class 1 above half brightness."""

    prediction_view, note = "bright", ""

    def predict(self, x):
        return torch.stack([0.5 - x.mean(dim=1), x.mean(dim=1) - 0.5], dim=1) * 20

    def views(self, x):
        return {"bright": self.predict(x)}


def bright(side: int) -> Predictor:
    return Predictor(Bright(), side, Classes(("dark", "bright"), (0, 255)), torch.device("cpu"), tile=side)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 300), st.integers(4, 64))
def test_squares_cover_a_length_and_share_their_overlap(length, side):
    overlap = overlap_of(side)
    first = starts(length, side, overlap)
    assert first == sorted(set(first)) and first[0] == 0 and first[-1] == max(length - side, 0)
    assert all(b - a <= side - overlap for a, b in pairwise(first))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(4, 24))
def test_blending_squares_of_a_pixelwise_map_gives_the_map(height, width, side):
    picture = np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)
    asked = []

    def rows(first, end):
        asked.append((first, end))
        return picture[first:end]

    def logits(square):
        return torch.from_numpy(square.copy()).permute(2, 0, 1) / 50.0

    bands = list(blended(lambda squares: ({"a": logits(s)} for s in squares), rows, (height, width), side))
    whole = torch.cat([band["a"] for band in bands], dim=1)
    torch.testing.assert_close(whole, logits(picture).log_softmax(dim=0), atol=1e-5, rtol=0)
    assert asked == sorted(asked) and max(end - first for first, end in asked) <= side  # what memory holds


def test_an_object_across_many_squares_stays_whole():
    y, x = np.mgrid[:150, :170]
    disc = (y - 70) ** 2 + (x - 90) ** 2 < 60**2
    picture = np.where(disc[..., None], 230, 20).astype(np.uint8).repeat(3, axis=2)
    [found] = bright(32)([picture])
    assert np.array_equal(found, disc) and label(found).max() == 1


def test_tiles_are_the_pixels_of_their_picture_and_are_labelled_with_it():
    whole = Synthetic("dermoscopy", n=12, size=50)
    tiles = Tiles(whole, 32)
    [first, *_] = whole.split("train")
    own = [tile for tile in tiles.split("train") if tile.id.startswith(f"{first.id}@")]
    assert tiles.ids_of([first.id]) == [tile.id for tile in own] and len(own) == 4
    image, mask = np.zeros((50, 50, 3), np.uint8), np.zeros((50, 50), np.uint8)
    for tile in own:
        y, x = tile.corner
        image[y : y + 32, x : x + 32], mask[y : y + 32, x : x + 32] = tiles.image(tile), tiles.mask(tile)
    assert np.array_equal(image, whole.image(first)) and np.array_equal(mask, whole.mask(first))
    assert {tile.group for tile in own} == {first.group}
    assert tiles.split("test") == whole.split("test")
    assert tiles.image(tiles.split("val")[0]).shape == (50, 50, 3)


def test_a_picture_smaller_than_a_tile_is_mirrored_at_its_border():
    whole = Synthetic("dermoscopy", n=12, size=20)
    tiles = Tiles(whole, 32)
    [tile, *_] = tiles.split("train")
    image = whole.image(tile.of)
    assert np.array_equal(tiles.image(tile)[:20, :20], image)
    assert np.array_equal(tiles.image(tile)[20:, :20], image[:-13:-1])
    assert tiles.mask(tile).shape == (32, 32)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run on tiles of 40 px of pictures of 96 px."""
    place = tmp_path_factory.mktemp("tiles")
    write(Synthetic("histology", n=14, size=96), place / "data")
    words = [
        "train",
        *WORDS.split(),
        "--tile",
        "40",
        "--data",
        str(place / "data"),
        "--out",
        str(place / "run"),
    ]
    assert main(words) == 0
    return place / "run"


def test_evaluate_scores_whole_pictures_as_predictor_sees_them(run):
    loaded = load_run(run, device="cpu")
    config = loaded.config
    assert config.tile == 40 and len(loaded.labeled_ids) == 3
    data = loaded.dataset
    scores = score_split(loaded.method, data, "test", 32, loaded.device, tile=config.tile)
    predictor = Predictor.from_run(run, device="cpu")
    for record, case in zip(data.split("test"), scores[loaded.method.prediction_view], strict=True):
        [found] = predictor([data.image(record)])
        truth = data.mask(record)
        overlap = 2 * (found & truth).sum() / max(found.sum() + truth.sum(), 1)
        assert found.shape == truth.shape == (96, 96)
        assert case["dice"][0] == pytest.approx(overlap, abs=1e-6)
    whole = replace(predictor, tile=0)([data.image(data.split("test")[0])])[0]
    assert not np.array_equal(whole, predictor([data.image(data.split("test")[0])])[0])


@pytest.fixture
def small_limit(monkeypatch):
    """Pictures of more than 20,000 pixels count as too large for memory."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)


def slide(path, gray=False, **options):
    """A tiled TIFF of 150 x 330 px."""
    rng = np.random.default_rng(0)
    shape = (150, 330) if gray else (150, 330, 3)
    numbers = rng.integers(0, 256, shape, np.uint8)
    tifffile.imwrite(path, numbers, tile=(64, 64), photometric="minisblack" if gray else "rgb", **options)
    return numbers if not gray else numbers[..., None].repeat(3, axis=2)


@pytest.mark.parametrize("gray", [False, True])
def test_a_tiff_too_large_for_memory_is_predicted_by_rows(run, tmp_path, small_limit, gray, capsys):
    pytest.importorskip("zarr")
    numbers = slide(tmp_path / "slide.tif", gray)
    assert main(["predict", str(run), str(tmp_path / "slide.tif"), str(tmp_path / "out")]) == 0
    wanted = Predictor.from_run(run, device="cpu")([numbers])[0]
    mask = tifffile.imread(tmp_path / "out" / "masks" / "slide.tif")
    assert mask.dtype == np.uint8 and np.array_equal(mask, wanted * 255)
    assert "1 masks" in capsys.readouterr().out


def test_what_cannot_be_read_by_rows_is_refused_in_a_line(run, tmp_path, small_limit, capsys):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, np.zeros((150, 330), np.uint16), tile=(64, 64))
    assert main(["predict", str(run), str(path), str(tmp_path / "out")]) == 2
    assert "save it as a tiled TIFF of gray or RGB with 8 bits" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.tif"))


def test_a_run_without_tiles_says_what_reads_a_large_picture(tmp_path, small_limit, capsys):
    slide(tmp_path / "slide.tif")
    out = str(tmp_path / "run")
    assert main(["train", *WORDS.split(), "--data", "synthetic:dermoscopy:20", "--out", out]) == 0
    assert main(["predict", out, str(tmp_path / "slide.tif"), str(tmp_path / "out")]) == 2
    assert "trained with --tile" in capsys.readouterr().err


def test_an_exported_model_predicts_in_the_same_squares(run, tmp_path):
    pytest.importorskip("onnxruntime")
    from knowsam_lite.predict.export import OnnxPredictor

    assert main(["export", str(run), str(tmp_path / "model.onnx")]) == 0
    data = SegmentationFolder(run.parent / "data")
    picture = data.image(data.split("test")[0])
    [z] = Predictor.from_run(run, device="cpu").native_logits([picture])
    p = OnnxPredictor(tmp_path / "model.onnx").probabilities(picture)
    assert np.abs(p - z.softmax(dim=0).numpy()).mean() < 1e-4  # a level of a resized pixel may differ
    assert "squares of 40 px" in (tmp_path / "model.md").read_text()


def test_suggestions_look_at_the_same_squares(run):
    data = SegmentationFolder(run.parent / "data")
    picture = data.image(data.split("test")[0])
    predictor = Predictor.from_run(run, device="cpu")
    views = predictor.native_views(picture)
    students = [z.argmax(dim=0).numpy() for name, z in views.items() if name != "fused"]
    [look] = look_at(predictor, [("a", picture)])
    assert look.scores["disagreement"] == pytest.approx(1 - iou(students[0] > 0, students[1] > 0), abs=1e-6)
    assert np.linalg.norm(look.features) == pytest.approx(1, abs=1e-5)


def test_the_page_for_browsers_refuses_a_run_on_squares(run, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    assert main(["demo", str(run), str(tmp_path / "page")]) == 2
    assert "train without --tile" in capsys.readouterr().err and not (tmp_path / "page").exists()


@pytest.mark.parametrize("option", ["tile", "seed", "workers", "learning-rate", "weight-decay"])
def test_a_negative_number_is_refused(option, tmp_path, capsys):
    words = ["--data", "synthetic:dermoscopy:20", f"--{option}", "-1", "--out", str(tmp_path / "run")]
    assert main(["train", *words]) == 2
    assert f"change --{option.replace('-', '_')}" in capsys.readouterr().err


def test_a_picture_is_read_once_for_all_of_its_squares():
    class Counted(Synthetic):
        read: ClassVar[list[str]] = []

        def image(self, record):
            self.read.append(record.id)
            return super().image(record)

    whole = Counted("dermoscopy", n=16, size=70)
    tiles = Tiles(whole, 32)
    labeled = tiles.ids_of([record.id for record in whole.split("train")[:3]])
    Counted.read.clear()
    batches = StepBatches(tiles, labeled, seed=0, batch_labeled=4, batch_unlabeled=4, size=32)
    for step in range(12):
        batches[step]
    assert len(Counted.read) == len(set(Counted.read)) == len(whole.split("train"))
    tile = next(t for t in tiles.split("train") if t.id == batches[5].ids[0])
    x, y = batches._load(tile, True)
    assert np.array_equal(x, tiles.image(tile)) and np.array_equal(y, tiles.mask(tile))
