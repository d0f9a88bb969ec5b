"""From one source, `solutions/NN_topic.py`, both notebooks of a chapter.

In its texts {{badges}} and {{time}} are filled in.

Cells may carry these tags in the source: `setup` (filled with the first cell), `exercise` (blanked for
students), `compare` (its output is compared by nbval), `guess` (the text asks what its picture will show, so
students get none). Comments at the top of an exercise say more: `# library: MODULE.NAME` fills in the
library's own source, `# blank: NAME` empties that function or method.
"""

import ast
import importlib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

from knowsam_lite import __version__
from knowsam_lite.course.alts import literals, numbered
from knowsam_lite.course.blanks import blanked
from knowsam_lite.course.cards import card_line
from knowsam_lite.course.marking import HEAD
from knowsam_lite.course.pages import pages
from knowsam_lite.course.progress import OPEN
from knowsam_lite.course.timing import time_of
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

ROOT = Path(__file__).resolve().parents[2]
MARKER = re.compile(r"^# (library|blank): (\S+)\n?", re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SETUP = """\
import importlib.util, os, subprocess, sys
if not importlib.util.find_spec("knowsam_lite"):
    package = os.getenv("KNOWSAM_LITE_WHEEL", "{url}")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--retries", "1", package]
    pip = subprocess.run(command, capture_output=True, text=True)
    if pip.returncode:
        sys.exit("knowsam_lite could not be installed: " + pip.stderr.split("ERROR: ")[-1].strip()[-200:])
from knowsam_lite.course import budget, check, quiz, setup, show
setup()"""
CHOICE = re.compile(r",?\s+(\([a-d]\))\s+")  # of a quiz question, behind it or behind the choice before
HINTS = re.compile(r"<details><summary>Hint</summary>\n\n(.*?)\n\n</details>", re.DOTALL)
FOLD = "<details><summary>Hint {}</summary>\n\n{}\n\n</details>"
BADGES = """\
[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}/notebooks/{name}.ipynb)
[![Solution](https://img.shields.io/badge/solution-executed-0072B2)]({repository}/blob/v{version}/solutions/{name}.ipynb)"""


def repository(root: Path) -> str:
    """The address under [project.urls], from which all other addresses are made."""
    found = re.search(r'^Repository = "(\S+)"', (root / "pyproject.toml").read_text("utf8"), re.MULTILINE)
    if found is None:
        raise UserError("found no Repository in pyproject.toml, expected one under [project.urls]: add it")
    return found.group(1)


def first_cell(root: Path) -> str:
    """The lines with which every notebook begins."""
    return SETUP.format(url=f"{repository(root)}/archive/refs/tags/v{__version__}.tar.gz")


def library_source(address: str) -> str:
    """The source of a function or class of the library, without the mark that it sees the whole batch."""
    module, _, name = address.rpartition(".")
    source = inspect.getsource(getattr(importlib.import_module(module), name))
    return source.removeprefix("@whole_batch\n").rstrip()


def solution(source: Path, root: Path) -> NotebookNode:
    """The complete notebook of a chapter, not executed."""
    written = source.read_text("utf8")
    notebook = jupytext.reads(written, fmt="py:percent")
    address = repository(root)
    colab = f"https://colab.research.google.com/github{address.removeprefix('https://github.com')}"
    badges = BADGES.format(
        colab=f"{colab}/blob/v{__version__}", repository=address, version=__version__, name=source.stem
    )
    time = str(time_of(written))
    for number, cell in enumerate(notebook.cells):
        tags = set(cell.metadata.get("tags", []))
        markers = MARKER.findall(cell.source) if cell.cell_type == "code" else []
        if markers:
            library = [library_source(name) for kind, name in markers if kind == "library"]
            cell.source = "\n\n\n".join(filter(None, [*library, MARKER.sub("", cell.source).strip()]))
        if "setup" in tags:
            cell.source = first_cell(root)
        if "compare" in tags or cell.source.startswith(("check", "quiz")):
            tags = (tags - {"compare"}) | {"nbval-check-output"}
        cell.source = cell.source.replace("{{badges}}", badges).replace("{{time}}", time)
        if cell.cell_type == "markdown":
            before, quiz, questions = cell.source.partition("## Quiz\n")
            cell.source = before + quiz + CHOICE.sub(r"\n   - \1 ", questions)
        cell.metadata = nbformat.from_dict({"tags": sorted(tags)} if tags else {})
        blanks = [name for kind, name in markers if kind == "blank"]
        if blanks:
            cell.metadata["blank"] = blanks
        cell.id = f"cell-{number:02d}"
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def student(executed: NotebookNode, chapter: str) -> NotebookNode:
    """The learner's notebook: exercises and quiz answers open, each exercise with its card, hints one by one,
    solutions below the checks; no other output but pictures, and none where the text asks what these show.
    """
    cells: list[NotebookNode] = []
    below: list[NotebookNode] = []  # the solution, until its check has passed by
    texts = 1
    for cell in nbformat.from_dict(executed).cells:
        if cell.cell_type == "markdown":
            cell.source = one_by_one(cell.source)
            cells += with_card(cell)
            continue
        asked = "guess" in cell.metadata.get("tags", []) or "blank" in cell.metadata
        kept = [] if asked else [o for o in cell.outputs if "image/png" in o.get("data", {})]
        cell.outputs, cell.execution_count = kept, None
        count = len(literals(cell.source))
        cell.source = numbered(cell.source, chapter, texts)
        texts += count
        if draws_or_imports(cell.source):
            cell.metadata["jupyter"] = {"source_hidden": True}
        cells.append(cell)
        if "blank" in cell.metadata:
            fence = f"<details><summary>Solution</summary>\n\n```python\n{cell.source}\n```\n\n</details>"
            below = [nbformat.v4.new_markdown_cell(fence, id=f"{cell.id}-solution")]
            cell.source = blanked(cell.source, cell.metadata.pop("blank"))
        else:
            cells += below
            below = []
        if cell.source.startswith("quiz"):
            cell.source = re.sub(r'"[a-d]"', '"?"', cell.source)
    return nbformat.from_dict({**executed, "cells": cells})


def with_card(cell: NotebookNode) -> list[NotebookNode]:
    """A text, divided where an exercise begins: there stands its card, a cell that says what the line below
    the heading says, and how far the learner is.
    """
    head = HEAD.search(cell.source)
    if head is None:
        return [cell]
    number = head["number"]
    numbers = {name: int(head[name]) for name in ("difficulty", "importance", "minutes")}
    given = ", ".join(f"{name}={value}" for name, value in numbers.items())
    card = nbformat.v4.new_code_cell(f'check.card("{number}", {given})', id=f"{cell.id}-card")
    card.metadata["jupyter"] = {"source_hidden": True}
    card.outputs = [nbformat.v4.new_output("stream", text=card_line(**numbers, state=OPEN) + "\n")]
    above = nbformat.from_dict({**cell, "source": cell.source[: head.end("title")]})
    below = nbformat.v4.new_markdown_cell(cell.source[head.end() :].strip(), id=f"{cell.id}-task")
    return [above, card, below]


def one_by_one(text: str) -> str:
    """A text whose folded list of hints has become a fold for each."""

    def folds(found: re.Match[str]) -> str:
        hints = re.split(r"^\d\. +", found[1], flags=re.MULTILINE)[1:]
        plain = (re.sub(r"^ {3}", "", hint, flags=re.MULTILINE).strip() for hint in hints)
        return "\n\n".join(FOLD.format(n, hint) for n, hint in enumerate(plain, start=1))

    return HINTS.sub(folds, text)


def draws_or_imports(source: str) -> bool:
    """True if a cell holds nothing but imports and at most one call that shows a figure or an explorer."""
    body = [node for node in ast.parse(source).body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if len(body) != 1:
        return not body
    called = getattr(getattr(body[0], "value", None), "func", None)
    return getattr(called, "id", getattr(called, "attr", "")) in ("show", "explore")


def execute(notebook: NotebookNode, folder: Path, budget: str = "laptop") -> NotebookNode:
    """Run a notebook in `folder`. Raises UserError if it writes to stderr."""
    environment = {**os.environ, "KNOWSAM_LITE_BUDGET": budget}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    client = NotebookClient(
        notebook,
        timeout=600,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,  # otherwise printed text is split wherever the kernel happened to send it
    )
    client.execute(env=environment)
    loud = [o.text for cell in notebook.cells for o in cell.get("outputs", []) if o.get("name") == "stderr"]
    if loud:
        raise UserError(f"found {loud[0].strip()!r} on stderr, expected no output there: fix the cell")
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, "language_info": {"name": "python"}})
    return notebook


