"""Picture files to arrays: the only place that decodes images."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from knowsam_lite.data.findings import fault

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The opened picture (not yet decoded); every way in which that or the decoding fails is a UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                yield picture
    except FileNotFoundError:
        raise fault(
            path, "found no such file, expected it", "add the file or correct its path in index.csv"
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        message = f"found an image of more pixels than the safe limit, expected at most {limit:.0f} million"
        raise fault(path, message, "make the image smaller or cut it into tiles") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"found no readable image ({reason.split(' <')[0]}), expected PNG, JPEG, TIFF or BMP"
        raise fault(path, message, "replace the file") from None


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
            return np.repeat(_scaled_to_bytes(np.asarray(upright))[..., None], 3, axis=2)
        if upright.mode in ("LA", "La"):
            upright = upright.convert("L")
        return np.asarray(upright.convert("RGB"))


def _scaled_to_bytes(values: np.ndarray) -> np.ndarray:
    """Any grey values (H, W) as uint8, their finite minimum at 0 and maximum at 255."""
    values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    return np.round((values - low) * (255.0 / max(high - low, 1e-12))).astype(np.uint8)


def read_values(path: Path) -> np.ndarray:
    """The stored values of a mask file, int64 (H, W); UserError if it cannot be read or is a colour picture.

    A palette file gives its indices, a 1-bit file 0 and 255; a colour file passes only if its channels are
    equal.
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
            raise fault(path, message, "save the mask as a grey PNG whose values dataset.json declares")
        values = colour[..., 0]
    if not np.issubdtype(values.dtype, np.integer) and not (values == np.round(values)).all():
        message = "found fractional values in the mask, expected whole numbers"
        raise fault(path, message, "save the mask as an 8-bit PNG")
    return values.astype(np.int64)
