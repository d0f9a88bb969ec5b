"""A contact sheet: some images with the outlines of their masks, to see at a glance what was prepared."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageColor, ImageDraw

from knowsam_lite.colors import CLASSES, INK
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.records import Record

COLUMNS, ROWS, CELL, LINE, GAP = 6, 4, 160, 14, 4  # cells, cells, and pixels
LEGEND = 22  # pixels


def contact_sheet(data: SegmentationFolder, path: Path) -> list[str]:
    """Write up to 24 pictures, evenly spread over the ids, as a PNG; returns the ids shown."""
    records = sorted((r for r in data.records if r.mask is not None), key=lambda record: record.id)
    count = min(len(records), COLUMNS * ROWS)
    chosen = [records[i * len(records) // count] for i in range(count)]
    rows = -(-len(chosen) // COLUMNS)
    size = (COLUMNS * (CELL + GAP) + GAP, rows * (CELL + LINE + GAP) + GAP + LEGEND)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for place, record in enumerate(chosen):
        row, column = divmod(place, COLUMNS)
        corner = (GAP + column * (CELL + GAP), GAP + row * (CELL + LINE + GAP))
        cell = Image.fromarray(_outlined(data, record))
        sheet.paste(cell, (corner[0] + (CELL - cell.width) // 2, corner[1] + (CELL - cell.height) // 2))
        pen.text((corner[0], corner[1] + CELL), record.id[-26:], fill=INK)
    _legend(pen, data.classes, size[1] - LEGEND + GAP)
    sheet.save(path)
    return [record.id for record in chosen]


def _outlined(data: SegmentationFolder, record: Record) -> np.ndarray:
    """The image, no larger than a cell, with a line around each class."""
    image, mask = data.image(record), data.mask(record)
    scale = CELL / max(mask.shape)
    size = (max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale)))
    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    mask = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
    for index in range(1, data.num_classes):
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
