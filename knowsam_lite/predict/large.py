"""The mask of a picture that does not fit into memory, as a tiled TIFF that is written while it is read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from knowsam_lite.data.large import opened_rows
from knowsam_lite.files import write_aside
from knowsam_lite.predict.predictor import Predictor, as_labels
from knowsam_lite.runs.pictures import as_picture

TILE = 256  # pixels a side of the TIFF's tiles, which viewers load one by one


def write_large(predictor: Predictor, picture: Path, mask: Path) -> None:
    """Predict a picture in squares and write the mask with the data set's values; see `Predictor.tile`.

    Memory grows with the width alone. Raises UserError for a picture that cannot be read by rows and an
    output that cannot be written.
    """
    import tifffile

    classes = predictor.classes
    dtype = as_picture(np.zeros((1, 1), np.uint8), classes).dtype
    with opened_rows(picture) as (size, rows):
        bands = (as_picture(as_labels(z), classes) for z in predictor.bands(rows, size))
        write_aside(
            mask,
            lambda file: tifffile.imwrite(
                file,
                _tiles(bands),
                shape=(*size, 3) if classes.painted else size,
                dtype=dtype,
                tile=(TILE, TILE),
                compression="zlib",
                photometric="rgb" if classes.painted else "minisblack",
                bigtiff=True,
            ),
        )


def _tiles(bands: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Bands (rows, W, ...) from the top -> squares of TILE pixels, row by row, those at the border padded."""
    kept: list[np.ndarray] = []
    for band in bands:
        kept.append(band)
        whole = np.concatenate(kept)
        ready = len(whole) // TILE * TILE
        for first in range(0, ready, TILE):
            yield from _cut(whole[first : first + TILE])
        kept = [whole[ready:]]
    if len(kept[0]):
        yield from _cut(kept[0])


def _cut(strip: np.ndarray) -> Iterator[np.ndarray]:
    """A strip of at most TILE rows -> its squares."""
    for x in range(0, strip.shape[1], TILE):
        square = strip[:, x : x + TILE]
        missing = [(0, TILE - square.shape[0]), (0, TILE - square.shape[1])]
        yield np.pad(square, missing + [(0, 0)] * (square.ndim - 2))
