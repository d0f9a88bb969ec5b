"""LabelMe's files, one JSON for each picture: shapes become masks, drawn as LabelMe itself draws them."""

import base64
import io
import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from knowsam_lite.data.findings import fault
from knowsam_lite.data.images import read_image
from knowsam_lite.data.names import distinct
from knowsam_lite.data.prepare.recipe import Item, Piece, Recipe, relative_files
from knowsam_lite.data.sets.own import digest, group_in
from knowsam_lite.data.stored import SUFFIXES
from knowsam_lite.errors import UserError

BACKGROUND = "_background_"  # LabelMe's own label of it


def recipe(folder: Path, title: str, group: str) -> Recipe:
    """The recipe for a folder of JSON files beside their pictures, subfolders included.

    Each label becomes a class, in alphabetical order. Of shapes that overlap the later one in the file lies
    above. UserError if there is none.
    """
    files = [path for name, path in relative_files(folder) if name.lower().endswith(".json")]
    names = {label for path in files for label in labels_in(path)}
    if not names or len(names) > 255 or "background" in names:
        raise UserError(
            f"found the labels {', '.join(sorted(names)) or 'none'} in {folder}, expected LabelMe's JSON "
            f"files with 1 to 255 labels besides {BACKGROUND}: give their folder, or rename a label"
        )
    drawn = {_image_of(path) for path in files}
    others = [p for n, p in relative_files(folder) if n.lower().endswith(SUFFIXES) and p not in drawn]
    classes = ("background", *sorted(names))
    return Recipe(
        name=f"own/{digest(('labelme', group), [folder])}",
        title=title,
        classes=classes,
        find=partial(find, group=group),
        read=partial(read, classes=classes),
        licence="Your own.",
        citation="Your own.",
        val=0.2,
        test=0.2,
        mask_values=(0, 255) if len(classes) == 2 else tuple(range(len(classes))),
        notes=(f"{len(others)} images without a JSON file are left out",) if others else (),
    )


def _content(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise fault(path, f"found no readable JSON ({error}), expected LabelMe's", "save it again") from None
    shapes = found.get("shapes") if isinstance(found, dict) else None
    if (
        not isinstance(shapes, list)
        or not all(isinstance(s, dict) for s in shapes)
        or "imagePath" not in found
    ):
        message = "found no shapes and imagePath inside, expected a file of LabelMe"
        raise fault(path, message, "take other JSON files out of the folder")
    return found


def labels_in(path: Path) -> set[str]:
    """The labels of the shapes in a JSON file, besides that of the background."""
    return {str(shape.get("label")) for shape in _content(path)["shapes"]} - {BACKGROUND}


def _image_of(path: Path) -> Path:
    """The picture of a JSON file: at its imagePath, else beside it under that name."""
    parts = PureWindowsPath(str(_content(path)["imagePath"]))  # splits at / and \\
    there = path.parent.joinpath(*(part for part in parts.parts if part != parts.anchor)).resolve()
    beside = path.parent / parts.name
    return beside if beside.is_file() or not there.is_file() else there


def find(roots: tuple[Path, ...], group: str) -> list[Item]:
    """An item for each JSON file; UserError for one whose picture is not there."""
    files = [(name[:-5], p) for name, p in relative_files(roots[0]) if name.lower().endswith(".json")]
    stems = distinct(name for name, _ in files)
    items = []
    for name, path in files:
        image = _image_of(path)
        if not image.is_file():
            raise fault(path, f"found no {image.name} beside it, expected its picture", "copy it there")
        items.append(Item(stems[name], group_in(name, group, image) or stems[name], "", image, (path,)))
    return items


def read(item: Item, classes: Sequence[str]) -> Iterator[Piece]:
    """The picture and its mask uint8 (H, W) of class indices."""
    path = item.masks[0]
    found, image = _content(path), read_image(item.image)
    size = (found.get("imageHeight"), found.get("imageWidth"))
    if image.shape[:2] != size:
        message = f"found an image of {image.shape[:2]} (height, width) where {path.name} says {size}"
        raise fault(item.image, f"{message}, expected equal sizes", "give the images that were annotated")
    mask = np.zeros(image.shape[:2], np.uint8)
    for number, shape in enumerate(found["shapes"], start=1):
        label = str(shape.get("label"))
        mask[drawn(shape, mask.shape, f"{path} shape {number}")] = (
            0 if label == BACKGROUND else classes.index(label)
        )
    yield Piece("", image, mask)


def drawn(shape: dict[str, Any], size: tuple[int, ...], where: str) -> np.ndarray:
    """The pixels of one shape, bool (H, W); UserError for a shape without area or a malformed one."""
    kind = shape.get("shape_type") or "polygon"
    picture = Image.new("L", (size[1], size[0]))
    pen = ImageDraw.Draw(picture)
    try:
        points = [(float(x), float(y)) for x, y in shape["points"]]
        if not all(map(math.isfinite, sum(points, ()))):
            raise ValueError("numbers that are not finite")
        if kind == "polygon" and len(points) > 2:
            pen.polygon(points, outline=1, fill=1)
        elif kind == "rectangle" and len(points) == 2:
            (left, right), (top, bottom) = (sorted(axis) for axis in zip(*points, strict=True))
            pen.rectangle((left, top, right, bottom), outline=1, fill=1)
        elif kind == "circle" and len(points) == 2:
            (x, y), edge = points
            radius = math.dist((x, y), edge)
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
        elif kind == "mask" and len(points) == 2:
            content = Image.open(io.BytesIO(base64.b64decode(shape["mask"]))).convert("L")
            corner = int(points[0][0]), int(points[0][1])
            picture.paste(1, corner, content.point(lambda value: 255 * (value > 0)))
        else:
            raise ValueError(f"{len(points)} points")
    except (LookupError, TypeError, ValueError, OSError, Image.DecompressionBombError) as error:
        message = f"found a {kind} that has no area or is malformed ({error})"
        fix = "draw it as a polygon, or delete it"
        raise fault(where, f"{message}, expected polygon, rectangle, circle or mask", fix) from None
    return np.asarray(picture) > 0
