"""Reliability, calibration error and risk against coverage, against formulas written out answer by answer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from knowsam_lite.calibration import calibration_error, reliability, risk_coverage
from knowsam_lite.errors import UserError

ANSWERS = st.lists(
    st.tuples(st.floats(0, 1, allow_nan=False).map(lambda c: round(c, 3)), st.booleans()), min_size=1
)


@given(ANSWERS, st.sampled_from([1, 2, 4, 8]))
def test_the_sums_are_those_of_asking_every_answer(answers, bins):
    confidence, right = (np.array(column) for column in zip(*answers, strict=True))
    wanted = np.zeros((3, bins))
    for c, r in answers:
        wanted[:, min(int(c * bins), bins - 1)] += [1, c, r]
    assert np.allclose(reliability(confidence, right, bins), wanted)


@given(ANSWERS)
def test_the_error_is_the_mean_gap_weighted_by_the_answers(answers):
    confidence, right = (np.array(column) for column in zip(*answers, strict=True))
    gaps = 0.0
    for b in range(4):
        here = [b / 4 <= c < (b + 1) / 4 or (b == 3 and c == 1) for c in confidence]
        if any(here):
            gaps += sum(here) / len(here) * abs(right[here].mean() - confidence[here].mean())
    count, confident, correct = reliability(confidence, right, 4)
    assert calibration_error(count, confident, correct) == pytest.approx(gaps, abs=1e-12)
    assert calibration_error(count, count - confident, count - correct) == pytest.approx(gaps, abs=1e-12)


def test_a_calibrated_network_has_no_error_and_a_sure_and_wrong_one_has_all():
    rng = np.random.default_rng(0)
    confidence = rng.random((40, 50, 50))
    right = rng.random(confidence.shape) < confidence
    assert calibration_error(*reliability(confidence, right)) < 0.01
    assert calibration_error(*reliability(np.ones(9), np.zeros(9, bool))) == 1
    with pytest.raises(UserError, match="found no prediction in any bin, expected at least one"):
        calibration_error(np.zeros(4), np.zeros(4), np.zeros(4))


def test_risk_is_the_mean_of_the_least_doubtful():
    coverage, risk = risk_coverage(np.array([0.1, 0.6, 0.2]), np.array([1.0, 3.0, 2.0]))
    assert coverage == pytest.approx([1 / 3, 2 / 3, 1])
    assert risk == pytest.approx([0.1, 0.15, 0.3])
    assert risk_coverage(np.array([5.0, 1.0]), np.array([2.0, 2.0]))[1].tolist() == [5.0, 3.0]
