"""A data set in a folder: dataset.json and index.csv, or a plain pair of folders images/ and masks/."""

from pathlib import Path

import numpy as np

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import read_image, read_size, read_values
from knowsam_lite.data.layout import EXAMPLE, Layout, read_layout
from knowsam_lite.data.records import Record, records_of
from knowsam_lite.errors import UserError


class SegmentationFolder:
    """The data set in folder `root`; pictures are read only when asked for.

    Without index.csv the files of images/ and masks/ are paired by name, and `val` and `test` (fractions of
    the images, in an order given by `seed`) say what is held out; with index.csv these three are not used.
    UserError names the first fault of the layout and counts the others.
    """

    def __init__(self, root: str | Path, val: float = 0.2, test: float = 0.2, seed: int = 0) -> None:
        self.root = Path(root)
        layout = read_layout(self.root, val, test, seed)
        if layout.findings:
            others = len(layout.findings) - 1
            more = f" ({others} more faults: check-data {root} lists all)" if others else ""
            raise UserError(f"{layout.findings[0]}{more}")
        self._take(layout)

    @classmethod
    def from_layout(cls, root: Path, layout: Layout) -> "SegmentationFolder":
        """A folder whose layout may have faults, for those who look for more of them."""
        folder = cls.__new__(cls)
        folder.root = root
        folder._take(layout)
        return folder

    def _take(self, layout: Layout) -> None:
        self.name, self.classes, self.mask_values = layout.name, layout.classes, layout.mask_values
        self.spacing_mm, self.records, self._declared = layout.spacing_mm, layout.records, layout.declared

    @property
    def num_classes(self) -> int:
        """Classes with the background."""
        return len(self.classes)

    def split(self, name: str) -> list[Record]:
        """The records of "train", "val" or "test", sorted by id; empty if the folder has none."""
        return records_of(self.records, name)

    def image(self, record: Record) -> np.ndarray:
        """The image, uint8 (H, W, 3) RGB; UserError if the file is no image."""
        return read_image(record.image)

    def image_size(self, record: Record) -> tuple[int, int]:
        """Height and width of the image in pixels, from its header alone."""
        return read_size(record.image)

    def mask(self, record: Record) -> np.ndarray:
        """The mask, uint8 (H, W) class indices (file values mapped through `mask_values`).

        UserError if there is none, if it is unreadable, holds undeclared values or differs in size from the
        image.
        """
        if record.mask is None:
            raise UserError(
                f"{record.id}: found no mask, expected one; add it to index.csv or do not ask for it"
            )
        values = read_values(record.mask)
        size = self.image_size(record)
        if values.shape != size:
            sizes = f"a mask of {_pixels(values.shape)} for an image of {_pixels(size)}"
            raise fault(
                record.mask,
                f"found {sizes}, expected equal sizes",
                "resize the mask (nearest neighbour) or replace it",
            )
        found = np.unique(values)
        undeclared = [int(v) for v in found if v not in self.mask_values]
        if undeclared:
            raise fault(record.mask, self._undeclared(undeclared), self._undeclared_fix(record.mask))
        table = np.zeros(int(max(self.mask_values)) + 1, np.uint8)
        table[list(self.mask_values)] = np.arange(self.num_classes)
        return table[values]

    def _undeclared(self, values: list[int]) -> str:
        shown = ", ".join(map(str, values[:6])) + (f", ... ({len(values)} values)" if len(values) > 6 else "")
        expected = ", ".join(map(str, self.mask_values))
        return f"found mask values {shown}, expected only {expected} ({', '.join(self.classes)})"

    def _undeclared_fix(self, path: Path) -> str:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            return "save the mask as PNG: JPEG changes values"
        if not self._declared:
            return f"write dataset.json with all classes and their values, such as {EXAMPLE}"
        return "correct the mask, or mask_values in dataset.json"


def _pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]} px"
