"""Reads dataset.json into a `Layout`."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from knowsam_lite.data.findings import Finding
from knowsam_lite.data.masks import EXAMPLE, Coding
from knowsam_lite.data.records import Record

DRAWN_ON = ("shown", "stored")
MOST_CLASSES = 255  # class indices are bytes


@dataclass
class Layout:
    """Classes and their values in mask files, the pixel size in mm, the records, and the findings.

    `voxel_mm` (slice, row, column) is used for volumes whose files do not give their spacing.
    """

    name: str
    coding: Coding = field(default_factory=Coding)
    spacing_mm: tuple[float, float] | None = None
    voxel_mm: tuple[float, float, float] | None = None
    records: list[Record] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    left_out: list[Finding] = field(default_factory=list)  # warnings about files that are not read

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, background first."""
        return self.coding.classes

    @property
    def mask_values(self) -> tuple[int, ...]:
        """The value of each class in the mask files."""
        return self.coding.values

    @property
    def painted(self) -> bool:
        """Whether masks are painted in colors."""
        return self.coding.painted

    def error(self, file: str, message: str, fix: str) -> None:
        self.findings.append(Finding("error", file, message, fix))


def read_description(root: Path, layout: Layout) -> None:
    """Reads ROOT/dataset.json into `layout`, if it exists; adds its faults to the findings."""
    path = root / "dataset.json"
    if not path.exists():
        return
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        layout.error("dataset.json", f"found no valid JSON ({error}), expected an object", f"write {EXAMPLE}")
        return
    found = found if isinstance(found, dict) else {}
    _take_classes(found, layout)
    _take_spacing(found.get("spacing_mm"), layout)


def _take_classes(found: Any, layout: Layout) -> None:
    classes, values = found.get("classes"), found.get("mask_values")
    if not _is_list_of(classes, str) or not 2 <= len(classes) <= MOST_CLASSES:
        message = f"found classes {classes!r}, expected two or more different names, the background first"
        layout.error("dataset.json", message, f"write as in {EXAMPLE}")
        return
    painted = isinstance(values, list) and any(isinstance(value, list) for value in values)
    codes: Any = [_color_code(value) for value in values] if painted else values
    top = 0xFFFFFF if painted else 65535
    if (
        not _is_list_of(codes, int)
        or len(codes) != len(classes)
        or not all(0 <= code <= top for code in codes)
    ):
        message = f"found mask_values {values!r}, expected {len(classes)} different values, one per class"
        fix = f"write numbers as in {EXAMPLE}, or colors as [red, green, blue] from 0 to 255"
        layout.error("dataset.json", message, fix)
        return
    ignore: Any = _color_code(found.get("ignore")) if painted else found.get("ignore")
    if found.get("ignore") is not None and (type(ignore) is not int or ignore in codes):
        message = f"found ignore {found['ignore']!r}, expected a value of its own, written as mask_values are"
        layout.error("dataset.json", message, "correct it, or leave it out if every pixel has a class")
        return
    drawn_on = found.get("masks_drawn_on") or ""
    if drawn_on not in ("", *DRAWN_ON):
        message = f"found masks_drawn_on {drawn_on!r}, expected one of {', '.join(DRAWN_ON)}"
        layout.error("dataset.json", message, "correct it, or leave it out if EXIF turns no image")
        return
    layout.name = str(found.get("name") or layout.name)
    layout.coding = Coding(tuple(classes), tuple(codes), painted, ignore, drawn_on, "dataset.json")


def _color_code(color: Any) -> int | None:
    """65536 red + 256 green + blue of [red, green, blue]; None if it is not such a list."""
    bytes_ = isinstance(color, list) and len(color) == 3
    if not bytes_ or not all(type(part) is int and 0 <= part <= 255 for part in color):
        return None
    return color[0] << 16 | color[1] << 8 | color[2]


def _take_spacing(spacing: Any, layout: Layout) -> None:
    if spacing is None:
        return
    sizes = spacing if isinstance(spacing, list) else [spacing, spacing]
    if len(sizes) not in (2, 3) or not all(_is_length(mm) for mm in sizes):
        message = f"found spacing_mm {spacing!r}, expected null or [row, column] in mm above 0"
        fix = "write null where it is unknown; volumes may have [slice, row, column]"
        layout.error("dataset.json", message, fix)
        return
    layout.spacing_mm = (float(sizes[-2]), float(sizes[-1]))
    if len(sizes) == 3:
        layout.voxel_mm = (float(sizes[0]), *layout.spacing_mm)


def _is_length(mm: Any) -> bool:
    return isinstance(mm, int | float) and not isinstance(mm, bool) and 0 < mm < float("inf")


def _is_list_of(found: Any, kind: type) -> bool:
    """A list of distinct entries of one type (bool does not count as int)."""
    return (
        isinstance(found, list)
        and all(type(entry) is kind for entry in found)
        and len(set(found)) == len(found)
    )
