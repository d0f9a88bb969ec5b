"""What it takes to mark a chapter: its exercises, their points, and the cells that answers stand on."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from knowsam_lite.course.builder import solution
from knowsam_lite.course.instructor import checked, probing
from knowsam_lite.course.marking import Task, tasks
from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Chapter:
    """A chapter as it is marked; all of it but the solutions goes into the process of a submission."""

    name: str  # such as "05_uncertainty_and_ham"
    tasks: tuple[Task, ...]
    answers: dict[str, str]  # exercise -> the name that its answer has in the notebook
    surroundings: str  # the chapter's imports, and what its cells without an exercise define
    own: frozenset[str]  # sources of those cells: a submission's cells that equal one of them are not run
    solved: tuple[str, ...]  # each exercise's cell with its solution, and the check after it
    behaviors: dict[str, str]  # exercise -> the function of `probes` that tries its answer
    probes: dict[str, str]  # exercise -> source of its hidden tests

    @property
    def number(self) -> str:
        """Such as "05"."""
        return self.name[:2]

    def job(self, cells: Sequence[tuple[int, str]]) -> dict[str, Any]:
        """What the process of a submission is told, besides its limits."""
        return {
            "cells": [(index, source) for index, source in cells if source.strip() not in self.own],
            "answers": self.answers,
            "surroundings": self.surroundings,
            "behaviors": self.behaviors,
            "probes": self.probes,
        }


def surroundings(notebook: NotebookNode) -> str:
    """What an exercise's cell may lean on: the chapter's imports, and what its other cells define."""
    kept: list[ast.stmt] = []
    for cell in notebook.cells:
        if cell.cell_type == "code" and "setup" not in cell.metadata.get("tags", []):
            body = ast.parse(cell.source).body
            kept += [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
            if "blank" not in cell.metadata:
                kept += [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return "\n\n".join(map(ast.unparse, kept))


def read_chapter(source: Path, root: Path, seed: int) -> Chapter:
    """A chapter from its source in `solutions`; `seed` draws the hidden tests.

    Raises UserError in an installed package, which does not have them.
    """
    try:
        from knowsam_lite.course import hidden
    except ImportError:
        raise UserError("found no hidden tests here, expected the whole repository: clone it") from None
    notebook = solution(source, root)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    exercises = [(cell, after) for cell, after in pairwise(cells) if "blank" in cell.metadata]
    answers = dict(checked(after.source) for _, after in exercises)
    probes = {number: probing(number, hidden.source(source.stem[:2]), seed) for number in answers}
    own = [c.source for c in cells if "blank" not in c.metadata and not c.source.startswith("check")]
    return Chapter(
        source.stem,
        tuple(task for cell in notebook.cells for task in tasks(cell.source)),
        answers,
        surroundings(notebook),
        frozenset(text.strip() for text in own),
        tuple(cell.source for pair in exercises for cell in pair),
        {number: behavior for number, (behavior, _) in probes.items()},
        {number: text for number, (_, text) in probes.items()},
    )
