"""Reads files of published sets as pictures and class indices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import read_image
from knowsam_lite.data.masks import Coding, classes_of, mask_of, values_of
from knowsam_lite.data.pixels import turned
from knowsam_lite.data.placing import placed
from knowsam_lite.data.prepare.recipe import Item, Piece
from knowsam_lite.data.slices import Slices, read_header, read_labels_size
from knowsam_lite.data.stored import read_frame, read_stored

REGION = 400_000_000  # pixels that a region of a slide may have
MIDDLE = 127  # a mask pixel above this is foreground


def binary_pair(item: Item) -> Iterator[Piece]:
    """One image whose masks are dark and bright: above 127 is foreground; several masks are merged.

    For published sets alone, whose PNG masks hold values that JPEG left before they were converted.
    """
    masks, changed = zip(*(binary(path) for path in item.masks), strict=True)
    yield _piece(item, _united(item, masks), sum(changed))


def coded_pair(item: Item, coding: Coding) -> Iterator[Piece]:
    """One image whose masks, exactly one or several that are merged, hold the values of `coding`."""
    frame, masks, changed = read_frame(item.image), [], 0
    colors: dict[int, tuple[int, ...]] = {}
    for path in item.masks:
        found = mask_of(path, read_stored(path), coding)
        masks.append(placed(path, found.classes, found.stored.frame, frame, coding))
        changed += found.changed
        colors |= {} if coding.painted else found.stored.used_colors()
    yield _piece(item, _united(item, masks), changed, colors)


def binary(path: Path) -> tuple[np.ndarray, int]:
    """Class indices uint8 (H, W) of a dark and bright mask, and the number of pixels neither 0 nor 255.

    UserError if a lossless file holds only values up to 127: it is then probably coded, not dark and bright.
    """
    bright = read_image(path).max(axis=2)  # works for red on black, too
    if 0 < bright.max() <= MIDDLE and not read_stored(path).lossy:
        found = ", ".join(map(str, np.unique(bright)[:6]))
        message = f"found mask values {found}, expected 0 and 255"
        raise fault(path, message, "say with --values which value each class has")
    return (bright > MIDDLE).astype(np.uint8), int(((bright > 0) & (bright < 255)).sum())


def _united(item: Item, masks: Sequence[np.ndarray]) -> np.ndarray:
    for path, mask in zip(item.masks, masks, strict=True):
        if mask.shape != masks[0].shape:
            sizes = f"masks of {masks[0].shape} and {mask.shape} (height, width)"
            raise fault(path, f"found {sizes} for one image, expected equal sizes", "replace the file")
    return np.asarray(np.maximum.reduce(list(masks)))


def _piece(
    item: Item, mask: np.ndarray, changed: int, colors: dict[int, tuple[int, ...]] | None = None
) -> Piece:
    image = read_image(item.image)
    if mask.shape != image.shape[:2]:
        message = f"found a mask of {mask.shape} for an image of {image.shape[:2]} (height, width)"
        raise fault(item.masks[0], f"{message}, expected equal sizes", "replace the file")
    return Piece("", image, mask, changed, colors=colors or {})


def tiles(item: Item, side: int, groups: Sequence[Sequence[int]], least: float) -> Iterator[Piece]:
    """A region cut into side x side tiles, row by row; what is left over at the right and bottom is dropped.

    Class c merges the codes groups[c]; a code in none belongs to the last class. A tile needs at least the
    share `least` of its pixels outside class 0, which is the area outside the annotated region, not tissue.
    """
    with large_pictures():
        image, stored = read_image(item.image), read_stored(item.masks[0])
        codes = turned(values_of(item.masks[0], stored), stored.turn)
    if codes.shape != image.shape[:2]:
        message = f"found a mask of {codes.shape} for an image of {image.shape[:2]} (height, width)"
        raise fault(item.masks[0], f"{message}, expected equal sizes", "replace the file")
    table = np.full(int(codes.max(initial=0)) + 256, len(groups), np.uint8)
    for index, group in enumerate(groups):
        table[list(group)] = index
    for y in range(0, image.shape[0] - side + 1, side):
        for x in range(0, image.shape[1] - side + 1, side):
            mask = table[codes[y : y + side, x : x + side]]
            if (mask > 0).mean() >= least:
                yield Piece(f"_y{y:05d}_x{x:05d}", image[y : y + side, x : x + side], mask)


def slices(item: Item, coding: Coding, first: int = 0, word: str = "_slice") -> Iterator[Piece]:
    """All slices of an h5 or NIfTI volume and of its labels, which hold the values of `coding`.

    They are numbered from `first` after `word`; a file of one slice keeps its name. Values in [0, 1] are
    multiplied by 255, others scaled from the volume's own minimum and maximum.
    """
    path, labels = item.image, item.masks[0]
    header, held = read_header(path), read_labels_size(labels, path)
    if header.shape != held:
        sizes = f"labels of {held} for a volume of {header.shape} (slices, rows, columns)"
        raise fault(labels, f"found {sizes}, expected equal sizes", "replace the file")
    reader, depth = Slices(), header.shape[0]
    digits = max(2, len(str(first + depth - 1)))
    for index in range(depth):
        suffix = f"{word}{first + index:0{digits}d}" if depth > 1 else ""
        mask = classes_of(labels, reader.values(labels, index, path), coding)
        yield Piece(suffix, reader.image(path, index), mask, spacing=header.spacing_mm)


@contextmanager
def large_pictures() -> Iterator[None]:
    """Lets Pillow read regions of slides, which exceed its limit against decompression bombs."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, REGION
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
