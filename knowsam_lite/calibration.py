"""Whether a network's confidence can be believed: reliability, calibration error, risk against coverage."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knowsam_lite.errors import UserError

FloatArray = NDArray[np.float64]


def reliability(
    confidence: FloatArray, right: NDArray[np.bool_], bins: int = 10
) -> tuple[NDArray, NDArray, NDArray]:
    """Sort answers by their confidence into equal parts of [0, 1]; the sums of each part.

    `confidence` in [0, 1] and `right` (bool), both of one shape. Part b holds b / bins <= confidence <
    (b + 1) / bins, the last one 1 too. Returns (count, sum of confidence, number of right answers), each
    (bins,): sums, so that those of several images can be added. The means of a part are sum / count.
    """
    part = np.minimum((confidence * bins).astype(int), bins - 1).ravel()
    count = np.bincount(part, minlength=bins).astype(float)
    confident = np.bincount(part, weights=confidence.ravel(), minlength=bins)
    correct = np.bincount(part, weights=right.ravel(), minlength=bins)
    return count, confident, correct


def calibration_error(count: ArrayLike, expected: ArrayLike, observed: ArrayLike) -> float:
    """Expected calibration error (Naeini et al., 2015) from the sums of each part, (bins,) each.

    ECE = sum_b n_b / N |observed_b / n_b - expected_b / n_b|, in [0, 1]: 0 means that the network is right
    as often as it says, part by part. Sums of errors in place of right answers give the same number.
    Raises `UserError` when no answer was counted.
    """
    total = float(np.sum(count))
    if total <= 0:
        raise UserError("found no answer in any part, expected at least one: count some before")
    return float(np.abs(np.asarray(observed, float) - np.asarray(expected, float)).sum() / total)


def risk_coverage(risk: FloatArray, doubt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """What is left to risk if only the answers of least doubt are kept: the risk-coverage curve.

    `risk` (n,), for instance 1 - Dice, and `doubt` (n,), for instance the mean entropy; of equal doubt the
    earlier one is kept first. Returns (coverage, mean risk of the kept), each (n,): the k-th value is about
    the k answers of least doubt (El-Yaniv and Wiener, 2010).
    """
    kept = np.arange(1, len(risk) + 1)
    order = np.argsort(doubt, kind="stable")
    return kept / len(risk), np.cumsum(risk[order]) / kept
