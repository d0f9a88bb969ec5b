"""Takes corrected masks into a data set: files in masks/, rows in index.csv, and nothing is overwritten."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from knowsam_lite.data import Record, SegmentationFolder
from knowsam_lite.data.findings import fault
from knowsam_lite.data.layout import COLUMNS, MASK_ENDINGS, image_folder, read_layout, stem_of, straddling
from knowsam_lite.data.names import distinct
from knowsam_lite.data.stored import SUFFIXES, read_frame
from knowsam_lite.data.table import read_table
from knowsam_lite.data.walk import few, walk
from knowsam_lite.errors import UserError
from knowsam_lite.files import in_shell, write_aside, write_text, writing
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.pictures import as_picture, save_png
from knowsam_lite.suggest.corrected import Corrected, read_corrected
from knowsam_lite.suggest.drafts import as_csv, unchanged


@dataclass(frozen=True)
class Taken:
    """What came in: the ids that are labelled now, those that had the same mask before, the masks that are
    drafts as they were suggested, and all records as they are now.
    """

    new: list[str]
    same: list[str]
    untouched: list[str]
    records: list[Record]


def open_partly_labeled(root: Path) -> SegmentationFolder:
    """A data set of pictures in which images may lack masks: with index.csv, images/ with or without masks/,
    or a plain folder of images. Pictures beside those that index.csv names are unlabelled, too. Raises
    UserError for its first fault, for volumes and for the h5 layout.
    """
    if not root.is_dir():
        raise UserError(f"found no folder {root}, expected images or a data set: correct the path")
    layout = read_layout(root, 0.2, 0.2, 0, unlabeled=True)
    if layout.findings:
        raise UserError(f"{layout.findings[0]} (knowsam-lite check-data {in_shell(root)} lists all faults)")
    if any(record.index is not None for record in layout.records):
        raise UserError(
            f"found volumes in {root}, expected pictures: labels of single slices cannot be put into a "
            "volume's mask; save the slices as PNG, with the column volume in index.csv"
        )
    folder = SegmentationFolder.from_layout(root, layout)
    folder.records = [*folder.records, *_unlisted(folder)]
    return folder


def take_labels(root: Path, place: Path, split: str) -> Taken:
    """Take the masks in `place` (a file or folder) into the data set `root`; new ones go into `split`.

    All is read and compared before anything is written, index.csv last. Raises UserError for a mask without
    an image, one that is not the image's, other classes, and an image that has another mask already.
    """
    data = open_partly_labeled(root)
    found = read_corrected(place, data)
    if place.resolve() != root.resolve():  # masks may lie among the pictures, and are none
        masks = {corrected.file.resolve() for corrected in found if corrected.is_mask}
        data.records = [record for record in data.records if record.image.resolve() not in masks]
    images = _by_name(data.records)
    changes: dict[str, tuple[Record, Corrected]] = {}
    same, files = [], []
    for corrected in found:
        record = _image_of(corrected, images, root)
        classes = corrected.classes(record)
        files.append(corrected.file)
        if record.id in changes:
            raise fault(corrected.file, f"found a second mask for {record.id}, expected one", "take one away")
        labeled = _with_mask(root, data, record, corrected)
        if labeled.mask is not None and labeled.mask.exists():
            _require_same(data, labeled, classes, corrected)
        there = record.mask if record.mask is not None and record.mask.exists() else None
        own = there is not None and corrected.file.samefile(there)
        if there is not None and (own or (root / "index.csv").exists()):
            same.append(record.id)
        else:  # also a mask that was copied here by an import that was broken off before index.csv
            changes[record.id] = (replace(labeled, split=split), corrected)
    if data.coding.drawn_on != "shown":
        _require_upright(changes)
    records = {record.id: record for record in data.records}
    records |= {identity: record for identity, (record, _) in changes.items()}
    for record in records.values():
        _require_writable(record.image, root)
    _require_groups(list(records.values()))
    _write(root, data, records, changes)
    names = [path.name for path in unchanged(list(dict.fromkeys(files)))]
    return Taken(list(changes), same, names, list(records.values()))


def _unlisted(data: SegmentationFolder) -> list[Record]:
    """New pictures, beside those that index.csv names: unlabelled training images, each its own group.

    In a data set with groups nobody knows theirs; they are left out, and a line says so.
    """
    if not (data.root / "index.csv").exists():
        return []
    known = {path for record in data.records for path in (record.image, record.mask)}
    homes = dict.fromkeys(record.image.parent for record in data.records)
    beside = [path for home in homes for path in walk(home, SUFFIXES).files if path.parent == home]
    stems = {stem_of(record.image.name) for record in data.records}
    masks = {
        stem + ending for stem in stems | {stem_of(p.name) for p in beside} for ending in MASK_ENDINGS[1:]
    }
    found = {
        _id_of(path, data.root): path
        for path in beside
        if path not in known and stem_of(path.name) not in masks
    }
    new = {name: path for name, path in found.items() if name not in {record.id for record in data.records}}
    if new and any(record.group != record.id for record in data.records):
        print(
            f"warning: {few(list(new))} not in index.csv left out; add rows without a mask, with the group "
            "(patient, video) of each",
            file=sys.stderr,
        )
        return []
    return [Record(name, path, None, name, "train") for name, path in new.items()]


def _id_of(image: Path, root: Path) -> str:
    """The id that an image has in a folder without index.csv."""
    home = image_folder(root)
    return stem_of(image.relative_to(home if image.is_relative_to(home) else root).as_posix())


def _by_name(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records that a name may mean: their id, as a file's name too, and their image's name."""
    names: dict[str, list[Record]] = {}
    stems = distinct(record.id for record in records)
    for record in records:
        for name in {record.id, stems[record.id], stem_of(record.image.name)}:
            names.setdefault(name, []).append(record)
    return names


