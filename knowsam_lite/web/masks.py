"""The masks of a folder as an annotator reads and writes them: class indices of one byte each."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from knowsam_lite.data.description import Layout
from knowsam_lite.data.findings import fault
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.layout import COLUMNS, read_growing, stem_of
from knowsam_lite.data.lists import has_lists
from knowsam_lite.data.masks import UNKNOWN as IGNORED
from knowsam_lite.data.masks import mask_of
from knowsam_lite.data.names import distinct, folded
from knowsam_lite.data.placing import as_drawn, placed
from knowsam_lite.data.records import Record
from knowsam_lite.data.stored import read_frame, read_stored
from knowsam_lite.data.table import set_cell
from knowsam_lite.data.walk import is_hidden
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside, writing
from knowsam_lite.predict.files import as_picture
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.provenance import in_order_of

UNKNOWN = 255  # the byte for a pixel whose class is unknown (`ignore` of dataset.json)


class Changed(UserError):
    """The mask on disk is not the one that was opened."""


class MaskFolder:
    """The pictures of a data set, or of a plain folder, each with its mask if it has one.

    A data set is a folder with index.csv; a new mask goes to its masks/ and into its row. In any other folder
    the pictures are those of images/, or of the folder itself, and masks/ is beside them. `order`: names of
    the classes in the order wanted, that of the run at `run`. Raises UserError if there is no picture, if the
    folder has faults or if its classes are others.
    """

    def __init__(self, place: Path, order: Sequence[str] = (), run: Path = Path()):
        self.indexed = (place / "index.csv").exists() or has_lists(place)
        if self.indexed:
            self.root, data = place, SegmentationFolder(place)
        else:
            self.root, data = _plain(place)
        if order:
            ordered = in_order_of(data, order, run)
            assert isinstance(ordered, SegmentationFolder)  # as what it was made from
            data = ordered
        self.data = data
        ignore = data.coding.ignore
        if ignore is not None and not (data.painted or 0 <= ignore < 1 << 16):
            raise UserError(
                f"found ignore {ignore} in {self.root}, expected 0 to 65535, which a PNG can hold: change it "
                "in dataset.json and in the masks"
            )
        self.records = {record.id: record for record in data.records if record.index is None}
        if not self.records:
            raise UserError(
                f"found no picture in {place}, expected PNG, JPEG or TIFF: choose another (no volumes)"
            )
        stems = distinct(self.records) if self.indexed else {name: name for name in self.records}
        taken = {folded(str(record.mask)) for record in data.records if record.mask is not None}
        self.new = {}
        for name, record in self.records.items():
            self.new[name] = path = self._free(stems[name], taken if record.mask is None else set())
            taken.add(folded(str(path)))

    def _free(self, stem: str, taken: set[str]) -> Path:
        """A path for a new mask that is no other picture's."""
        path = self.root / "masks" / f"{stem}.png"
        return path if folded(str(path)) not in taken else self._free(f"{stem}_", taken)

    def record(self, name: str) -> Record:
        """The record of a picture by its id. Raises UserError if the folder has no such picture."""
        if name not in self.records:
            raise UserError(
                f"found no picture {name!r} in {self.root}, expected one of its list: reload the page"
            )
        return self.records[name]

    def path(self, name: str) -> Path:
        """Where the mask of a picture is or will be."""
        return self.record(name).mask or self.new[name]

    def has_mask(self, name: str) -> bool:
        """Whether training sees a mask: a file that no row of index.csv names is shown, but to be saved."""
        return (self.record(name).mask is not None or not self.indexed) and self.path(name).exists()

    def version(self, name: str) -> str:
        """A digest of the mask file; "new" if there is none."""
        path = self.path(name)
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.exists() else "new"

    def image(self, name: str) -> np.ndarray:
        """The picture, uint8 (H, W, 3). Raises UserError if it is none."""
        return self.data.image(self.record(name))

    def labels(self, name: str) -> np.ndarray:
        """Class indices uint8 (H, W), 255 where unknown; 0 without a mask. UserError for a faulty mask."""
        record = self.record(name)
        if not self.path(name).exists():
            return np.zeros(self.data.image_size(record), np.uint8)
        mask = self.data.mask(replace(record, mask=self.path(name)))
        return np.where(mask == IGNORED, UNKNOWN, mask).astype(np.uint8)

    def save(self, name: str, labels: np.ndarray, seen: str | None) -> str:
        """Write a mask, class indices as in `labels`, in the folder's own values; returns its new version.

        What was written is read back by the data set's own reader before it takes the name. Raises `Changed`
        if the file's version is not `seen` (None: whatever it is), and UserError if the labels do not fit the
        picture or the classes, or if the file cannot be written.
        """
        record, path = self.record(name), self.path(name)
        if seen is not None and self.version(name) != seen:
            raise Changed(
                f"found {path} changed on disk, expected it as it was opened: load it, or overwrite it"
            )
        self._require(record, path, labels)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        picture = self._picture(record, labels)

        def write(file: BinaryIO) -> None:
            save: Any = Image.fromarray(picture).save
            save(file, format="PNG")
            file.flush()
            self._require_readable(record, path, Path(file.name), labels)

        write_aside(path, write)
        if self.indexed and record.mask is None:
            row = path.relative_to(self.root).as_posix()
            set_cell(self.root / "index.csv", COLUMNS, record.id, "mask", row)
        self.records[name] = replace(record, mask=path)
        return self.version(name)

    def _require(self, record: Record, path: Path, labels: np.ndarray) -> None:
        if path.suffix.lower() != ".png":
            fix = "let `knowsam-lite check-data FOLDER --fix NEW` write a copy whose masks are PNG"
            raise fault(path, "found a mask that is no PNG, expected one to write into", fix)
        size = self.data.image_size(record)
        if labels.shape != size:
            raise fault(path, f"found a mask of {labels.shape} for a picture of {size}", "reload the page")
        allowed = [*range(self.data.num_classes), *([] if self.data.coding.ignore is None else [UNKNOWN])]
        strange = sorted(set(np.unique(labels).tolist()) - set(allowed))
        if strange:
            raise fault(path, f"found class {strange[0]}, expected one of {allowed}", "reload the page")

    def _picture(self, record: Record, labels: np.ndarray) -> np.ndarray:
        """What the file holds: the values of the data set, on the pixels that its masks are drawn on."""
        coding = self.data.coding
        names = (*coding.classes, *(["unknown"] if coding.ignore is not None else []))
        indices = np.where(labels == UNKNOWN, len(coding.classes), labels)
        picture = as_picture(indices, Classes(names, tuple(coding.known), coding.painted))
        return as_drawn(picture, record.image, coding)

    def _require_readable(self, record: Record, path: Path, written: Path, labels: np.ndarray) -> None:
        """UserError, before the file takes its name, if a reader would not see these labels in it."""
        stored = read_stored(written)
        classes = mask_of(path, stored, self.data.coding).classes
        found = placed(path, classes, stored.frame, read_frame(record.image), self.data.coding)
        if not np.array_equal(np.where(found == IGNORED, UNKNOWN, found), labels):
            raise fault(path, "found another mask when reading it back, expected what was drawn", "not saved")


