"""A data set's recipe: where its files are published, which belong together, how they are read."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from knowsam_lite.data.names import file_stem
from knowsam_lite.deprecated import old_names
from knowsam_lite.errors import UserError

__getattr__ = old_names(__name__)


@dataclass(frozen=True)
class Source:
    """One published file: kept as `name`; from `url`, or from Google Drive's file `drive`, or by hand."""

    name: str
    url: str = ""
    drive: str = ""
    sha256: str | None = None  # None: recorded at the first download and enforced from then on
    by_hand: str = ""  # what to do by hand where no program can download it
    size: str = ""  # as published, to show before a download


@dataclass(frozen=True)
class Item:
    """One file to convert: its id, its group, its split ("" if it is to be drawn), and its masks."""

    id: str
    group: str
    split: str
    image: Path
    masks: tuple[Path, ...]


@dataclass(frozen=True)
class Piece:
    """One picture of the prepared set: uint8 (H, W) or (H, W, 3), and class indices uint8 (H, W).

    `suffix` is appended to the item's id; `changed` counts the mask pixels decided by a threshold;
    `spacing` is the size of a pixel (row, column) or of a voxel (slice, row, column) in mm.
    """

    suffix: str
    image: np.ndarray
    mask: np.ndarray
    changed: int = 0
    spacing: tuple[float, ...] | None = None


Find = Callable[[tuple[Path, ...]], list[Item]]
Read = Callable[[Item], Iterator[Piece]]


@dataclass(frozen=True)
class Recipe:
    """One data set, or one variant of it; everything that differs between sets is here."""

    name: str
    title: str
    classes: tuple[str, ...]  # the background first
    find: Find  # unpacked folders -> items
    read: Read  # an item -> pictures and masks
    licence: str  # the terms as stated by its publisher or a mirror
    citation: str
    sources: tuple[Source, ...] = ()
    val: float = 0.1  # share of the groups without an official split
    test: float = 0.0
    expected: Mapping[str, int] = field(default_factory=dict)  # images of "all", "train and val", "test", ...
    labeled: Mapping[str, str] = field(default_factory=dict)  # the paper's presets -> values of --labeled
    mask_values: tuple[int, ...] = (0, 255)  # in the prepared mask files
    keep_volumes: bool = False  # NIfTI of val and test stays NIfTI: it is scored whole, with its spacing
    notes: tuple[str, ...] = ()  # what a user of this set should know


@dataclass(frozen=True)
class Rule:
    """Which files are images, and which are their masks: regular expressions for whole paths in the archive.

    A mask belongs to the image whose named groups match the same text; several masks of one image are merged.
    `id` and `group` are templates of these groups; `split` is the official one, "" where there is none.
    """

    image: str
    mask: str
    id: str = "{key}"
    group: str = ""  # empty: each image its own
    split: str = ""


def pairs(roots: Sequence[Path], rules: Sequence[Rule]) -> list[Item]:
    """The items that the rules find in the folders; UserError for an unpaired image or an unmatched rule."""
    files = [entry for root in roots for entry in relative_files(root)]
    items = [item for rule in rules for item in _matched(files, rule)]
    for name, count in Counter(item.id for item in items).items():
        if count > 1:
            raise UserError(f"found id {name!r} {count} times, expected each once: give each archive once")
    return sorted(items, key=lambda item: item.id)


def relative_files(root: Path) -> list[tuple[str, Path]]:
    """All files below `root` with their relative paths, sorted, without macOS metadata."""
    found = [(path.relative_to(root).as_posix(), path) for path in sorted(root.rglob("*")) if path.is_file()]
    return [(name, path) for name, path in found if "__MACOSX/" not in name and not path.name.startswith(".")]


def _matched(files: Sequence[tuple[str, Path]], rule: Rule) -> Iterator[Item]:
    image, mask = (re.compile(pattern, re.IGNORECASE) for pattern in (rule.image, rule.mask))
    masks: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for name, path in files:
        if match := mask.fullmatch(name):
            masks[_key(match)].append(path)
    matches = [(match, path) for name, path in files if (match := image.fullmatch(name))]
    if not matches:
        folders = sorted({str(Path(name).parent) for name, _ in files})
        held = ", ".join(folders[:4]) + (", ..." if len(folders) > 4 else "") if files else "nothing"
        raise UserError(
            f"found no file like {rule.image} (the archives hold {held}), expected the published layout: "
            "give all archives of this set, unchanged"
        )
    for match, path in matches:
        if not (own := masks.get(_key(match))):
            raise UserError(
                f"found no mask for {match[0]}, expected a file like {rule.mask}: get the archive again"
            )
        name = file_stem(rule.id.format(**match.groupdict()))
        group = file_stem(rule.group.format(**match.groupdict())) if rule.group else name
        yield Item(name, group, rule.split, path, tuple(sorted(own)))


def _key(match: re.Match[str]) -> tuple[str, ...]:
    return tuple(text.lower() for _, text in sorted(match.groupdict().items()))
