"""Volume files as series of slices: reads headers, and single slices as pictures."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.images import missing, scaled_to_bytes
from knowsam_lite.data.records import Record

H5_SUFFIXES = (".h5", ".hdf5")
SUFFIXES = (".nii.gz", ".nii", *H5_SUFFIXES)
KEPT_BYTES = 1024**3  # volumes kept in memory, per process


@dataclass(frozen=True)
class Header:
    """Number of slices, rows and columns of a volume, and the voxel size in mm along each, if given."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None


def is_volume(path: Path) -> bool:
    """True if the name is that of an h5 or NIfTI file."""
    return path.name.lower().endswith(SUFFIXES)


def read_header(path: Path) -> Header:
    """The header alone; a file of two axes counts as a volume of one slice. UserError if unreadable."""
    if not path.is_file():
        raise missing(path)
    state = path.stat()
    if state.st_size == 0:
        raise fault(path, "found an empty file (0 bytes), expected a volume", "copy it again")
    return _header(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4096)
def _header(path: Path, changed: int, size: int) -> Header:
    """As `read_header`; time of change and size are part of the cache key, so a changed file is reread."""
    try:
        shape, spacing = _h5_header(path) if _is_h5(path) else _nifti_header(path)
    except ImportError:
        message = "found a volume but not the package that reads it, expected h5py and nibabel"
        raise fault(path, message, "pip install 'knowsam-lite[volumes]'") from None
    except Fault:
        raise
    except Exception as error:  # both libraries raise all sorts of exceptions on broken files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"found no readable volume ({reason}), expected h5 or NIfTI"
        raise fault(path, message, "replace the file") from None
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape) < 1:
        raise fault(path, f"found axes {shape}, expected slices, rows, columns", "save one volume per file")
    return Header((shape[0], shape[1], shape[2]), spacing)


def _is_h5(path: Path) -> bool:
    return path.name.lower().endswith(H5_SUFFIXES)


def _h5_header(path: Path) -> tuple[tuple[int, ...], None]:
    import h5py

    with h5py.File(path) as file:
        if "image" not in file:
            held = ", ".join(file) or "nothing"
            raise fault(path, f"found {held} inside, expected image and label", "save the image as `image`")
        return tuple(file["image"].shape), None


def _nifti_header(path: Path) -> tuple[tuple[int, ...], tuple[float, float, float] | None]:
    import nibabel

    header: Any = nibabel.load(path).header
    shape, sizes = header.get_data_shape(), [float(mm) for mm in header.get_zooms()]
    while len(shape) > 3 and shape[-1] == 1:  # a time series of one volume
        shape, sizes = shape[:-1], sizes[:-1]
    spacing = (sizes[2], sizes[1], sizes[0]) if len(sizes) == 3 and min(sizes) > 0 else None
    return tuple(int(side) for side in shape[::-1]), spacing  # (x, y, z) -> (slices, rows, columns)


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
        self._kept: OrderedDict[tuple[str, Path], np.ndarray] = OrderedDict()

    def image(self, path: Path, index: int) -> np.ndarray:
        """The slice as uint8 (H, W, 3), grey repeated; UserError if the volume cannot be read.

        Values in [0, 1] are multiplied by 255; others are scaled from the volume's own minimum and maximum.
        """
        volume = self._volume("image", path, _gray)
        return np.repeat(volume[index][..., None], 3, axis=2)

    def values(self, path: Path, index: int) -> np.ndarray:
        """The stored labels of the slice, int64 (H, W); UserError if they cannot be read."""
        return self._volume("labels", path, _labels)[index].astype(np.int64)

    def _volume(self, what: str, path: Path, read: Callable[[Path], np.ndarray]) -> np.ndarray:
        key = (what, path)
        if key not in self._kept:
            self._kept[key] = read(path)
            while len(self._kept) > 1 and sum(v.nbytes for v in self._kept.values()) > KEPT_BYTES:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key]


def _gray(path: Path) -> np.ndarray:
    """The volume as uint8 (D, H, W)."""
    read_header(path)  # raises if the file is not a volume
    image = _read(path).image
    return np.round(image * 255).astype(np.uint8) if _is_unit(image) else scaled_to_bytes(image)


def _is_unit(image: np.ndarray) -> bool:
    """True if the values are in [0, 1], as in the h5 layout, and not all the same."""
    return bool(image.min() >= 0 and image.max() <= 1 and image.dtype.kind == "f")


def _labels(path: Path) -> np.ndarray:
    """The labels (D, H, W) of an h5 file, or a NIfTI file of labels, in the smallest type that holds them."""
    read_header(path)
    volume = _read(path)
    found = volume.labels if _is_h5(path) else volume.image
    if found is None:
        raise fault(path, "found no label inside, expected image and label", "save the labels as `label`")
    whole = np.round(found)
    if (whole != found).any() or whole.min() < 0 or whole.max() > 65535:
        message = "found labels that are not whole numbers from 0 to 65535, expected class values"
        raise fault(path, message, "save the labels as whole numbers")
    return whole.astype(np.uint8 if whole.max() < 256 else np.uint16)


def _read(path: Path) -> Any:
    """The volume; UserError if a value is not finite."""
    from knowsam_lite.data.volumes import read_volume

    volume = read_volume(path)
    strange = int((~np.isfinite(volume.image)).sum())
    if strange:
        message = f"found {strange} values that are no finite number (NaN), expected finite ones"
        raise fault(path, message, "replace the file, or set these voxels to a number")
    return volume
