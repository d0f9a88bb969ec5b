"""NIfTI files: what their headers say of axes, units and position, and their numbers in (z, y, x) order."""

import gzip
import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.findings import fault

MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}  # millimetres in the units of a header
TOLERANCE = 0.1  # of the smallest voxel side: corners of two grids this near are the same place
PACKED = 1100  # gzip shrinks at most 1032-fold: a header that claims more lies
RESAMPLE = "resample the mask onto the image's grid with nearest neighbour (3D Slicer, SimpleITK.Resample)"


def is_nifti(path: Path) -> bool:
    """True if the name is that of a NIfTI file."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def open_nifti(path: Path) -> Any:
    """The file as nibabel's image, its numbers not yet read; UserError if they cannot be gray values."""
    import nibabel

    _check_packing(path)
    image: Any = nibabel.load(path)
    dtype = image.header.get_data_dtype()
    if dtype.kind not in "iuf":
        what = "colors" if dtype.names else f"numbers of type {dtype}"
        message = f"found {what} as voxels, expected gray values"
        raise fault(path, message, "save one channel, or the mean of the channels, as numbers")
    claimed, size = math.prod(image.shape) * dtype.itemsize, path.stat().st_size
    if claimed > size * (PACKED if path.name.lower().endswith(".gz") else 1):
        message = f"found {size} bytes that cannot hold the {claimed} of the header, expected a whole file"
        raise fault(path, message, "copy it again")
    return image


def _check_packing(path: Path) -> None:
    """UserError if a name ending in .gz is that of a file that is not gzipped, or the reverse."""
    with open(path, "rb") as file:
        gzipped = file.read(2) == b"\x1f\x8b"
    if gzipped != path.name.lower().endswith(".gz"):
        state, name = ("a gzipped", path.name + ".gz") if gzipped else ("no gzipped", path.name[:-3])
        raise fault(path, f"found {state} file under this name, expected the reverse", f"rename it to {name}")


