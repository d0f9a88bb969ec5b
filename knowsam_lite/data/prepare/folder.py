"""Converts archives to one folder in the layout of this library, all or nothing.

OUT/dataset.json, index.csv, images/, masks/, LICENCE.txt, CITATION.txt, contact_sheet.png. Everything is
written to the hidden folder .OUT.part beside it, which is renamed at the end. A running process holds the
lock .OUT.lock; the next run removes what a killed one left.
"""

import csv
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image
from tqdm.auto import tqdm

from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.layout import COLUMNS
from knowsam_lite.data.prepare.alike import grouped
from knowsam_lite.data.prepare.obtain import obtain
from knowsam_lite.data.prepare.pool import each
from knowsam_lite.data.prepare.recipe import Item, Recipe
from knowsam_lite.data.prepare.size import Size
from knowsam_lite.data.sheet import contact_sheet
from knowsam_lite.data.slices import SUFFIXES, is_volume
from knowsam_lite.data.split import assign_splits, choose_labeled
from knowsam_lite.data.stored import read_frame
from knowsam_lite.data.unpack import unpack
from knowsam_lite.data.walk import walk
from knowsam_lite.downloads import cache_folder
from knowsam_lite.errors import UserError
from knowsam_lite.files import beside, write_text, writing

VERBATIM = (".png", ".jpg", ".jpeg")  # copied byte for byte where nothing is resized


@dataclass(frozen=True)
class Request:
    """The user's options for preparing a data set."""

    out: Path
    archives: tuple[Path, ...] = ()  # empty: download
    size: Size = field(default_factory=Size)
    labeled: str = ""  # a preset of the recipe or any value of train --labeled
    seed: int = 0
    val: float | None = None  # None: the recipe's
    test: float | None = None
    find_duplicates: bool = False  # near-duplicates count as one group
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    cache: Path = field(default_factory=cache_folder)


@dataclass
class Prepared:
    """The result: the folder, images by split, warnings, and the value for train --labeled."""

    out: Path
    counts: dict[str, int]
    warnings: list[str]
    labeled: str
    chosen: int  # images chosen by this value
    new: bool = True  # False: it was there already


@dataclass
class _Converted:
    rows: list[list[str]]
    changed: int
    spacings: set[tuple[float, ...] | None]
    colors: dict[int, tuple[int, ...]] = field(default_factory=dict)  # of mask palettes by index