def paths(source: Path, root: Path) -> tuple[Path, Path]:
    """The paths of a source's two notebooks."""
    return source.with_suffix(".ipynb"), root / "notebooks" / f"{source.stem}.ipynb"


def sources(root: Path, chapters: Sequence[str] = ()) -> list[Path]:
    """The sources of all chapters, or of those that begin with one of `chapters` ("05"), in order.

    Raises UserError for a name that no chapter has.
    """
    found = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    for name in chapters:
        if not any(source.name.startswith(name) for source in found):
            raise UserError(f"found chapter {name!r}, expected one of {', '.join(s.stem[:2] for s in found)}")
    return [s for s in found if not chapters or s.name.startswith(tuple(chapters))]


def without_outputs(notebook: NotebookNode) -> list[tuple[str, str, str, dict]]:
    """The part of a notebook that comes from its source."""
    return [(cell.cell_type, cell.id, cell.source, dict(cell.metadata)) for cell in notebook.cells]


def text(notebook: NotebookNode) -> str:
    """A notebook as the text of its file."""
    return nbformat.writes(notebook, version=nbformat.NO_CONVERT) + "\n"


def current(source: Path, root: Path) -> NotebookNode | None:
    """The committed solution, if its cells are those of the source."""
    path = paths(source, root)[0]
    if not path.is_file():
        return None
    old = nbformat.read(path, as_version=4)
    return old if without_outputs(old) == without_outputs(solution(source, root)) else None


