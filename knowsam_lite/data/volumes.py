"""Volumes in h5 and NIfTI files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.findings import Fault, fault


@dataclass(frozen=True)
class Volume:
    """image float32 (D, H, W), labels (D, H, W) or None, spacing in mm (slice, row, column), affine (4, 4).

    A file that does not say its spacing has 1 mm along each axis and no affine.
    """

    image: np.ndarray
    labels: np.ndarray | None
    spacing: tuple[float, float, float]
    affine: np.ndarray | None


def read_volume(path: Path) -> Volume:
    """An h5 file with `image` and perhaps `label`, or a NIfTI file; UserError if it cannot be read.

    Two axes become a volume of one slice. NIfTI axes (x, y, z) come as (z, y, x).
    """
    try:
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _read_nifti(path)
        return _read_h5(path)
    except Fault:
        raise
    except Exception as error:  # h5py and nibabel raise whatever a broken file leads them to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"found no readable volume ({reason}), expected h5 or NIfTI"
        raise fault(path, message, "replace the file") from None


def _read_h5(path: Path) -> Volume:
    import h5py

    with h5py.File(path) as file:
        image = _three_axes(np.asarray(file["image"], np.float32))
        labels = _three_axes(np.asarray(file["label"])) if "label" in file else None
    return Volume(image, labels, (1.0, 1.0, 1.0), None)


def _read_nifti(path: Path) -> Volume:
    import nibabel

    file: Any = nibabel.load(path)
    image = np.asarray(file.dataobj, np.float32)
    while image.ndim > 3 and image.shape[-1] == 1:  # a series of one volume
        image = image[..., 0]
    x, y, z = (*(float(mm) for mm in file.header.get_zooms()), 1.0)[:3]
    return Volume(_three_axes(image.T), None, (z, y, x), np.asarray(file.affine))  # (x, y, z) -> (z, y, x)


def _three_axes(array: np.ndarray) -> np.ndarray:
    return array[None] if array.ndim == 2 else array
