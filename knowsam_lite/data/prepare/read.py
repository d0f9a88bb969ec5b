"""Reads files of published sets as pictures and class indices."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import LOSSY, read_colors, read_image, read_values, to_classes
from knowsam_lite.data.prepare.recipe import Item, Piece
from knowsam_lite.data.slices import Slices, read_header

REGION = 400_000_000  # pixels that a region of a slide may have
MIDDLE = 127  # a mask pixel above this is foreground


def binary_pair(item: Item) -> Iterator[Piece]:
    """One image whose masks are dark and bright: above 127 is foreground; several masks are merged."""
    masks, changed = zip(*(binary(path) for path in item.masks), strict=True)
    yield _piece(item, _united(item, masks), sum(changed))


def coded_pair(item: Item, values: Sequence[int]) -> Iterator[Piece]:
    """One image whose masks store values[c] (or a palette's index) where class c is."""
    masks = [class_indices(read_values(path), values, path) for path in item.masks]
    yield _piece(item, _united(item, masks), 0)


def colored_pair(item: Item, values: Sequence[int]) -> Iterator[Piece]:
    """One image whose masks are painted: values[c] = 65536 red + 256 green + blue is the color of class c."""
    masks = []
    for path in item.masks:
        masks.append(class_indices(read_colors(path), values, path, "#{:06x}"))
    yield _piece(item, _united(item, masks), 0)


def binary(path: Path) -> tuple[np.ndarray, int]:
    """Class indices uint8 (H, W) of a dark and bright mask, and the number of pixels neither 0 nor 255.

    UserError if a lossless file holds only values up to 127: it is then probably coded, not dark and bright.
    """
    bright = read_image(path).max(axis=2)  # works for red on black, too
    if path.suffix.lower() not in LOSSY and 0 < bright.max() <= MIDDLE:
        found = ", ".join(map(str, np.unique(bright)[:6]))
        message = f"found mask values {found}, expected 0 and 255"
        raise fault(path, message, "say with --values which value each class has")
    return (bright > MIDDLE).astype(np.uint8), int(((bright > 0) & (bright < 255)).sum())


def class_indices(found: np.ndarray, values: Sequence[int], path: Path, shown: str = "{}") -> np.ndarray:
    """The class c, uint8, wherever `found` is values[c]; UserError if it holds another value."""
    classes, undeclared = to_classes(found, values)
    if undeclared:
        text = [", ".join(map(shown.format, some)) for some in (undeclared[:6], values)]
        message = f"found mask values {text[0]}, expected only {text[1]}"
        raise fault(path, message, "declare all classes and their values, or correct the mask")
    return classes


def _united(item: Item, masks: Sequence[np.ndarray]) -> np.ndarray:
    for path, mask in zip(item.masks, masks, strict=True):
        if mask.shape != masks[0].shape:
            sizes = f"masks of {masks[0].shape} and {mask.shape} (height, width)"
            raise fault(path, f"found {sizes} for one image, expected equal sizes", "replace the file")
    return np.asarray(np.maximum.reduce(list(masks)))


def _piece(item: Item, mask: np.ndarray, changed: int) -> Piece:
    image = read_image(item.image)
    if mask.shape != image.shape[:2]:
        message = f"found a mask of {mask.shape} for an image of {image.shape[:2]} (height, width)"
        raise fault(item.masks[0], f"{message}, expected equal sizes", "replace the file")
    return Piece("", image, mask, changed)


def tiles(item: Item, side: int, groups: Sequence[Sequence[int]], least: float) -> Iterator[Piece]:
    """A region cut into side x side tiles, row by row; what is left over at the right and bottom is dropped.

    Class c merges the codes groups[c]; a code in none belongs to the last class. A tile needs at least the
    share `least` of its pixels outside class 0, which is the area outside the annotated region, not tissue.
    """
    with large_pictures():
        image, codes = read_image(item.image), read_values(item.masks[0])
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


def slices(item: Item, values: Sequence[int], first: int = 0, word: str = "_slice") -> Iterator[Piece]:
    """All slices of an h5 or NIfTI volume and of its labels; values[c] stands for class c.

    They are numbered from `first` after `word`; a file of one slice keeps its name. Values in [0, 1] are
    multiplied by 255, others scaled from the volume's own minimum and maximum.
    """
    path, labels = item.image, item.masks[0]
    header, held = read_header(path), read_header(labels)
    if header.shape != held.shape:
        sizes = f"labels of {held.shape} for a volume of {header.shape} (slices, rows, columns)"
        raise fault(labels, f"found {sizes}, expected equal sizes", "replace the file")
    reader, depth = Slices(), header.shape[0]
    digits = max(2, len(str(first + depth - 1)))
    for index in range(depth):
        suffix = f"{word}{first + index:0{digits}d}" if depth > 1 else ""
        mask = class_indices(reader.values(labels, index), values, labels)
        yield Piece(suffix, reader.image(path, index), mask, spacing=header.spacing_mm)


@contextmanager
def large_pictures() -> Iterator[None]:
    """Lets Pillow read regions of slides, which exceed its limit against decompression bombs."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, REGION
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
