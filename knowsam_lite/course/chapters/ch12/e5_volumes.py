"""Exercise 12.5, volumes."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.data import Record
from knowsam_lite.metrics import dice, hd95

Planes = Sequence[np.ndarray]
Score = Callable[[list[Record], list[np.ndarray], list[np.ndarray]], dict[str, tuple[float, float]]]
SPACING = {"scan a": (8.0, 1.5, 1.25), "scan b": (1.0, 3.0, 0.5)}


def _slices(seed: int = 0) -> tuple[list[Record], list[np.ndarray], list[np.ndarray]]:
    """Twelve and three slices of two scans of one patient, shuffled; the object ends before the scan."""
    records, found, truth = [], [], []
    for k, (volume, count) in enumerate((("scan a", 12), ("scan b", 3))):
        coarse = noise(2, 1, max(count // 2, 2), 3, 4, seed=seed + k, scale=1.0)
        whole = F.interpolate(coarse, (count, 9, 11), mode="trilinear")[:, 0].numpy()
        whole[:, -2:] -= 9.0
        whole[0, 1] += 0.8
        whole[0, -1, 4, 5] = 9.0  # one stray pixel outside the object
        for i in range(count):
            name, path = f"{volume} slice {i}", Path(volume)
            records.append(
                Record(
                    name, path, path, "patient", "test", index=i, volume=volume, spacing_mm=SPACING[volume]
                )
            )
            found.append(whole[0, i] > 0)
            truth.append(whole[1, i] > -0.2)
    turns = noise(len(records), seed=seed + 5).argsort().tolist()
    return [records[i] for i in turns], [found[i] for i in turns], [truth[i] for i in turns]


def right_scores(
    records: list[Record],
    found: Planes,
    truth: Planes,
    order: Callable[[Record], Any] | None = lambda record: record.index,
    score: Callable[[np.ndarray, np.ndarray, Any], tuple[float, float]] = lambda p, t, mm: (
        dice(p, t),
        hd95(p, t, mm),
    ),
    key: Callable[[Record], Any] = lambda record: record.volume,
) -> dict[str, tuple[float, float]]:
    """One score per volume, built from parts; each mistake replaces one."""
    scores = {}
    for volume in dict.fromkeys(key(record) for record in records):
        places = [i for i, record in enumerate(records) if key(record) == volume]
        if order is not None:
            places.sort(key=lambda i: order(records[i]))
        p, t = (np.stack([planes[i] for i in places]) for planes in (found, truth))
        scores[volume] = score(p, t, records[places[0]].spacing_mm)
    return scores


def _numbers(made: dict[str, tuple[float, float]]) -> Tensor:
    return torch.tensor([[float(value) for value in made[volume]] for volume in sorted(made)])


def _score_probe(f: Score) -> list[Tensor]:
    return [_numbers(f(*_slices(seed))) for seed in (0, 10, 20)]


def _score_column(f: Score, column: int) -> bool:
    return all(
        same(_numbers(f(*_slices(seed)))[:, column], _numbers(right_scores(*_slices(seed)))[:, column])
        for seed in (0, 30, 40)
    )


def _score_order(f: Score) -> bool:
    """Slices in order and shuffled score the same."""
    records, found, truth = _slices(50)
    tidy = sorted(range(len(records)), key=lambda i: (records[i].volume, records[i].index))
    in_order = [records[i] for i in tidy], [found[i] for i in tidy], [truth[i] for i in tidy]
    return same(_numbers(f(records, found, truth)), _numbers(f(*in_order)))


def _score_kept(f: Score) -> bool:
    records, found, truth = _slices(60)
    before = list(records)
    f(records, found, truth)
    return records == before


def _by_slice(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return float(np.mean([dice(a, b) for a, b in zip(p, t, strict=True)])), hd95(p, t, mm)


def _flat_distances(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return dice(p, t), float(np.mean([hd95(a, b, mm[1:]) for a, b in zip(p, t, strict=True)]))


def _slice_by_slice(p: np.ndarray, t: np.ndarray, mm: Any) -> tuple[float, float]:
    return _by_slice(p, t, mm)[0], _flat_distances(p, t, mm)[1]


def _records_alone(records: list[Record], found: Planes, truth: Planes) -> dict[str, tuple[float, float]]:
    return right_scores(sorted(records, key=lambda record: record.index or 0), found, truth)


def _all_as_one(records: list[Record], found: Planes, truth: Planes) -> dict[str, tuple[float, float]]:
    tidy = sorted(range(len(records)), key=lambda i: (records[i].volume, records[i].index or 0))
    p, t = (np.stack([planes[i] for i in tidy]) for planes in (found, truth))
    return {v: (dice(p, t), hd95(p, t, SPACING[v])) for v in SPACING}


VOLUMES = Exercise(
    "12.5",
    "one score for each volume",
    _score_probe,
    (
        Property(
            "interface",
            "score_volumes(records, found, truth): volume id -> two numbers",
            lambda f: (
                takes(f, 3)
                and sorted(f(*_slices())) == list(SPACING)
                and all(len(pair) == 2 for pair in f(*_slices()).values())
            ),
        ),
        Property("Dice", "over the whole volume", lambda f: _score_column(f, 0)),
        Property("HD95", "over the whole volume, in mm", lambda f: _score_column(f, 1)),
        Property("order", "the same scores, in whatever order the slices come", _score_order),
        Property("quiet", "the list of records is left as it was", _score_kept),
    ),
    (
        Mistake(
            "mean over slices",
            "Dice is a mean over slices; a slice without object is then all or nothing.",
            "hint 3: stack the slices, then one call of dice.",
            lambda r, f, t: right_scores(r, f, t, score=_by_slice),
        ),
        Mistake(
            "distances by slice",
            "HD95 is a mean over slices: the distance to the object in the next slice is never seen.",
            "hint 3: stack the slices, then one call of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=_flat_distances),
        ),
        Mistake(
            "everything by slice",
            "both scores are means over slices: no volume was ever put together.",
            "hint 3: stack the slices, then one call of dice and one of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=_slice_by_slice),
        ),
        Mistake(
            "only the records sorted",
            "the records were sorted and the masks were not, so each record has another one's mask.",
            "hint 2: sort the numbers of the slices, which all three lists share.",
            _records_alone,
        ),
        Mistake(
            "by patient",
            "the slices were collected by their group; two scans of one patient are two volumes.",
            "the text: record.volume is the id of the scan.",
            lambda r, f, t: right_scores(r, f, t, key=lambda record: record.group),
        ),
        Mistake(
            "voxels",
            "HD95 is in voxels; the spacing was not used.",
            "hint 4: the spacing is the third argument of hd95.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (dice(p, t), hd95(p, t))),
        ),
        Mistake(
            "axes exchanged",
            "the spacing was turned round: the thickness of a slice became the width of a pixel.",
            "hint 4: slice, row, column, just as the record has it.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (dice(p, t), hd95(p, t, mm[::-1]))),
        ),
        Mistake(
            "as they come",
            "the slices were stacked in the order in which they came: neighbours in the stack are none.",
            "hint 2: sort by index.",
            lambda r, f, t: right_scores(r, f, t, order=None),
        ),
        Mistake(
            "sorted by name",
            "the slices were sorted by their ids, where 10 comes before 2.",
            "hint 2: sort by index, a number.",
            lambda r, f, t: right_scores(r, f, t, order=lambda record: record.id),
        ),
        Mistake(
            "all scans as one",
            "the slices of all scans were stacked into one volume.",
            "hint 1: a list of slices for each volume id.",
            _all_as_one,
        ),
        Mistake(
            "Dice and distance exchanged",
            "the pair is the other way round: Dice comes first.",
            "the text: Dice, and HD95 in mm.",
            lambda r, f, t: right_scores(r, f, t, score=lambda p, t, mm: (hd95(p, t, mm), dice(p, t))),
        ),
        Mistake(
            "slices along the last axis",
            "the slices lie along the last axis, and the spacing begins with theirs.",
            "hint 3: np.stack puts them in front.",
            lambda r, f, t: right_scores(
                r,
                f,
                t,
                score=lambda p, t, mm: (dice(p, t), hd95(np.moveaxis(p, 0, -1), np.moveaxis(t, 0, -1), mm)),
            ),
        ),
    ),
    right_scores,
)
