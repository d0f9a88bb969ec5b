"""Synthetic data sets, drawn on the fly: every image is a pure function of (kind, seed, index, size)."""

import csv
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from knowsam_lite.data import cardiac, colonoscopy, dermoscopy, histology, shapes, ultrasound
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.records import Record, SegmentationData, records_of
from knowsam_lite.errors import UserError
from knowsam_lite.files import new_folder

# The split of a group is a function of its number alone, so a larger n moves no image to another split.
# 62.5 % train, 12.5 % val, 25 % test.
PATTERN = ("train", "test", "train", "val", "train", "train", "test", "train")


@dataclass(frozen=True)
class Kind:
    """How to draw one kind of image.

    `draw(rng, size)` gives an image uint8 (S, S, 3) and a mask uint8 (S, S) of class indices. Where a group
    has more than one image (a patient's slices), it is called for each with an identically seeded generator
    and the image's position in the group, from 0 to 1, as third argument.
    """

    draw: Callable[..., tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    group_size: int = 1


KINDS = {
    "colonoscopy": Kind(colonoscopy.draw, ("background", "polyp")),
    "ultrasound": Kind(ultrasound.draw, ("background", "lesion")),
    "dermoscopy": Kind(dermoscopy.draw, ("background", "lesion")),
    "cardiac": Kind(
        cardiac.draw, ("background", "right ventricle", "myocardium", "left ventricle"), group_size=8
    ),
    "histology": Kind(histology.draw, ("background", "gland")),
    "shapes": Kind(shapes.draw, ("background", "object")),
}


@lru_cache(maxsize=1024)
def _draw(kind: str, seed: int, index: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and mask number `index`, read-only because they are shared."""
    group, position = divmod(index, KINDS[kind].group_size)
    rng = np.random.default_rng([zlib.crc32(kind.encode()), seed, group])
    last = KINDS[kind].group_size - 1
    pair = KINDS[kind].draw(rng, size, position / last) if last else KINDS[kind].draw(rng, size)
    for array in pair:
        array.setflags(write=False)
    return pair


class Synthetic:
    """`n` images of one of `KINDS`, `size` pixels a side, split by whole groups into train, val and test.

    UserError for an unknown kind, a negative seed, or n or size too small.
    """

    spacing_mm: tuple[float, float] | None = None

    def __init__(self, kind: str, seed: int = 0, n: int = 200, size: int = 64) -> None:
        if kind not in KINDS:
            raise UserError(
                f"found synthetic kind {kind!r}, expected one of {', '.join(KINDS)}; correct the name"
            )
        if n < 1 or seed < 0 or size < 16:
            raise UserError(
                f"found n {n}, seed {seed}, size {size}, expected n from 1, seed from 0, size from 16; "
                "change them"
            )
        self.kind, self.seed, self.size = kind, seed, size
        self.name, self.classes = f"synthetic {kind} (seed {seed})", KINDS[kind].classes
        self.records = [self._record(index) for index in range(n)]

    def _record(self, index: int) -> Record:
        group = index // KINDS[self.kind].group_size
        name = f"{self.kind}_{index:05d}"
        split = PATTERN[group % len(PATTERN)]
        return Record(
            name, Path(f"images/{name}.png"), Path(f"masks/{name}.png"), f"group_{group:05d}", split
        )

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.classes)

    def split(self, name: str) -> list[Record]:
        """The records of "train", "val" or "test", sorted by id."""
        return records_of(self.records, name)

    def image(self, record: Record) -> np.ndarray:
        """The image, uint8 (S, S, 3) RGB, read-only."""
        return _draw(self.kind, self.seed, _index(record), self.size)[0]

    def image_size(self, record: Record) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.size

    def mask(self, record: Record) -> np.ndarray:
        """The mask, uint8 (S, S) class indices, read-only."""
        return _draw(self.kind, self.seed, _index(record), self.size)[1]


def _index(record: Record) -> int:
    return int(record.id.rsplit("_", 1)[1])


def write(dataset: SegmentationData, root: str | Path) -> SegmentationFolder:
    """Write any data set in the folder layout (PNG; mask values spread over 0..255) and open it from there.

    UserError if `root` cannot be written or already holds files.
    """
    root = Path(root)
    values = [round(255 * index / (dataset.num_classes - 1)) for index in range(dataset.num_classes)]
    description = {
        "name": dataset.name,
        "classes": list(dataset.classes),
        "mask_values": values,
        "spacing_mm": None if dataset.spacing_mm is None else list(dataset.spacing_mm),
    }
    with new_folder(root) as aside:
        (aside / "images").mkdir()
        (aside / "masks").mkdir()
        (aside / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
        rows = [_write_pair(dataset, record, aside, np.array(values, np.uint8)) for record in dataset.records]
        with open(aside / "index.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["id", "image", "mask", "group", "split"], *rows])
    return SegmentationFolder(root)


def _write_pair(dataset: SegmentationData, record: Record, root: Path, values: np.ndarray) -> list[str]:
    """Writes one image and its mask, if any; returns the row of index.csv."""
    image, mask = f"images/{record.id}.png", f"masks/{record.id}.png" if record.mask else ""
    Image.fromarray(dataset.image(record)).save(root / image)
    if mask:
        Image.fromarray(values[dataset.mask(record)]).save(root / mask)
    return [record.id, image, mask, record.group, record.split]
