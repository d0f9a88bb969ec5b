"""Reads picture files into arrays: the only module that decodes images."""

import re
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from knowsam_lite.data.findings import Fault, fault

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
LOSSY = (".jpg", ".jpeg")  # their values are close to what was saved, not equal


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The opened picture (not yet decoded); any failure to open or decode it becomes a UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                _check_single(path, picture)
                yield picture
    except FileNotFoundError:
        raise missing(path) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(path, str(error)) from None
    except (OSError, SyntaxError, ValueError) as error:
        if path.is_file() and path.stat().st_size == 0:
            raise fault(path, "found an empty file (0 bytes), expected an image", "copy it again") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        message = f"found no readable image ({reason.splitlines()[0].split(' <')[0]})"
        raise fault(path, f"{message}, expected PNG, JPEG, TIFF or BMP", "replace the file") from None


def missing(path: Path) -> Fault:
    """The exception for a missing file; its fix names a file that differs only in case or accents."""
    fix = "add the file or correct its path in index.csv"
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    for other in beside:
        if _plain(other.name) == _plain(path.name):
            fix = f"write the name as on disk, {other.name}"
    return fault(path, "found no such file, expected it", fix)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _check_single(path: Path, picture: Image.Image) -> None:
    """Refuses stacks, whose other pages would be ignored; phones save a preview as a second page."""
    pages = getattr(picture, "n_frames", 1)
    if pages > 1 and picture.format != "MPO":
        message = f"found {pages} pictures in one file, expected one"
        raise fault(path, message, "save each as its own file, or all as a NIfTI volume")


def _too_large(path: Path, message: str) -> Fault:
    """The exception for a picture too large for memory; `message` is Pillow's and holds the pixel count."""
    limit = Image.MAX_IMAGE_PIXELS or 0
    [pixels] = re.findall(r"\((\d+) pixels\)", message)
    found = f"found an image of {int(pixels) / 1e6:.0f} million pixels, expected at most the safe limit of"
    return fault(path, f"{found} {limit / 1e6:.0f} million", "make the image smaller or cut it into tiles")


def read_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels (EXIF orientation applied), from the header; UserError if unreadable."""
    with _opened(path) as picture:
        width, height = picture.size
        quarter_turned = (
            picture.getexif().get(0x0112, 1) >= 5
        )  # EXIF tag 0x0112: values 5 to 8 swap the sides
        return (width, height) if quarter_turned else (height, width)


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3) RGB; UserError if it cannot be read.

    Grey is repeated, alpha dropped, the EXIF orientation applied. Pictures of more than 8 bits are scaled
    linearly from their own minimum and maximum to 0..255, because scanners use 10 or 12 of the 16 bits.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "F" or upright.mode.startswith("I"):
            return np.repeat(scaled_to_bytes(np.asarray(upright))[..., None], 3, axis=2)
        if upright.mode in ("LA", "La"):
            upright = upright.convert("L")
        return np.asarray(upright.convert("RGB"))


def scaled_to_bytes(values: np.ndarray) -> np.ndarray:
    """Any grey values as uint8, their minimum at 0 and maximum at 255; non-finite values count as 0."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    return np.round((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def read_values(path: Path) -> np.ndarray:
    """The stored values of a mask file, int64 (H, W); UserError if it cannot be read or is a colour picture.

    A palette file gives its indices, a 1-bit file 0 and 255; a colour file is accepted only if its
    channels are equal.
    """
    with _opened(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        if upright.mode == "1":
            upright = upright.convert("L")
        values = np.asarray(upright)
    if values.ndim == 3:
        colour = values[..., : 1 if values.shape[2] == 2 else 3]  # without alpha
        if not (colour == colour[..., :1]).all():
            message = "found a colour picture as mask, expected one value per pixel"
            fix = "declare the colors in dataset.json (mask_values as [red, green, blue]) or save a grey PNG"
            raise fault(path, message, fix)
        values = colour[..., 0]
    if not np.issubdtype(values.dtype, np.integer) and not (values == np.round(values)).all():
        message = "found fractional values in the mask, expected whole numbers"
        raise fault(path, message, "save the mask as an 8-bit PNG")
    return values.astype(np.int64)


def read_colors(path: Path) -> np.ndarray:
    """The colors of a painted mask, int64 (H, W): 65536 red + 256 green + blue; UserError if unreadable."""
    return read_image(path).astype(np.int64) @ np.array([65536, 256, 1])  # (H, W, 3) -> (H, W)


def as_rgb(color: int) -> list[int]:
    """[red, green, blue] of a number from `read_colors`."""
    return [color >> 16, color >> 8 & 255, color & 255]


def to_classes(values: np.ndarray, declared: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Class indices, uint8: c where `values` is declared[c]. Also the undeclared values, sorted."""
    order = np.argsort(declared)
    known = np.asarray(declared)[order]
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    strange = known[places] != values
    return order.astype(np.uint8)[places], np.unique(values[strange]).tolist() if strange.any() else []


def threshold(values: np.ndarray, declared: Sequence[int]) -> tuple[np.ndarray, int]:
    """Maps each value of a lossily saved two-class mask to the nearer of the two declared values.

    Also returns the number of pixels changed.
    """
    low, high = sorted(declared)
    nearer = np.where(2 * values > low + high, high, low)
    return nearer, int((nearer != values).sum())
