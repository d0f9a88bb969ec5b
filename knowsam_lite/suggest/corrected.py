"""Masks that a person corrected or drew, as annotation tools leave them: PNG, LabelMe's JSON or COCO's."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data import Record, SegmentationFolder
from knowsam_lite.data.findings import fault
from knowsam_lite.data.layout import MASK_ENDINGS, stem_of
from knowsam_lite.data.masks import Coding
from knowsam_lite.data.prepare.recipe import Item
from knowsam_lite.data.sets import coco, labelme
from knowsam_lite.data.stored import SUFFIXES
from knowsam_lite.data.walk import few, walk
from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Corrected:
    """A mask that came back: `names` that its image may have, without ending; the file that holds it; and its
    classes (H, W) on the image of a record. `is_mask`: the file itself is a mask, not JSON.
    """

    names: tuple[str, ...]
    file: Path
    classes: Callable[[Record], np.ndarray]
    is_mask: bool


def read_corrected(place: Path, data: SegmentationFolder) -> list[Corrected]:
    """All masks in a file or below a folder. Raises UserError for none, for JSON of two kinds, and for labels
    that are no class of the data set.
    """
    if not place.exists():
        raise UserError(f"found nothing at {place}, expected masks or JSON files: correct the path")
    found = walk(place, (".json", *SUFFIXES)).files if place.is_dir() else (place,)
    sheets = [path for path in found if path.suffix.lower() == ".json"]
    root = place if place.is_dir() else place.parent
    kinds = {path: "annotations" in _content(path) for path in sheets}
    if len(set(kinds.values())) > 1 or sum(kinds.values()) > 1:
        raise UserError(
            f"found several kinds of labels in {place} ({', '.join(p.name for p in sheets[:3])}, ...), "
            "expected one: give the folder of masks, that of LabelMe's files, or one file of COCO"
        )
    if not found:
        raise UserError(f"found no mask in {place}, expected PNG, LabelMe's JSON or COCO's: check the path")
    if any(kinds.values()):
        return _from_coco(sheets[0], data)
    if sheets:
        return [_from_labelme(path, root, data) for path in sheets]
    return [_from_mask(path, root, data) for path in found]


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise fault(
            path, f"found no readable JSON ({error}), expected LabelMe's or COCO's", "save it again"
        ) from None
    return found if isinstance(found, dict) else {}


def _from_mask(path: Path, root: Path, data: SegmentationFolder) -> Corrected:
    stem = stem_of(path.relative_to(root).as_posix())
    names = [stem.removesuffix(end) for end in MASK_ENDINGS if stem.endswith(end)]
    return Corrected(tuple(names), path, partial(_as_trained, path, data), is_mask=True)


def _as_trained(path: Path, data: SegmentationFolder, record: Record) -> np.ndarray:
    return data.mask(replace(record, mask=path))


def _from_labelme(path: Path, root: Path, data: SegmentationFolder) -> Corrected:
    _require_classes(labelme.labels_in(path), path, data.classes)

    def classes(record: Record) -> np.ndarray:
        item = Item(record.id, record.group, record.split, record.image, (path,))
        return next(labelme.read(item, data.classes)).mask

    return Corrected((path.relative_to(root).with_suffix("").as_posix(),), path, classes, is_mask=False)


def _from_coco(path: Path, data: SegmentationFolder) -> list[Corrected]:
    coco.require_pycocotools()
    found = coco.read_annotations(path)
    _require_classes(set(found.classes.values()), path, data.classes)
    order = np.array([0, *(data.classes.index(name) for name in found.classes.values())], np.uint8)

    def classes(identity: str, record: Record) -> np.ndarray:
        item = Item(identity, record.group, record.split, record.image, (path,))
        return order[next(coco.read(item, path, Coding(drawn_on="shown"))).mask]

    empty = [name for name in found.ids if not found.of[name]]
    if empty:
        print(
            f"Note: {few(empty)} without annotation left out; one that shows nothing needs an empty mask.",
            file=sys.stderr,
        )
    return [
        Corrected((stem_of(name), stem_of(Path(name).name)), path, partial(classes, identity), is_mask=False)
        for name, identity in found.ids.items()
        if found.of[name]
    ]


def _require_classes(names: set[str], path: Path, classes: Sequence[str]) -> None:
    """UserError if a label is no foreground class of the data set."""
    strange = sorted(names - set(classes[1:]))
    if strange:
        message = f"found the label {strange[0]!r}, expected {' or '.join(classes[1:])}"
        raise fault(path, message, "rename it in the tool, or declare the classes in dataset.json")
