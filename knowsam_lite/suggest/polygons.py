"""Masks as polygons that annotation tools edit: LabelMe's JSON and COCO's.

Outlines are OpenCV's contours, simplified to within a pixel. What has no area (specks of one or two pixels,
lines one pixel wide) is left out. LabelMe knows no holes: one is a later shape of the label `_background_`,
which this library reads as such. COCO knows none either: an object with holes is written as run lengths.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from knowsam_lite.data.sets.labelme import BACKGROUND

TOLERANCE = 1.0  # pixels that a simplified outline may leave the true one by
LABELME = "5.5.0"  # the version whose form is written; its field is required


class Ring(NamedTuple):
    """A closed line (P, 2), x and y in pixels, and the area within it before it was simplified."""

    points: NDArray[np.float64]
    area: float


class Outline(NamedTuple):
    """The line around one object, and those around its holes."""

    around: Ring
    holes: list[Ring]


def outlines(mask: NDArray[np.bool_]) -> Iterator[Outline]:
    """The objects of a mask (H, W), through the centers of their outermost pixels: a pixel's center has whole
    coordinates. Those of a hole go through its own outermost pixels.
    """
    contours, links = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for place, ring in enumerate(map(simplified, contours)):
        _, _, child, parent = links[0][place]  # the first contour within it, and the one around it, or -1
        if parent >= 0 or len(ring.points) < 3:
            continue
        holes: list[Ring] = []
        if child >= 0:
            filled = np.zeros(mask.shape, np.uint8)
            cv2.drawContours(filled, contours, place, 1, cv2.FILLED)
            inside = ((filled > 0) & ~mask).astype(np.uint8)
            rings, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            holes = [hole for hole in map(simplified, rings) if len(hole.points) > 2]
        yield Outline(ring, holes)


def simplified(contour: Any) -> Ring:
    """A contour without the points that its shape does not need."""
    points = cv2.approxPolyDP(contour, TOLERANCE, True)[:, 0].astype(np.float64)
    return Ring(points, cv2.contourArea(contour))


def labelme(labels: NDArray[np.uint8], classes: Sequence[str], image: str) -> str:
    """LabelMe's JSON of the classes (H, W) of the picture file `image`, which lies beside it."""
    shapes: list[tuple[str, Ring]] = []
    for index, name in enumerate(classes[1:], start=1):
        for outline in outlines(labels == index):
            shapes += [(name, outline.around), *((BACKGROUND, hole) for hole in outline.holes)]
    # What lies inside another comes later, so above it; a hole before what fills it.
    shapes.sort(key=lambda shape: (-shape[1].area, shape[0] != BACKGROUND))
    content = {
        "version": LABELME,
        "flags": {},
        "shapes": [
            {
                "label": name,
                "points": ring.points.tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for name, ring in shapes
        ],
        "imagePath": image,
        "imageData": None,
        "imageHeight": labels.shape[0],
        "imageWidth": labels.shape[1],
    }
    return json.dumps(content, indent=1)


def coco(masks: Sequence[tuple[str, NDArray[np.uint8]]], classes: Sequence[str]) -> str:
    """COCO's JSON of several pictures: their file names and classes (H, W). A category's id is its class."""
    images, annotations = [], list[dict[str, Any]]()
    for number, (name, labels) in enumerate(masks, start=1):
        height, width = labels.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for index in range(1, len(classes)):
            for annotation in coco_objects(labels == index):
                about = {"id": len(annotations) + 1, "image_id": number, "category_id": index}
                annotations.append({**about, **annotation})
    categories = [{"id": i, "name": name} for i, name in enumerate(classes[1:], start=1)]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def coco_objects(mask: NDArray[np.bool_]) -> Iterator[dict[str, Any]]:
    """The objects of a mask (H, W) as COCO's polygons, or run lengths for one with holes.

    There pixel 0 reaches from 0 to 1, so outlines are drawn at twice the size and go a quarter of a pixel
    within the true edge.
    """
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    for part in range(1, count):
        left, top, width, height, area = (int(value) for value in boxes[part])
        own = parts[top : top + height, left : left + width] == part  # (height, width)
        [outline, *_] = [*outlines(own.repeat(2, axis=0).repeat(2, axis=1)), None]
        if outline is None:
            continue
        about = {"iscrowd": 0, "area": area, "bbox": [left, top, width, height]}
        if outline.holes:
            yield {"segmentation": run_lengths(parts == part), **about}
        else:
            points = (outline.around.points + 0.5) / 2 + (left, top)
            yield {"segmentation": [points.ravel().tolist()], **about}


def run_lengths(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's run lengths of a mask (H, W): pixels column by column, beginning with those outside."""
    flat = mask.ravel(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *ends, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": [0, *counts] if flat[0] else counts}
