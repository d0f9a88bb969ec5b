"""Scores of every view of a method on one split: each case at its own size."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data import Record, SegmentationData
from knowsam_lite.data.sampler import load_case
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Method
from knowsam_lite.metrics import dice, score_case, summarize

Case = dict[str, list[float]]  # metric -> one value per foreground class
BATCH = 16  # images predicted at once


def at_native_size(z: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Logits (C, S, S) -> classes uint8 of `size`: resized (bilinear), then the largest taken."""
    z = F.interpolate(z.float().unsqueeze(0), size, mode="bilinear", align_corners=False)
    return z.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()


@torch.inference_mode()
def predicted(
    method: Method,
    dataset: SegmentationData,
    records: Sequence[Record],
    size: int,
    device: torch.device,
    bf16: bool = False,
) -> Iterator[tuple[Record, Tensor, np.ndarray, dict[str, Tensor]]]:
    """Yield each record with x (3, S, S), its mask at native size and the logits (C, S, S) of every view.

    Batched, in evaluation mode, without graphs; the method is left in the mode in which it came.
    """
    was_training = method.training
    method.eval()
    for start in range(0, len(records), BATCH):
        part = records[start : start + BATCH]
        cases = [load_case(dataset, record, size) for record in part]
        x = torch.stack([image for image, _ in cases]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            views = method.views(x)
        for i, record in enumerate(part):
            yield record, x[i], cases[i][1], {name: z[i] for name, z in views.items()}
    method.train(was_training)


def score_split(
    method: Method,
    dataset: SegmentationData,
    split: str,
    size: int,
    device: torch.device,
    bf16: bool = False,
    distances: bool = True,
) -> dict[str, list[Case]]:
    """Score each view on each case of a split, in the order of `dataset.split(split)`.

    `distances`: also HD95 and ASD (in mm where the data set has a spacing, else pixels), not only overlap.
    Raises UserError if the split is empty.
    """
    records = dataset.split(split)
    if not records:
        raise UserError(f"found no {split} images in {dataset.name}, expected some: choose another split")
    scores: dict[str, list[Case]] = {}
    for _, _, truth, views in predicted(method, dataset, records, size, device, bf16):
        for name, z in views.items():
            labels = at_native_size(z, (truth.shape[0], truth.shape[1]))
            if distances:
                case = score_case(labels, truth, dataset.num_classes, dataset.spacing_mm)
            else:
                case = {"dice": [dice(labels == c, truth == c) for c in range(1, dataset.num_classes)]}
            scores.setdefault(name, []).append(case)
    return scores


def case_dice(cases: Sequence[Case]) -> np.ndarray:
    """Dice of each case, mean over its foreground classes: (cases,)."""
    return np.array([np.mean(case["dice"]) for case in cases])


def mean_dice(cases: Sequence[Case]) -> float:
    """Mean Dice over cases and foreground classes."""
    return float(case_dice(cases).mean())


def summary(cases: Sequence[Case], classes: Sequence[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Per class, and over all foreground classes ("mean"), each metric's mean, std, n and 95 % interval."""
    table: dict[str, dict[str, dict[str, float]]] = {}
    for metric in cases[0]:
        values = np.array([case[metric] for case in cases])  # (cases, foreground classes)
        columns = {name: values[:, i] for i, name in enumerate(classes[1:])} | {"mean": values.mean(axis=1)}
        for name, column in columns.items():
            table.setdefault(name, {})[metric] = summarize(column)
    return table
