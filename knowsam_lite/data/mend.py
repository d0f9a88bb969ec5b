"""Writes a repaired copy of a data set; the original is not changed."""

import csv
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from knowsam_lite.data.description import Layout
from knowsam_lite.data.duplicates import both_slices, fingerprint, groups_of, near_pairs
from knowsam_lite.data.findings import Fault
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.images import read_image
from knowsam_lite.data.layout import COLUMNS, read_layout, stem_of
from knowsam_lite.data.masks import UNKNOWN, as_rgb, colors_of, values_of
from knowsam_lite.data.names import file_stem
from knowsam_lite.data.pixels import turned
from knowsam_lite.data.placing import TurnFault
from knowsam_lite.data.records import Record
from knowsam_lite.data.stored import SUFFIXES, read_frame, read_stored
from knowsam_lite.data.walk import walk
from knowsam_lite.errors import UserError
from knowsam_lite.files import new_folder

ENOUGH = 32  # masks read to infer undeclared values


def mend(root: Path, out: Path) -> list[str]:
    """Write the repaired copy `out` of the folder `root`, all or nothing; returns one line per change.

    Masks become PNG with their values spread over 0..255: JPEG masks are thresholded, masks of the image's
    shape but another size resized, exchanged images and masks swapped back. A training image whose mask is
    missing or beyond repair becomes unlabelled; other rows that cannot be read are left out. A group, or
    near-duplicates, found in two splits go to train as one group. UserError if `out` holds files, if nothing
    can be read, for a faulty dataset.json, for volumes, or if it must be said on which picture the masks were
    drawn.
    """
    layout = read_layout(root, val=0.2, test=0.2, seed=0)
    if any(record.index is not None for record in layout.records):
        raise UserError(
            f"found volumes in {root}, expected pictures: --fix mends no volumes, replace bad files"
        )
    for finding in layout.findings:
        if finding.file == "dataset.json":  # masks would be read by values that it does not mean
            raise UserError(str(finding))
    done = [f"left out: {finding}" for finding in layout.findings if "line" in finding.file]
    done += [f"left out: {finding}" for finding in layout.left_out]
    with new_folder(out) as aside:
        _declare(layout, done)
        folder = SegmentationFolder.from_layout(root, layout)
        for name in ("images", "masks"):
            (aside / name).mkdir()
        records = _copied(folder, _candidates(root, layout.records, done), aside, done)
        if not records:
            raise UserError(f"found no readable image in {root}, expected at least one; nothing to mend")
        _write(folder, _regrouped(records, aside, done), aside)
    return done


def _declare(layout: Layout, done: list[str]) -> None:
    """Without dataset.json, the two values that all masks share become background (lower) and object."""
    if layout.coding.source:
        return
    found: set[int] = set()
    kinds: set[bool] = set()
    for record in [record for record in layout.records if record.mask][:ENOUGH]:
        assert record.mask is not None
        with suppress(Fault):
            stored = read_stored(record.mask)
            kinds.add(stored.kind == "palette")  # whose indices say nothing: its colors count
            numbers = (colors_of if stored.kind == "palette" else values_of)(record.mask, stored)
            found |= set(np.unique(numbers * stored.step).tolist())
    painted = kinds == {True}
    if len(found) != 2 or len(kinds) != 1 or found == set(layout.mask_values):
        return
    low, high = sorted(found, key=(lambda color: sum(as_rgb(color))) if painted else None)
    if low >= 0 and high <= (0xFFFFFF if painted else 65535):
        layout.coding = replace(layout.coding, values=(low, high), painted=painted)
        names = [layout.coding.shown([value]) for value in (low, high)]
        done.append(f"dataset.json: declared mask value {names[0]} as background, {names[1]} as object")


def _candidates(root: Path, records: list[Record], done: list[str]) -> list[Record]:
    """Each id once; for a plain pair of folders also the images without a mask, for training."""
    unique: dict[str, Record] = {}
    for record in records:
        if record.id in unique:
            done.append(f"left out: a second row with id {record.id!r}")
        else:
            unique[record.id] = record
    if not (root / "index.csv").exists():
        paired = {record.image for record in records}
        images = walk(root / "images", SUFFIXES)
        for path in images.files:
            stem = stem_of(images.name(path))
            if path not in paired and stem not in unique:
                unique[stem] = Record(stem, path, None, stem, "train")
                done.append(f"{images.name(path)}: no mask, unlabelled from now on")
    return list(unique.values())


