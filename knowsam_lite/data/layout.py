"""What a data set's folder declares, read without opening a picture; every fault is collected, none raised.

ROOT/dataset.json  {"name", "classes", "mask_values", "spacing_mm"}; if missing: background/object as 0/255
ROOT/index.csv     id,image,mask,group,split; if missing: ROOT/images and ROOT/masks are paired by name
"""

import csv
import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from knowsam_lite.data.findings import Finding
from knowsam_lite.data.images import SUFFIXES
from knowsam_lite.data.records import SPLITS, Record
from knowsam_lite.data.split import assign_splits
from knowsam_lite.errors import UserError

COLUMNS = ("id", "image", "mask", "group", "split")
MASK_ENDINGS = ("", "_mask", "_segmentation")  # how public sets name the mask of NAME
EXAMPLE = (
    '{"name": "my data", "classes": ["background", "object"], "mask_values": [0, 255], "spacing_mm": null}'
)


@dataclass
class Layout:
    """Declared classes, their values in mask files, the pixel size in mm, the records, and what is wrong."""

    name: str
    classes: tuple[str, ...] = ("background", "object")
    mask_values: tuple[int, ...] = (0, 255)
    spacing_mm: tuple[float, float] | None = None
    declared: bool = False  # a dataset.json says so
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def error(self, file: str, message: str, fix: str) -> None:
        self.findings.append(Finding("error", file, message, fix))


def read_layout(root: Path, val: float, test: float, seed: int) -> Layout:
    """The layout of the folder `root`; `val`, `test` and `seed` serve where there is no index.csv."""
    layout = Layout(root.resolve().name)
    if not root.is_dir():
        layout.error(str(root), "found no folder there, expected a data set", "correct the path")
        return layout
    _read_description(root, layout)
    if (root / "index.csv").exists():
        _read_index(root, layout)
    elif (root / "images").is_dir() and (root / "masks").is_dir():
        _pair_folders(root, layout, val, test, seed)
    else:
        message = "found neither index.csv nor the pair of folders images/ and masks/, expected one of them"
        layout.error(
            str(root), message, f"write index.csv with the columns {','.join(COLUMNS)}, or make the folders"
        )
    if not layout.records and not layout.findings:
        layout.error("index.csv", "found no image, expected at least one", "add a row for each image")
    _check_groups(layout)
    return layout


def _read_description(root: Path, layout: Layout) -> None:
    path = root / "dataset.json"
    if not path.exists():
        return
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        layout.error("dataset.json", f"found no valid JSON ({error}), expected an object", f"write {EXAMPLE}")
        return
    found = found if isinstance(found, dict) else {}
    classes, values, spacing = found.get("classes"), found.get("mask_values"), found.get("spacing_mm")
    if not _is_list_of(classes, str) or len(classes) < 2:
        message = f"found classes {classes!r}, expected two or more different names, the background first"
        layout.error("dataset.json", message, f"write as in {EXAMPLE}")
    elif (
        not _is_list_of(values, int)
        or len(values) != len(classes)
        or not all(0 <= v <= 65535 for v in values)
    ):
        message = f"found mask_values {values!r}, expected {len(classes)} different values, one per class"
        layout.error("dataset.json", message, f"write as in {EXAMPLE}")
    else:
        layout.name = str(found.get("name") or layout.name)
        layout.classes, layout.mask_values, layout.declared = tuple(classes), tuple(values), True
    if spacing is not None:
        pair = spacing if isinstance(spacing, list) else [spacing, spacing]
        if len(pair) == 2 and all(isinstance(mm, int | float) and mm > 0 for mm in pair):
            layout.spacing_mm = (float(pair[0]), float(pair[1]))
        else:
            message = f"found spacing_mm {spacing!r}, expected null or [row, column] in mm above 0"
            layout.error("dataset.json", message, "write null where it is unknown")


def _is_list_of(found: Any, kind: type) -> bool:
    """A list of distinct entries of one type (bool does not pass for int)."""
    return (
        isinstance(found, list)
        and all(type(entry) is kind for entry in found)
        and len(set(found)) == len(found)
    )


