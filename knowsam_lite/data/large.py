"""Pictures that need not fit into memory: a TIFF above the safe limit is read by rows, others are decoded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import read_image
from knowsam_lite.data.stored import readable
from knowsam_lite.data.tiff import is_tiff, opened_tiff, tiff_frame

Rows = Callable[[int, int], np.ndarray]


def is_large(path: Path) -> bool:
    """Whether a file is a TIFF of more pixels than are read into memory. UserError if it is unreadable."""
    with readable(path):
        if not is_tiff(path):
            return False
        with opened_tiff(path) as page:
            return page.imagelength * page.imagewidth > (Image.MAX_IMAGE_PIXELS or np.inf)


@contextmanager
def opened_rows(path: Path) -> Iterator[tuple[tuple[int, int], Rows]]:
    """A picture's size (H, W) and a function that reads its rows: (first, end) -> uint8 (rows, W, 3) RGB.

    UserError if it is unreadable, or large and not gray or RGB of 8 bits, upright, or without zarr.
    """
    if not is_large(path):
        image = read_image(path)
        yield image.shape[:2], lambda first, end: image[first:end]
        return
    with opened_tiff(path) as page:
        with readable(path):  # not around the yield: what fails there is not this file's fault
            _require_plain(path, page)
            stored = _by_region(path, page)

        def rows(first: int, end: int) -> np.ndarray:
            with readable(path):
                found = np.asarray(stored[first:end])
            if found.ndim == 2:
                found = found[..., None]
            shown = found[..., :3] if found.shape[-1] >= 3 else np.repeat(found[..., :1], 3, axis=2)
            return 255 - shown if int(page.photometric) == 0 else shown

        yield (page.imagelength, page.imagewidth), rows


def _require_plain(path: Path, page: Any) -> None:
    """UserError unless the numbers of the page are those that a viewer shows."""
    gray_or_rgb = int(page.photometric) in (0, 1, 2) or (int(page.photometric), int(page.compression)) == (
        6,
        7,
    )
    if not gray_or_rgb or page.dtype != np.uint8 or page.planarconfig != 1 or tiff_frame(page).turn != 1:
        pixels = page.imagelength * page.imagewidth / 1e6
        message = f"found {pixels:.0f} million pixels of {page.dtype} {page.photometric.name}"
        fix = "save it as a tiled TIFF of gray or RGB with 8 bits"
        raise fault(path, f"{message}, expected upright gray or RGB of 8 bits in a file this large", fix)


def _by_region(path: Path, page: Any) -> Any:
    """The page as an array that decodes only what is asked for."""
    try:
        import zarr
    except ImportError:
        message = "found no zarr, expected it for a picture this large"
        raise fault(path, message, "run `pip install 'knowsam-lite[volumes]'`") from None
    return zarr.open(page.aszarr(), mode="r")
