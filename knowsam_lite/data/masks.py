"""What the numbers of a mask file mean: exactly the declared classes, or a refusal."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from knowsam_lite.data.findings import Fault, fault
from knowsam_lite.data.pixels import Stored
from knowsam_lite.data.stored import read_stored

UNKNOWN = -1  # the class of a pixel that is to be ignored, as in the losses
CHROMA = 32  # channels of a gray mask may differ by this much where a lossy format stored it as color
NEAR_EDGE = 5  # pixels: side of the square in which a lossy format's errors at an edge lie
STRAY = 0.005  # share of a lossy mask's pixels that may be far from both values without an edge nearby
EXAMPLE = (
    '{"name": "my data", "classes": ["background", "object"], "mask_values": [0, 255], "spacing_mm": null}'
)
FEW = 8  # distinct values of a mask that may be classes; more are soft edges or numbered objects
# What to do about other values than those declared, by where they were declared.
UNDECLARED = {
    "": "write dataset.json with all classes and their values, such as {example}",
    "dataset.json": "correct the mask, or mask_values in dataset.json",
    "options": "say with --values which value each class has",
}
PAINTED = {
    "": "write dataset.json with {example}",
    "dataset.json": "declare the colors in dataset.json (mask_values as [red, green, blue]), as {colors}",
    "options": "give the colors with --values, such as {hexes}",
}
IGNORE = {"dataset.json": '"ignore": {} in dataset.json', "options": "--ignore={}"}


@dataclass(frozen=True)
class Coding:
    """The classes, background first, and what stands for each in a mask file.

    `values` are numbers, or with `painted` colors as 65536 red + 256 green + blue. `ignore` is one more, for
    pixels whose class is unknown. `drawn_on` says, for images that EXIF turns, whether masks were drawn on
    the "shown" or the "stored" picture ("": not said). `source` is where the user said all this:
    "dataset.json", the command's "options", or "" where it is assumed.
    """

    classes: tuple[str, ...] = ("background", "object")
    values: tuple[int, ...] = (0, 255)
    painted: bool = False
    ignore: int | None = None
    drawn_on: str = ""
    source: str = ""

    @property
    def known(self) -> list[int]:
        """Every value that a mask may hold."""
        return [*self.values, *([] if self.ignore is None else [self.ignore])]

    def shown(self, values: Sequence[int]) -> str:
        """Stored values as text; those of painted masks as [red, green, blue]."""
        few = [str(as_rgb(value)) if self.painted else str(value) for value in values[:6]]
        return ", ".join(few) + (f", ... ({len(values)} values)" if len(values) > 6 else "")


@dataclass(frozen=True)
class Mask:
    """Class indices, uint8 (H, W), or int16 with -1 where ignored; `changed` pixels a lossy format blurred.

    `stored` is what the file holds.
    """

    classes: np.ndarray
    changed: int
    stored: Stored


def as_rgb(color: int) -> list[int]:
    """[red, green, blue] of a color as one number."""
    return [color >> 16, color >> 8 & 255, color & 255]


def read_mask(path: Path, coding: Coding) -> Mask:
    """The classes of a mask file as stored, without the turn of its EXIF orientation.

    UserError if it cannot be read, if its transparency tells pixels of one value apart, or if it holds
    other values than those declared. The pixels of a lossy two-class mask get the nearer value.
    """
    return mask_of(path, read_stored(path), coding)


def mask_of(path: Path, stored: Stored, coding: Coding) -> Mask:
    """As `read_mask`, of what was read from `path`."""
    _refuse_meaningful_alpha(path, stored, coding.painted)
    values = colors_of(path, stored) if coding.painted else values_of(path, stored, coding.source)
    changed = 0
    if stored.lossy and len(coding.values) == 2 and not coding.painted and coding.ignore is None:
        values, changed = _nearest(path, values, coding)
    classes, undeclared = to_classes(values, coding.known)
    if stored.step > 1 and not coding.painted:
        classes, undeclared = _few_bits(path, values, classes, undeclared, stored.step, coding)
    if undeclared:
        if stored.kind == "palette" and not coding.painted and coding.source != "dataset.json":
            # By their indices alone nobody knows which class is which.
            message = f"found indices of a palette, expected only {coding.shown(coding.known)}"
            raise fault(path, message, _colors_fix(stored, coding.source))
        raise _undeclared(path, values, undeclared, coding, stored.lossy)
    return Mask(_with_unknown(classes, coding), changed, stored)


def classes_of(path: Path, values: np.ndarray, coding: Coding) -> np.ndarray:
    """The classes of stored values (H, W) that no format has changed; UserError for undeclared ones."""
    classes, undeclared = to_classes(values, coding.known)
    if undeclared:
        raise _undeclared(path, values, undeclared, coding, lossy=False)
    return _with_unknown(classes, coding)


def _with_unknown(classes: np.ndarray, coding: Coding) -> np.ndarray:
    """Indices into the known values, uint8 -> classes, -1 for `ignore`."""
    if coding.ignore is None:
        return classes
    return np.where(classes == len(coding.values), UNKNOWN, classes.astype(np.int16))


def values_of(path: Path, stored: Stored, source: str = "") -> np.ndarray:
    """The numbers of a mask, int64 (H, W): gray values, or the indices of a palette.

    `source` is that of the `Coding`. UserError for colors and for numbers that are not whole.
    """
    numbers = stored.numbers
    if stored.kind == "color":
        if (numbers.max(axis=2) - numbers.min(axis=2)).max(initial=0) > (CHROMA if stored.lossy else 0):
            message = "found a colour picture as mask, expected one value per pixel"
            raise fault(path, message, _colors_fix(stored, source))
        numbers = numbers[..., 1]
    if numbers.dtype.kind == "f":
        if not np.isfinite(numbers).all() or (numbers != np.round(numbers)).any():
            message = "found fractional values in the mask, expected whole numbers"
            raise fault(path, message, "save the mask as an 8-bit PNG")
        numbers = numbers.clip(-(2.0**62), 2.0**62)
    elif numbers.dtype == np.uint64:
        numbers = np.minimum(numbers, np.uint64(2**62))
    return numbers.astype(np.int64)


def _colors_fix(stored: Stored, source: str) -> str:
    """How to declare the colors of a mask, with those that it holds if they are few, the darkest first."""
    found = [list(color) for color in set(stored.used_colors().values())]
    if stored.kind == "color" and stored.bits == 8 and not stored.lossy:
        found = np.unique(stored.numbers.reshape(-1, 3), axis=0).tolist()
    found = sorted(found, key=sum) if 1 < len(found) <= FEW else [[0, 0, 0], [255, 0, 0]]
    names = ["background", *("object" if len(found) < 3 else f"class {i}" for i in range(1, len(found)))]
    example = json.dumps({"classes": names, "mask_values": found})
    hexes = " ".join('"#{:02x}{:02x}{:02x}"'.format(*color) for color in found)
    return PAINTED[source].format(example=example, colors=found, hexes=hexes) + ", or save a grey PNG"


def colors_of(path: Path, stored: Stored) -> np.ndarray:
    """The colors of a painted mask, int64 (H, W): 65536 red + 256 green + blue."""
    numbers = stored.numbers
    if stored.palette is not None:
        numbers = stored.palette[numbers]
    elif stored.bits != 8 or numbers.dtype.kind != "u":
        full = stored.full
        if numbers.dtype.kind != "u" or (numbers.astype(np.int64) * 255 % full).any():
            message = f"found colors of {stored.bits} bits that 8 bits cannot hold, expected 8 bits a channel"
            raise fault(path, message, "save the mask with 8 bits a channel")
        numbers = numbers.astype(np.int64) * 255 // full
    if numbers.ndim == 2:
        numbers = np.repeat(numbers[..., None], 3, axis=2)
    return numbers.astype(np.int64) @ np.array([65536, 256, 1])  # (H, W, 3) -> (H, W)


def _refuse_meaningful_alpha(path: Path, stored: Stored, painted: bool) -> None:
    """UserError if pixels of one value differ in transparency: then it says what the values do not."""
    if stored.alpha is None or stored.alpha.min() == stored.alpha.max():
        return
    values = stored.numbers.astype(np.int64)
    if painted and stored.palette is not None:
        values = colors_of(path, stored)
    elif values.ndim == 3:
        values = values @ np.array([2**32, 2**16, 1])  # (H, W, 3) -> (H, W), each color one number
    # For each value its least and greatest alpha: sorted by value, then alpha, they are the first and last.
    order = np.lexsort((stored.alpha.ravel(), values.ravel()))
    found, alpha = values.ravel()[order], stored.alpha.ravel()[order]
    starts = np.flatnonzero(np.r_[True, found[1:] != found[:-1]])
    ends = np.r_[starts[1:], len(found)] - 1
    if (alpha[starts] != alpha[ends]).any():
        message = "found a transparency that differs between pixels of one value, expected all in the values"
        fix = "save a grey PNG without transparency; if it is the mask: Image.open(f).getchannel('A').save(f)"
        raise fault(path, message, fix)


def to_classes(values: np.ndarray, declared: Sequence[int]) -> tuple[np.ndarray, list[int]]:
    """Class indices, uint8: c where `values` is declared[c]. Also the undeclared values, sorted."""
    order = np.argsort(declared)
    known = np.asarray(declared)[order]
    places = np.searchsorted(known, values).clip(max=len(known) - 1)
    strange = known[places] != values
    return order.astype(np.uint8)[places], np.unique(values[strange]).tolist() if strange.any() else []


def _few_bits(
    path: Path, values: np.ndarray, classes: np.ndarray, undeclared: list[int], step: int, coding: Coding
) -> tuple[np.ndarray, list[int]]:
    """Classes and undeclared values of a mask of 1, 2 or 4 bits, which viewers spread over 0, step ... 255.

    The stored numbers count; where they are not declared, what viewers show. UserError if both are.
    """
    spread, strange = to_classes(values * step, coding.known)
    if strange:
        return classes, undeclared
    if not undeclared and (spread != classes).any():
        top = int(values.max())
        message = (
            f"found {top} shown as {top * step}, both declared, in a mask of few bits, expected one meaning"
        )
        raise fault(path, message, "save the mask with 8 bits")
    return spread, []


def _nearest(path: Path, values: np.ndarray, coding: Coding) -> tuple[np.ndarray, int]:
    """The nearer of two values for each pixel, and the number changed; UserError where that is no mask."""
    low, high = sorted(coding.values)
    nearer = np.where(2 * values > low + high, high, low)
    objects = (nearer == high).astype(np.uint8)
    square = np.ones((NEAR_EDGE, NEAR_EDGE), np.uint8)
    inside = cv2.erode(objects, square) == cv2.dilate(objects, square)
    stray = inside & (4 * np.abs(values - nearer) > high - low)
    if stray.mean() > STRAY:
        found = np.unique(values[stray]).tolist()
        raise _undeclared(path, values, found, coding, lossy=True)
    return nearer, int((nearer != values).sum())


def _undeclared(path: Path, values: np.ndarray, strange: list[int], coding: Coding, lossy: bool) -> Fault:
    """The exception for the undeclared values `strange` among all `values` (H, W) of a mask."""
    names = [*coding.classes, *([] if coding.ignore is None else ["ignore"])]
    expected = ", ".join(str(as_rgb(v)) if coding.painted else str(v) for v in coding.known)
    message = f"found mask values {coding.shown(strange)}, expected only {expected} ({', '.join(names)})"
    if lossy:
        return fault(path, message, "save the mask as PNG: JPEG changes values")
    found = np.unique(values).tolist()
    fixes = []
    if len(found) <= FEW or len(coding.values) > 2 or coding.painted:
        fixes.append(UNDECLARED[coding.source].format(example=_example(found)))
    if len(strange) == 1 and coding.source and coding.ignore is None and not coding.painted:
        fixes.append(f"write {IGNORE[coding.source].format(strange[0])} if its class is unknown")
    if len(found) > 2 and len(coding.values) == 2 and not coding.painted:
        low, high = sorted(coding.values)
        soft, numbered = (f"np.where(mask > {level}, {high}, {low})" for level in ((low + high) // 2, low))
        fixes.append(f"if edges are soft save {soft}, if objects are numbered {numbered}")
    return fault(path, message, "; or ".join(fixes))


def _example(found: list[int]) -> str:
    """A dataset.json for the values of a mask."""
    names = ["background", *("object" if len(found) < 3 else f"class {i}" for i in range(1, len(found)))]
    known = 1 < len(found) <= FEW and found[0] >= 0 and found[-1] <= 65535
    return json.dumps({"classes": names, "mask_values": found}) if known else EXAMPLE
