"""Segmentation metrics: Dice, IoU, HD95 and ASD per class and case, and statistics over cases.

One rule for empty masks applies everywhere. Both empty: Dice and IoU are 1, the distances 0. One empty: Dice
and IoU are 0, and the distances are the image's diagonal, which no distance between two masks exceeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, special

from knowsam_lite.errors import UserError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

RESAMPLES = 2000  # bootstrap repetitions: the ends of a 95 % interval then vary by about 1 % of its width


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its 95 % interval, the p of none, and Cohen's d of the cases."""

    mean: float
    low: float
    high: float
    p: float
    effect: float


def dice(pred: ArrayLike, true: ArrayLike) -> float:
    """Dice 2 |P n T| / (|P| + |T|), in [0, 1], of two boolean masks of one shape (H, W) or (D, H, W).

    Empty masks follow the module's rule. Raises `UserError` when the shapes differ.
    """
    p, t = _masks(pred, true)
    total = np.count_nonzero(p) + np.count_nonzero(t)
    return float(2 * np.count_nonzero(p & t) / total) if total else 1.0


def iou(pred: ArrayLike, true: ArrayLike) -> float:
    """Intersection over union |P n T| / |P u T| (Jaccard) of two boolean masks of one shape, in [0, 1].

    Empty masks follow the module's rule. Raises `UserError` when the shapes differ.
    """
    p, t = _masks(pred, true)
    union = np.count_nonzero(p | t)
    return float(np.count_nonzero(p & t) / union) if union else 1.0


def hd95(pred: ArrayLike, true: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """95 % Hausdorff distance of two boolean masks of one shape, in pixels or in the unit of `spacing` (mm).

    It is the 95th percentile of the surface distances of both directions pooled, which is medpy's `hd95`.
    MONAI takes the larger of the two directed percentiles instead and so differs. `spacing` has one number
    per axis. Empty masks follow the module's rule. Raises `UserError` when the shapes differ or the spacing
    does not fit.
    """
    p, t = _masks(pred, true)
    return _surface_scores(p, t, _spacing(spacing, p.ndim))[0]


def asd(pred: ArrayLike, true: ArrayLike, spacing: Sequence[float] | None = None) -> float:
    """Average surface distance of two boolean masks of one shape, in pixels or in the unit of `spacing` (mm).

    It is the mean of the surface distances of both directions pooled, which is the `assd` of medpy 0.5 and
    MONAI's symmetric distance; older medpy averaged the two directed means, and medpy's `asd` is one
    direction only. Empty masks follow the module's rule. Raises `UserError` when the shapes differ or the
    spacing does not fit.
    """
    p, t = _masks(pred, true)
    return _surface_scores(p, t, _spacing(spacing, p.ndim))[1]


def surface(mask: BoolArray) -> BoolArray:
    """The elements of a boolean mask (H, W) or (D, H, W) that have a neighbour along an axis outside it.

    Pixels beyond the image's edge are outside. This is medpy's connectivity 1.
    """
    inner: BoolArray = ndimage.binary_erosion(mask, ndimage.generate_binary_structure(mask.ndim, 1))
    return mask & ~inner


def score_case(
    pred: ArrayLike, true: ArrayLike, num_classes: int, spacing: Sequence[float] | None = None
) -> dict[str, list[float]]:
    """All four metrics of one case for each foreground class 1 .. num_classes - 1.

    `pred` and `true` are integer labels (H, W) or, for a volume, (D, H, W), in 0 .. num_classes - 1;
    `spacing` is the size of a pixel along each axis. Returns {"dice", "iou", "hd95", "asd"}, each a list over
    the foreground classes.
    Raises `UserError` when the shapes differ, a label is out of range or the spacing does not fit.
    """
    p, t = _labels(pred, num_classes, "prediction"), _labels(true, num_classes, "truth")
    _same_shape(p, t)
    step = _spacing(spacing, p.ndim)
    scores: dict[str, list[float]] = {"dice": [], "iou": [], "hd95": [], "asd": []}
    for label in range(1, num_classes):
        p_c, t_c = p == label, t == label
        far, mean = _surface_scores(p_c, t_c, step)
        for name, value in (("dice", dice(p_c, t_c)), ("iou", iou(p_c, t_c)), ("hd95", far), ("asd", mean)):
            scores[name].append(value)
    return scores


def summarize(values: ArrayLike, seed: int = 0, groups: Sequence[str] | None = None) -> dict[str, float]:
    """Mean, standard deviation (n - 1 in the denominator), n and the bootstrap 95 % interval of the mean.

    `values` is one number per case. Returns {"mean", "std", "n", "low", "high"}; the interval is the
    percentile bootstrap over cases, determined by `seed`; `groups`: whom each case is of, as cases of one
    patient are drawn together. Raises `UserError` for no value, one that is not finite, or other groups.
    """
    x = _finite(values, "values").ravel()
    places = members(groups, x.size)
    sums, sizes = np.array([[x[place].sum(), place.size] for place in places]).T
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(places), len(places)) for _ in range(RESAMPLES))
    means = [sums[drawn].sum() / sizes[drawn].sum() for drawn in draws]
    low, high = np.percentile(means, [2.5, 97.5])
    std = x.std(ddof=1) if x.size > 1 else 0.0
    return {"mean": float(x.mean()), "std": float(std), "n": x.size, "low": float(low), "high": float(high)}


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, seed: int = 0, groups: Sequence[str] | None = None
) -> dict[str, Any]:
    """Mean of a - b and its 95 % interval for two methods scored on the same seeds and images.

    `a` and `b` have shape (seeds, images), or (images,) for one seed, with the same seed and image at the
    same index. Every repetition resamples seeds and images, both with replacement and with pairs kept
    together, so that the interval covers the variance of both. `groups`: whom each image is of; all images
    of a patient or a video are then drawn together, for they are not independent. Few seeds show little of
    how seeds vary, and the interval is too narrow for that: `crossed` is made for them.

    Returns {"difference", "low", "high", "tie", "p", "effect"}; a tie is an interval that contains 0. "p" is
    twice the share of repetitions on the rarer side of 0, at least 2 / 2001. "effect" is the `effect_size`
    over the images, each its mean over the seeds. Raises `UserError` when the shapes differ, nothing is given
    or a number is not finite.
    """
    first, second = _finite(a, "a"), _finite(b, "b")
    _same_shape(first, second)
    delta = np.atleast_2d(first - second)
    if delta.ndim != 2:
        raise UserError(f"found scores of shape {first.shape}, expected (seeds, images): reshape them")
    seeds, images = delta.shape
    rng = np.random.default_rng(seed)
    places = members(groups, images)
    count = len(places)
    draws = [(rng.integers(0, seeds, seeds), rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    if count == images:
        rows, columns = (np.stack(drawn) for drawn in zip(*draws, strict=True))
        means = drawn_means(delta, rows, columns)
    else:
        each = (delta[np.ix_(row, np.concatenate([places[g] for g in drawn]))] for row, drawn in draws)
        means = np.array([found.mean() for found in each])
    low, high = np.percentile(means, [2.5, 97.5])
    rarer = 1 + min((means <= 0).sum(), (means >= 0).sum())
    return {
        "difference": float(delta.mean()),
        "low": float(low),
        "high": float(high),
        "tie": bool(low <= 0.0 <= high),
        "p": float(min(1.0, 2 * rarer / (1 + RESAMPLES))),
        "effect": effect_size(delta.mean(axis=0)),
    }


def crossed(delta: ArrayLike, groups: Sequence[str] | None = None) -> Difference:
    """The mean of `delta` (seeds, cases) where both are a few of many: other seeds and cases differ, too.

    Two-way random effects: the mean's variance is that of the seeds' means plus that of the cases' means,
    less what both contain, and never less than either; the interval is Student's t with Satterthwaite's
    degrees of freedom (1946, "An approximate distribution of estimates of variance components"). Few seeds
    that differ make it wide: with three, up to 4.3 standard errors. Where there is no difference, and with
    three seeds, 3 to 7 % of the intervals leave out 0, by how much seeds vary (simulated), and up to 22 % of
    `paired_bootstrap`'s. `groups`: whom each case is of; those of a patient count together. Of one
    seed only the cases' share is known. Raises UserError for groups that do not fit.
    """
    of_seeds = np.atleast_2d(np.asarray(delta, dtype=np.float64))
    means = of_seeds.mean(axis=1, keepdims=True)
    places = members(groups, of_seeds.shape[1])
    # A group's share of its seed's mean, as a deviation from it: groups may differ in size.
    shares = [(of_seeds[:, place] - means).sum(axis=1) for place in places]
    x = means + np.stack(shares, axis=1) * len(places) / of_seeds.shape[1]
    (s, g), mean = x.shape, float(x.mean())
    seeds, cases = x.mean(axis=1) - mean, x.mean(axis=0) - mean
    rest = x - mean - seeds[:, None] - cases
    known = []  # variances of the mean, and their degrees of freedom
    if s > 1:
        known.append((float(seeds @ seeds) / (s - 1) / s, s - 1.0))
    if g > 1:
        known.append((float(cases @ cases) / (g - 1) / g, g - 1.0))
    if s > 1 and g > 1:
        known.append((float((rest**2).sum()) / ((s - 1) * (g - 1)) / (s * g), (s - 1.0) * (g - 1)))
        total = known[0][0] + known[1][0] - known[2][0]
        free = total**2 / max(sum(v**2 / f for v, f in known), np.finfo(float).tiny)
        known[2] = (total, max(free, 1.0))
    variance, free = max(known, default=(np.inf, 1.0))
    error = float(np.sqrt(variance))
    half = error * float(special.stdtrit(free, 0.975))
    t = abs(mean) / error if error else np.inf * bool(mean)
    p = float(2 * special.stdtr(free, -t)) if mean else 1.0
    return Difference(mean, mean - half, mean + half, p, effect_size(x.mean(axis=0)))


def members(groups: Sequence[str] | None, images: int) -> list[NDArray[np.intp]]:
    """The places of the images of each group, in the order of the groups' first images; None: each its own.

    Raises `UserError` unless there is a group for each image.
    """
    labels = list(range(images)) if groups is None else list(groups)
    if len(labels) != images:
        raise UserError(f"found {len(labels)} groups for {images} images, expected one for each")
    places: dict[Any, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    return [np.array(found) for found in places.values()]


def effect_size(delta: ArrayLike) -> float:
    """Cohen's d of paired values: the mean of differences (images,) over their standard deviation.

    0 where all differences are 0, infinite where they are all equal and not 0, or where there is one.
    """
    values = np.asarray(delta, dtype=np.float64)
    mean, spread = values.mean(), values.std(ddof=1) if values.size > 1 else 0.0
    return float(mean / spread) if spread > 1e-12 else float(mean and np.copysign(np.inf, mean))


def holm(p: Sequence[float]) -> list[float]:
    """The p of several comparisons, corrected so that all claims at 5 % together err in at most 5 % of cases.

    Holm (1979), "A simple sequentially rejective multiple test procedure": the i-th smallest of m (i from 0)
    is multiplied by m - i and is never smaller than the one before it.
    """
    corrected, largest = [0.0] * len(p), 0.0
    for i, place in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        largest = max(largest, min(1.0, (len(p) - i) * p[place]))
        corrected[place] = largest
    return corrected


def drawn_means(delta: FloatArray, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> FloatArray:
    """Mean of `delta` (seeds, images) in each repetition: over the seeds and images drawn in it.

    `rows` (R, seeds) and `columns` (R, images) hold the drawn indices; every seed is paired with every image.
    Returns (R,).
    """
    means = np.zeros(len(rows))
    for r in range(len(means)):
        drawn = delta[np.ix_(rows[r], columns[r])]  # every drawn seed with every drawn image
        means[r] = drawn.mean()
    return means


def _surface_scores(pred: BoolArray, true: BoolArray, spacing: FloatArray) -> tuple[float, float]:
    """(HD95, ASD) of two boolean masks of one shape; both from one pair of distance transforms."""
    if not pred.any() and not true.any():
        return 0.0, 0.0
    if not pred.any() or not true.any():
        diagonal = float(np.linalg.norm(np.array(pred.shape) * spacing))
        return diagonal, diagonal
    # Every surface lies inside the box around both objects, so nothing outside it can change a distance.
    box = ndimage.find_objects((pred | true).astype(np.uint8))[0]
    surface_p, surface_t = surface(pred[box]), surface(true[box])
    to_true = ndimage.distance_transform_edt(~surface_t, sampling=spacing)[surface_p]
    to_pred = ndimage.distance_transform_edt(~surface_p, sampling=spacing)[surface_t]
    pooled = np.concatenate([to_true, to_pred])
    return float(np.percentile(pooled, 95)), float(pooled.mean())


def _masks(pred: ArrayLike, true: ArrayLike) -> tuple[BoolArray, BoolArray]:
    p, t = np.asarray(pred, dtype=bool), np.asarray(true, dtype=bool)
    _same_shape(p, t)
    return p, t


def _same_shape(first: NDArray[Any], second: NDArray[Any]) -> None:
    if first.shape != second.shape:
        raise UserError(
            f"found shapes {first.shape} and {second.shape}, expected one shape: resize one to the other"
        )


def _labels(labels: ArrayLike, num_classes: int, name: str) -> NDArray[Any]:
    array = np.asarray(labels)
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        raise UserError(
            f"found labels {array.min()} to {array.max()} in the {name}, expected 0 to {num_classes - 1}: "
            "map the mask to class indices first"
        )
    return array


def _spacing(spacing: Sequence[float] | None, ndim: int) -> FloatArray:
    step = np.ones(ndim) if spacing is None else np.asarray(spacing, dtype=float)
    if step.shape != (ndim,) or not (np.isfinite(step) & (step > 0)).all():
        raise UserError(
            f"found spacing {spacing}, expected {ndim} positive numbers, one per axis of the mask"
        )
    return step


def _finite(values: ArrayLike, name: str) -> FloatArray:
    array = np.asarray(values, dtype=float)
    if array.size == 0 or not np.isfinite(array).all():
        found = "no number" if array.size == 0 else "a number that is not finite"
        raise UserError(
            f"found {found} in {name}, expected at least one score and only finite ones: score again"
        )
    return array
