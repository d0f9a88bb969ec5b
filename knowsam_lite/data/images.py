"""Pictures as a network sees them: uint8 RGB, upright."""

from pathlib import Path

import numpy as np

from knowsam_lite.data.findings import fault
from knowsam_lite.data.pixels import Stored, turned
from knowsam_lite.data.stored import SUFFIXES, read_frame, read_stored
from knowsam_lite.deprecated import old_names

__all__ = ["SUFFIXES", "read_image", "read_size", "scaled_to_bytes"]
__getattr__ = old_names(__name__)

PART = 2**21  # numbers that are scaled at once


def read_size(path: Path) -> tuple[int, int]:
    """Height and width in pixels (EXIF orientation applied), from the header; UserError if unreadable."""
    return read_frame(path).shown


def read_image(path: Path) -> np.ndarray:
    """A picture as uint8 (H, W, 3) RGB; UserError if it cannot be read.

    Grey is repeated, alpha dropped, the EXIF orientation applied. Pictures of more than 8 bits, of signed or
    of floating-point numbers are scaled linearly from their own minimum and maximum, over all channels, to
    0..255, because scanners use 10 or 12 of the 16 bits.
    """
    stored = read_stored(path)
    shown = turned(_shown(stored), stored.turn)
    return shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)


def _shown(stored: Stored) -> np.ndarray:
    """The numbers as a viewer shows them, uint8 (H, W) or (H, W, 3), not turned."""
    numbers = stored.numbers
    if stored.palette is not None:
        return stored.palette[numbers]
    if stored.bits > 8 or numbers.dtype.kind in "if":
        return 255 - scaled_to_bytes(numbers) if stored.white_is_zero else scaled_to_bytes(numbers)
    spread = (numbers * np.uint16(255) // stored.full).astype(np.uint8)  # of less than 8 bits
    return 255 - spread if stored.white_is_zero else spread


def scaled_to_bytes(values: np.ndarray) -> np.ndarray:
    """Any grey values as uint8, their minimum at 0 and maximum at 255; non-finite values count as 0.

    In parts along the first axis, so that a volume needs no copies of itself in double precision.
    """
    count = max(values.size // PART, 1)
    parts = np.array_split(values, count)
    ends = [(part.min(), part.max()) for part in map(_finite, parts) if part.size]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    factor = 255.0 / max(high - low, 1e-12)
    shown = np.empty(values.shape, np.uint8)
    for part, found in zip(map(_finite, parts), np.array_split(shown, count), strict=True):
        found[...] = np.round((part - low) * factor)
    return shown


def _finite(values: np.ndarray) -> np.ndarray:
    return np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)


def refuse_not_finite(path: Path, values: np.ndarray) -> None:
    """UserError if a value is NaN or infinite."""
    strange = int((~np.isfinite(values)).sum())
    if strange:
        message = f"found {strange} values that are no finite number (NaN), expected finite ones"
        raise fault(path, message, "replace the file, or set these values to a number (numpy.nan_to_num)")
