"""The one place where picture files are opened: their headers, and their numbers as stored."""

import re
import unicodedata
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.pixels import Frame, Stored, valid_turn
from knowsam_lite.data.tiff import is_tiff, opened_tiff, read_page, tiff_frame
from knowsam_lite.data.walk import lost_link

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")  # by content, whatever the file's name
ORIENTATION = 0x0112  # the EXIF tag
READABLE = "PNG, JPEG, TIFF or BMP"


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Any failure to open or decode the file becomes a UserError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except Fault:
        raise
    except FileNotFoundError:
        raise missing(path) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        [pixels] = re.findall(r"\((\d+) pixels\)", str(error))
        raise too_large(path, int(pixels)) from None
    except Exception as error:  # the decoders raise all sorts of exceptions on broken files
        if path.is_file() and path.stat().st_size == 0:
            raise fault(path, "found an empty file (0 bytes), expected an image", "copy it again") from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        message = f"found no readable image ({reason.splitlines()[0].split(' <')[0][:200]})"
        raise fault(path, f"{message}, expected {READABLE}", "replace the file") from None


def missing(path: Path) -> Fault:
    """The exception for a missing file; its fix names a file that differs only in case, accents or zeros."""
    if path.is_symlink():
        return fault(*lost_link(path))
    fix = "add the file or correct its path in index.csv"
    beside = path.parent.iterdir() if path.parent.is_dir() else ()
    alike = sorted(other.name for other in beside if _plain(other.name) == _plain(path.name))
    if alike:
        fix = f"write the name as on disk, {alike[0]}"
    return fault(path, "found no such file, expected it", fix)


def _plain(name: str) -> str:
    """A name without what spreadsheets and systems change: case, the form of accents, leading zeros."""
    return re.sub(r"(?<![0-9])0+(?=[0-9])", "", unicodedata.normalize("NFC", name).casefold())


def too_large(path: Path, pixels: int) -> Fault:
    """The exception for a picture too large for memory."""
    limit = (Image.MAX_IMAGE_PIXELS or 0) / 1e6
    found = f"found an image of {pixels / 1e6:.0f} million pixels, expected at most the safe limit of"
    return fault(
        path,
        f"{found} {limit:.0f} million",
        "make the image smaller; a run trained with --tile reads a TIFF of 8 bits by rows",
    )


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture opened by Pillow, not yet decoded; refuses stacks, whose other pages would be ignored."""
    with Image.open(path, formats=FORMATS) as picture:
        pages = getattr(picture, "n_frames", 1)
        if pages > 1 and picture.format != "MPO":  # phones save a preview as a second page
            message = f"found {pages} pictures in one file, expected one"
            raise fault(path, message, "save each as its own file, or all as a NIfTI volume")
        yield picture


@contextmanager
def opened_page(path: Path) -> Iterator[Any]:
    """The page of a TIFF, its size within the limit."""
    with opened_tiff(path) as page:
        if page.imagelength * page.imagewidth > (Image.MAX_IMAGE_PIXELS or np.inf):
            raise too_large(path, page.imagelength * page.imagewidth)
        yield page


def read_frame(path: Path) -> Frame:
    """Size and EXIF orientation, from the header; UserError if unreadable."""
    with readable(path):
        if is_tiff(path):
            with opened_page(path) as page:
                return tiff_frame(page)
        with opened(path) as picture:
            width, height = picture.size
            return Frame((height, width), valid_turn(picture.getexif().get(ORIENTATION, 1)))


def read_stored(path: Path) -> Stored:
    """The numbers of a picture file as stored; UserError if they cannot be read.

    Colors other than RGB come converted to it.
    """
    with readable(path):
        if is_tiff(path):
            with opened_page(path) as page:
                stored = read_page(path, page)
        else:
            with opened(path) as picture:
                stored = _numbers(path, picture)
        _check(path, stored)
    return stored


def _check(path: Path, stored: Stored) -> None:
    """UserError if there are no rows and columns, or not a color for each index of a palette."""
    numbers, palette = stored.numbers, stored.palette
    if numbers.size == 0 or numbers.ndim != (3 if stored.kind == "color" else 2):
        message = f"found numbers of shape {numbers.shape}, expected rows and columns"
        raise fault(path, message, "save the picture again")
    if palette is not None and numbers.max() >= len(palette):
        message = f"found index {numbers.max()} of a palette of {len(palette)} colors"
        raise fault(path, f"{message}, expected a color for each index", "save the picture again")


def _numbers(path: Path, picture: Image.Image) -> Stored:
    """As `read_stored`, for the formats that Pillow reads."""
    turn = valid_turn(picture.getexif().get(ORIENTATION, 1))
    bits, is_color = 8, False
    if picture.format == "PNG":
        with open(path, "rb") as file:
            header = file.read(26)  # bit depth and color type are its last bytes
        bits, is_color = header[24], header[25] in (2, 4, 6)
    if bits == 16 and is_color:  # Pillow keeps 8 of these 16 bits
        return _split(_deep(path), turn, bits)
    picture.load()
    alpha: np.ndarray | None = None
    if picture.mode in ("LA", "RGBA", "PA"):
        alpha = np.asarray(picture.getchannel("A"))
    elif picture.mode == "P" and "transparency" in picture.info:
        alpha = np.asarray(picture.convert("RGBA").getchannel("A"))
    lossy = picture.format in ("JPEG", "MPO") or (picture.format == "WEBP" and not _is_lossless_webp(path))
    if picture.mode in ("P", "PA"):
        indices = np.asarray(picture.getchannel(0)) if picture.mode == "PA" else np.asarray(picture)
        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        return Stored(indices, "palette", bits, turn, palette, alpha)
    if picture.mode == "1":
        return Stored(np.asarray(picture).astype(np.uint8), "gray", 1, turn)
    if picture.mode in ("L", "LA") or picture.mode.startswith("I"):
        numbers = np.asarray(picture.getchannel(0) if picture.mode == "LA" else picture)
        if bits < 8:
            numbers = numbers // (255 // (2**bits - 1))  # Pillow spreads 2 and 4 bits over 0..255
        return Stored(numbers, "gray", bits, turn, alpha=alpha, lossy=lossy)
    return Stored(np.asarray(picture.convert("RGB")), "color", bits, turn, alpha=alpha, lossy=lossy)


def _deep(path: Path) -> np.ndarray:
    """A PNG of 16 bits a channel, uint16 (H, W, C)."""
    import imagecodecs

    return np.asarray(imagecodecs.png_decode(path.read_bytes()))


def _split(numbers: np.ndarray, turn: int, bits: int) -> Stored:
    """Color and alpha of (H, W, C): gray and alpha, or red, green and blue, with or without alpha."""
    channels = numbers.shape[2]
    alpha = numbers[..., -1] if channels in (2, 4) else None
    kind: Literal["gray", "color"] = "gray" if channels == 2 else "color"
    return Stored(numbers[..., 0] if channels == 2 else numbers[..., :3], kind, bits, turn, alpha=alpha)


def _is_lossless_webp(path: Path) -> bool:
    """True if the pixels are in a chunk VP8L; the other kind, VP8, changes values."""
    content = path.read_bytes()
    place = 12  # behind RIFF, the size and WEBP
    while place + 8 <= len(content):
        if content[place : place + 4] in (b"VP8L", b"VP8 "):
            return content[place : place + 4] == b"VP8L"
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + size + size % 2
    return False
