"""Reads a data folder's records and classes, without opening a picture; faults are collected, not raised.

ROOT/dataset.json  {"name", "classes", "mask_values", "spacing_mm"}; if missing: background/object as 0/255
ROOT/index.csv     id,image,mask,group,split; if missing: ROOT/images and ROOT/masks are paired by name, or
                   the lists of the h5 layout are read (lists.py)

An image and its mask are two pictures or two NIfTI volumes; each slice of a volume becomes a record. A sixth
column, volume, names the volume that a picture is a slice of: its slices are scored together.
"""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath

from knowsam_lite.data.description import Layout, read_description
from knowsam_lite.data.findings import Fault
from knowsam_lite.data.lists import has_lists, read_lists
from knowsam_lite.data.names import readable
from knowsam_lite.data.records import SPLITS, Record
from knowsam_lite.data.slices import SUFFIXES as VOLUME_SUFFIXES
from knowsam_lite.data.slices import is_volume, slices_of
from knowsam_lite.data.split import assign_splits
from knowsam_lite.data.stored import SUFFIXES
from knowsam_lite.data.table import is_empty, read_table
from knowsam_lite.data.walk import Walk, lost_link, walk
from knowsam_lite.errors import UserError
from knowsam_lite.files import in_shell

COLUMNS = ("id", "image", "mask", "group", "split")
MASK_ENDINGS = ("", "_mask", "_segmentation")  # how public sets name the mask of NAME
ENDINGS = (*VOLUME_SUFFIXES, *SUFFIXES)


def read_layout(root: Path, val: float, test: float, seed: int, unlabeled: bool = False) -> Layout:
    """The layout of the folder `root`; `val`, `test` and `seed` apply if there is no index.csv.

    `unlabeled`: without index.csv an image that has no mask is an unlabelled training image, not a fault, and
    the folders masks/ and images/ may be missing: then the images lie in `root` itself.
    """
    layout = Layout(root.resolve().name)
    if not root.is_dir():
        layout.error(str(root), "found no folder there, expected a data set", "correct the path")
        return layout
    if (root / "imagesTr").is_dir() and not (root / "index.csv").exists():
        out = in_shell(_beside(root, "_converted"))
        fix = f"run `knowsam-lite data own --nnunet {in_shell(root)} --out {out}` and use its result"
        layout.error(str(root), "found nnU-Net's imagesTr, expected images and masks", fix)
        return layout
    read_description(root, layout)
    if (root / "index.csv").exists():
        _read_index(root, layout)
    elif has_lists(root):
        read_lists(root, layout)
    elif unlabeled or ((root / "images").is_dir() and (root / "masks").is_dir()):
        _pair_folders(root, layout, val, test, seed, unlabeled)
    else:
        message = "found neither index.csv nor the pair of folders images/ and masks/, expected one of them"
        layout.error(
            str(root), message, f"write index.csv with the columns {','.join(COLUMNS)}, or make the folders"
        )
    if not layout.records and not layout.findings:
        layout.error("index.csv", "found no image, expected at least one", "add a row for each image")
    _check_groups(layout)
    return layout


def read_growing(root: Path, images: Path) -> Layout:
    """The layout of pictures that are being annotated: those of `images`, each with its mask of ROOT/masks
    if it is there, all in train; classes from ROOT/dataset.json.
    """
    layout = Layout(root.resolve().name)
    read_description(root, layout)
    pictures = _by_stem(walk(images, SUFFIXES), layout)
    masks = _by_stem(walk(root / "masks", SUFFIXES), layout) if (root / "masks").is_dir() else {}
    for stem, image in pictures.items():
        mask = take_mask(masks, [stem + end for end in MASK_ENDINGS])
        layout.records.append(Record(stem, image, mask, stem, "train"))
    return layout