def shape_of(image: Any) -> tuple[int, ...]:
    """The axes (x, y, z), without those of one after them: a time series of one volume."""
    shape = tuple(int(side) for side in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def spacing_of(path: Path, image: Any) -> tuple[float, float, float] | None:
    """The voxel size (slice, row, column) in mm; None where the file states no unit or no valid size."""
    unit = MM.get(image.header.get_xyzt_units()[0])
    sizes = _sizes(path, image)
    if unit is None or len(shape_of(image)) != 3 or not (np.isfinite(sizes).all() and (sizes > 0).all()):
        return None
    x, y, z = (float(f"{size * unit:.7g}") for size in sizes)  # 32-bit floats hold no more digits
    return z, y, x


def _sizes(path: Path, image: Any) -> np.ndarray:
    """The voxel's sides along (x, y, z): from the sform, else as stored in pixdim, which nibabel corrects."""
    from nibabel.openers import Opener

    if int(image.header["sform_code"]) > 0:
        return np.linalg.norm(image.affine[:3, :3], axis=0)
    with Opener(str(path)) as file:
        header = type(image).header_class.from_fileobj(file, check=False)
    return np.asarray(header["pixdim"][1:4], float)


def numbers_of(image: Any, dtype: type[np.generic] | None = None) -> np.ndarray:
    """The numbers (slices, rows, columns), scaled by the header's slope; two axes become one slice."""
    numbers = np.asarray(image.dataobj) if dtype is None else np.asarray(image.dataobj, dtype)
    return _volume(numbers.reshape(shape_of(image)).T)  # (x, y, z) -> (z, y, x)


def _volume(array: np.ndarray) -> np.ndarray:
    return array[None] if array.ndim == 2 else array


def labels_like(path: Path, image: Path) -> np.ndarray:
    """The numbers of the mask `path` in the image's order of voxels, (slices, rows, columns).

    Axes in another order or direction are brought into the image's, which moves no value. UserError if
    the two grids differ in size or lie elsewhere.
    """
    axes = _axes(path, image, path.stat().st_mtime_ns, image.stat().st_mtime_ns)
    numbers = numbers_of(open_nifti(path))
    if axes is None:
        return numbers
    from nibabel.orientations import apply_orientation

    moved = apply_orientation(numbers.T, np.array(axes))  # (z, y, x) -> (x, y, z)
    return np.ascontiguousarray(moved.T)


def labels_shape(path: Path, image: Path) -> tuple[int, ...]:
    """The size (slices, rows, columns) of a mask in its image's order; UserError as in `labels_like`."""
    _axes(path, image, path.stat().st_mtime_ns, image.stat().st_mtime_ns)
    shape = shape_of(open_nifti(image))
    return (1,) * (3 - len(shape)) + shape[::-1]


@lru_cache(maxsize=4096)
def _axes(path: Path, image: Path, *changed: int) -> tuple[tuple[float, float], ...] | None:
    """How a mask's axes become its image's, as nibabel's orientations; None if they are equal already."""
    from nibabel.orientations import inv_ornt_aff, io_orientation, ornt_transform

    mask_file, image_file = open_nifti(path), open_nifti(image)
    ours, theirs = _three(path, image_file), _three(path, mask_file)
    placed, ours_affine = _is_placed(mask_file), image_file.affine
    if not placed and not _is_placed(image_file):
        _refuse(ours != theirs, path, theirs, ours)
        return None
    if placed != _is_placed(image_file):
        which, other = ("image", "mask") if placed else ("mask", "image")
        message = (
            f"found no position and axes in the {which}'s header (sform and qform 0), expected the {other}'s"
        )
        raise fault(path, message, f"save the {which} with the affine of its {other}, if both lie alike")
    if theirs == ours and _same_place(mask_file.affine, ours_affine, ours):
        return None
    turn = ornt_transform(io_orientation(mask_file.affine), io_orientation(ours_affine))
    moved = tuple(int(theirs[int(axis)]) for axis in np.argsort(turn[:, 0]))
    affine = mask_file.affine @ inv_ornt_aff(turn, theirs)
    _refuse(moved != ours, path, moved, ours)
    if not _same_place(affine, ours_affine, ours):
        message = (
            f"found a mask of {_text(affine)} for an image of {_text(ours_affine)}, expected the same grid"
        )
        fix = f"{RESAMPLE}, or, if it was drawn on this very image, save it with the image's affine"
        raise fault(path, message, fix)
    return tuple((float(axis), float(flip)) for axis, flip in turn)


def _three(path: Path, image: Any) -> tuple[int, ...]:
    shape = shape_of(image)
    if len(shape) > 3:
        raise fault(path, f"found axes {shape}, expected three (x, y, z)", "save one volume per file")
    return shape + (1,) * (3 - len(shape))


def _is_placed(image: Any) -> bool:
    """True if the header gives the position and direction of the axes."""
    header, affine = image.header, image.affine
    stated = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
    return stated and bool(np.isfinite(affine).all()) and abs(np.linalg.det(affine[:3, :3])) > 0


def _refuse(wrong: bool, path: Path, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if wrong:
        sizes = [f"{z} slices of {x}x{y} px" for x, y, z in (found, wanted)]
        message = f"found a mask of {sizes[0]} for an image of {sizes[1]}, expected equal sizes"
        raise fault(path, message, f"{RESAMPLE}, or replace it")


def _same_place(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> bool:
    """True if the corners of two grids of one shape lie within TOLERANCE of a voxel of each other."""
    ends = np.array(np.meshgrid(*[(0, side - 1) for side in shape], [1], indexing="ij"), float)
    corners = ends.reshape(4, -1)
    side = np.linalg.norm(b[:3, :3], axis=0).min()
    return bool(np.abs((a - b) @ corners).max() <= TOLERANCE * side)


def _text(affine: np.ndarray) -> str:
    """The voxel size and the origin of an affine."""
    sides, origin = np.linalg.norm(affine[:3, :3], axis=0), affine[:3, 3]
    return f"voxels {_numbers(sides)} at {_numbers(origin)}"


def _numbers(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def nifti_bytes(labels: np.ndarray, like: Path) -> bytes:
    """A file of labels (slices, rows, columns) with the header, axes and affine of the NIfTI file `like`."""
    import nibabel

    source: Any = nibabel.load(like)
    header = source.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    data = labels.T.reshape(source.shape)  # (z, y, x) -> (x, y, z)
    content = type(source)(data, source.affine, header).to_bytes()
    return gzip.compress(content, mtime=0) if like.name.lower().endswith(".gz") else content
