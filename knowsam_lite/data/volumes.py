"""Volumes in h5 and NIfTI files: sizes, numbers, and labels in the image's order."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.images import refuse_not_finite
from knowsam_lite.data.nifti import (
    PACKED,
    is_nifti,
    labels_like,
    labels_shape,
    nifti_bytes,
    numbers_of,
    open_nifti,
    shape_of,
    spacing_of,
)
from knowsam_lite.files import write_aside

NEAR_WHOLE = 1e-4  # labels that a header's slope scales are whole up to rounding
LARGEST = 2.0**53  # whole numbers above it are not exact in every type


@dataclass(frozen=True)
class Header:
    """Number of slices, rows and columns of a volume, and the voxel size in mm along each, if given."""

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None


@contextmanager
def readable_volume(path: Path) -> Iterator[None]:
    """Any failure to open or decode a volume becomes a UserError."""
    try:
        yield
    except Fault:
        raise
    except ImportError:
        message = "found a volume but not the package that reads it, expected h5py and nibabel"
        raise fault(path, message, "pip install 'knowsam-lite[volumes]'") from None
    except BlockingIOError:
        message = "found a file that another program has open for writing, expected it closed"
        raise fault(path, message, "close it there (a notebook keeps it open until file.close())") from None
    except Exception as error:  # both libraries raise all sorts of exceptions on broken files
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        message = f"found no readable volume ({reason}), expected h5 or NIfTI"
        raise fault(path, message, "replace the file") from None


def volume_header(path: Path) -> Header:
    """Size and spacing from the header alone; two axes are a volume of one slice. UserError if unreadable."""
    with readable_volume(path):
        spacing = None
        if is_nifti(path):
            image = open_nifti(path)
            shape, spacing = shape_of(image)[::-1], spacing_of(path, image)  # (x, y, z) -> (z, y, x)
        else:
            shape = _h5_shape(path, "image")
    return Header(_three_sides(path, shape), spacing)


def _three_sides(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(shape) == 2:
        shape = (1, *shape)
    if len(shape) != 3 or min(shape) < 1:
        raise fault(path, f"found axes {shape}, expected slices, rows, columns", "save one volume per file")
    return shape[0], shape[1], shape[2]


def labels_size(path: Path, image: Path) -> tuple[int, int, int]:
    """The size of a mask (slices, rows, columns) in its image's order, from the headers alone."""
    with readable_volume(path):
        _refuse_mixed(path, image)
        shape = labels_shape(path, image) if is_nifti(path) else _h5_shape(path, "label")
    return _three_sides(path, shape)


def _refuse_mixed(path: Path, image: Path) -> None:
    if is_nifti(path) != is_nifti(image):
        message = f"found mask and image ({image.name}) of different kinds, whose axes cannot be compared"
        raise fault(path, f"{message}, expected two NIfTI or two h5 files", "save both as the same kind")


def read_volume(path: Path) -> np.ndarray:
    """The image of an h5 or NIfTI file, float32 (D, H, W); UserError if a value is not finite."""
    with readable_volume(path):
        if is_nifti(path):
            numbers = numbers_of(open_nifti(path), np.float32)
        else:
            numbers = _h5_numbers(path, "image").astype(np.float32)
        refuse_not_finite(path, numbers)
    return numbers


def read_labels(path: Path, image: Path) -> np.ndarray:
    """The labels of an h5 or NIfTI file in the order of `image`: whole numbers (D, H, W), small if they fit.

    UserError if they are not whole, or if the two grids do not fit.
    """
    with readable_volume(path):
        _refuse_mixed(path, image)
        found = labels_like(path, image) if is_nifti(path) else _h5_numbers(path, "label")
        if found.dtype.kind not in "biuf":
            raise fault(path, f"found labels of type {found.dtype}, expected numbers", "save whole numbers")
        refuse_not_finite(path, found)
        whole = np.round(found) if found.dtype.kind == "f" else found
        beyond = max(abs(float(whole.min())), abs(float(whole.max()))) > LARGEST
        if beyond or (found.dtype.kind == "f" and (np.abs(whole - found) > NEAR_WHOLE).any()):
            some = ", ".join(f"{value:g}" for value in np.unique(found)[:6])
            message = f"found labels that are not whole numbers ({some}), expected class values"
            raise fault(path, message, "save the labels as whole numbers (numpy.round)")
    if whole.min() < 0 or whole.max() > 65535:
        return whole.astype(np.int64)
    return whole.astype(np.uint8 if whole.max() < 256 else np.uint16)


def _h5_shape(path: Path, key: str) -> tuple[int, ...]:
    import h5py

    with h5py.File(path, "r") as file:
        return tuple(int(side) for side in _h5_array(path, file, key).shape)


def _h5_array(path: Path, file: Any, key: str) -> Any:
    """The array `key` of an open file, whose size the file can hold; UserError if there is none."""
    import h5py

    if not isinstance(file.get(key), h5py.Dataset):
        held = ", ".join(list(file)[:6]) or "nothing"
        message = f"found no {key} inside ({held}), expected image and label"
        raise fault(path, message, f"save it as `{key}` (h5py: file.move(OLD, '{key}'))")
    array, size = file[key], path.stat().st_size
    if array.size * array.dtype.itemsize > size * PACKED:
        message = f"found {size} bytes that cannot hold {array.size} numbers of {key}, expected a whole file"
        raise fault(path, message, "copy it again")
    return array


def _h5_numbers(path: Path, key: str) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        numbers = np.asarray(_h5_array(path, file, key))
    return numbers[None] if numbers.ndim == 2 else numbers


def write_labels(path: Path, labels: np.ndarray, like: Path) -> None:
    """Write labels (D, H, W) in the file format, axis order, spacing and affine of the volume `like`.

    h5: `label` with the shape of `image`, attributes kept. NIfTI: header and affine kept. Written to a
    temporary file and renamed. Raises UserError if the file cannot be written.
    """
    labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    content = (nifti_bytes if is_nifti(like) else _h5_bytes)(labels, like)
    write_aside(path, lambda file: file.write(content))


def _h5_bytes(labels: np.ndarray, like: Path) -> bytes:
    import h5py

    content = io.BytesIO()
    with h5py.File(like, "r") as source, h5py.File(content, "w") as file:
        shape = source["image"].shape
        file.create_dataset("label", data=labels.reshape(shape), compression="gzip")
        for old, new in ((source, file), (source["image"], file["label"])):
            new.attrs.update(old.attrs)
    return content.getvalue()