def _read_index(root: Path, layout: Layout) -> None:
    try:
        columns, rows = read_table(root / "index.csv", (*COLUMNS, "volume"))
    except (OSError, ValueError, csv.Error) as error:
        layout.error(
            "index.csv", f"found no readable table ({error}), expected UTF-8 CSV", "save it as UTF-8 CSV"
        )
        return
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        message = f"found columns {','.join(columns) or 'none'}, expected {','.join(COLUMNS)}"
        layout.error("index.csv", message, f"add {', '.join(missing)} to the first line, separated by commas")
        return
    twice = [column for column in (*COLUMNS, "volume") if columns.count(column) > 1]
    if twice:
        message = f"found the column {twice[0]} {columns.count(twice[0])} times, expected it once"
        layout.error("index.csv", message, "delete or rename one of the columns")
        return
    for line, row in rows:
        where = f"index.csv line {line}"
        if row[""]:
            message = f"found {row['']!r} behind the {len(columns)} columns, expected a cell for each column"
            layout.error(where, message, 'put a name with a comma between double quotes ("a, b.png")')
            continue
        record = _record(root, layout, where, _cells(root, row))
        if record:
            _add(layout, record)
    for duplicate, count in Counter(record.id for record in layout.records).items():
        if count > 1:
            layout.error(
                "index.csv",
                f"found id {duplicate!r} {count} times, expected each id once",
                "rename or delete",
            )


def _cells(root: Path, row: dict[str, str]) -> dict[str, str]:
    """The cells of a row: empty ones as "", splits in lower case, paths with forward slashes."""
    cells = {column: row.get(column, "") for column in (*COLUMNS, "volume")}
    for column in ("mask", "group", "volume"):
        cells[column] = "" if is_empty(cells[column]) else cells[column]
    cells["split"] = cells["split"].lower()
    for column in ("image", "mask"):
        cells[column] = _inside(root, cells[column])
    return cells


def _inside(root: Path, path: str) -> str:
    """A path with the other systems' separators replaced, and relative to `root` if it is below it."""
    if "\\" in path and not os.path.lexists(root / path):
        path = path.replace("\\", "/")
    for base in (root.absolute(), root.resolve()):
        if PurePosixPath(path).is_relative_to(base.as_posix()):
            return PurePosixPath(path).relative_to(base.as_posix()).as_posix()
    return path


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
        drive = PureWindowsPath(row[column]).drive
        if path.is_absolute() or drive or ".." in path.parts or "\0" in row[column]:
            message = f"found the {column} path {row[column]!r}, expected one inside the data set's folder"
            layout.error(where, message, "put the file inside and write its path relative to the folder")
    if row["mask"] and is_volume(Path(row["mask"])) != is_volume(Path(row["image"])):
        both = f"image {row['image']!r} and mask {row['mask']!r}"
        message = f"found {both}, expected two pictures or two volumes"
        layout.error(where, message, "save both as the same kind")
    if len(layout.findings) > before:
        return None
    mask = root / row["mask"] if row["mask"] else None
    return Record(
        row["id"],
        root / row["image"],
        mask,
        row["group"] or row["volume"] or row["id"],
        row["split"],
        volume=row["volume"],
        spacing_mm=layout.voxel_mm,
    )


def _add(layout: Layout, record: Record) -> None:
    """Adds the record of a picture, or one for each slice of a volume."""
    if not is_volume(record.image):
        layout.records.append(record)
        return
    try:
        layout.records += slices_of(record)
    except Fault as error:
        layout.findings.append(error.finding)


def has_data(root: Path) -> bool:
    """Whether a folder is a data set, or the beginning of one."""
    names = ("index.csv", "dataset.json", "images")
    return any((root / name).exists() for name in names) or has_lists(root)


def image_folder(root: Path) -> Path:
    """Where the images of a folder without index.csv lie: in images/, else in the folder itself."""
    return root / "images" if (root / "images").is_dir() else root


