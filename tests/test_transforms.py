"""Augmentation: deterministic in the seed, the mask moves with the image, nothing but classes in the mask."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knowsam_lite.data import Synthetic
from knowsam_lite.data.transforms import KINDS, Augment, resize, resize_mask, to_tensor
from knowsam_lite.errors import UserError

DATA = Synthetic("cardiac", n=8)
IMAGE, MASK = DATA.image(DATA.records[1]), DATA.mask(DATA.records[1])
AUGMENTS = {kind: Augment(kind, 64) for kind in KINDS}


@given(st.sampled_from(KINDS), st.integers(0, 2**40))
@settings(max_examples=40, deadline=None)
def test_the_seed_decides_and_the_mask_changes_nothing(kind, seed):
    x, y = AUGMENTS[kind](IMAGE, MASK, seed)
    again, labels = Augment(kind, 64)(IMAGE, MASK, seed)
    bare, nothing = AUGMENTS[kind](IMAGE, None, seed)
    assert torch.equal(x, again) and torch.equal(y, labels) and torch.equal(x, bare) and nothing is None
    assert x.shape == (3, 64, 64) and x.dtype == torch.float32 and x.min() >= 0 and x.max() <= 1
    assert y.shape == (64, 64) and y.dtype == torch.int64 and set(y.unique().tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize("kind", ["weak", "strong"])
def test_seeds_differ_whatever_the_global_seeds(kind):
    np.random.seed(0)
    torch.manual_seed(0)
    images = {AUGMENTS[kind](IMAGE, None, seed)[0].numpy().tobytes() for seed in range(30)}
    assert len(images) >= 15  # few choices among flips and quarter turns, where nothing else is drawn


def test_the_mask_follows_the_image():
    disc = (MASK == 3).astype(np.uint8)
    image = np.repeat(disc[..., None] * 255, 3, 2)
    for seed in range(40):
        x, y = AUGMENTS["weak"](image, disc, seed)
        assert ((x[0] > 0.5) != (y > 0)).float().mean() < 0.02


def test_borders_reflect_and_never_turn_black():
    white = np.full((64, 64, 3), 200, np.uint8)
    for seed in range(40):
        x, y = AUGMENTS["weak"](white, np.ones((64, 64), np.uint8), seed)
        assert x.min() > 0.75 and y.min() == 1


def test_strong_changes_colours_too():
    changed = 0
    for seed in range(20):
        weak, strong = AUGMENTS["weak"](IMAGE, MASK, seed), AUGMENTS["strong"](IMAGE, MASK, seed)
        changed += not torch.allclose(weak[0], strong[0], atol=0.02)
        assert strong[1].unique().numel() <= 4
    assert changed >= 12


@given(st.integers(10, 90), st.integers(10, 90), st.integers(8, 70))
@settings(max_examples=25, deadline=None)
def test_resizing(height, width, size):
    rng = np.random.default_rng(height * 100 + width)
    image, mask = (
        rng.integers(0, 256, (height, width, 3), np.uint8),
        rng.integers(0, 4, (height, width), np.uint8),
    )
    assert resize(image, size).shape == (size, size, 3)
    small = resize_mask(mask, size)
    assert small.shape == (size, size) and set(np.unique(small)) <= set(np.unique(mask))
    x, y = Augment("none", size)(image, mask, 0)
    assert torch.equal(x, to_tensor(resize(image, size))) and torch.equal(
        y, torch.from_numpy(small.astype(np.int64))
    )


def test_another_kind_is_refused():
    with pytest.raises(UserError, match="found augmentation 'heavy', expected one of none, weak, strong"):
        Augment("heavy", 64)


def test_no_warning_at_import_and_no_call_home():
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    code = "import socket; socket.socket.connect = None; from knowsam_lite.data.transforms import Augment; "
    code += "[Augment(kind, 64) for kind in ('none', 'weak', 'strong')]"
    run = subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code], env=environment, capture_output=True
    )
    assert run.returncode == 0 and b"UserWarning" not in run.stderr, run.stderr.decode()
