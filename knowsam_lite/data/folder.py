"""A data set in a folder: index.csv, a plain pair images/ and masks/, or the lists of the h5 layout."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np

from knowsam_lite.data.description import Layout
from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.images import read_image, read_size
from knowsam_lite.data.layout import read_layout
from knowsam_lite.data.masks import Mask, classes_of, mask_of
from knowsam_lite.data.placing import placed
from knowsam_lite.data.records import Record, records_of
from knowsam_lite.data.slices import Slices, read_header, read_labels_size
from knowsam_lite.data.stored import read_frame, read_stored
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
        self.name, self.coding, self.records = layout.name, layout.coding, layout.records
        self.spacing_mm, self.left_out = layout.spacing_mm, layout.left_out
        self.thresholded: dict[Path, int] = {}  # masks of lossy formats read so far: pixels changed in each
        self.inverted: dict[
            Path, None
        ] = {}  # masks read so far in which viewers show 0 brighter than the rest
        self._colors: dict[int, tuple[tuple[int, ...], Path]] = {}  # of palettes read so far, by index
        self._slices = Slices()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return self.coding.classes

    @property
    def mask_values(self) -> tuple[int, ...]:
        """The value of each class in the mask files; of painted masks 65536 red + 256 green + blue."""
        return self.coding.values

    @property
    def painted(self) -> bool:
        """Whether masks are painted in colors."""
        return self.coding.painted

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    def with_classes(self, names: Sequence[str], values: Sequence[int]) -> "SegmentationFolder":
        """The same folder with these classes and their values, in this order."""
        folder = copy(self)
        folder.coding = replace(self.coding, classes=tuple(names), values=tuple(values))
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
        """The mask (H, W): class indices, uint8, or int16 with -1 where `ignore` of dataset.json stands.

        The pixels of a two-class mask in a lossy format get the nearer of the two values; `thresholded`
        counts them. UserError if there is none, if it is unreadable, holds undeclared values or does not fit
        its image.
        """
        if record.mask is None:
            raise UserError(
                f"{record.id}: found no mask, expected one; add it to index.csv or do not ask for it"
            )
        if record.index is not None:
            _check_sizes(
                record.mask, read_labels_size(record.mask, record.image), read_header(record.image).shape
            )
            values = self._slices.values(record.mask, record.index, record.image)
            return classes_of(record.mask, values, self.coding)
        try:
            found = self.stored_mask(record)
        except Fault:
            self._refuse_swapped(record)
            raise
        return placed(record.mask, found.classes, found.stored.frame, read_frame(record.image), self.coding)

    def stored_mask(self, record: Record) -> Mask:
        """The classes of a picture's mask file as stored, whatever its size and EXIF orientation."""
        assert record.mask is not None
        found = mask_of(record.mask, read_stored(record.mask), self.coding)
        if found.stored.lossy:
            self.thresholded[record.mask] = found.changed
        if found.stored.shows_zero_bright:
            self.inverted[record.mask] = None
        if not self.painted:
            self._compare_palettes(record.mask, found.stored.used_colors())
        return found

    def _compare_palettes(self, path: Path, used: dict[int, tuple[int, ...]]) -> None:
        """UserError if an index has another color than before: it may mean another class."""
        for index, color in used.items():
            known, other = self._colors.setdefault(index, (color, path))
            if known != color:
                message = f"found color {list(color)} for {index}, expected {list(known)} as in {other.name}"
                fix = "declare colors in dataset.json (mask_values as [red, green, blue]), or save gray PNG"
                raise fault(path, message, fix)

    def is_swapped(self, record: Record) -> bool:
        """Whether the image of a bad mask is itself a mask: of two or more classes, and no JPEG, which may
        look like one where it is dark.
        """
        try:
            found = mask_of(record.image, read_stored(record.image), self.coding)
        except Fault:
            return False
        return not found.stored.lossy and bool(found.classes.any()) and not found.classes.all()

    def _refuse_swapped(self, record: Record) -> None:
        """UserError if the image file is a mask, where the mask file is none."""
        assert record.mask is not None
        if self.is_swapped(record):
            message = f"found a picture as mask and a mask as image ({record.image.name})"
            fix = "swap them: images belong in images/, masks in masks/"
            raise fault(record.mask, f"{message}, expected the reverse", fix)

    def shown(self, values: Sequence[int]) -> str:
        """Stored mask values as text; those of painted masks as [red, green, blue]."""
        return self.coding.shown(values)


def _check_sizes(mask: Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """UserError if a label volume's size differs from its image's."""
    if found != wanted:
        message = f"found a mask of {_pixels(found)} for an image of {_pixels(wanted)}, expected equal sizes"
        raise fault(mask, message, "resize the mask (nearest neighbour) or replace it")


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[0]} slices of {size[2]}x{size[1]} px"
