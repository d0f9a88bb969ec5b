"""Data sets (folders and synthetic), labelled subsets, augmentation, batches and checks."""

from pathlib import Path

from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.records import Record, SegmentationData
from knowsam_lite.data.split import choose_labeled
from knowsam_lite.data.synthetic import KINDS, Synthetic, write
from knowsam_lite.errors import UserError

__all__ = [
    "KINDS",
    "Record",
    "SegmentationData",
    "SegmentationFolder",
    "Synthetic",
    "choose_labeled",
    "open_dataset",
    "write",
]


def is_synthetic(address: str) -> bool:
    """Whether an address names images that the library draws."""
    return address.startswith("synthetic:")


def open_dataset(
    address: str | Path, size: int = 64, val: float = 0.2, test: float = 0.2
) -> SegmentationFolder | Synthetic:
    """The data set at `address`: "synthetic:KIND", "synthetic:KIND:N", "synthetic:KIND:N:SEED" or a folder.

    A folder may hold pictures, NIfTI volumes or the h5 layout; each slice of a volume is a record. `size` is
    the side of synthetic images in pixels; `val` and `test` are the fractions held out of a plain pair of
    folders. UserError if the address is malformed or holds nothing usable.
    """
    if not is_synthetic(str(address)):
        return SegmentationFolder(address, val=val, test=test)
    kind, *numbers = str(address).split(":")[1:]
    if len(numbers) > 2 or not all(number.isdecimal() for number in numbers):
        raise UserError(
            f"found address {address!r}, expected synthetic:KIND[:N[:SEED]]; write numbers from 0 up"
        )
    n, seed = [int(number) for number in numbers] + [200, 0][len(numbers) :]
    return Synthetic(kind, seed=seed, n=n, size=size)
