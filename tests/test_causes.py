"""Where methods fail: the traits of made images are known, and the groups follow from them."""

import json

import numpy as np
import pytest

from knowsam_lite.compare.causes import causes, failures, read_traits, traits
from knowsam_lite.compare.grid import grid
from knowsam_lite.compare.results import read_blocks
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic, open_dataset
from knowsam_lite.errors import UserError


def square(*boxes: tuple[int, int, int, int], inside: int = 255, outside: int = 0):
    """A picture of 100 px and its mask: rectangles (y, x, height, width)."""
    mask = np.zeros((100, 100), np.uint8)
    for y, x, height, width in boxes:
        mask[y : y + height, x : x + width] = 1
    return np.where(mask[..., None] > 0, inside, outside).astype(np.uint8).repeat(3, axis=2), mask


def test_the_traits_of_a_white_square():
    found = traits(*square((40, 40, 20, 20)))
    assert found == {"size": 0.04, "objects": 1, "contrast": 1.0, "solidity": pytest.approx(1), "cut": 0}


def test_contrast_counts_the_surroundings_alone():
    image, mask = square((40, 40, 20, 20), inside=102, outside=51)
    image[:20] = 255  # far from the object
    assert traits(image, mask)["contrast"] == pytest.approx(0.2)


def test_parts_holes_and_the_frame():
    assert traits(*square((0, 0, 20, 20), (50, 50, 20, 20)))["cut"] == 1
    two = traits(*square((10, 10, 20, 20), (50, 50, 20, 20), (90, 90, 2, 2)))
    assert two["objects"] == 2 and two["cut"] == 0  # the speck of 4 px is none
    l_shape = traits(*square((20, 20, 60, 20), (60, 20, 20, 60)))
    assert 0.6 < l_shape["solidity"] < 0.8
    dot = traits(*square((50, 50, 1, 1)))
    assert dot["solidity"] == 1.0 and np.isfinite(dot["contrast"])


def test_an_empty_mask_and_a_full_one():
    empty = traits(*square())
    assert empty["size"] == empty["objects"] == 0 and np.isnan(empty["contrast"])
    full = traits(*square((0, 0, 100, 100)))
    assert full["size"] == 1 and np.isnan(full["contrast"]) and full["cut"] == 1


def test_groups_are_the_lowest_quarter_and_none_is_the_rest():
    n = 8
    of = {
        "size": np.arange(n) / n,
        "objects": np.array([1] * 7 + [2]),
        "contrast": np.array([np.nan, *np.arange(1, n)]),
        "solidity": np.ones(n) - np.arange(n) / 100,
        "cut": np.zeros(n),
    }
    found = causes(of)
    assert np.flatnonzero(found["small"]).tolist() == [0, 1]
    assert np.flatnonzero(found["faint"]).tolist() == [1, 2]  # nan is no contrast
    assert np.flatnonzero(found["ragged outline"]).tolist() == [6, 7]
    assert np.flatnonzero(found["several objects"]).tolist() == [7]
    assert "cut by the frame" not in found
    assert np.flatnonzero(found["none of these"]).tolist() == [3, 4, 5]


@pytest.fixture
def block(tmp_path):
    data = "synthetic:dermoscopy:32"
    ids = [record.id for record in open_dataset(data, 64).split("test")]
    cells = grid(Config(out=tmp_path), [data], ["4"], {"mc": {"method": "mc"}}, [0])
    cells[0].config.out.mkdir(parents=True)
    cases = [{"dice": [i / 10], "iou": [0.5], "hd95": [3.0], "asd": [1.0]} for i in range(len(ids))]
    last = {"data": "d", "ids": ids, "cases": {"fused": cases}, "prediction": "fused", "case": "image"}
    cells[0].scores.write_text(json.dumps({"val": 0, "cost": {}, "last": last | {"unit": "pixels"}}))
    return read_blocks(cells)[0]


def test_dice_by_cause_is_the_mean_over_its_images(block):
    [row] = failures(block)
    dice = block.entries["mc"].last[0]
    groups = causes(read_traits(block))
    for name, group in groups.items():
        assert row[f"{name} ({group.sum()})"] == f"{dice[group].mean():.3f}"
    assert row[f"all ({len(dice)})"] == f"{dice.mean():.3f}"


def test_traits_are_measured_again_when_masks_have_changed(block, monkeypatch):
    before = read_traits(block)
    monkeypatch.setattr(Synthetic, "mask", lambda self, record: np.ones((64, 64), np.uint8))
    after = read_traits(block)
    assert (after["size"] == 1).all() and not (before["size"] == 1).any()
    assert (read_traits(block)["size"] == 1).all()


def test_traits_are_kept_for_a_report_without_images(block, monkeypatch):
    of = read_traits(block)

    def gone(*_: object) -> None:
        raise UserError("found no folder")

    monkeypatch.setattr("knowsam_lite.compare.causes.open_dataset", gone)
    again = read_traits(block)
    for name, values in of.items():
        np.testing.assert_array_equal(values, again[name])
