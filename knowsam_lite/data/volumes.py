"""Volumes in h5 and NIfTI files."""

import gzip
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.files import write_aside


@dataclass(frozen=True)
class Volume:
    """image float32 (D, H, W), labels (D, H, W) or None, spacing in mm (slice, row, column), affine (4, 4).

    A file without spacing gets 1 mm along each axis and no affine.
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
    except Exception as error:  # h5py and nibabel raise all sorts of exceptions on broken files
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
    while image.ndim > 3 and image.shape[-1] == 1:  # a time series of one volume
        image = image[..., 0]
    x, y, z = (*(float(mm) for mm in file.header.get_zooms()), 1.0)[:3]
    return Volume(_three_axes(image.T), None, (z, y, x), np.asarray(file.affine))  # (x, y, z) -> (z, y, x)


def write_labels(path: Path, labels: np.ndarray, like: Path) -> None:
    """Write labels (D, H, W) in the file format, axis order, spacing and affine of the volume `like`.

    h5: `label` with the shape of `image`, attributes kept. NIfTI: header and affine kept. Written to a
    temporary file and renamed. Raises UserError if the file cannot be written.
    """
    labels = labels.astype(np.uint8 if labels.max(initial=0) < 256 else np.uint16)
    nifti = like.name.lower().endswith((".nii", ".nii.gz"))
    content = (_nifti_bytes if nifti else _h5_bytes)(labels, like)
    write_aside(path, lambda file: file.write(content))


def _h5_bytes(labels: np.ndarray, like: Path) -> bytes:
    import h5py

    content = io.BytesIO()
    with h5py.File(like) as source, h5py.File(content, "w") as file:
        shape = source["image"].shape
        file.create_dataset("label", data=labels.reshape(shape), compression="gzip")
        for old, new in ((source, file), (source["image"], file["label"])):
            new.attrs.update(old.attrs)
    return content.getvalue()


def _nifti_bytes(labels: np.ndarray, like: Path) -> bytes:
    import nibabel

    source: Any = nibabel.load(like)
    header = source.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    data = labels.T.reshape(source.shape)  # (z, y, x) -> (x, y, z)
    content = nibabel.Nifti1Image(data, source.affine, header).to_bytes()
    return gzip.compress(content, mtime=0) if like.name.lower().endswith(".gz") else content


def _three_axes(array: np.ndarray) -> np.ndarray:
    return array[None] if array.ndim == 2 else array