def _plain(place: Path) -> tuple[Path, SegmentationFolder]:
    """Root and pictures of a folder without index.csv."""
    if not place.is_dir():
        raise UserError(f"found no folder {place}, expected one with pictures: correct the path")
    has_images = (place / "images").is_dir()
    root, images = (place, place / "images") if has_images else (place.absolute().parent, place)
    layout = read_growing(root, images)
    if not has_images:
        _refuse_foreign(layout, images, root)
    if layout.findings:
        raise UserError(str(layout.findings[0]))
    return root, SegmentationFolder.from_layout(root, layout)


def _refuse_foreign(layout: Layout, images: Path, root: Path) -> None:
    """UserError if the masks beside a folder may be those of another folder of pictures beside it."""
    done = {record.id: record.mask for record in layout.records if record.mask is not None}
    for other in root.iterdir() if done else ():
        if is_hidden(other.name) or other == root / "masks":
            continue
        try:
            files = sorted(other.iterdir()) if other.is_dir() and not other.samefile(images) else []
        except OSError:  # a folder that nobody can look into here
            continue
        shared = next((file for file in files if stem_of(file.name) in done), None)
        if shared is not None:
            raise UserError(
                f"found {done[stem_of(shared.name)]}, which may be of {shared} or of a picture in {images}, "
                "expected masks/ beside one folder of pictures: put each into a folder of its own, as "
                "FOLDER/images and FOLDER/masks"
            )
