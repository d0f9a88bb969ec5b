"""Calibration of a network's confidence: reliability, calibration error, risk-coverage curve."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from knowsam_lite.errors import UserError

FloatArray = NDArray[np.float64]


def reliability(
    confidence: FloatArray, right: NDArray[np.bool_], bins: int = 10
) -> tuple[NDArray, NDArray, NDArray]:
    """Sort predictions by confidence into equal bins of [0, 1] and sum over each bin.

    `confidence` in [0, 1] and `right` (bool), both of one shape. Bin b holds b / bins <= confidence <
    (b + 1) / bins, the last bin also 1. Returns (count, sum of confidence, number of right predictions), each
    (bins,). The sums of several images can be added; the means of a bin are sum / count.
    """
    part = np.minimum((confidence * bins).astype(int), bins - 1).ravel()
    count = np.bincount(part, minlength=bins).astype(float)
    confident = np.bincount(part, weights=confidence.ravel(), minlength=bins)
    correct = np.bincount(part, weights=right.ravel(), minlength=bins)
    return count, confident, correct


def calibration_error(count: ArrayLike, expected: ArrayLike, observed: ArrayLike) -> float:
    """Expected calibration error (Naeini et al., 2015) from the sums of each bin, (bins,) each.

    ECE = sum_b n_b / N |observed_b / n_b - expected_b / n_b|, in [0, 1]: 0 means that in every bin the
    network is right as often as its confidence says. Sums of errors instead of right predictions give the
    same number. Raises `UserError` if there is no prediction.
    """
    total = float(np.sum(count))
    if total <= 0:
        raise UserError("found no prediction in any bin, expected at least one: count some first")
    return float(np.abs(np.asarray(observed, float) - np.asarray(expected, float)).sum() / total)


def risk_coverage(risk: FloatArray, doubt: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Risk-coverage curve: the mean risk if only the least uncertain predictions are kept.

    `risk` (n,), for instance 1 - Dice, and `doubt` (n,), for instance the mean entropy; of equal doubt the
    earlier one is kept first. Returns (coverage, mean risk of the kept), each (n,): the k-th value is for the
    k predictions of least doubt (El-Yaniv and Wiener, 2010).
    """
    kept = np.arange(1, len(risk) + 1)
    order = np.argsort(doubt, kind="stable")
    return kept / len(risk), np.cumsum(risk[order]) / kept
