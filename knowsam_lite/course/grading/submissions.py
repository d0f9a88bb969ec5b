"""Finds what a class handed in: whose it is, of which chapter, and whether it can be read at all."""

import json
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from knowsam_lite.errors import UserError

LARGEST = 50 * 2**20  # bytes of a notebook; one with all its pictures takes less than one million
ALIKE = (".zip", ".json", ".html")  # what a browser or a student makes of a notebook
MENTIONED = re.compile(r"""(?:### Exercise |check\(["'])(\d\d)\.\d""")


@dataclass(frozen=True)
class Submission:
    """A notebook that was handed in. `fault` says why it cannot be marked, or is ""."""

    student: str
    path: Path
    chapter: str  # its number, or "" if nothing tells
    cells: tuple[tuple[int, str], ...]  # place among all cells, from 1, and source of each code cell
    fault: str = ""


def collect(folder: Path, known: Collection[str]) -> list[Submission]:
    """The submissions in `folder`, which are read and never run there.

    A student is a folder, with notebooks at any depth, or a single notebook: `anna.ipynb`,
    `anna/05_uncertainty_and_ham.ipynb`, `anna/05_uncertainty_and_ham/05_uncertainty_and_ham.ipynb`. The
    chapter is that whose exercises a notebook names, else the number that its file's name begins with;
    `known` are the chapters' numbers. Raises UserError if nothing was handed in.
    """
    if not folder.is_dir():
        raise UserError(
            f"found no folder {folder}, expected one with a notebook, or a folder, for each student: check it"
        )
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            files = (p for p in sorted(entry.rglob("*")) if p.suffix.lower() == ".ipynb")
            inside = [p.relative_to(entry) for p in files]
            shown = [entry / p for p in inside if not any(part.startswith(".") for part in p.parts)]
            found += [_read(entry.name, path, known) for path in shown]
            if not shown:
                found.append(Submission(entry.name, entry, "", (), "there is no notebook in the folder"))
        elif entry.suffix.lower() == ".ipynb":
            found.append(_read(entry.stem, entry, known))
        elif ".ipynb" in entry.name.lower() or entry.suffix.lower() in ALIKE:
            fault = f"{entry.name} is no notebook by its name: if it is one, call it .ipynb"
            found.append(Submission(entry.name.partition(".")[0], entry, "", (), fault))
    if not found:
        raise UserError(
            f"found nothing in {folder}, expected a notebook, or a folder, for each student: check it"
        )
    return found


def _read(student: str, path: Path, known: Collection[str]) -> Submission:
    named = path.name[:2] if path.name[:2] in known else ""
    try:
        text, cells = _cells(path)
    except (ValueError, RecursionError, OSError) as error:
        reason = str(error).splitlines()[0][:200] or type(error).__name__
        return Submission(student, path, named, (), f"the file cannot be read as a notebook: {reason}")
    mentioned = Counter(number for number in MENTIONED.findall(text) if number in known)
    chapter = mentioned.most_common(1)[0][0] if mentioned else named
    fault = "" if chapter else "it holds no exercise of this course"
    return Submission(student, path, chapter, cells, fault)


def _cells(path: Path) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The text of all cells, and the code cells. Raises ValueError if that is no notebook."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is a link or no file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST >> 20} MB")
    data = json.loads(path.read_bytes().decode("utf-8"))
    if not isinstance(data, dict) or not isinstance(data.get("cells"), list):
        raise ValueError("it has no list of cells")
    texts, code = [], []
    for index, cell in enumerate(data["cells"], start=1):
        source = cell.get("source", "") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise ValueError(f"cell {index} has no text")
        texts.append(source)
        if cell.get("cell_type") == "code":
            code.append((index, source))
    return "\n".join(texts), tuple(code)
