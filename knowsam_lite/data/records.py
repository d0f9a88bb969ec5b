"""What every data set looks like to the rest of the library: records, and images and masks by record."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from knowsam_lite.errors import UserError

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Record:
    """One image: its id (unique), its files, the group it belongs to (a patient, a video) and its split.

    `mask` is None for a training image that nobody has labelled.
    """

    id: str
    image: Path
    mask: Path | None
    group: str
    split: str


class SegmentationData(Protocol):
    """What a data set must offer; a class of your own with these members works wherever one of ours does.

    `image(record)` returns uint8 (H, W, 3) RGB, `mask(record)` returns uint8 (H, W) class indices below
    `num_classes`; `spacing_mm` is the size of a pixel (row, column) in mm, or None where distances are in
    pixels.
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
    """The records of one split ("train", "val" or "test"), sorted by id; UserError for any other name."""
    if split not in SPLITS:
        raise UserError(f"found split {split!r}, expected one of {', '.join(SPLITS)}; correct the name")
    return sorted((record for record in records if record.split == split), key=lambda record: record.id)
