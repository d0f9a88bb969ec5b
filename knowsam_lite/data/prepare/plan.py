"""Describes in words what preparing will do."""

from pathlib import Path

from knowsam_lite.data.prepare.folder import Request
from knowsam_lite.data.prepare.obtain import require
from knowsam_lite.data.prepare.recipe import Recipe, Source
from knowsam_lite.data.unpack import opened


def plan(recipe: Recipe, request: Request) -> list[str]:
    """Lines on sources, terms, sizes and splits; opens local archives, downloads nothing."""
    lines = [f"{recipe.title} -> {request.out}"]
    if request.archives:
        for path in request.archives:
            lines.append(f"from {path}{_held(path) if require(path).is_file() else ''}")
    else:
        lines += [_origin(source, request) for source in recipe.sources]
    val = recipe.val if request.val is None else request.val
    test = recipe.test if request.test is None else request.test
    lines += [
        f"size: {request.size}",
        f"split: official where there is one; else {val:.0%} of the groups val and {test:.0%} test, "
        f"seed {request.seed}{', near-duplicates in one group' if request.find_duplicates else ''}",
        "terms: " + " ".join(recipe.licence.splitlines()),
        *(f"note: {note}" for note in recipe.notes),
    ]
    return lines


def _held(path: Path) -> str:
    with opened(path) as members:
        return f": {len(members)} files, {sum(member.size for member in members) / 1e6:.1f} MB unpacked"


def _origin(source: Source, request: Request) -> str:
    if (request.cache / source.name).is_file():
        return f"from {request.cache / source.name} (downloaded earlier)"
    size = f" ({source.size})" if source.size else ""
    if source.url:
        return f"download {source.url}{size} into {request.cache}"
    if source.drive:
        return f"download https://drive.google.com/file/d/{source.drive}/view{size} into {request.cache}"
    return f"by hand: {source.by_hand}, then give it with --archive"
