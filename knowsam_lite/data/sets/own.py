"""Your own images: two folders or one with suffixes; masks dark and bright, coded, palette or painted."""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from knowsam_lite.data.images import SUFFIXES
from knowsam_lite.data.layout import MASK_ENDINGS
from knowsam_lite.data.names import distinct, readable
from knowsam_lite.data.prepare.read import binary_pair, coded_pair, colored_pair, slices
from knowsam_lite.data.prepare.recipe import Item, Piece, Recipe, relative_files
from knowsam_lite.errors import UserError

VOLUMES = (".nii.gz", ".nii")
CHANNEL = re.compile(r"_\d{4}$")  # how nnU-Net's image names end
NNUNET = "give nnU-Net's folder with --nnunet instead, "


@dataclass(frozen=True)
class Own:
    """How the files are laid out and what their values mean."""

    mask_suffix: str = "_mask"  # follows the image's name in its mask's name
    mask_prefix: str = ""  # precedes it
    classes: tuple[str, ...] = ("background", "object")  # the background first
    values: tuple[str, ...] = ()  # one per class: numbers or #rrggbb; empty: masks are dark and bright
    group: str = ""  # regular expression; its match in a name is the group (a patient, a video)


def recipe(own: Own, title: str, sources: Sequence[Path]) -> Recipe:
    """The recipe for the folders or archives `sources`; UserError if classes and values do not fit."""
    values = [_value(text) for text in own.values]
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
    coded = bool(values) and not painted and max(values) < 256  # then masks keep their values
    return Recipe(
        name=f"own/{digest(own, sources)}",
        title=title,
        classes=own.classes,
        find=partial(find, own=own),
        read=partial(read, values=tuple(values), painted=painted),
        licence="Your own.",
        citation="Your own.",
        val=0.2,
        test=0.2,
        mask_values=tuple(values) if coded else (0, 255) if len(values) < 3 else tuple(range(len(values))),
        keep_volumes=coded,
    )


def digest(settings: object, sources: Sequence[Path]) -> str:
    """A short hash of settings and of the names, sizes and times of change of all files they apply to."""
    state = []
    for source in sources:
        files = [path for _, path in relative_files(source)] if source.is_dir() else [source]
        stats = [path.stat() for path in files if path.exists()]
        state.append(
            (str(source.absolute()), [(s.st_size, s.st_mtime_ns) for s in stats], list(map(str, files)))
        )
    return hashlib.sha256(repr((settings, state)).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _value(text: str) -> int:
    if re.fullmatch("#[0-9a-fA-F]{6}", text):
        return int(text[1:], 16)
    if text.isdecimal() and int(text) < 65536:
        return int(text)
    raise UserError(f"found mask value {text!r}, expected a number from 0 to 65535 or a color as #ff0000")


def read(item: Item, values: tuple[int, ...], painted: bool) -> Iterator[Piece]:
    """One picture or all slices of one volume."""
    if item.image.name.lower().endswith(VOLUMES):
        return slices(item, values or (0, 1))
    if painted:
        return colored_pair(item, values)
    return coded_pair(item, values) if values else binary_pair(item)


def find(roots: tuple[Path, ...], own: Own) -> list[Item]:
    """The pairs in one folder (or archive) or in two, images first; UserError names an unpaired file."""
    endings = (own.mask_suffix, *MASK_ENDINGS) if len(roots) > 1 else (own.mask_suffix,)
    if len(roots) == 1 and not own.mask_suffix and not own.mask_prefix:
        raise UserError(
            "found one folder and no suffix, expected two folders or a suffix: give --masks or --mask-suffix"
        )
    images, masks = _stems(roots[0]), _stems(roots[-1])
    if len(roots) == 1:
        masks = {stem: path for stem, path in images.items() if _is_mask(stem, own)}
        images = {stem: path for stem, path in images.items() if stem not in masks}
    if not images:
        raise UserError(
            f"found no image in {roots[0]}, expected files ending in {' '.join(SUFFIXES + VOLUMES)}"
        )
    items = []
    names = distinct(images)
    for stem, image in images.items():
        folder, slash, name = stem.rpartition("/")
        wanted = [f"{folder}{slash}{own.mask_prefix}{name}{end}" for end in endings]
        mask = next((masks.pop(each) for each in wanted if each in masks), None)
        if mask is None:
            other = NNUNET if CHANNEL.search(stem) else ""
            raise UserError(
                f"found no mask for {image}, expected {wanted[0]}.* in {roots[-1]}: add it, say with "
                f"--mask-suffix or --mask-prefix how masks are named, {other}or list the pairs in index.csv"
            )
        group = group_in(stem, own.group, image) or names[stem]
        items.append(Item(names[stem], group, "", image, (mask,)))
    if masks:
        lonely = next(iter(masks.values()))
        raise UserError(f"found no image for {lonely}, expected one of that name: add it or delete the mask")
    return items


def _is_mask(stem: str, own: Own) -> bool:
    """Whether a file beside the images is a mask by its name."""
    name = stem.rpartition("/")[2]
    return name.startswith(own.mask_prefix) and name.endswith(own.mask_suffix)


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


def group_in(stem: str, pattern: str, image: Path) -> str:
    """What the pattern finds in a name, "" without a pattern; UserError if it finds nothing."""
    if not pattern:
        return ""
    match = re.search(pattern, stem)
    found = readable(match[match.lastindex or 0]).strip() if match else ""
    if not found:
        raise UserError(f"found no {pattern!r} in {stem!r} ({image}), expected the group: correct --group")
    return found
