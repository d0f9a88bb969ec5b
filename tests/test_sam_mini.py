"""sam_mini: its weights ship and answer prompts; its pretraining is a function of the step."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from torch.testing import assert_close

from knowsam_lite.data.shapes import scene
from knowsam_lite.sam import BACKBONES, PromptedSam, load_pretrained
from knowsam_lite.sam.card import ellipse_in, score, shapes_cases
from knowsam_lite.sam.degrade import spoil, spoil_to, wobble
from knowsam_lite.sam.pretrain import Recipe, Stage, batches, learning_rate, pretrain


@pytest.fixture(scope="module")
def sam_mini():
    sam = PromptedSam(BACKBONES["sam_mini"], 64).eval()
    load_pretrained(sam)
    return sam


def test_weights_are_small_and_finite(sam_mini):
    assert (files("knowsam_lite") / "weights" / "sam_mini.safetensors").stat().st_size < 8_000_000
    assert all(t.isfinite().all() for t in sam_mini.state_dict().values())


def test_a_mask_prompt_mends_a_spoiled_mask(sam_mini):
    s = score(sam_mini, shapes_cases(40, 64), spoiled=0.7, seed=1)
    assert abs(s["spoiled mask"] - 0.7) < 0.02
    assert s["mask prompt"] - s["spoiled mask"] >= 0.10


@pytest.mark.slow
def test_200_unseen_pictures_at_its_own_size():
    sam = PromptedSam(BACKBONES["sam_mini"], 128).eval()
    load_pretrained(sam)
    s = score(sam, shapes_cases(200, 128), spoiled=0.7, seed=0)
    assert s["images"] == 200
    assert s["box prompt"] - max(s["filled box"], s["ellipse"]) >= 0.05
    assert s["mask prompt"] - s["spoiled mask"] >= 0.10


@pytest.mark.parametrize("size", [64, 96, 128])
@torch.inference_mode()
def test_prompts_of_every_kind_at_every_size(size):
    sam = PromptedSam(BACKBONES["sam_mini"], size).eval()
    load_pretrained(sam)
    x = torch.full((1, 3, size, size), 0.2)
    x[..., size // 4 : size // 2, size // 4 : size // 2] = 0.8  # one bright square
    truth = x[0, 0] > 0.5
    middle = 3 * size / 8
    box = torch.tensor([[[size / 4, size / 4, size / 2 - 1, size / 2 - 1]]])
    rough = 6.0 * torch.where(torch.nn.functional.max_pool2d(x[:, :1], 2) > 0.5, 1.0, -1.0)
    prompts = (
        {"boxes": box},
        {"masks": rough},
        {"points": (torch.full((1, 1, 1, 2), middle), torch.ones(1, 1, 1))},
    )
    embedding = sam.encode(x)
    for prompt in prompts:
        z = torch.nn.functional.interpolate(sam.segment(embedding, **prompt), (size, size), mode="bilinear")
        mask = z[0, 0] > 0
        assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.8, prompt.keys()


def test_spoiling_reaches_the_wanted_dice():
    _, which = scene(default_rng(0), 64)
    mask = which > 0
    assert (spoil(mask, default_rng(0), 0.0) == mask).all()
    for wanted in (0.9, 0.7):
        rough = spoil_to(mask, default_rng(1), wanted)
        assert abs(2 * (rough & mask).sum() / (rough.sum() + mask.sum()) - wanted) < 0.1
    soft = wobble(torch.from_numpy(mask)[None], torch.Generator().manual_seed(0))
    assert soft.shape == (1, 64, 64) and ((soft[0] > 0).numpy() == mask).mean() > 0.6


def test_ellipse_touches_its_box():
    ellipse = ellipse_in(np.array([8, 16, 39, 31]), 64)
    y, x = np.nonzero(ellipse)
    assert (x.min(), x.max(), y.min(), y.max()) == (8, 39, 16, 31)
    assert ellipse.sum() == pytest.approx(np.pi * 16 * 8, rel=0.02)


def test_pretraining_is_a_function_of_the_step_and_goes_on_after_a_kill(tmp_path):
    stage = Stage(3, 1e-3, masks=0.4, masks_and_clicks=0.2, boxes=0.2, jitter=0.1, warmup=1)
    few = {"stages": (stage, stage), "pool": (6, 4, 2), "batch": (2, 2, 1), "save_every": 2}
    whole = Recipe(tmp_path / "whole", **few)
    assert whole.steps == 6 and learning_rate(whole, 3) == learning_rate(whole, 0) == 1e-3
    first, again = list(batches(whole, 0))[4], next(batches(whole, 4))
    assert_close(first[2:], again[2:], rtol=0, atol=0)
    path = pretrain(whole)
    cut = Recipe(tmp_path / "cut", **few)
    pretrain(Recipe(tmp_path / "cut", **few | {"stages": (stage,)}))  # stops after the first stage
    assert pretrain(cut).read_bytes()[-1000:] == path.read_bytes()[-1000:]
