"""The h5 layout that semi-supervised repositories share: slices to train on, volumes to score, three lists.

ROOT/train_slices.list   names of ROOT/data/slices/NAME.h5, one slice each
ROOT/val.list, test.list names of ROOT/data/NAME.h5, one volume each
A file holds `image` in [0, 1] and `label`, class indices from 0. The group (the patient) is the start of a
name, up to its first number.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from knowsam_lite.data.description import Layout
from knowsam_lite.data.findings import Fault, Finding
from knowsam_lite.data.masks import EXAMPLE
from knowsam_lite.data.records import Record
from knowsam_lite.data.slices import Slices, read_header, slices_of

LISTS = {"train": "train_slices.list", "val": "val.list", "test": "test.list"}


def has_lists(root: Path) -> bool:
    """True if one of the three lists is in the folder."""
    return any((root / name).is_file() for name in LISTS.values())


def read_lists(root: Path, layout: Layout) -> None:
    """Adds a record for each slice that the lists name; without dataset.json the labels give the classes."""
    for split, list_name in LISTS.items():
        for name in _names(root / list_name, layout):
            path = root / ("data/slices" if split == "train" else "data") / f"{name}.h5"
            record = Record(name, path, path, group_of(name), split, spacing_mm=layout.voxel_mm)
            try:
                _add(layout, record)
            except Fault as error:
                layout.findings.append(_named(error, list_name))
    _check_axes(layout)
    if not layout.coding.source and layout.records:
        _count_classes(layout)


def _names(path: Path, layout: Layout) -> list[str]:
    """The names in a list, one a line, without the ending; none if there is no such list."""
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        layout.error(path.name, f"found no readable list ({error}), expected UTF-8 text", "save it as UTF-8")
        return []
    return [line.strip().removesuffix(".h5") for line in lines if line.strip()]


def _check_axes(layout: Layout) -> None:
    """A volume whose first two axes, not its last two, have the size of a training slice is turned."""
    sizes = {path: read_header(path).shape for path in {record.image: 0 for record in layout.records}}
    slices = {shape[1:] for shape in sizes.values() if shape[0] == 1}
    for path, shape in sizes.items():
        if shape[0] > 1 and shape[1:] not in slices and shape[:2] in slices:
            message = (
                f"found axes {shape} where training slices have {shape[:2]}, expected slices, rows, columns"
            )
            layout.error(
                str(path), message, "save image and label with the slices first (numpy.moveaxis(a, -1, 0))"
            )


def _add(layout: Layout, record: Record) -> None:
    """Adds the slices of a volume, or the single slice of a training file as its own case."""
    slices = slices_of(record)
    if record.split == "train" and len(slices) == 1:
        slices = [Record(record.id, record.image, record.mask, record.group, record.split, index=0)]
    layout.records += slices


def _named(error: Fault, list_name: str) -> Finding:
    found = error.finding
    fix = f"{found.fix}, or take its name from {list_name}"
    return Finding(found.severity, found.file, found.message, fix)


def group_of(name: str) -> str:
    """The start of a name up to and including its first number: "patient003" of "patient003_frame01"."""
    match = re.match(r"\D*\d+", name)
    return match[0] if match else name


def _count_classes(layout: Layout) -> None:
    """Takes the classes (0, 1, ..., no gaps) from the val and test labels, which scoring reads anyway."""
    reader, found = Slices(), set()
    fix = f"write dataset.json with all classes and their values, such as {EXAMPLE}"
    for path in dict.fromkeys(record.image for record in layout.records if record.split != "train"):
        try:
            for index in range(read_header(path).shape[0]):
                found |= set(np.unique(reader.values(path, index, path)).tolist())
        except Fault as error:
            layout.findings.append(error.finding)
    if not found and not layout.findings:
        message = "found no volume for val or test whose labels give the classes, expected dataset.json"
        layout.error("dataset.json", message, fix)
    elif len(found) > 1 and found == set(range(len(found))):
        names = ("background", *(f"class {index}" for index in sorted(found)[1:]))
        layout.coding = replace(layout.coding, classes=names, values=tuple(sorted(found)))
    elif found:
        message = f"found labels {sorted(found)[:20]} in val and test, expected 0, 1, ... without a gap"
        layout.error("dataset.json", message, fix)
