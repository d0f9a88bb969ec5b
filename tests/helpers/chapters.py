"""What the tests of the course share: the chapters, their cells, and the answers in their exercise cells."""

import ast
import os
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import CodeType
from typing import Any

import nbformat
from nbformat import NotebookNode

from knowsam_lite.course.builder import ROOT, solution, sources

SOURCES = sources(ROOT)
NAMES = [source.stem for source in SOURCES]


@cache
def chapter(name: str) -> NotebookNode:
    """A chapter's complete notebook as its source says, without outputs."""
    return solution(ROOT / "solutions" / f"{name}.py", ROOT)


def committed(folder: str, name: str) -> NotebookNode:
    """A chapter's notebook as it lies in "solutions" or "notebooks"."""
    return nbformat.read(ROOT / folder / f"{name}.ipynb", as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def exercise_cells(name: str) -> dict[str, tuple[str, str]]:
    """Exercise number -> (name of the answer, source of the cell), from each exercise and its check."""
    cells, found = code_cells(chapter(name)), {}
    for cell, after in pairwise(cells):
        if "blank" in cell.metadata:
            call = ast.parse(after.source).body[0].value
            number, answer = call.args
            found[number.value] = (answer.id, cell.source)
    return found


@cache
def surroundings(name: str) -> CodeType:
    """What an exercise cell may lean on: the chapter's imports, and what cells without exercise define."""
    kept: list[ast.stmt] = []
    for cell in code_cells(chapter(name)):
        if "setup" not in cell.metadata.get("tags", []):
            body = ast.parse(cell.source).body
            kept += [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
            if "blank" not in cell.metadata:
                kept += [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return compile(ast.Module(kept, []), name, "exec")


def answer(name: str, number: str, source: str | None = None) -> Any:
    """The answer that an exercise cell defines; `source` stands for the cell's own."""
    what, own = exercise_cells(name)[number]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(surroundings(name), namespace)
    exec(own if source is None else source, namespace)
    return namespace[what]


def environment(budget: str, library: Path = ROOT) -> dict[str, str]:
    """Environment variables for a process that runs notebooks with the library in `library`."""
    return {**os.environ, "KNOWSAM_LITE_BUDGET": budget, "PYTHONPATH": str(library), "OMP_NUM_THREADS": "1"}


def nbval(paths: list[Path], seconds: int = 180) -> list[str]:
    """The command that runs notebooks, each cell in so many seconds, and compares their tagged cells."""
    options = ["--nbval-lax", "--nbval-current-env", f"--nbval-cell-timeout={seconds}"]
    options += ["-o", "faulthandler_timeout=0"]  # nbval has its own limit
    sanitize = ["--nbval-sanitize-with", str(ROOT / "tests" / "nbval.cfg")]
    python = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    return [*python, *options, *sanitize, *map(str, paths)]