def prepare(recipe: Recipe, request: Request) -> Prepared:
    """Make the folder `request.out`, or reuse one from the same request. UserError leaves it unchanged."""
    out = request.out.absolute()
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with writing(out), _alone(out):
        aside = beside(out, "part")
        shutil.rmtree(aside, ignore_errors=True)
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            return _found(recipe, request, out)
        archives = obtain(recipe.sources, request.archives, request.cache)
        try:
            aside.mkdir()
            roots = tuple(_folder(path, aside / f"archive{i}") for i, path in enumerate(archives))
            result = _make(recipe, request, roots, aside / "whole")
            if out.exists():
                out.rmdir()
            os.rename(aside / "whole", out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return result


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Holds the lock of the folder; waits, and says so, while another process holds it.

    The lock file is removed once the folder exists: later processes find it and only read it.
    """
    path = beside(out, "lock")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is preparing {out}: waiting for it", file=sys.stderr)
        lock.acquire()
    try:
        yield
        with suppress(OSError):  # some systems remove it themselves on release
            path.unlink()
    finally:
        lock.release()


def _folder(archive: Path, target: Path) -> Path:
    """The archive's content: unpacked, or the folder itself if one was given."""
    return archive if archive.is_dir() else unpack(archive, target)


def _made_by(recipe: Recipe, request: Request) -> dict[str, Any]:
    """The settings that determine the folder's content; equal settings make the same folder."""
    val = recipe.val if request.val is None else request.val
    test = recipe.test if request.test is None else request.test
    size = None if request.size.side is None else [request.size.side, request.size.fit]
    drawn = {"val": val, "test": test, "seed": request.seed, "find_duplicates": request.find_duplicates}
    return {"set": recipe.name, "size": size, **drawn}


def _found(recipe: Recipe, request: Request, out: Path) -> Prepared:
    """The existing folder, if the same request made it."""
    path = out / "dataset.json"
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
        same = description["prepared"] == _made_by(recipe, request)
    except (OSError, ValueError, LookupError, TypeError):
        same = False
    if not same:
        raise UserError(
            f"found files in {out} that this command did not make, or not of these files as they are now, "
            "expected a new or empty folder: choose another --out or delete it"
        )
    data = SegmentationFolder(out)
    value, chosen = _labeled(recipe, request, data)
    description["labeled"] = {"value": value, "seed": request.seed} if value else None
    write_text(path, json.dumps(description, indent=1) + "\n")
    return Prepared(out, dict(Counter(r.split for r in data.records)), [], value, chosen, new=False)


def _make(recipe: Recipe, request: Request, roots: tuple[Path, ...], out: Path) -> Prepared:
    made_by = _made_by(recipe, request)
    items = recipe.find(roots)
    if request.find_duplicates:
        items = grouped(items, request.workers)
    items = _with_splits(items, made_by["val"], made_by["test"], request.seed)
    for name in ("images", "masks"):
        (out / name).mkdir(parents=True)
    rows, changed, touched, spacings = [], 0, 0, set()
    colors: dict[int, tuple[int, ...]] = {}
    work = partial(convert, recipe=recipe, size=request.size, out=out)
    results = each(work, items, request.workers)
    for result in tqdm(results, "preparing", len(items), unit="file", leave=False, disable=None):
        rows += result.rows
        changed += result.changed
        touched += result.changed > 0
        spacings |= result.spacings
        _compare_palettes(colors, result)
    spacing = spacings.pop() if len(spacings) == 1 and request.size.side is None else None
    with open(out / "index.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[*COLUMNS, "volume"], *sorted(rows)])
    description = {
        "name": recipe.title,
        "classes": list(recipe.classes),
        "mask_values": list(recipe.mask_values),
        **({} if recipe.ignore is None else {"ignore": recipe.ignore}),
        "spacing_mm": list(spacing) if spacing else None,
        "source": [source.url or source.drive or source.by_hand for source in recipe.sources],
        "licence": recipe.licence,
        "prepared": made_by,
        "labeled": None,
    }
    (out / "dataset.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    (out / "LICENCE.txt").write_text(recipe.licence + "\n", encoding="utf-8")
    (out / "CITATION.txt").write_text(recipe.citation + "\n", encoding="utf-8")
    data = SegmentationFolder(out)  # reads back what was written, with the checks of training
    value, chosen = _labeled(recipe, request, data)
    if value:
        description["labeled"] = {"value": value, "seed": request.seed}
        write_text(out / "dataset.json", json.dumps(description, indent=1) + "\n")
    contact_sheet(data, out / "contact_sheet.png")
    others = (walk(root, recipe.endings).left_out() for root in roots if recipe.endings)
    left_out = [str(finding) for finding in others if finding]
    warnings = [*_miscounted(recipe, items), *_thresholded(changed, touched, len(items)), *left_out]
    counts = dict(Counter(record.split for record in data.records))
    return Prepared(request.out, counts, warnings, value, chosen)


def _with_splits(items: Sequence[Item], val: float, test: float, seed: int) -> list[Item]:
    """The items, each with a split: official, else drawn by group (no test if there is an official one)."""
    test = 0.0 if any(item.split == "test" for item in items) else test
    open_groups = [item.group for item in items if not item.split]
    drawn = assign_splits(open_groups, val, test, seed) if open_groups else {}
    return [replace(item, split=item.split or drawn[item.group]) for item in items]


def convert(item: Item, recipe: Recipe, size: Size, out: Path) -> _Converted:
    """Writes the pictures and masks of one item into the folder `out`; returns the rows of index.csv."""
    if recipe.keep_volumes and is_volume(item.image) and size.side is None and item.split != "train":
        return _copied(item, recipe, out)
    result = _Converted([], 0, set())
    values = np.array([*recipe.mask_values, recipe.ignore or 0], np.uint8)  # the last is for -1
    upright = is_volume(item.image) or read_frame(item.image).turn == 1
    for piece in recipe.read(item):
        name = item.id + piece.suffix
        image_name, mask_name = f"images/{name}.png", f"masks/{name}.png"
        if size.side is None and not piece.suffix and upright and item.image.suffix.lower() in VERBATIM:
            image_name = f"images/{name}{item.image.suffix.lower()}"
            shutil.copyfile(item.image, out / image_name)
            mask = piece.mask
        else:
            image, mask = size.apply(piece.image, piece.mask)
            Image.fromarray(_plain(image)).save(out / image_name)
        Image.fromarray(values[mask]).save(out / mask_name)
        whole = item.id if piece.suffix and is_volume(item.image) else ""
        result.rows.append([name, image_name, mask_name, item.group, item.split, whole])
        result.changed += piece.changed
        result.spacings.add(piece.spacing)
        result.colors |= piece.colors
    return result


def _compare_palettes(known: dict[int, tuple[int, ...]], result: _Converted) -> None:
    """UserError if an index has another color than in a mask before: then it may mean another class."""
    for index, color in result.colors.items():
        if known.setdefault(index, color) != color:
            raise UserError(
                f"{result.rows[0][0]}: found palette color {list(color)} for {index} in its mask, expected "
                f"{list(known[index])} as in other masks; give the colors with --values, or save gray PNG"
            )


def _copied(item: Item, recipe: Recipe, out: Path) -> _Converted:
    """Copies a volume and its labels unchanged, after checking that both can be read."""
    spacings = {piece.spacing for piece in recipe.read(item)}
    names = []
    for path, folder in ((item.image, "images"), (item.masks[0], "masks")):
        ending = next(end for end in SUFFIXES if path.name.lower().endswith(end))
        names.append(f"{folder}/{item.id}{ending}")
        shutil.copyfile(path, out / names[-1])
    return _Converted([[item.id, *names, item.group, item.split, ""]], 0, spacings)


def _plain(image: np.ndarray) -> np.ndarray:
    """A grey picture as one channel: a third of the file size."""
    grey = image.ndim == 3 and (image == image[..., :1]).all()
    return np.ascontiguousarray(image[..., 0]) if grey else image


def _labeled(recipe: Recipe, request: Request, data: SegmentationFolder) -> tuple[str, int]:
    """The value for train --labeled and the number of images it chooses."""
    if not request.labeled:
        return "", 0
    value = recipe.labeled.get(request.labeled, request.labeled)
    return value, len(choose_labeled(data.records, value, request.seed))


def _miscounted(recipe: Recipe, items: Sequence[Item]) -> list[str]:
    """Warnings where the number of images or groups differs from the published set's."""
    found = Counter(item.split for item in items)
    found["all"] = len(items)
    found["train and val"] = found["train"] + found["val"]
    found["groups"] = len({item.group for item in items})
    return [
        f"found {found[name]} images ({name}), the published set has {number}"
        if name != "groups"
        else f"found {found[name]} groups, the published set has {number}"
        for name, number in recipe.expected.items()
        if found[name] != number
    ]


def _thresholded(changed: int, touched: int, total: int) -> list[str]:
    if not changed:
        return []
    return [
        f"{touched} of {total} masks held values between black and white, as JPEG leaves them: "
        f"{changed} pixels were decided by a threshold (above 127 is foreground)"
    ]