def _copied(folder: SegmentationFolder, records: list[Record], out: Path, done: list[str]) -> list[Record]:
    """Writes what can be read of each record into `out`; returns the new records."""
    kept = []
    for record in records:
        try:
            image, mask, note = _read(folder, record)
        except Fault as error:
            done.append(f"left out: {error}")
            continue
        if note:
            done.append(f"{record.id}: {note}")
        name = _file_name(record.id, out / "images")
        Image.fromarray(image).save(out / "images" / name)
        if mask is not None:
            Image.fromarray(_values(folder)[mask]).save(out / "masks" / name)  # the last is for -1
        kept.append(
            replace(record, image=Path("images", name), mask=None if mask is None else Path("masks", name))
        )
    return kept


def _file_name(identity: str, folder: Path) -> str:
    """A new PNG file name, valid on every system and as close to the id as possible."""
    stem = file_stem(identity)
    while (folder / f"{stem}.png").exists():
        stem += "_"
    return f"{stem}.png"


def _read(folder: SegmentationFolder, record: Record) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Image, mask or None, and what was mended; UserError if the record cannot be used."""
    if record.mask is None:
        return folder.image(record), None, ""
    try:
        mask, changed = folder.mask(record), folder.thresholded.get(record.mask, 0)
        return folder.image(record), mask, f"JPEG mask, {changed} pixels thresholded" if changed else ""
    except TurnFault as error:
        if not error.decided:
            raise UserError(str(error)) from None
        mask, turn = folder.stored_mask(record).classes, read_frame(record.image).turn
        return folder.image(record), turned(mask, turn), "mask turned as EXIF turns its image"
    except Fault as error:
        if folder.is_swapped(record):
            swapped = replace(record, image=record.mask, mask=record.image)
            with suppress(Fault):
                return folder.image(swapped), folder.mask(swapped), "image and mask swapped"
        image = folder.image(record)
        with suppress(Fault):
            found = folder.stored_mask(record)
            mask = turned(found.classes, found.stored.turn)
            if _one_shape(mask.shape, image.shape) and read_frame(record.image).turn == 1:
                size = (image.shape[1], image.shape[0])  # cv2 takes width first
                resized = cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT)
                return image, resized, f"mask resized from {mask.shape} to {image.shape[:2]}"
        if record.split == "train":
            return image, None, f"unlabelled from now on, for its mask is bad ({error.finding.message})"
        raise


def _one_shape(mask: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """True if one size is a multiple of the other, within a pixel, and the mask has at least 8 x 8 pixels."""
    factor = image[0] / mask[0]
    return min(mask) >= 8 and abs(mask[1] * factor - image[1]) <= max(1.0, factor)


def _values(folder: SegmentationFolder) -> np.ndarray:
    """The mask values of the copy, spread over 0..255 to be visible; with `ignore` its value is the last."""
    top = folder.num_classes - (folder.coding.ignore is None)
    return np.array([round(255 * index / top) for index in range(top + 1)], np.uint8)


def _regrouped(records: list[Record], out: Path, done: list[str]) -> list[Record]:
    """Merges near-duplicates into one group and moves groups found in several splits to train."""
    looks = [fingerprint(read_image(out / record.image)) for record in records]
    seen = [i for i, look in enumerate(looks) if look is not None]
    near = near_pairs(np.array([looks[i] for i in seen])) if seen else []
    links = [(seen[i], seen[j]) for i, j, _ in near if not both_slices(records[seen[i]], records[seen[j]])]
    first: dict[str, int] = {}
    for i, record in enumerate(records):
        links.append((first.setdefault(record.group, i), i))
    mended = list(records)
    for members in groups_of([(i, j, 0) for i, j in links if i != j], len(records)):
        names = {records[i].group for i in members}
        splits = {records[i].split for i in members}
        for i in members:
            split = records[i].split if len(splits) == 1 else "train"
            mended[i] = replace(records[i], group=min(names), split=split)
        who = ", ".join(records[i].id for i in members)
        if len(names) > 1:
            done.append(f"group {min(names)}: look alike, {who}")
        if len(splits) > 1:
            done.append(f"group {min(names)}: was in {' and '.join(sorted(splits))}, now in train, {who}")
    return mended


def _write(folder: SegmentationFolder, records: list[Record], out: Path) -> None:
    spacing = records[0].spacing_mm or folder.spacing_mm
    description = {
        "name": folder.name,
        "classes": list(folder.classes),
        "mask_values": _values(folder).tolist()[: folder.num_classes],
        **({} if folder.coding.ignore is None else {"ignore": int(_values(folder)[UNKNOWN])}),
        "spacing_mm": None if spacing is None else list(spacing),
    }
    (out / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    rows = [
        [r.id, r.image.as_posix(), r.mask.as_posix() if r.mask else "", r.group, r.split, r.volume]
        for r in records
    ]
    with open(out / "index.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "volume"], *rows])
