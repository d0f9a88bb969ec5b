"""Synthetic data sets: pure functions of (kind, seed, index, size), varied, written and read back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowsam_lite.data import KINDS, Synthetic, open_dataset, write
from knowsam_lite.data.synthetic import _draw
from knowsam_lite.errors import UserError

TASKS = [kind for kind in KINDS if kind != "shapes"]


@pytest.mark.parametrize("kind", KINDS)
def test_images_and_masks_are_what_the_interface_says(kind):
    data = Synthetic(kind, seed=3, n=24)
    assert len(data.records) == 24 and data.num_classes == len(data.classes)
    for record in data.records:
        image, mask = data.image(record), data.mask(record)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        assert mask.shape == (64, 64) and mask.dtype == np.uint8 and mask.max() < data.num_classes
        assert image.std() > 5
    assert len({data.image(record).tobytes() for record in data.records}) == 24


@pytest.mark.parametrize("kind", TASKS)
def test_every_class_occurs_and_none_fills_the_images(kind):
    data = Synthetic(kind, seed=1, n=32)
    masks = np.stack([data.mask(record) for record in data.records])
    shares = np.bincount(masks.ravel(), minlength=data.num_classes) / masks.size
    assert (shares[1:] > 0.005).all() and shares[0] > 0.4
    assert masks.any((1, 2)).sum() >= 29  # tissue without glands occurs


@given(st.sampled_from(sorted(KINDS)), st.integers(0, 99), st.integers(0, 40))
@settings(max_examples=25, deadline=None)
def test_an_image_depends_on_kind_seed_index_and_size_alone(kind, seed, index):
    first = [array.copy() for array in _draw(kind, seed, index, 32)]
    _draw.cache_clear()
    Synthetic(kind, seed=seed + 1, n=3).image(Synthetic(kind, seed=seed + 1, n=3).records[2])
    again = _draw(kind, seed, index, 32)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], _draw(kind, seed + 1, index, 32)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 97, 128])
def test_any_size_can_be_drawn(kind, size):
    data = Synthetic(kind, n=2, size=size)
    assert data.image(data.records[1]).shape == (size, size, 3) and data.mask(data.records[1]).shape == (
        size,
        size,
    )
    assert data.image_size(data.records[1]) == (size, size)


@pytest.mark.parametrize("kind", KINDS)
def test_groups_stay_together_and_the_splits_have_their_shares(kind):
    data = Synthetic(kind, n=320)
    shares = [len(data.split(name)) / 320 for name in ("train", "val", "test")]
    assert np.allclose(shares, [0.625, 0.125, 0.25])
    splits = {}
    for record in data.records:
        splits.setdefault(record.group, set()).add(record.split)
    assert all(len(found) == 1 for found in splits.values()) and len(splits) == 320 // KINDS[kind].group_size


def test_a_larger_data_set_begins_with_the_smaller():
    small, large = Synthetic("cardiac", n=20), Synthetic("cardiac", n=60)
    assert large.records[:20] == small.records


def test_slices_of_a_patient_share_the_anatomy_and_shrink_towards_the_apex():
    data = Synthetic("cardiac", n=64)
    patients = np.stack([data.mask(record) for record in data.records]).reshape(8, 8, 64, 64)
    areas = (patients > 0).sum((2, 3))
    assert (areas[:, 0] > 2 * areas[:, 7]).all()
    middles = np.array([[np.argwhere(mask == 3).mean(0) for mask in patient] for patient in patients])
    assert middles.std(1).mean() < 0.5 * middles.mean(1).std(0).mean()


def test_drawn_arrays_are_shared_and_therefore_read_only():
    data = Synthetic("ultrasound", n=2)
    with pytest.raises(ValueError, match="read-only"):
        data.image(data.records[0])[0, 0] = 0


@pytest.mark.parametrize("kind", ["cardiac", "histology"])
def test_written_data_reads_back_the_same(tmp_path, kind):
    data = Synthetic(kind, seed=2, n=9)
    folder = write(data, tmp_path / "new" / "data")
    assert (folder.name, folder.classes) == (data.name, data.classes)
    for ours, theirs in zip(data.records, folder.records, strict=True):
        assert (ours.id, ours.group, ours.split) == (theirs.id, theirs.group, theirs.split)
        assert np.array_equal(data.image(ours), folder.image(theirs))
        assert np.array_equal(data.mask(ours), folder.mask(theirs))
    with pytest.raises(UserError, match="expected a new or empty folder"):
        write(data, tmp_path / "new" / "data")


def test_writing_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="not writable"):
        write(Synthetic("shapes", n=1), tmp_path / "file" / "data")


def test_addresses():
    assert len(open_dataset("synthetic:shapes").records) == 200
    data = open_dataset("synthetic:cardiac:40:7", size=32)
    assert (data.kind, len(data.records), data.seed, data.size) == ("cardiac", 40, 7, 32)


@pytest.mark.parametrize(
    ("address", "match"),
    [
        ("synthetic:brain", "found synthetic kind 'brain', expected one of colonoscopy"),
        ("synthetic:shapes:many", "expected synthetic:KIND"),
        ("synthetic:shapes:1:2:3", "expected synthetic:KIND"),
        ("synthetic:shapes:0", "expected n from 1"),
        ("no/such/folder", "found no folder there"),
    ],
)
def test_bad_addresses(address, match):
    with pytest.raises(UserError, match=match):
        open_dataset(address)
