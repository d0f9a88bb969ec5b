"""Pictures larger than a network's field, as squares: a data set of them, and where they lie."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from knowsam_lite.data.records import Record, SegmentationData, records_of


def starts(length: int, side: int, overlap: int = 0) -> list[int]:
    """Where squares of `side` pixels begin that cover `length` pixels; neighbors share `overlap` or more.

    The last one ends with the picture; a picture shorter than a square has one, which is then padded.
    """
    return [*range(0, max(length - side, 0), side - overlap), max(length - side, 0)]


def padded(picture: np.ndarray, side: int) -> np.ndarray:
    """(H, W, ...) mirrored at its lower and right borders to at least `side` x `side` pixels."""
    missing = [(0, max(side - length, 0)) for length in picture.shape[:2]]
    return np.pad(picture, missing + [(0, 0)] * (picture.ndim - 2), mode="symmetric")


@dataclass(frozen=True, kw_only=True)
class Tile(Record):
    """A square of another record, whose upper left pixel is `corner` (row, column)."""

    of: Record
    corner: tuple[int, int]


class Tiles:
    """The training pictures of a data set, cut into squares of `side` pixels; val and test are left whole.

    A tile is a record; the tiles of a picture are labelled together (`ids_of`).
    """

    def __init__(self, dataset: SegmentationData, side: int) -> None:
        self.dataset, self.side = dataset, side
        self.name, self.classes, self.num_classes = dataset.name, dataset.classes, dataset.num_classes
        self.spacing_mm = dataset.spacing_mm
        self.records = [tile for record in dataset.records for tile in self._cut(record)]
        self._of: dict[str, list[Tile]] = {}  # the tiles of a picture, by the id of its record
        for tile in self.records:
            if isinstance(tile, Tile):
                self._of.setdefault(tile.of.id, []).append(tile)

    def _cut(self, record: Record) -> list[Record]:
        if record.split != "train":
            return [record]
        height, width = _size(self.dataset, record)
        return [
            Tile(**{**vars(record), "id": f"{record.id}@{y},{x}"}, of=record, corner=(y, x))
            for y in starts(height, self.side)
            for x in starts(width, self.side)
        ]

    def ids_of(self, ids: Collection[str]) -> list[str]:
        """The ids of all tiles of the pictures with these ids."""
        return [tile.id for tile in self.records if isinstance(tile, Tile) and tile.of.id in ids]

    def split(self, name: str) -> list[Record]:
        """The records of "train", "val" or "test"."""
        return records_of(self.records, name)

    def image(self, record: Record) -> np.ndarray:
        """The square, uint8 (side, side, 3), or the whole picture of val and test."""
        if not isinstance(record, Tile):
            return self.dataset.image(record)
        return self._square(self.dataset.image(record.of), record)

    def mask(self, record: Record) -> np.ndarray:
        """Its class indices (side, side), or those of the whole picture."""
        if not isinstance(record, Tile):
            return self.dataset.mask(record)
        return self._square(self.dataset.mask(record.of), record)

    def squares(self, of: Record, labeled: bool) -> Iterator[tuple[Record, np.ndarray, np.ndarray | None]]:
        """Every tile of a training picture, its square, and its mask if `labeled`: one reading for all."""
        image, mask = self.dataset.image(of), self.dataset.mask(of) if labeled else None
        for tile in self._of[of.id]:
            yield tile, self._square(image, tile), None if mask is None else self._square(mask, tile)

    def _square(self, picture: np.ndarray, tile: Tile) -> np.ndarray:
        y, x = tile.corner
        return padded(picture[y : y + self.side, x : x + self.side], self.side)


def _size(dataset: SegmentationData, record: Record) -> tuple[int, int]:
    """Height and width, from the header where the data set can."""
    if hasattr(dataset, "image_size"):
        return dataset.image_size(record)
    return dataset.image(record).shape[:2]
