"""What the page keeps from a single pass over a split: running sums, and a few cases to show."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.calibration import reliability
from knowsam_lite.data import Record
from knowsam_lite.evaluation import Case, case_dice
from knowsam_lite.uncertainty import entropy_map

BINS = 10  # equal parts of [0, 1] into which pixels are sorted by their uncertainty
SHOWN = 4  # best and worst cases kept, each


@dataclass(frozen=True)
class Shown:
    """A case as shown on the page; for a volume, the slice with the most wrong pixels."""

    record: Record
    truth: NDArray[np.uint8]  # (H, W) classes
    found: NDArray[np.uint8]  # (H, W) classes of the method's own prediction
    uncertainty: NDArray[np.uint8]  # (H, W), 255 times the entropy
    wrong: int  # pixels
    dice: float = float("nan")  # of the whole case, mean over foreground classes
    place: int = -1  # of the case in the split


@dataclass
class Gatherer:
    """Watches the scoring of a split (see `score_split`); holds no more than 2 x SHOWN + 1 planes at a time.

    `view`: the map whose uncertainty and errors count, the method's own prediction.
    """

    view: str
    pixels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))  # in each bin
    wrong: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))  # of these
    expected: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))  # sum of 1 - max p
    sure: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, BINS)))  # `reliability`, summed
    uncertainty: list[float] = field(default_factory=list)  # mean over the pixels of each case
    dice: list[float] = field(default_factory=list)  # of each case, mean over foreground classes
    worst: list[Shown] = field(default_factory=list)
    best: list[Shown] = field(default_factory=list)
    _sum: float = field(default=0.0, init=False)  # these three belong to the current case
    _count: int = field(default=0, init=False)
    _shown: Shown | None = field(default=None, init=False)

    def plane(
        self,
        record: Record,
        truth: NDArray,
        labels: Mapping[str, NDArray],
        views: Mapping[str, Tensor],
    ) -> None:
        """Take one image or slice: truth and labels (H, W) at native size, logits (C, S, S) by view.

        Where the truth is -1 (unknown) nothing is counted.
        """
        h, expected = uncertainty_at(views[self.view], (truth.shape[0], truth.shape[1]))
        found, known = labels[self.view], truth >= 0
        truth = np.where(known, truth, 0).astype(np.uint8)
        wrong = (found != truth) & known
        bins = np.minimum((h * BINS).astype(np.int64), BINS - 1)
        self.pixels += np.bincount(bins[known], minlength=BINS)
        self.wrong += np.bincount(bins[wrong], minlength=BINS)
        self.expected += np.bincount(bins[known], weights=expected[known], minlength=BINS)
        p = confidence_at(views[self.view], (truth.shape[0], truth.shape[1]))
        self.sure += reliability(p[known].astype(np.float64), ~wrong[known], BINS)
        self._sum += float(np.where(known, h, 0).sum(dtype=np.float64))
        self._count += int(known.sum())
        errors = int(np.count_nonzero(wrong))
        if self._shown is None or (errors, truth.sum()) > (self._shown.wrong, self._shown.truth.sum()):
            stored = np.round(h * 255).astype(np.uint8)
            self._shown = Shown(record, truth, found, stored, errors)

    def case(self, scores: Mapping[str, Case]) -> None:
        """End the case of all planes since the last call; `scores` of each view."""
        assert self._shown is not None
        dice = float(case_dice([scores[self.view]])[0])
        shown = replace(self._shown, dice=dice, place=len(self.dice))
        self.dice.append(dice)
        self.uncertainty.append(self._sum / self._count)
        self._sum, self._count, self._shown = 0.0, 0, None
        self.worst = sorted([*self.worst, shown], key=lambda s: (s.dice, s.place))[:SHOWN]
        self.best = sorted([*self.best, shown], key=lambda s: (-s.dice, -s.place))[:SHOWN]

    def extremes(self) -> tuple[list[Shown], list[Shown]]:
        """The worst cases from the worst up and the best from the best down; no case is in both."""
        worst = self.worst[: max(len(self.dice) // 2, 1)]
        taken = {shown.place for shown in worst}
        return worst, [shown for shown in self.best if shown.place not in taken]

    def reliability(self) -> dict[str, list[float]]:
        """Pixels by confidence, ten bins of [0, 1]: their number, sum of confidence and number of right."""
        return dict(zip(("pixels", "confidence", "right"), self.sure.round(3).tolist(), strict=True))

    def as_dict(self) -> dict[str, list[float] | list[int]]:
        """The sums as written to metrics.json."""
        return {
            "edges": np.linspace(0, 1, BINS + 1).round(6).tolist(),
            "pixels": self.pixels.tolist(),
            "wrong": self.wrong.tolist(),
            "expected": self.expected.round(3).tolist(),
            "cases": self.uncertainty,
        }


def confidence_at(z: Tensor, size: tuple[int, int]) -> NDArray[np.float32]:
    """Logits (C, S, S), resized (bilinear) to `size` -> probability of the predicted class, (H, W)."""
    z = F.interpolate(z.float()[None], size, mode="bilinear", align_corners=False)[0]
    confidence: NDArray[np.float32] = z.softmax(dim=0).amax(dim=0).cpu().numpy()
    return confidence


def uncertainty_at(z: Tensor, size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits (C, S, S) -> normalised entropy and 1 - max p, each (H, W) of `size`, resized (bilinear).

    1 - max p is the error rate that the network itself expects.
    """
    maps = torch.stack([entropy_map(z[None])[0], 1 - z.float().softmax(dim=0).amax(dim=0)])
    maps = F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    h, expected = maps.clamp(0, 1).cpu().numpy()
    return h, expected
