"""The choice of n images from their scores: uncertain ones that differ from each other and from the labelled.

Two steps, after Yang et al. (Suggestive Annotation, MICCAI 2017): of the images that are most uncertain, as
the mean of their ranks under each score, those are taken that cover the encoder's features best.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from knowsam_lite.errors import UserError
from knowsam_lite.suggest.scores import SCORES

WAYS = ("random", "combined", *SCORES, "diversity")
SHORTLIST = 4  # times n images are most uncertain, from which n are taken


def choose(
    way: str,
    scores: Sequence[Mapping[str, float]],
    features: NDArray[np.float32] | None,
    labeled: NDArray[np.float32] | None,
    n: int,
    seed: int = 0,
) -> list[int]:
    """The places of `n` images in the order in which to label them.

    `way`: one of WAYS. `scores`: of each image, all with the same names. `features` (M, D) of the images and
    `labeled` (L, D) of those that have labels already, of length 1; None without an encoder. `seed` is that
    of "random". Raises UserError for a score or features that this run does not have.
    """
    n = min(n, len(scores))
    if way == "random":
        return np.random.default_rng(seed).permutation(len(scores))[:n].tolist()
    if way == "diversity":
        if features is None:
            raise UserError("found no encoder of this library in the run, expected one for its features")
        return k_center(features, labeled, n)
    names = list(scores[0]) if way == "combined" else [way]
    if missing := set(names) - set(scores[0]):
        raise UserError(
            f"found no score {missing.pop()!r} for this run, expected one of {', '.join(scores[0])}: a "
            "single student has no disagreement, and a run without SAM none with it"
        )
    order = np.argsort(-mean_rank([[each[name] for each in scores] for name in names]), kind="stable")
    if way != "combined" or features is None:
        return order[:n].tolist()
    few = order[: SHORTLIST * n]
    return few[k_center(features[few], labeled, n)].tolist()


def mean_rank(columns: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """The mean over the scores of each image's rank, from 0 for the lowest to 1; equals share one."""
    from scipy.stats import rankdata

    ranks = [rankdata(column) for column in columns]
    return (np.mean(ranks, axis=0) - 1) / max(len(columns[0]) - 1, 1)


def k_center(features: NDArray[np.float32], taken: NDArray[np.float32] | None, n: int) -> list[int]:
    """Greedy k-center: again and again the image farthest from all that are taken (Sener and Savarese, 2018).

    `features` (M, D); `taken` (L, D), without any the first image is the first one taken.
    """
    from scipy.spatial.distance import cdist

    first = taken is None or len(taken) == 0
    chosen = [0] if first else []
    nearest = cdist(features, features[:1] if first else taken).min(axis=1)
    for _ in range(n - len(chosen)):
        nearest[chosen] = -1.0
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen
