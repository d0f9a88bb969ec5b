"""Scores of every view of a method on one split; each case, an image or a volume, at its native size."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data import Record, SegmentationData
from knowsam_lite.data.records import SPLITS, cases_of
from knowsam_lite.data.sampler import load_case
from knowsam_lite.data.transforms import to_tensor
from knowsam_lite.deprecated import old_names
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Method
from knowsam_lite.metrics import dice, score_case, summarize
from knowsam_lite.predict import Predictor
from knowsam_lite.predict.predictor import as_labels
from knowsam_lite.runs.classes import Classes

__getattr__ = old_names(__name__)

Case = dict[str, list[float]]  # metric -> one value per foreground class
# A record, its image (3, S, S), its mask at native size, and the logits (C, S, S) of every view.
Predicted = tuple[Record, Tensor, np.ndarray, dict[str, Tensor]]


class Watcher(Protocol):
    """Receives every plane and case from `score_split`, so that no second pass is needed."""

    def plane(
        self, record: Record, truth: np.ndarray, labels: dict[str, np.ndarray], views: dict[str, Tensor]
    ) -> None:
        """One image or slice: truth and labels (H, W) at native size, and the logits (C, S, S), by view.

        The truth is -1 where the class is unknown.
        """

    def case(self, scores: dict[str, Case]) -> None:
        """The scores, by view, of the case made up of the planes since the last call."""


def at_native_size(z: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits (C, S, S) -> classes uint8 of `size`: resized (bilinear), then the most likely one."""
    return as_labels(F.interpolate(z.float().unsqueeze(0), size, mode="bilinear", align_corners=False)[0])


@torch.inference_mode()
def predicted(
    method: Method,
    dataset: SegmentationData,
    records: Sequence[Record],
    size: int,
    device: torch.device,
    bf16: bool = False,
    tile: int = 0,
) -> Iterator[Predicted]:
    """Yield each record with x (3, S, S), its mask at native size and the logits (C, S, S) of every view.

    With `tile`, see `Predictor`, x and the logits are at native size, too. Predicts as `Predictor` does; the
    method's train or eval mode is restored afterwards.
    """
    was_training = method.training
    method.eval()
    predictor = Predictor(method, size, Classes.of(dataset), device, bf16, tile=tile)
    cases = ((record, *load_case(dataset, record, size)) for record in records)
    items = (((record, truth), x) for record, x, truth in cases)
    try:
        if tile:
            for record in records:
                image = dataset.image(record)
                yield record, to_tensor(image), dataset.mask(record), predictor.native_views(image)
            return
        for (record, truth), x, views in predictor.views(items):
            yield record, x, truth, views
    finally:  # the caller may stop early
        method.train(was_training)


def score_split(
    method: Method,
    dataset: SegmentationData,
    split: str,
    size: int,
    device: torch.device,
    bf16: bool = False,
    distances: bool = True,
    watcher: Watcher | None = None,
    share: tuple[int, int] = (0, 1),
    tile: int = 0,
) -> dict[str, list[Case]]:
    """Score each view on each case of a split, in the order of `cases_of(dataset.split(split))`.

    All slices of a volume are one case. `distances`: also HD95 and ASD (in the unit that `unit_of` gives),
    not only overlap. `watcher` gets every plane and every case. Pixels whose class is unknown count for
    nothing: they are background in both. `share` (r, n): only every n-th case, from the r-th on; there may be
    none. `tile`: see `Predictor`. Raises UserError if the split is empty, if a volume's slices differ in size
    or if a case has no pixel of a known class.
    """
    cases = dict(list(cases_of(dataset.split(split)).items())[share[0] :: share[1]])
    if not cases and share[1] == 1:
        others = " or ".join(f"--split {name}" for name in SPLITS if dataset.split(name))
        raise UserError(f"found no {split} images in {dataset.name}, expected some: use {others}")
    in_mm = unit_of(dataset, split) == "mm"
    scores: dict[str, list[Case]] = {}
    records = [record for slices in cases.values() for record in slices]
    shown = predicted(method, dataset, records, size, device, bf16, tile)
    for case, items in groupby(shown, key=lambda item: item[0].case):
        truths, labels = _labels(items, watcher)
        first = cases[case][0]
        spacing = _spacing(dataset, first) if in_mm else None
        whole = _whole(first, truths)
        spacing = spacing and spacing[-whole.ndim :]
        known = whole >= 0
        if not known.any():
            raise UserError(
                f"{case}: found a mask of ignored pixels alone, expected some with a class: leave it out"
            )
        for name, planes in labels.items():
            score = _score(
                _whole(first, planes) * known, whole * known, dataset.num_classes, spacing, distances
            )
            scores.setdefault(name, []).append(score)
        if watcher is not None:
            watcher.case({name: done[-1] for name, done in scores.items()})
    return scores


def _labels(
    items: Iterable[Predicted], watcher: Watcher | None
) -> tuple[list[np.ndarray], dict[str, list[np.ndarray]]]:
    """Ground truth of one case's planes, and the predicted labels by view, all at native size."""
    truths: list[np.ndarray] = []
    labels: dict[str, list[np.ndarray]] = {}
    for record, _, truth, views in items:
        truths.append(truth)
        found = {name: at_native_size(z, (truth.shape[0], truth.shape[1])) for name, z in views.items()}
        for name, plane in found.items():
            labels.setdefault(name, []).append(plane)
        if watcher is not None:
            watcher.plane(record, truth, found, views)
    return truths, labels


def unit_of(dataset: SegmentationData, split: str) -> str:
    """ "mm" where the spacing of every case of the split is known, else "pixels" (or voxels)."""
    records = dataset.split(split)
    return "mm" if all(_spacing(dataset, record) is not None for record in records) else "pixels"


def _spacing(dataset: SegmentationData, record: Record) -> tuple[float, ...] | None:
    return record.spacing_mm if record.volume else dataset.spacing_mm


def _whole(record: Record, planes: Sequence[np.ndarray]) -> np.ndarray:
    """The labels of a case: the one plane (H, W) of an image, or those of a volume's slices (D, H, W).

    A single slice is a plane, too: in a volume of depth 1 every voxel lies on the surface.
    """
    if not record.volume or len(planes) == 1:
        return planes[0]
    sizes = sorted({plane.shape for plane in planes})
    if len(sizes) > 1:
        raise UserError(
            f"{record.case}: found slices of {' and '.join(map(str, sizes))} pixels in one volume, expected "
            "one size: correct the column volume of index.csv"
        )
    return np.stack(planes)


def _score(
    found: np.ndarray, truth: np.ndarray, num_classes: int, spacing: Sequence[float] | None, distances: bool
) -> Case:
    if distances:
        return score_case(found, truth, num_classes, spacing)
    return {"dice": [dice(found == c, truth == c) for c in range(1, num_classes)]}


def case_dice(cases: Sequence[Case]) -> np.ndarray:
    """Dice of each case, mean over its foreground classes: (cases,)."""
    return np.array([np.mean(case["dice"]) for case in cases])


def mean_dice(cases: Sequence[Case]) -> float:
    """Mean Dice over cases and foreground classes."""
    return float(case_dice(cases).mean())


def summary(
    cases: Sequence[Case], classes: Sequence[str], groups: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Per class, and over all foreground classes ("mean"), each metric's mean, std, n and 95 % interval, for
    which cases of one of the `groups` count together.
    """
    table: dict[str, dict[str, dict[str, float]]] = {}
    for metric in cases[0]:
        values = np.array([case[metric] for case in cases])  # (cases, foreground classes)
        columns = {name: values[:, i] for i, name in enumerate(classes[1:])} | {"mean": values.mean(axis=1)}
        for name, column in columns.items():
            table.setdefault(name, {})[metric] = summarize(column, groups=groups)
    return table