def _image_of(corrected: Corrected, images: Mapping[str, list[Record]], root: Path) -> Record:
    """The record whose mask came back; an id counts more than a file's name."""
    for name in corrected.names:
        found = images.get(name, [])
        exact = [record for record in found if record.id == name] or found
        if len(exact) == 1:
            return exact[0]
        if exact:
            both = few([record.id for record in exact])
            message = f"found {len(exact)} images that it may belong to ({both}), expected one"
            raise fault(corrected.file, message, "name it as the image's id in index.csv")
    message = f"found no image {corrected.names[-1]!r} in {root}, expected the one that it belongs to"
    raise fault(corrected.file, message, "rename it, or put the image there, with a row in index.csv")


def _with_mask(root: Path, data: SegmentationFolder, record: Record, corrected: Corrected) -> Record:
    """The record with the mask that it has, or the path of the one that it gets."""
    if record.mask is not None:
        return record
    home, file = root / "masks", corrected.file.resolve()
    if corrected.is_mask and file.is_relative_to(home.resolve()):  # it lies where it belongs
        return replace(record, mask=home / file.relative_to(home.resolve()))
    stems = distinct(each.id for each in [*data.records, record])
    ending = corrected.file.suffix.lower() if corrected.is_mask else ".png"
    return replace(record, mask=root / "masks" / f"{stems[record.id]}{ending}")


def _require_same(
    data: SegmentationFolder, record: Record, classes: np.ndarray, corrected: Corrected
) -> None:
    """UserError if the mask that is there is another one."""
    assert record.mask is not None
    if not np.array_equal(data.mask(record), classes):
        message = f"found another mask there already, {record.mask}, expected none or the same"
        fix = "nothing is overwritten: to replace it move it away and empty its cell in index.csv"
        raise fault(corrected.file, message, fix)


def _require_upright(changes: Mapping[str, tuple[Record, Corrected]]) -> None:
    """UserError for shapes on an image that EXIF turns, if nothing says what masks are drawn on."""
    for record, corrected in changes.values():
        if not corrected.is_mask and read_frame(record.image).turn != 1:
            message = "found an image that EXIF turns, expected to know what masks are drawn on"
            raise fault(record.image, message, 'declare "masks_drawn_on": "shown" in dataset.json')


def _require_writable(image: Path, root: Path) -> None:
    """UserError for a path below the root that no table in UTF-8 can hold."""
    try:
        image.relative_to(root).as_posix().encode("utf-8")
    except UnicodeEncodeError:
        raise fault(image, "found a file name that is not UTF-8, expected one", "rename the file") from None


def _require_groups(records: Sequence[Record]) -> None:
    """UserError if a group would be in two splits."""
    if apart := straddling(records):
        group, splits = next(iter(apart.items()))
        raise UserError(
            f"found group {group!r} in {' and '.join(sorted(splits))}, expected a group in one split only: "
            "import its images with the --split of the others, or correct index.csv"
        )


def _write(
    root: Path,
    data: SegmentationFolder,
    records: Mapping[str, Record],
    changes: Mapping[str, tuple[Record, Corrected]],
) -> None:
    """Writes the masks that are not there yet, then index.csv."""
    coding = Classes.of(data)
    for record, corrected in changes.values():
        assert record.mask is not None
        if record.mask.exists():
            continue
        with writing(record.mask):
            record.mask.parent.mkdir(parents=True, exist_ok=True)
        if corrected.is_mask:
            write_aside(record.mask, partial(_copy, corrected.file))
        else:
            save_png(record.mask, as_picture(corrected.classes(record), coding))
    columns, rows = _table(root, records, changes)
    if changes or not (root / "index.csv").exists():
        write_text(root / "index.csv", as_csv(columns, rows))


def _copy(source: Path, target: BinaryIO) -> None:
    target.write(source.read_bytes())


def _table(
    root: Path, records: Mapping[str, Record], changes: Mapping[str, tuple[Record, Corrected]]
) -> tuple[list[str], list[dict[str, str]]]:
    """The columns and rows of index.csv: those that are there with the new cells, then the new rows."""
    path = root / "index.csv"
    columns, found = read_table(path, COLUMNS) if path.exists() else (list(COLUMNS), [])
    rows = {row["id"]: row for _, row in found}
    for record in records.values():
        if record.id in changes or record.id not in rows:
            cells = {
                "id": record.id,
                "image": record.image.relative_to(root).as_posix(),
                "mask": "" if record.mask is None else record.mask.relative_to(root).as_posix(),
                "group": record.group,
                "split": record.split,
            }
            old = rows.get(record.id, {})
            rows[record.id] = {**cells, **old, "mask": cells["mask"], "split": cells["split"]}
    return columns, list(rows.values())
