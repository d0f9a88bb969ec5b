"""What chapter 11 reads: small, whole, and what its commands make."""

import json

import numpy as np
import pytest

from knowsam_lite.course import recorded
from knowsam_lite.course.builder import ROOT
from knowsam_lite.data import open_dataset
from knowsam_lite.errors import UserError

COMPARISON = ROOT / "docs" / "comparison" / "fp32" / "kvasir_seg_15"


@pytest.mark.parametrize("name", ["kvasir", "ladder"])
def test_a_grid_holds_finite_dice_for_every_seed_and_image(name):
    grid = recorded.load_grid(name)
    shapes = {dices.shape for which in (grid.last, grid.best) for dices in which.values()}
    assert len(shapes) == 1 and next(iter(shapes))[1] == len(grid.ids) == len(set(grid.ids))
    assert list(grid.last) == list(grid.best)
    assert all(((d >= 0) & (d <= 1)).all() for which in (grid.last, grid.best) for d in which.values())


def test_the_grid_of_kvasir_is_the_one_beside_the_comparison(tmp_path, monkeypatch):
    committed = (recorded.FOLDER / "kvasir.json").read_text("utf8")
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    made = recorded.record_grid("kvasir", COMPARISON, list(json.loads(committed)["last"]))
    assert made.read_text("utf8") == committed


def test_an_unknown_grid_is_named():
    with pytest.raises(UserError, match="found no grid 'stairs', expected one of kvasir, ladder"):
        recorded.load_grid("stairs")


@pytest.mark.parametrize("method", recorded.MAPS)
def test_the_maps_belong_to_the_images(method):
    dataset = open_dataset("synthetic:dermoscopy:160:1", 64)
    for split in ("val", "test"):
        margins = recorded.load_margins(method, split)
        truth = np.stack([dataset.mask(record) == 1 for record in dataset.split(split)])
        assert margins.shape == truth.shape and margins.dtype == np.float32
        assert ((margins > 0) == truth).mean() > 0.8


def test_what_is_shipped_is_small():
    assert sum(path.stat().st_size for path in recorded.FOLDER.iterdir()) < 600_000
