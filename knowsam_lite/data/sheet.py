"""Pictures with the outlines of their masks, on one sheet: a misplaced mask is seen at a glance."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from knowsam_lite.colors import CLASSES, INK
from knowsam_lite.data.records import Record, SegmentationData
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside

COLUMNS, ROWS, CELL, LINE, GAP = 6, 4, 160, 14, 4  # cells, cells, and pixels
LEGEND = 22  # pixels
LETTERS = 26  # of a line of text under a cell of this size
TEN = 10  # pairs drawn at random


def contact_sheet(data: SegmentationData, path: Path) -> list[str]:
    """Write up to 24 pictures, evenly spread over the ids, as a PNG; returns the ids shown."""
    records = sorted((r for r in data.records if r.mask is not None), key=lambda record: record.id)
    count = min(len(records), COLUMNS * ROWS)
    chosen = [records[i * len(records) // count] for i in range(count)]
    return _write([(record.id, _cell(data, record)) for record in chosen], data.classes, path)


def random_sheet(data: SegmentationData, records: Sequence[Record], path: Path, seed: int = 0) -> list[str]:
    """Write ten of the records that have masks, drawn at random from the seed, as a PNG; returns their ids.

    Pairs that cannot be read are passed over. Raises UserError if all are, or if the file cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"found {path}, expected a file name ending in .png: change it")
    masked = [record for record in records if record.mask is not None]
    order = np.random.default_rng(seed).permutation(len(masked))
    cells = list(islice(_readable(data, [masked[i] for i in order]), TEN))
    if not cells:
        raise UserError(f"found no readable pair in {data.name}, expected one to draw: mend the errors first")
    return _write(cells, data.classes, path)


def _readable(data: SegmentationData, records: Iterable[Record]) -> Iterator[tuple[str, np.ndarray]]:
    for record in records:
        with suppress(UserError):
            yield record.id, _cell(data, record)


def _write(cells: Sequence[tuple[str, np.ndarray]], classes: Sequence[str], path: Path) -> list[str]:
    draw_sheet([([name], picture) for name, picture in cells], classes, path)
    return [name for name, _ in cells]


def draw_sheet(
    cells: Sequence[tuple[Sequence[str], np.ndarray]],
    classes: Sequence[str],
    path: Path,
    cell: int = CELL,
    columns: int = COLUMNS,
) -> None:
    """Write pictures uint8 (H, W, 3) no larger than `cell` pixels as a PNG, row by row, with lines of text
    under each, as many under all, and a legend of the classes (the background first).
    """
    rows = -(-len(cells) // columns)
    text = LINE * max(len(lines) for lines, _ in cells)
    size = (columns * (cell + GAP) + GAP, rows * (cell + text + GAP) + GAP + LEGEND)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for place, (lines, picture) in enumerate(cells):
        row, column = divmod(place, columns)
        left, top = GAP + column * (cell + GAP), GAP + row * (cell + text + GAP)
        shown = Image.fromarray(picture)
        sheet.paste(shown, (left + (cell - shown.width) // 2, top + (cell - shown.height) // 2))
        for number, line in enumerate(lines):
            pen.text((left, top + cell + number * LINE), line[-(cell * LETTERS // CELL) :], fill=INK)
    _legend(pen, classes, size[1] - LEGEND + GAP)
    save: Any = sheet.save
    write_aside(path, lambda file: save(file, format="PNG"))


def _cell(data: SegmentationData, record: Record) -> np.ndarray:
    return outlined(data.image(record), data.mask(record), data.num_classes)


def outlined(image: np.ndarray, mask: np.ndarray, num_classes: int, cell: int = CELL) -> np.ndarray:
    """An image uint8 (H, W, 3), fitted into `cell` pixels, with a line around each class of its mask."""
    scale = cell / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    for index in range(1, num_classes):
        lines, _ = cv2.findContours((mask == index).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, lines, -1, _color(index), 1)
    return image


def _legend(pen: ImageDraw.ImageDraw, classes: Sequence[str], top: int) -> None:
    left = GAP
    for index, name in enumerate(classes[1:], start=1):
        pen.rectangle((left, top + 2, left + 9, top + 11), fill=_color(index))
        pen.text((left + 14, top), name, fill=INK)
        left += 24 + int(pen.textlength(name))


def _color(index: int) -> tuple[int, int, int]:
    red, green, blue = ImageColor.getrgb(CLASSES[(index - 1) % len(CLASSES)])[:3]
    return red, green, blue
