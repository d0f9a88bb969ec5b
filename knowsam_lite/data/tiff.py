"""Reads TIFF files with tifffile: the numbers as stored, for every bit depth, photometric and tiling."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from knowsam_lite.data.findings import fault
from knowsam_lite.data.pixels import Frame, Stored, valid_turn

MARKS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # both byte orders, classic and BigTIFF
# Compressions: none, fax (three kinds), LZW, deflate, PackBits, deflate, LZMA, Zstandard.
LOSSLESS = (1, 2, 3, 4, 5, 8, 32773, 32946, 34925, 50000)
OTHER_COLORS = {5: "CMYK", 6: "YCbCr", 8: "LAB"}  # photometrics that Pillow converts to RGB
REQUIRED = (256, 257, 262)  # the tags of width, height and photometric
ORIENTATION = 274  # the tag
JPEG = 7  # the compression, which tifffile decodes to RGB
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # its remarks on tags are no lines for the user


def is_tiff(path: Path) -> bool:
    """True if the file begins as a TIFF; False also if it cannot be opened."""
    try:
        with open(path, "rb") as file:
            return file.read(4) in MARKS
    except OSError:
        return False


@contextmanager
def opened_tiff(path: Path) -> Iterator[Any]:
    """The one page of the file, not yet decoded; UserError if it holds several pictures."""
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as file:
        pages = _pictures(path, file.pages)
        page, count = (pages or [file.pages.first])[0], len(pages)
        if count == 1 and (file.is_imagej or file.is_shaped):  # these may keep a stack behind one page
            count = max(int(np.prod(file.series[0].shape)) // max(int(np.prod(page.shape)), 1), 1)
        if not all(tag in page.tags for tag in REQUIRED):
            raise fault(
                path, "found no size or no kind of color in its tags, expected both", "replace the file"
            )
        if count != 1:
            message = f"found {count} pictures in one file, expected one"
            raise fault(path, message, "save each as its own file, or all as a NIfTI volume")
        yield page


def _pictures(path: Path, every: Any) -> list[Any]:
    """The pages that are no previews; UserError if each page is followed by another without an end."""
    pages, seen = [], set()
    for page in every:
        if page.offset in seen:
            raise fault(
                path, "found pages that follow each other in a circle, expected an end", "replace the file"
            )
        seen.add(page.offset)
        if not page.is_reduced:
            pages.append(page)
    return pages


def tiff_frame(page: Any) -> Frame:
    """Size and orientation of a page."""
    tag = page.tags.get(ORIENTATION)
    return Frame((page.imagelength, page.imagewidth), valid_turn(int(tag.value) if tag else 1))


def read_page(path: Path, page: Any) -> Stored:
    """The numbers of a page; CMYK, YCbCr and L*a*b* come converted to RGB.

    UserError for several channels that are no color.
    """
    photometric, samples = int(page.photometric), page.samplesperpixel
    channels = {2: 3, 5: 4, 6: 3, 8: 3}.get(photometric, 1)
    is_alpha = [int(extra) in (1, 2) or channels > 1 for extra in page.extrasamples]  # 0: not said what it is
    has_alpha = samples == channels + 1 and is_alpha == [True]
    if samples != channels + has_alpha or photometric not in (0, 1, 2, 3, *OTHER_COLORS):
        message = (
            f"found {samples} channels ({page.photometric.name}), expected one of gray or three of color"
        )
        raise fault(path, message, "save one channel, or red, green and blue, as its own file")
    numbers = page.asarray()
    if numbers.dtype.kind not in "buif":
        message = f"found numbers of type {numbers.dtype}, expected whole or floating-point ones"
        raise fault(path, message, "save them as 8 or 16 bits")
    if numbers.dtype == bool:
        numbers = numbers.astype(np.uint8)
    if samples > 1 and page.planarconfig == 2:
        numbers = np.moveaxis(numbers, 0, -1)  # (C, H, W) -> (H, W, C)
    alpha = numbers[..., -1] if has_alpha else None
    if samples > 1:
        numbers = numbers[..., :channels] if channels > 1 else numbers[..., 0]
    if photometric in OTHER_COLORS and not (photometric == 6 and int(page.compression) == JPEG):
        numbers = _rgb(path, numbers, OTHER_COLORS[photometric])
    palette = None
    if photometric == 3:
        if page.colormap is None:
            raise fault(path, "found a palette without colors, expected them", "save the picture again")
        colors = page.colormap if page.colormap.max() < 256 else page.colormap >> 8  # some write 8 of 16 bits
        palette = colors.astype(np.uint8).T  # (3, N) -> (N, 3)
    return Stored(
        numbers=numbers,
        kind="color" if channels > 1 else "gray" if palette is None else "palette",
        bits=int(page.bitspersample),
        turn=tiff_frame(page).turn,
        palette=palette,
        alpha=alpha,
        lossy=int(page.compression) not in LOSSLESS,
        white_is_zero=photometric == 0,
    )


def _rgb(path: Path, numbers: np.ndarray, mode: str) -> np.ndarray:
    """Numbers (H, W, C) of another color space as RGB, uint8 (H, W, 3)."""
    if numbers.dtype != np.uint8:
        message = f"found {mode} of type {numbers.dtype}, expected 8 bits a channel"
        raise fault(path, message, "save the picture as RGB")
    size = (numbers.shape[1], numbers.shape[0])
    return np.asarray(Image.frombytes(mode, size, numbers.tobytes(), "raw", mode).convert("RGB"))