def _pair_folders(root: Path, layout: Layout, val: float, test: float, seed: int, unlabeled: bool) -> None:
    """Records from images/NAME.* and masks/NAME.* (or NAME_mask.*, NAME_segmentation.*), a group each.

    NAME may hold subfolders, the same in both. `unlabeled` is that of `read_layout`.
    """
    home = image_folder(root)
    images = _by_stem(walk(home, ENDINGS), layout)
    masks = _by_stem(walk(root / "masks", ENDINGS), layout) if (root / "masks").is_dir() else {}
    if home == root:
        images = {stem: path for stem, path in images.items() if not path.is_relative_to(root / "masks")}
    pairs: dict[str, tuple[Path, Path]] = {}
    for stem, image in images.items():
        mask = take_mask(masks, [stem + end for end in MASK_ENDINGS])
        if mask:
            pairs[stem] = (image, mask)
        elif unlabeled:
            _add(layout, Record(stem, image, None, stem, "train", spacing_mm=layout.voxel_mm))
        else:
            message = f"found no mask for it, expected masks/{stem}.png"
            copy = in_shell(_beside(root, "_mended"))
            fix = (
                f"add the mask; of images without, `check-data --fix {copy}` makes unlabelled training images"
            )
            layout.error(f"images/{image.relative_to(home).as_posix()}", message, fix)
    for mask in masks.values():
        fix = "add the image, or delete or rename the mask"
        name = mask.relative_to(root / "masks").as_posix()
        layout.error(f"masks/{name}", f"found no image for it, expected images/{stem_of(name)}.*", fix)
    if not images:
        layout.error(
            "images", "found no image, expected at least one", f"add files ending in {' '.join(ENDINGS)}"
        )
    if not pairs:
        return
    try:
        splits = assign_splits(list(pairs), val, test, seed)
    except UserError as error:
        if not unlabeled:
            layout.error("images", str(error), "")
        splits = dict.fromkeys(pairs, "train")  # too few to hold any out
    for stem, files in sorted(pairs.items()):
        _add(layout, Record(stem, *files, stem, splits[stem], spacing_mm=layout.voxel_mm))


def _beside(root: Path, ending: str) -> Path:
    """A folder beside `root` with its name and an ending, also if `root` is "."."""
    beside = os.path.abspath(root) + ending
    return Path(beside if root.is_absolute() else os.path.relpath(beside))


def _by_stem(found: Walk, layout: Layout) -> dict[str, Path]:
    """The pictures and volumes of a folder by path without ending; what is left out goes to the layout."""
    for path in found.lost:
        layout.error(f"{found.root.name}/{found.name(path)}", *lost_link(path)[1:])
    layout.left_out += [finding for finding in [found.left_out()] if finding]
    files: dict[str, Path] = {}
    for path in found.files:
        stem = stem_of(found.name(path))
        if stem in files:
            message = f"found {files[stem].name} and {path.name} with the same name, expected one file"
            layout.error(f"{found.root.name}/{found.name(path)}", message, "delete or rename one")
        files[stem] = path
    return files


def stem_of(name: str) -> str:
    """A file's name without its ending, accents normalized (Unicode NFC)."""
    ending = next((end for end in ENDINGS if name.lower().endswith(end)), "")
    return readable(name[: len(name) - len(ending)])


def take_mask(masks: dict[str, Path], wanted: Sequence[str]) -> Path | None:
    """Removes and returns the first of the `wanted` masks, else the only one that differs in capitals."""
    exact = next((name for name in wanted if name in masks), None)
    if exact is not None:
        return masks.pop(exact)
    lower = [name.casefold() for name in wanted]
    alike = [name for name in masks if name.casefold() in lower]
    return masks.pop(alike[0]) if len(alike) == 1 else None


def straddling(records: Sequence[Record]) -> dict[str, set[str]]:
    """The splits of each group that is in more than one."""
    splits: dict[str, set[str]] = {}
    for record in records:
        splits.setdefault(record.group, set()).add(record.split)
    return {group: names for group, names in splits.items() if len(names) > 1}


def _check_groups(layout: Layout) -> None:
    """Images of one patient, or slices of one volume, in two splits would leak test data into training."""
    volumes = [replace(record, group=record.volume) for record in layout.records if record.volume]
    for kind, records in (("group", layout.records), ("volume", volumes)):
        for name, splits in sorted(straddling(records).items()):
            both = " and ".join(sorted(splits))
            message = f"found {kind} {name!r} in {both}, expected a {kind} in one split only"
            layout.error("index.csv", message, f"give all images of the {kind} the same split")