def carried(source: Path, root: Path) -> NotebookNode | None:
    """The solution with the committed one's outputs, if nothing differs but texts and the first cell."""
    path = paths(source, root)[0]
    if not path.is_file():
        return None
    old, new = nbformat.read(path, as_version=4), solution(source, root)
    before, now = ([cell for cell in each.cells if cell.cell_type == "code"] for each in (old, new))
    if [_computes(cell) for cell in before] != [_computes(cell) for cell in now]:
        return None
    for was, cell in zip(before, now, strict=True):
        cell.outputs, cell.execution_count = was.outputs, was.execution_count
    return new


def _computes(cell: NotebookNode) -> tuple[str, dict]:
    """What decides a cell's outputs: its source, unless it is the first cell, and its tags."""
    metadata = dict(cell.metadata)
    return "" if "setup" in metadata.get("tags", []) else cell.source, metadata


def old_pages(root: Path) -> dict[Path, str]:
    """The reference pages that are out of date: file -> new text."""
    return {p: words for p, words in pages(root).items() if not p.is_file() or p.read_text("utf8") != words}


def build(root: Path = ROOT, force: bool = False, chapters: Sequence[str] = ()) -> list[Path]:
    """Make both notebooks of every chapter, or of `chapters`, and the reference pages, and return the files
    that changed. Executes a chapter only if its code changed, or with `force`.
    """
    written = []
    for source in sources(root, chapters):
        complete, open_ = paths(source, root)
        executed = None if force else carried(source, root)
        if executed is None:
            print(f"executing {source.name}", file=sys.stderr)
            executed = execute(solution(source, root), source.parent)
        if not complete.is_file() or complete.read_text("utf8") != text(executed):
            write_text(complete, text(executed))
            written.append(complete)
        made = text(student(executed, source.stem[:2]))
        if not open_.is_file() or open_.read_text("utf8") != made:
            write_text(open_, made)
            written.append(open_)
    for page, words in old_pages(root).items():
        page.parent.mkdir(parents=True, exist_ok=True)
        write_text(page, words)
        written.append(page)
    return written


def stale(root: Path = ROOT, chapters: Sequence[str] = ()) -> list[Path]:
    """The notebooks and pages that such a build would rewrite; executes nothing."""
    old = []
    for source in sources(root, chapters):
        complete, open_ = paths(source, root)
        executed = current(source, root)
        if executed is None:
            old.append(complete)
        elif not open_.is_file() or open_.read_text("utf8") != text(student(executed, source.stem[:2])):
            old.append(open_)
    return [*old, *old_pages(root)]
