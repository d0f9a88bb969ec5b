"""A data set in a folder: index.csv, a plain pair images/ and masks/, or the lists of the h5 layout."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path

import numpy as np

from knowsam_lite.data.description import EXAMPLE, Layout
from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.images import (
    LOSSY,
    as_rgb,
    read_colors,
    read_image,
    read_size,
    read_values,
    threshold,
    to_classes,
)
from knowsam_lite.data.layout import read_layout
from knowsam_lite.data.records import Record, records_of
from knowsam_lite.data.slices import Slices, read_header
from knowsam_lite.errors import UserError
from knowsam_lite.files import in_shell


class SegmentationFolder:
    """The data set in folder `root`; pictures and volumes are read only when asked for.

    Without index.csv the files of images/ and masks/ are paired by name, and `val` and `test` (fractions of
    the images, in an order given by `seed`) set what is held out; with index.csv all three are ignored.
    UserError names the first fault of the layout and counts the others.
    """

    def __init__(self, root: str | Path, val: float = 0.2, test: float = 0.2, seed: int = 0) -> None:
        self.root = Path(root)
        layout = read_layout(self.root, val, test, seed)
        if layout.findings:
            others = len(layout.findings) - 1
            more = (
                f" ({others} more faults: knowsam-lite check-data {in_shell(root)} lists all)"
                if others
                else ""
            )
            raise UserError(f"{layout.findings[0]}{more}")
        self._take(layout)

    @classmethod
    def from_layout(cls, root: Path, layout: Layout) -> "SegmentationFolder":
        """A folder whose layout may have faults, for code that collects them."""
        folder = cls.__new__(cls)
        folder.root = root
        folder._take(layout)
        return folder

    def _take(self, layout: Layout) -> None:
        self.name, self.classes, self.mask_values = layout.name, layout.classes, layout.mask_values
        self.spacing_mm, self.records, self.declared = layout.spacing_mm, layout.records, layout.declared
        self.painted = layout.painted
        self.thresholded: dict[Path, int] = {}  # JPEG masks read so far: pixels changed in each
        self._slices = Slices()

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    def with_classes(self, names: Sequence[str], values: Sequence[int]) -> "SegmentationFolder":
        """The same folder with these classes and their values, in this order."""
        folder = copy(self)
        folder.classes, folder.mask_values = tuple(names), tuple(values)
        return folder

    def split(self, name: str) -> list[Record]:
        """The records of "train", "val" or "test", sorted by id; empty if the folder has none."""
        return records_of(self.records, name)

    def image(self, record: Record) -> np.ndarray:
        """The image, uint8 (H, W, 3) RGB; UserError if the file is not an image."""
        if record.index is not None:
            return self._slices.image(record.image, record.index)
        return read_image(record.image)

    def image_size(self, record: Record) -> tuple[int, int]:
        """Height and width of the image in pixels, from its header alone."""
        if record.index is not None:
            return read_header(record.image).shape[1:]
        return read_size(record.image)

    def mask(self, record: Record) -> np.ndarray:
        """The mask, uint8 (H, W) class indices (file values mapped through `mask_values`).

        The pixels of a two-class JPEG mask get the nearer of the two values; `thresholded` counts them.
        UserError if there is none, if it is unreadable, holds undeclared values or differs in size from the
        image.
        """
        if record.mask is None:
            raise UserError(
                f"{record.id}: found no mask, expected one; add it to index.csv or do not ask for it"
            )
        if record.index is not None:  # for volumes the headers suffice
            _check_sizes(record.mask, read_header(record.mask).shape, read_header(record.image).shape)
        try:
            values = self.stored(record)
        except Fault:
            self._refuse_swapped(record)
            raise
        _check_sizes(record.mask, values.shape, self.image_size(record))
        return self.mapped(record, values)

    def mapped(self, record: Record, values: np.ndarray) -> np.ndarray:
        """The values of a record's mask file as classes, uint8 (H, W); UserError for undeclared values."""
        assert record.mask is not None
        if record.mask.suffix.lower() in LOSSY and self.num_classes == 2 and not self.painted:
            values, self.thresholded[record.mask] = threshold(values, self.mask_values)
        classes, undeclared = to_classes(values, self.mask_values)
        if undeclared:
            self._refuse_swapped(record)
            raise fault(record.mask, self._undeclared(undeclared), self._undeclared_fix(record.mask))
        return classes

    def stored(self, record: Record) -> np.ndarray:
        """What the mask file holds, int64 (H, W), before it is mapped to classes."""
        assert record.mask is not None
        if record.index is not None:
            return self._slices.values(record.mask, record.index)
        return read_colors(record.mask) if self.painted else read_values(record.mask)

    def _refuse_swapped(self, record: Record) -> None:
        """UserError if the image file is a valid mask of two or more classes and the mask file is not."""
        if record.index is not None:
            return
        try:
            values = read_colors(record.image) if self.painted else read_values(record.image)
        except Fault:
            return
        classes, undeclared = to_classes(values, self.mask_values)
        if not undeclared and classes.any() and not classes.all():
            message = f"found a picture as mask and a mask as image ({record.image.name})"
            fix = "swap them: images belong in images/, masks in masks/"
            raise fault(record.mask, f"{message}, expected the reverse", fix)

    def shown(self, values: Sequence[int]) -> str:
        """Stored mask values as text; those of painted masks as [red, green, blue]."""
        few = [str(as_rgb(value)) if self.painted else str(value) for value in values[:6]]
        return ", ".join(few) + (f", ... ({len(values)} values)" if len(values) > 6 else "")

    def _undeclared(self, values: list[int]) -> str:
        expected = ", ".join(str(as_rgb(v)) if self.painted else str(v) for v in self.mask_values)
        return f"found mask values {self.shown(values)}, expected only {expected} ({', '.join(self.classes)})"

    def _undeclared_fix(self, path: Path) -> str:
        if path.suffix.lower() in LOSSY:
            return "save the mask as PNG: JPEG changes values"
        if not self.declared:
            return f"write dataset.json with all classes and their values, such as {EXAMPLE}"
        return "correct the mask, or mask_values in dataset.json"


def _check_sizes(mask: Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """UserError if a mask's size or number of slices differs from its image's."""
    if found != wanted:
        message = f"found a mask of {_pixels(found)} for an image of {_pixels(wanted)}, expected equal sizes"
        raise fault(mask, message, "resize the mask (nearest neighbour) or replace it")


def _pixels(size: tuple[int, ...]) -> str:
    slices = f"{size[0]} slices of " if len(size) == 3 else ""
    return f"{slices}{size[-1]}x{size[-2]} px"
