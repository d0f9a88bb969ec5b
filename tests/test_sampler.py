"""Batches: a pure function of (seed, step), without replacement, and unlabelled masks stay closed."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.data_folders import make_folder, picture, square
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from knowsam_lite.data import SegmentationFolder, Synthetic, choose_labeled, sampler
from knowsam_lite.data.sampler import Batch, StepBatches, Stream, load_case
from knowsam_lite.errors import UserError

DATA = Synthetic("histology", n=32, size=32)
LABELED = choose_labeled(DATA.records, "6", 0)


def batches(dataset=DATA, labeled=LABELED, **changes) -> StepBatches:
    options = {"seed": 0, "batch_labeled": 2, "batch_unlabeled": 3, "size": 32, "unlabeled_aug": "strong"}
    return StepBatches(dataset, labeled, **{**options, **changes})


def same(first: Batch, second: Batch) -> bool:
    return first.ids == second.ids and torch.equal(first.x, second.x) and torch.equal(first.y, second.y)


def test_a_batch_is_the_labelled_half_then_the_unlabelled():
    batch = batches()[0].to("cpu")
    assert batch.x.shape == (5, 3, 32, 32) and batch.y.shape == (5, 32, 32) and batch.n_labeled == 2
    assert batch.x.dtype == torch.float32 and batch.y.dtype == torch.int64
    assert set(batch.ids[:2]) <= LABELED and not set(batch.ids[2:]) & LABELED
    assert (batch.y[:2] >= 0).all() and (batch.y[2:] == -1).all()
    train = {record.id for record in DATA.split("train")}
    assert {name for step in range(20) for name in batches()[step].ids} == train


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(workers):
    loader = DataLoader(batches(), sampler=range(3, 9), batch_size=None, num_workers=workers)
    for step, batch in zip(range(3, 9), loader, strict=True):
        assert same(batch, batches()[step])


@pytest.mark.parametrize(
    ("asked", "cuda", "free", "trainings", "expected"),
    [
        (None, False, 2**31, 1, 0),
        (None, True, 2**31, 1, 4),
        (None, True, 2**31, 3, 2),
        (None, True, 2**26, 1, 0),  # a container's 64 MB
        (0, True, 2**31, 1, 0),
        (7, False, 2**26, 1, 7),
    ],
)
def test_processes_prepare_batches_beside_a_gpu(monkeypatch, asked, cuda, free, trainings, expected):
    monkeypatch.setattr(sampler.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setattr(sampler, "SHARED", Path("/"))
    monkeypatch.setattr(sampler.os, "cpu_count", lambda: 6)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(trainings))
    assert sampler.preparing(asked, cuda) == expected


def test_batches_do_not_depend_on_what_was_asked_before():
    ours = batches()
    backwards = [ours[step] for step in reversed(range(6))][::-1]
    assert all(same(batch, batches()[step]) for step, batch in enumerate(backwards))
    assert not same(ours[0], batches(seed=1)[0])


@given(st.integers(1, 12), st.integers(0, 9))
def test_each_epoch_shows_every_record_once(count, seed):
    stream = Stream(DATA.records[:count], seed, 0)
    for epoch in range(3):
        shown = [stream[epoch * count + place].id for place in range(count)]
        assert len(set(shown)) == count


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5))
def test_fewer_labelled_images_than_their_half_wrap_round(count):
    few = set(sorted(LABELED)[:count])
    batch = batches(labeled=few, batch_labeled=4)[0]
    assert set(batch.ids[:4]) <= few and len(set(batch.ids[:4])) == min(count, 4)


def test_labels_only():
    batch = batches(batch_unlabeled=0)[4]
    assert batch.x.shape[0] == 2 and set(batch.ids) <= LABELED


@pytest.mark.parametrize("damage", ["garbage", "folder", "gone"])
def test_masks_of_unlabelled_images_are_never_opened(tmp_path, damage):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    labeled = choose_labeled(data.records, "3", 0)
    for record in data.split("train"):
        if record.id not in labeled:
            record.mask.unlink()
            if damage == "garbage":
                record.mask.write_bytes(b"no image")
            elif damage == "folder":
                record.mask.mkdir()
    ours = batches(data, labeled)
    seen = {name for step in range(8) for name in ours[step].ids}
    assert seen == {record.id for record in data.split("train")}


def test_a_file_is_decoded_once(tmp_path):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    ours = batches(data, {"i00", "i01"})
    first = [ours[step] for step in range(6)]
    for record in data.records:
        record.image.unlink()
    assert all(same(batch, ours[step]) for step, batch in enumerate(first))


def test_a_full_cache_changes_nothing(monkeypatch):
    expected = [batches()[step] for step in range(4)]
    monkeypatch.setattr("knowsam_lite.data.sampler.CACHE_BYTES", 4000)
    assert all(same(batch, batches()[step]) for step, batch in enumerate(expected))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labeled": set()}, "found 0 labelled images"),
        ({"batch_labeled": 0}, "0 of them per batch"),
        ({"labeled": {"nobody"}}, "found labelled id 'nobody'"),
        (
            {"batch_labeled": 16, "batch_unlabeled": 16},
            "found 20 training images, expected at least one batch of 16",
        ),
        ({"labeled": {record.id for record in DATA.split("train")}}, "found no unlabelled image among 20"),
        ({"unlabeled_aug": "wild"}, "found augmentation 'wild'"),
    ],
)
def test_what_gives_no_batch(changes, match):
    with pytest.raises(UserError, match=match) as caught:
        batches(**changes)
    assert "expected" in str(caught.value) and "\n" not in str(caught.value)


def test_a_case_for_evaluation_keeps_the_native_mask(tmp_path):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    x, mask = load_case(data, data.split("test")[0], 16)
    assert x.shape == (3, 16, 16) and x.min() >= 0 and x.max() <= 1
    assert np.array_equal(mask, square(1)) and picture(0).shape[:2] == mask.shape
