"""Volume files as series of slices: reads headers, and single slices as pictures."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import scaled_to_bytes
from knowsam_lite.data.records import Record
from knowsam_lite.data.stored import missing
from knowsam_lite.data.volumes import Header, labels_size, read_labels, read_volume, volume_header

H5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".nii.gz", ".nii", *H5_SUFFIXES)
KEPT_BYTES = 1024**3  # volumes kept in memory, per process


def is_volume(path: Path) -> bool:
    """True if the name is that of an h5 or NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def read_header(path: Path) -> Header:
    """The header alone; a file of two axes counts as a volume of one slice. UserError if unreadable."""
    return _header(path, *_state(path))


@lru_cache(maxsize=4096)
def _header(path: Path, changed: int, size: int) -> Header:
    """As `read_header`; time of change and size are part of the cache key, so a changed file is reread."""
    return volume_header(path)


def _state(path: Path) -> tuple[int, int]:
    """Time of change and size of a file; UserError if it is missing or empty."""
    if not path.is_file():
        raise missing(path)
    state = path.stat()
    if state.st_size == 0:
        raise fault(path, "found an empty file (0 bytes), expected a volume", "copy it again")
    return state.st_mtime_ns, state.st_size


def read_labels_size(path: Path, image: Path) -> tuple[int, int, int]:
    """The size (slices, rows, columns) of a mask in its image's order, from the headers alone."""
    return _labels_size(path, image, *_state(path), *_state(image))


@lru_cache(maxsize=4096)
def _labels_size(path: Path, image: Path, *state: int) -> tuple[int, int, int]:
    return labels_size(path, image)


def slices_of(volume: Record) -> list[Record]:
    """A record for each slice of the volume that `volume` names; UserError if its header cannot be read."""
    header = read_header(volume.image)
    digits = len(str(header.shape[0] - 1))
    return [
        replace(
            volume,
            id=f"{volume.id}_slice{index:0{digits}d}",
            index=index,
            volume=volume.id,
            spacing_mm=volume.spacing_mm or header.spacing_mm,
        )
        for index in range(header.shape[0])
    ]


class Slices:
    """Reads slices; the most recent volumes stay in memory, since slices are read one after another."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, ...], np.ndarray] = OrderedDict()

    def image(self, path: Path, index: int) -> np.ndarray:
        """The slice as uint8 (H, W, 3), grey repeated; UserError if the volume cannot be read.

        Values in [0, 1] are multiplied by 255; others are scaled from the volume's own minimum and maximum.
        """
        volume = self._volume(_gray, path)
        return np.repeat(volume[index][..., None], 3, axis=2)

    def values(self, path: Path, index: int, image: Path) -> np.ndarray:
        """The stored labels of the slice of `image`, int64 (H, W), in its order of voxels.

        UserError if they cannot be read or lie on another grid.
        """
        return self._volume(read_labels, path, image)[index].astype(np.int64)

    def _volume(self, read: Callable[..., np.ndarray], *paths: Path) -> np.ndarray:
        if paths not in self._kept:
            _state(paths[0])  # raises if there is no file
            self._kept[paths] = read(*paths)
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(paths)
        return self._kept[paths]


def _gray(path: Path) -> np.ndarray:
    """The volume as uint8 (D, H, W)."""
    image = read_volume(path)
    return np.round(image * 255).astype(np.uint8) if _is_unit(image) else scaled_to_bytes(image)


def _is_unit(image: np.ndarray) -> bool:
    """True if the values are in [0, 1], as in the h5 layout."""
    return bool(image.min() >= 0 and image.max() <= 1)
