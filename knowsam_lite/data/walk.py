"""Walks a folder of data, the same way for every command: what is there, and what is left out and why."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from knowsam_lite.data.findings import Finding, fault

# Files and folders that systems, not people, put beside pictures.
SYSTEM = {"__macosx", "@eadir", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "#recycle"}
SYSTEM |= {"system volume information", "lost+found"}
SHOWN = 3  # names in a line about many files


@dataclass(frozen=True)
class Walk:
    """The files below `root` whose names end as wanted, in natural order; the other files; lost links.

    Files and folders that are hidden or the system's are in none of the three.
    """

    root: Path
    files: tuple[Path, ...]
    others: tuple[Path, ...]
    lost: tuple[Path, ...]  # links to files that are not there

    def name(self, path: Path) -> str:
        """A path relative to the root, with forward slashes."""
        return path.relative_to(self.root).as_posix()

    def require(self) -> None:
        """UserError if a link leads nowhere."""
        if self.lost:
            raise fault(*lost_link(self.lost[0], len(self.lost)))

    def left_out(self) -> Finding | None:
        """A warning about the files of other kinds, or None."""
        if not self.others:
            return None
        kinds = sorted({path.suffix.lower() or "without ending" for path in self.others})
        message = (
            f"found {len(self.others)} files of kinds that are not read ({', '.join(kinds[:8])}), left out: "
            f"{few([self.name(path) for path in self.others])}, expected pictures, NIfTI or h5"
        )
        return Finding(
            "warning", str(self.root), message, "convert them, for instance to PNG, or move them away"
        )


def walk(root: Path, endings: Sequence[str]) -> Walk:
    """All files below the folder `root`, through links to folders, each linked folder once along a path."""
    files: list[Path] = []
    others: list[Path] = []
    lost: list[Path] = []
    for path in sorted(_paths(root, ()), key=lambda path: natural(path.relative_to(root).as_posix())):
        if path.name.lower().endswith(tuple(endings)):
            (files if path.exists() else lost).append(path)
        else:
            others.append(path)
    return Walk(root, tuple(files), tuple(others), tuple(lost))


def _paths(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    try:
        state, names = folder.stat(), os.listdir(folder)
    except OSError as error:
        raise fault(
            folder,
            f"found a folder that cannot be opened ({error.strerror}), expected one that can",
            "correct its permissions or the path",
        ) from None
    here = (state.st_dev, state.st_ino)
    if here in above:  # a link to a folder that holds it
        return
    for name in names:
        path = folder / name
        if is_hidden(name):
            continue
        if os.path.isdir(path):
            yield from _paths(path, (*above, here))
        else:
            yield path


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is hidden or the system's."""
    return name.startswith(".") or name.lower() in SYSTEM


def lost_link(path: Path, count: int = 1) -> tuple[Path, str, str]:
    """File, message and fix for a link whose file is not there; `count` such links."""
    more = f" ({count} such links)" if count > 1 else ""
    message = f"found a link to {os.readlink(path)}, which is not there{more}, expected the file itself"
    return path, message, "fetch the data (git annex get, dvc pull, git lfs pull) or delete the link"


def few(names: Sequence[str]) -> str:
    """The first names, and how many there are."""
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names)} files)" if len(names) > SHOWN else "")


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts names as people count: slice2 before slice10."""
    words = (part.lstrip("0") if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name)))
    return [(len(word) if i % 2 else 0, word) for i, word in enumerate(words)], name