def _read_index(root: Path, layout: Layout) -> None:
    try:
        with open(root / "index.csv", newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        layout.error(
            "index.csv", f"found no readable table ({error}), expected UTF-8 CSV", "save it as UTF-8 CSV"
        )
        return
    columns = reader.fieldnames or []
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        message = f"found columns {','.join(columns) or 'none'}, expected {','.join(COLUMNS)}"
        layout.error("index.csv", message, f"add {', '.join(missing)} to the first line, separated by commas")
        return
    for line, row in rows:
        record = _record(root, layout, f"index.csv line {line}", {c: (row[c] or "").strip() for c in COLUMNS})
        if record:
            layout.records.append(record)
    for duplicate, count in Counter(record.id for record in layout.records).items():
        if count > 1:
            layout.error(
                "index.csv",
                f"found id {duplicate!r} {count} times, expected each id once",
                "rename or delete",
            )


def _record(root: Path, layout: Layout, where: str, row: dict[str, str]) -> Record | None:
    """The record of one row of index.csv, or None with the reasons added to the findings."""
    before = len(layout.findings)
    if not row["id"] or not row["image"]:
        layout.error(
            where, f"found id {row['id']!r} and image {row['image']!r}, expected both", "fill them in"
        )
    if row["split"] not in SPLITS:
        layout.error(
            where, f"found split {row['split']!r}, expected {', '.join(SPLITS)}", "correct the split"
        )
    elif not row["mask"] and row["split"] != "train":
        message = (
            f"found no mask for {row['id']!r} in {row['split']}, expected one: only train may lack masks"
        )
        layout.error(where, message, "add the mask or move the row to train")
    for column in ("image", "mask"):
        path = PurePosixPath(row[column])
        if path.is_absolute() or ".." in path.parts:
            message = f"found the {column} path {row[column]!r}, expected one inside the data set's folder"
            layout.error(where, message, "put the file inside and write its path relative to the folder")
    if len(layout.findings) > before:
        return None
    mask = root / row["mask"] if row["mask"] else None
    return Record(row["id"], root / row["image"], mask, row["group"] or row["id"], row["split"])


def _pair_folders(root: Path, layout: Layout, val: float, test: float, seed: int) -> None:
    """Records from images/NAME.* and masks/NAME.* (or NAME_mask.*, NAME_segmentation.*), each a group."""
    images, masks = _by_stem(root / "images", layout), _by_stem(root / "masks", layout)
    pairs: dict[str, tuple[Path, Path]] = {}
    for stem, image in images.items():
        mask = next((masks.pop(stem + end) for end in MASK_ENDINGS if stem + end in masks), None)
        if mask:
            pairs[stem] = (image, mask)
        else:
            message = f"found no mask for it, expected masks/{stem}.png"
            fix = "add the mask, or write index.csv, where a training image may have none"
            layout.error(f"images/{image.name}", message, fix)
    for mask in masks.values():
        fix = "add the image, or delete or rename the mask"
        layout.error(f"masks/{mask.name}", f"found no image for it, expected images/{mask.stem}.*", fix)
    if not images:
        layout.error(
            "images", "found no image, expected at least one", f"add files ending in {' '.join(SUFFIXES)}"
        )
    if not pairs:
        return
    try:
        splits = assign_splits(list(pairs), val, test, seed)
    except UserError as error:
        layout.error("images", str(error), "")
        return
    layout.records = [Record(stem, *files, stem, splits[stem]) for stem, files in sorted(pairs.items())]


def _by_stem(folder: Path, layout: Layout) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in files:
            message = f"found {files[path.stem].name} and {path.name} of one name, expected one file"
            layout.error(f"{folder.name}/{path.name}", message, "delete or rename one")
        files[path.stem] = path
    return files


def _check_groups(layout: Layout) -> None:
    """Images of one patient in two splits would leak what the test is about."""
    splits: dict[str, set[str]] = {}
    for record in layout.records:
        splits.setdefault(record.group, set()).add(record.split)
    for group, names in sorted(splits.items()):
        if len(names) > 1:
            message = (
                f"found group {group!r} in {' and '.join(sorted(names))}, expected a group in one split only"
            )
            layout.error("index.csv", message, "give all images of the group the same split")
