"""Differences over seeds and cases: against t-tests where one of the two does not vary, and by simulation."""

import numpy as np
import pytest
from scipy import stats

from knowsam_lite.compare.verdicts import verdict_of
from knowsam_lite.errors import UserError
from knowsam_lite.metrics import Difference, crossed

RNG = np.random.default_rng(0)
VALUES = RNG.normal(0.02, 0.1, 40)


def same_as_t(found: Difference, values: np.ndarray) -> None:
    t = stats.ttest_1samp(values, 0)
    low, high = t.confidence_interval()
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.p == pytest.approx(t.pvalue)


def test_where_seeds_agree_it_is_a_t_test_over_the_cases():
    same_as_t(crossed(np.stack([VALUES, VALUES, VALUES])), VALUES)
    found = crossed(VALUES)
    same_as_t(found, VALUES)
    assert found.effect == pytest.approx(VALUES.mean() / VALUES.std(ddof=1))


def test_where_cases_agree_it_is_a_t_test_over_the_seeds():
    seeds = np.array([0.01, 0.03, 0.02])
    same_as_t(crossed(seeds[:, None].repeat(40, axis=1)), seeds)


def test_where_both_vary_it_is_wider_than_either():
    delta = np.array([0.0, 0.03, 0.05])[:, None] + VALUES + RNG.normal(0, 0.02, (3, 40))
    found = crossed(delta)
    assert found.mean == pytest.approx(delta.mean())
    for values in (delta.mean(axis=0), delta.mean(axis=1)):
        assert (found.high - found.low) / 2 > stats.sem(values) * stats.t.ppf(0.975, 39)


def test_variances_of_two_ways_by_hand():
    """2 seeds, 2 cases: squares of the table of means 1 and 3, 1 and 3; what is left is 0.5 each."""
    found = crossed([[0.5, 1.5], [1.5, 4.5]])
    # Means of the seeds 1, 3, of the cases 1, 3, of all 2; rest 0.5, -0.5, -0.5, 0.5.
    seeds, cases, rest = 2 / 1 / 2, 2 / 1 / 2, 1 / 1 / 4
    total = seeds + cases - rest
    free = total**2 / (seeds**2 + cases**2 + rest**2)
    assert found.high - 2 == pytest.approx(np.sqrt(total) * stats.t.ppf(0.975, free))


def test_cases_of_one_patient_count_once():
    patients = RNG.normal(0.02, 0.05, (3, 5))
    groups = [str(i) for i in range(5) for _ in range(8)]
    whole, alone = crossed(patients.repeat(8, axis=1), groups), crossed(patients)
    assert (whole.low, whole.high, whole.p) == pytest.approx((alone.low, alone.high, alone.p))
    uneven = RNG.normal(0, 1, (3, 6))
    assert crossed(uneven, list("aaabbc")).mean == pytest.approx(uneven.mean())
    with pytest.raises(UserError, match="2 groups for 6 images"):
        crossed(uneven, list("ab"))


@pytest.mark.parametrize("seeds", [0.0, 0.01, 0.04])
def test_of_no_difference_about_one_in_twenty_is_called(seeds):
    rng = np.random.default_rng(1)
    draws, shape = 600, (3, 150)
    called = 0
    for _ in range(draws):
        delta = rng.normal(0, seeds, (3, 1)) + rng.normal(0, 0.05, (1, 150)) + rng.normal(0, 0.08, shape)
        called += crossed(delta).p < 0.05
    assert 0.01 < called / draws < 0.1


def test_one_lucky_seed_of_three_is_no_proof():
    delta = np.zeros((3, 500))
    delta[0] = 0.3
    assert crossed(delta).p > 0.3


def test_what_never_varies_is_sure_and_one_case_says_nothing():
    assert crossed(np.zeros((2, 4))) == Difference(0.0, 0.0, 0.0, 1.0, 0.0)
    sure = crossed(np.full((2, 4), 0.25))
    assert (sure.low, sure.high, sure.p) == (0.25, 0.25, 0.0)
    alone = crossed([[0.25]])
    assert (alone.low, alone.high, alone.p) == (-np.inf, np.inf, 1.0)


def test_verdicts():
    ahead = Difference(0.1, 0.05, 0.15, 0.01, 1.0)
    behind = Difference(-0.1, -0.15, -0.05, 0.01, -1.0)
    unsure = Difference(0.1, -0.1, 0.3, 0.3, 0.2)
    said = [verdict_of(ahead, 0.04), verdict_of(behind, 0.04), verdict_of(ahead, 0.06), verdict_of(unsure, 1)]
    assert said == ["better", "worse", "tie (Holm)", "tie"]
