"""The interface of every data set: its records, and the image and mask of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from knowsam_lite.data.walk import natural
from knowsam_lite.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Record:
    """One image: its id (unique), its files, the group it belongs to (a patient, a video) and its split.

    `mask` is None for an unlabelled training image. A slice of a volume also has `index`, its position in the
    file (from 0), `volume`, the id of the volume, which is scored as one case, and `spacing_mm`, the voxel
    size (slice, row, column) in mm if known.
    """

    id: str
    image: Path
    mask: Path | None
    group: str
    split: str
    index: int | None = None
    volume: str = ""
    spacing_mm: tuple[float, float, float] | None = None

    @property
    def case(self) -> str:
        """The id of the case that is scored: the volume, or the image itself."""
        return self.volume or self.id


class SegmentationData(Protocol):
    """The interface of a data set; your own class with these members works wherever a built-in one does.

    `image(record)` returns uint8 (H, W, 3) RGB, `mask(record)` class indices (H, W) below `num_classes`:
    uint8, or int16 with -1 where the class is unknown. `spacing_mm` is the size of a pixel (row, column) in
    mm, or None where distances are in pixels.
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def spacing_mm(self) -> tuple[float, float] | None: ...

    @property
    def records(self) -> Sequence[Record]: ...

    def split(self, name: str) -> list[Record]: ...

    def image(self, record: Record) -> np.ndarray: ...

    def mask(self, record: Record) -> np.ndarray: ...


def records_of(records: Sequence[Record], split: str) -> list[Record]:
    """The records of one split ("train", "val" or "test"), sorted by case, the slices of a volume in order.

    Slices that are pictures are in the natural order of their ids: slice2 before slice10.

    UserError for any other name.
    """
    if split not in SPLITS:
        raise UserError(f"found split {split!r}, expected one of {', '.join(SPLITS)}; correct the name")
    chosen = [record for record in records if record.split == split]
    return sorted(chosen, key=lambda record: (record.case, record.index or 0, natural(record.id)))


def cases_of(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each case in their order: one image each, or all slices of a volume."""
    cases: dict[str, list[Record]] = {}
    for record in records:
        cases.setdefault(record.case, []).append(record)
    return cases
