"""Your own images: two folders or one with suffixes; masks dark and bright, coded, palette or painted."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from knowsam_lite.data.layout import MASK_ENDINGS, take_mask
from knowsam_lite.data.masks import Coding
from knowsam_lite.data.prepare.read import coded_pair, slices
from knowsam_lite.data.prepare.recipe import Item, Piece, Recipe, clean, relative_files
from knowsam_lite.data.stored import SUFFIXES
from knowsam_lite.errors import UserError

VOLUMES = (".nii.gz", ".nii")


@dataclass(frozen=True)
class Own:
    """How the files are laid out and what their values mean."""

    mask_suffix: str = "_mask"  # follows the image's name in its mask's name
    classes: tuple[str, ...] = ("background", "object")  # the background first
    values: tuple[str, ...] = ()  # one per class: numbers or #rrggbb; empty: 0 and 255
    group: str = ""  # regular expression; its match in a name is the group (a patient, a video)
    ignore: str = ""  # one more value, of pixels whose class is unknown
    drawn_on: str = ""  # "shown" or "stored": the picture that masks were drawn on, if EXIF turns images


def recipe(own: Own, title: str, sources: Sequence[Path]) -> Recipe:
    """The recipe for the folders or archives `sources`; UserError if classes and values do not fit."""
    values = [_value(text) for text in own.values]
    ignore = int(own.ignore) if re.fullmatch("-[0-9]{1,9}", own.ignore) else _value(own.ignore or "0")
    if len(own.classes) < 2 or len(set(own.classes)) < len(own.classes):
        raise UserError(f"found classes {' '.join(own.classes)}, expected two or more different names")
    if values and (len(values) != len(own.classes) or len(set(values)) < len(values)):
        raise UserError(
            f"found {len(values)} mask values for {len(own.classes)} classes, expected a different one "
            "for each"
        )
    if not values and len(own.classes) > 2:
        raise UserError(
            f"found {len(own.classes)} classes without mask values, expected one each: give --values"
        )
    try:
        re.compile(own.group)
    except re.error as error:
        raise UserError(f"found --group {own.group!r} ({error}), expected a regular expression") from None
    painted = any(text.startswith("#") for text in own.values)
    coding = Coding(
        own.classes,
        tuple(values or (0, 255)),
        painted,
        ignore if own.ignore else None,
        own.drawn_on,
        "options",
    )
    if len(set(coding.known)) < len(coding.known):
        raise UserError(f"found --ignore {own.ignore}, the value of a class, expected one of its own")
    kept = not painted and all(0 <= value < 256 for value in coding.known)  # then masks keep their values
    written = coding.known if kept else _spread(len(coding.known))
    digest = hashlib.sha256(repr((own, [str(path.absolute()) for path in sources])).encode()).hexdigest()
    return Recipe(
        name=f"own/{digest[:12]}",
        title=title,
        classes=own.classes,
        find=partial(find, own=own),
        read=partial(read, coding=coding, given=bool(values)),
        licence="Your own.",
        citation="Your own.",
        val=0.2,
        test=0.2,
        mask_values=tuple(written[: len(own.classes)]),
        ignore=written[-1] if own.ignore else None,
        keep_volumes=bool(values) and kept,
        endings=VOLUMES + SUFFIXES,
    )


def _spread(count: int) -> list[int]:
    """The values of prepared masks: 0 and 255 for two, else 0, 1, 2, ..."""
    return [0, 255] if count == 2 else list(range(count))


def _value(text: str) -> int:
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    raise UserError(f"found mask value {text!r}, expected a number from 0 to 65535 or a color as #ff0000")


def read(item: Item, coding: Coding, given: bool) -> Iterator[Piece]:
    """One picture or all slices of one volume, whose labels are 0 and 1 unless values were `given`."""
    if item.image.name.lower().endswith(VOLUMES):
        return slices(item, coding if given else replace(coding, values=(0, 1)))
    return coded_pair(item, coding)


def find(roots: tuple[Path, ...], own: Own) -> list[Item]:
    """The pairs in one folder (or archive) or in two, images first; UserError names an unpaired file."""
    endings = (own.mask_suffix, *MASK_ENDINGS) if len(roots) > 1 else (own.mask_suffix,)
    if len(roots) == 1 and not own.mask_suffix:
        raise UserError(
            "found one folder and no suffix, expected two folders or a suffix: give --masks or --mask-suffix"
        )
    images, masks = _stems(roots[0]), _stems(roots[-1])
    if len(roots) == 1:
        suffix = own.mask_suffix.casefold()
        masks = {stem: path for stem, path in images.items() if stem.casefold().endswith(suffix)}
        images = {stem: path for stem, path in images.items() if stem not in masks}
    if not images:
        raise UserError(
            f"found no image in {roots[0]}, expected files ending in {' '.join(SUFFIXES + VOLUMES)}"
        )
    items = []
    for stem, image in images.items():
        mask = take_mask(masks, stem, endings)
        if mask is None:
            raise UserError(
                f"found no mask for {image}, expected {stem}{endings[0]}.* in {roots[-1]}: add it, or say "
                "with --mask-suffix how masks are named"
            )
        name = clean(stem)
        items.append(Item(name, _group(own.group, stem, image), "", image, (mask,)))
    if masks:
        lonely = next(iter(masks.values()))
        raise UserError(f"found no image for {lonely}, expected one of that name: add it or delete the mask")
    _refuse_equal_ids(items)
    return items


def _stems(root: Path) -> dict[str, Path]:
    """Pictures and volumes below `root` by relative path without ending; UserError if two share a name."""
    found: dict[str, Path] = {}
    for name, path in relative_files(root):
        ending = next((end for end in VOLUMES + SUFFIXES if name.lower().endswith(end)), "")
        if not ending:
            continue
        stem = name[: -len(ending)]
        if stem in found:
            raise UserError(
                f"found {found[stem].name} and {path.name} with the same name, expected one file: rename one"
            )
        found[stem] = path
    return found


def _group(pattern: str, stem: str, image: Path) -> str:
    if not pattern:
        return clean(stem)
    match = re.search(pattern, stem)
    if not match:
        raise UserError(f"found no {pattern!r} in {stem!r} ({image}), expected the group: correct --group")
    return clean(match[match.lastindex or 0])


def _refuse_equal_ids(items: Sequence[Item]) -> None:
    """UserError for names that differ only in characters not every file system allows: they would collide."""
    stems = defaultdict(list)
    for item in items:
        stems[item.id.casefold()].append(item.image.name)
    for names in stems.values():
        if len(names) > 1:
            raise UserError(
                f"found the names {' and '.join(names)}, expected names that differ more: rename one"
            )
