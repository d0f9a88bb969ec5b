"""Annotations in COCO's JSON: polygons and run lengths become masks, drawn by its authors' own code."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import read_image
from knowsam_lite.data.masks import Coding
from knowsam_lite.data.names import distinct, file_stem
from knowsam_lite.data.pixels import Frame
from knowsam_lite.data.placing import placed
from knowsam_lite.data.prepare.recipe import Item, Piece, Recipe, relative_files
from knowsam_lite.data.sets.own import digest, group_in
from knowsam_lite.data.stored import SUFFIXES, read_frame
from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Annotations:
    """What a file says: classes after the background, and for each file name its size and its annotations."""

    classes: dict[int, str]  # of the categories that are used, by id
    ids: dict[str, str]  # for each file name the id of its record
    sizes: dict[str, tuple[int, int]]  # height, width
    of: dict[str, list[dict[str, Any]]]  # in the order of the file


def recipe(path: Path, images: Path, title: str, group: str, drawn_on: str = "") -> Recipe:
    """The recipe for the annotations in `path` of pictures below `images`; `drawn_on` as in `Coding`.

    Each category that is used becomes a class. Of objects that overlap the later one in the file lies above;
    a crowd counts as its category; an image without annotation gets an empty mask. UserError if the file is
    no such JSON or pycocotools is missing.
    """
    require_pycocotools()
    found = read_annotations(path)
    empty = sum(not found.of[name] for name in found.sizes)
    notes = [f"{empty} images without annotation get an empty mask"] if empty else []
    if images.is_dir():
        listed = {_below(images, name) for name in found.sizes}
        others = [p for n, p in relative_files(images) if n.lower().endswith(SUFFIXES) and p not in listed]
        notes += [f"{len(others)} images that {path.name} does not name are left out"] if others else []
    classes = ("background", *found.classes.values())
    coding = Coding(classes, tuple(range(len(classes))), drawn_on=drawn_on, source="options")
    return Recipe(
        name=f"own/{digest(('coco', group, drawn_on), [path, images])}",
        title=title,
        classes=classes,
        find=partial(find, path=path, group=group),
        read=partial(read, path=path, coding=coding),
        licence="Your own.",
        citation="Your own.",
        val=0.2,
        test=0.2,
        mask_values=(0, 255) if len(classes) == 2 else tuple(range(len(classes))),
        notes=tuple(notes),
    )


def require_pycocotools() -> None:
    """UserError, with the command, unless the package is installed."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        raise UserError(
            "found no pycocotools, expected it for COCO's masks: pip install 'knowsam-lite[coco]'"
        ) from None


@lru_cache(maxsize=1)
def read_annotations(path: Path) -> Annotations:
    """Reads a JSON file of COCO's form; UserError if it is something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {int(image["id"]): str(image["file_name"]) for image in found["images"]}
        sizes = {str(i["file_name"]): (int(i["height"]), int(i["width"])) for i in found["images"]}
        if len(set(names.values())) < len(found["images"]):
            raise ValueError("a file name stands for two images")
        categories = {int(category["id"]): str(category["name"]) for category in found["categories"]}
        used = {int(annotation["category_id"]) for annotation in found["annotations"]}
        of: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for annotation in found["annotations"]:
            of[names[int(annotation["image_id"])]].append(annotation)
        classes = {key: categories[key] for key in sorted(used)}
    except (OSError, ValueError, LookupError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"found no COCO annotations in {path} ({reason}), expected images, annotations and categories "
            "that name each other: export them again"
        ) from None
    if not classes or len(classes) > 255 or len({*classes.values(), "background"}) <= len(classes):
        raise UserError(
            f"found the categories {', '.join(classes.values()) or 'none'} in {path}, expected 1 to 255 "
            "different ones besides the background: rename or merge them"
        )
    ids = distinct(sizes, lambda name: file_stem(name.rpartition(".")[0] or name))
    return Annotations(classes, ids, sizes, of)


def find(roots: tuple[Path, ...], path: Path, group: str) -> list[Item]:
    """An item for each image that the file names; UserError for one that is not there."""
    items = []
    for name, identity in read_annotations(path).ids.items():
        image = _below(roots[0], name)
        if not image.is_file():
            raise UserError(f"found no {image}, expected the image {name!r} of {path}: give --images")
        items.append(Item(identity, group_in(name, group, image) or identity, "", image, (path,)))
    return items


def _below(root: Path, name: str) -> Path:
    """The image that a file name means: below the folder, or in it if the rest is another machine's path."""
    parts = PureWindowsPath(name)  # splits at / and \\
    whole = root.joinpath(*(part for part in parts.parts if part not in (parts.anchor, "..")))
    return whole if whole.is_file() else root / parts.name


def read(item: Item, path: Path, coding: Coding) -> Iterator[Piece]:
    """The image and its mask uint8 (H, W): class c where the c-th used category lies. UserError where EXIF
    turns the image and `coding.drawn_on` does not say on which picture the annotations were drawn.
    """
    found = read_annotations(path)
    name = next(name for name, identity in found.ids.items() if identity == item.id)
    image, size, frame = read_image(item.image), found.sizes[name], read_frame(item.image)
    if size not in (frame.shown, frame.stored):
        message = f"found an image of {image.shape[:2]} (height, width) where {path.name} says {size}"
        raise fault(item.image, f"{message}, expected equal sizes", "give the images that were annotated")
    order = {key: index for index, key in enumerate(found.classes, start=1)}
    mask = np.zeros(size, np.uint8)
    for annotation in found.of[name]:
        mask[drawn(annotation, size, path)] = order[int(annotation["category_id"])]
    yield Piece("", image, placed(path, mask, Frame(size), frame, coding))


def drawn(annotation: dict[str, Any], size: tuple[int, int], path: Path) -> np.ndarray:
    """The pixels of one annotation, bool (H, W); UserError if it has none or they are malformed."""
    from pycocotools import mask as coco

    shape: Any = annotation.get("segmentation")
    where = f"{path} annotation {annotation.get('id')}"
    try:
        if isinstance(shape, list):
            if not shape or any(len(polygon) < 6 or len(polygon) % 2 for polygon in shape):
                raise ValueError("polygons of three points or more")
            runs = coco.merge(coco.frPyObjects(shape, *size))
        else:
            counts = shape["counts"]
            counts = _run_lengths(counts) if isinstance(counts, str) else counts
            if tuple(shape["size"]) != size or min(counts) < 0 or sum(counts) != size[0] * size[1]:
                raise ValueError(f"run lengths that do not cover {size} pixels")
            runs = coco.frPyObjects({"size": list(size), "counts": counts}, *size)
        return np.asarray(coco.decode(runs)).astype(bool)
    except Exception as error:  # pycocotools raises its own
        message = f"found a segmentation that cannot be drawn ({error or type(error).__name__})"
        fix = "draw it again; a box alone is no mask"
        raise fault(where, f"{message}, expected polygons or run lengths", fix) from None


def _run_lengths(text: str) -> list[int]:
    """The lengths that COCO packed into text, five bits a sign, from the third on less the one before last.

    pycocotools unpacks them, too, but draws whatever malformed text gives.
    """
    lengths: list[int] = []
    value = place = 0
    for sign in text.encode("ascii"):
        bits = sign - 48
        value |= (bits & 0x1F) << 5 * place
        place += 1
        if bits & 0x20:  # more follow
            continue
        if bits & 0x10:  # negative
            value |= -1 << 5 * place
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = place = 0
    if place:
        raise ValueError("run lengths cut short")
    return lengths
