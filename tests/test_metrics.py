"""Metrics against medpy and MONAI, their properties, the rule for empty masks, and the bootstrap."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from medpy.metric import binary
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from scipy import ndimage, stats

from knowsam_lite import metrics
from knowsam_lite.errors import UserError

SPACINGS = {2: [None, (1.0, 1.0), (0.5, 2.3)], 3: [None, (5.0, 1.25, 1.25), (0.7, 3.1, 1.0)]}
DISTANCES = (metrics.hd95, metrics.asd)
OVERLAPS = (metrics.dice, metrics.iou)


def blobs(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A non-empty mask of a few smooth objects, which may touch the border; boolean, `shape`."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2.0)
    return noise > np.quantile(noise, 0.85)


@pytest.mark.parametrize("shape", [(40, 53), (12, 30, 26)])
@pytest.mark.parametrize("seed", range(6))
def test_equal_to_medpy_on_non_empty_masks(shape, seed):
    pred, true = blobs(seed, shape), blobs(seed + 100, shape)
    assert metrics.dice(pred, true) == pytest.approx(binary.dc(pred, true), abs=1e-12)
    assert metrics.iou(pred, true) == pytest.approx(binary.jc(pred, true), abs=1e-12)
    for spacing in SPACINGS[len(shape)]:
        expected = (
            binary.hd95(pred, true, voxelspacing=spacing),
            binary.assd(pred, true, voxelspacing=spacing),
        )
        found = metrics.hd95(pred, true, spacing), metrics.asd(pred, true, spacing)
        assert found == pytest.approx(expected, abs=1e-9)


def test_equal_to_medpy_for_single_pixels_and_masks_on_the_border():
    pred, true = np.zeros((2, 20, 31), dtype=bool)
    pred[0, 0] = true[19, 30] = True
    for distance, oracle in ((metrics.hd95, binary.hd95), (metrics.asd, binary.assd)):
        assert distance(pred, true) == pytest.approx(math.hypot(19, 30))
        assert distance(pred, true) == pytest.approx(oracle(pred, true))
    full = np.ones((20, 31), dtype=bool)
    assert metrics.hd95(pred, full) == pytest.approx(binary.hd95(pred, full))


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
def test_monai_takes_the_larger_directed_percentile_instead():
    """HD95 is not one number: the docstring says which is computed, and this pins the difference down."""
    pred, true = np.zeros((2, 64, 64), dtype=bool)
    true[20:30, 20:30] = True
    pred[20:30, 20:30] = pred[50, 50:53] = True
    batch = [torch.from_numpy(mask)[None, None].float() for mask in (pred, true)]
    monai = compute_hausdorff_distance(*batch, include_background=True, percentile=95).item()
    assert metrics.hd95(pred, true) == pytest.approx(binary.hd95(pred, true))
    assert metrics.hd95(pred, true) < monai - 1.0
    symmetric = compute_average_surface_distance(*batch, include_background=True, symmetric=True).item()
    assert metrics.asd(pred, true) == pytest.approx(symmetric, rel=1e-5)


def masks(shape=(9, 11)):
    return hnp.arrays(bool, shape)


@settings(max_examples=60, deadline=None)
@given(masks(), masks(), st.tuples(st.floats(0.2, 5.0), st.floats(0.2, 5.0)))
def test_symmetry_and_bounds(pred, true, spacing):
    diagonal = np.linalg.norm(np.array(pred.shape) * spacing)
    for overlap in OVERLAPS:
        assert overlap(pred, true) == overlap(true, pred)
        assert 0.0 <= overlap(pred, true) <= 1.0
    for distance in DISTANCES:
        assert distance(pred, true, spacing) == pytest.approx(distance(true, pred, spacing))
        assert 0.0 <= distance(pred, true, spacing) <= diagonal * (1 + 1e-12)
    share = metrics.dice(pred, true)
    assert metrics.iou(pred, true) == pytest.approx(share / (2 - share))


@settings(max_examples=60, deadline=None)
@given(masks(), masks(), st.integers(0, 1))
def test_flips_transposes_and_units_change_nothing(pred, true, axis):
    flipped = np.flip(pred, axis), np.flip(true, axis)
    for overlap in OVERLAPS:
        assert overlap(*flipped) == overlap(pred, true)
    for distance in DISTANCES:
        plain = distance(pred, true, (1.5, 0.5))
        assert distance(*flipped, (1.5, 0.5)) == pytest.approx(plain)
        assert distance(pred.T, true.T, (0.5, 1.5)) == pytest.approx(plain)
        assert distance(pred, true, (15.0, 5.0)) == pytest.approx(10 * plain)


@settings(max_examples=30, deadline=None)
@given(masks())
def test_a_mask_equals_itself(mask):
    assert [metric(mask, mask) for metric in (*OVERLAPS, *DISTANCES)] == [1.0, 1.0, 0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(masks(), masks(), st.integers(1, 6))
def test_distances_do_not_depend_on_the_empty_margin(pred, true, margin):
    if pred.any() and true.any():
        for distance in DISTANCES:
            assert distance(np.pad(pred, margin), np.pad(true, margin)) == pytest.approx(distance(pred, true))


def test_the_rule_for_empty_masks():
    empty, some = np.zeros((3, 4), dtype=bool), np.zeros((3, 4), dtype=bool)
    some[1, 1] = True
    assert [metric(empty, empty) for metric in (*OVERLAPS, *DISTANCES)] == [1.0, 1.0, 0.0, 0.0]
    for pair in ((empty, some), (some, empty)):
        assert [metric(*pair) for metric in OVERLAPS] == [0.0, 0.0]
        assert [metric(*pair) for metric in DISTANCES] == [5.0, 5.0]
        assert [metric(*pair, (2.0, 2.0)) for metric in DISTANCES] == [10.0, 10.0]


def test_score_case_lists_every_foreground_class():
    true = np.zeros((6, 8), dtype=np.uint8)
    true[:2], true[2:4] = 1, 2
    pred = true.copy()
    pred[2] = 1
    scores = metrics.score_case(pred, true, num_classes=4, spacing=(2.0, 1.0))
    assert {type(value) for values in scores.values() for value in values} == {float}
    assert scores["dice"] == pytest.approx([2 * 16 / (24 + 16), 2 * 8 / (8 + 16), 1.0])
    assert scores["iou"] == pytest.approx([16 / 24, 8 / 16, 1.0])
    for name, distance in (("hd95", metrics.hd95), ("asd", metrics.asd)):
        assert scores[name] == [distance(pred == c, true == c, (2.0, 1.0)) for c in (1, 2, 3)]


def test_score_case_takes_volumes():
    pred, true = blobs(1, (6, 20, 20)), blobs(2, (6, 20, 20))
    scores = metrics.score_case(pred.astype(int), true.astype(int), 2, (8.0, 1.5, 1.5))
    assert scores["hd95"] == pytest.approx([binary.hd95(pred, true, (8.0, 1.5, 1.5))])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            (np.zeros((3, 3), int), np.zeros((3, 4), int), 2),
            "found shapes (3, 3) and (3, 4), expected one shape",
        ),
        (
            (np.full((3, 3), 7), np.zeros((3, 3), int), 2),
            "found labels 7 to 7 in the prediction, expected 0 to 1",
        ),
        ((np.zeros((3, 3), int), np.full((3, 3), -1), 2), "found labels -1 to -1 in the truth"),
        ((np.zeros((3, 3), int), np.zeros((3, 3), int), 2, (1.0,)), "expected 2 positive numbers"),
        ((np.zeros((3, 3), int), np.zeros((3, 3), int), 2, (1.0, 0.0)), "expected 2 positive numbers"),
    ],
)
def test_bad_input_says_what_was_found_and_expected(arguments, words):
    with pytest.raises(UserError) as caught:
        metrics.score_case(*arguments)
    assert words in str(caught.value)


def test_summary_of_known_values():
    summary = metrics.summarize([0.2, 0.4, 0.6, 0.8])
    assert summary["mean"] == pytest.approx(0.5)
    assert summary["std"] == pytest.approx(np.std([0.2, 0.4, 0.6, 0.8], ddof=1))
    assert summary["n"] == 4
    assert 0.2 <= summary["low"] < 0.5 < summary["high"] <= 0.8
    assert metrics.summarize([0.2, 0.4, 0.6, 0.8]) == summary
    assert metrics.summarize([0.7]) == {"mean": 0.7, "std": 0.0, "n": 1, "low": 0.7, "high": 0.7}


def test_summary_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(3).normal(0.6, 0.1, 400)
    summary = metrics.summarize(values, seed=1)
    error = values.std(ddof=1) / math.sqrt(values.size)
    assert (summary["high"] - summary["low"]) / (2 * 1.96 * error) == pytest.approx(1.0, abs=0.1)


def test_summary_counts_cases_of_one_patient_once():
    patients = np.random.default_rng(0).normal(0.6, 0.1, 5)
    groups = [str(i) for i in range(5) for _ in range(8)]
    whole, alone = metrics.summarize(patients.repeat(8), groups=groups), metrics.summarize(patients)
    assert (whole["low"], whole["high"]) == pytest.approx((alone["low"], alone["high"])) and whole["n"] == 40
    uneven = metrics.summarize([1, 1, 1, 0], groups=list("aaab"))
    assert (uneven["mean"], uneven["low"], uneven["high"]) == (0.75, 0.0, 1.0)


@pytest.mark.parametrize("values", [[], [0.1, float("nan")]])
def test_summary_refuses_nothing_and_nan(values):
    with pytest.raises(UserError, match="expected at least one score"):
        metrics.summarize(values)


def test_paired_bootstrap_on_known_cases():
    a = np.random.default_rng(0).uniform(0.4, 0.9, (3, 40))
    same = metrics.paired_bootstrap(a, a)
    assert same == {"difference": 0.0, "low": 0.0, "high": 0.0, "tie": True, "p": 1.0, "effect": 0.0}
    shifted = metrics.paired_bootstrap(a + 0.1, a)
    assert not shifted["tie"]
    assert [shifted[name] for name in ("difference", "low", "high")] == pytest.approx([0.1, 0.1, 0.1])
    reverse = metrics.paired_bootstrap(a, a + 0.1)
    assert reverse["difference"] == pytest.approx(-0.1)
    assert not reverse["tie"]


def test_paired_bootstrap_calls_noise_a_tie_and_uses_the_pairs():
    rng = np.random.default_rng(1)
    hard = rng.uniform(0.1, 0.9, (3, 60))  # images differ far more than methods do
    noise = rng.normal(0, 0.02, hard.shape)
    assert metrics.paired_bootstrap(hard + noise - noise.mean(), hard)["tie"]
    assert not metrics.paired_bootstrap(hard + 0.02 + noise, hard)["tie"]


def test_paired_bootstrap_draws_groups_whole():
    """Five patients with eight equal images each are five values, however many images they have."""
    rng = np.random.default_rng(0)
    patients = rng.normal(0.02, 0.05, 5)
    a, groups = patients.repeat(8), [str(i) for i in range(5) for _ in range(8)]
    whole = metrics.paired_bootstrap(a, np.zeros(40), groups=groups)
    alone = metrics.paired_bootstrap(patients, np.zeros(5))
    assert whole["low"] == pytest.approx(alone["low"]) and whole["high"] == pytest.approx(alone["high"])
    loose = metrics.paired_bootstrap(a, np.zeros(40))
    assert loose["high"] - loose["low"] < 0.6 * (whole["high"] - whole["low"])
    own = metrics.paired_bootstrap(a, np.zeros(40), groups=[str(i) for i in range(40)])
    assert own == loose
    with pytest.raises(UserError, match="5 groups for 40 images"):
        metrics.paired_bootstrap(a, np.zeros(40), groups=list("abcde"))


def test_paired_bootstrap_counts_seeds_as_luck():
    """One lucky seed out of three is no proof, however many images agree with it."""
    a = np.zeros((3, 500))
    a[0] = 0.3
    assert metrics.paired_bootstrap(a, np.zeros_like(a))["tie"]


def test_paired_bootstrap_takes_one_seed_and_refuses_other_shapes():
    row = np.linspace(0.2, 0.8, 20)
    assert metrics.paired_bootstrap(row + 0.1, row) == metrics.paired_bootstrap(row[None] + 0.1, row[None])
    with pytest.raises(UserError, match="expected one shape"):
        metrics.paired_bootstrap(row, row[:-1])
    with pytest.raises(UserError, match=r"expected \(seeds, images\)"):
        metrics.paired_bootstrap(np.ones((2, 2, 2)), np.ones((2, 2, 2)))


def test_p_agrees_with_the_interval_and_with_a_t_test_on_many_images():
    rng = np.random.default_rng(3)
    delta = 0.02 + 0.1 * rng.standard_normal(400)
    found = metrics.paired_bootstrap(delta, np.zeros(400))
    wanted = stats.ttest_1samp(delta, 0).pvalue
    assert 0.5 * wanted < found["p"] < 2 * wanted + 0.002 and not found["tie"]
    assert found["effect"] == pytest.approx(delta.mean() / delta.std(ddof=1))
    assert metrics.paired_bootstrap(-delta, np.zeros(400))["p"] == found["p"]
    none = metrics.paired_bootstrap(delta - delta.mean(), np.zeros(400))
    assert none["tie"] and none["p"] > 0.5 and abs(none["effect"]) < 1e-9
    assert metrics.effect_size([0.0, 0.0]) == 0 and metrics.effect_size([-0.5, -0.5]) == -np.inf


def test_holm_by_hand():
    assert metrics.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert metrics.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0]) and metrics.holm([0.02]) == [0.02]
    assert metrics.holm([]) == []
