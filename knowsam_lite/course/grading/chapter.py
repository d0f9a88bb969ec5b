"""What it takes to mark a chapter: its exercises, their points, and the cells that answers stand on."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from knowsam_lite.course.alts import literals, numbered
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
    own: dict[str, str]  # source of each cell without an exercise -> its imports and definitions, run instead
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
            "cells": [(index, self.own.get(source.strip(), source)) for index, source in cells],
            "answers": self.answers,
            "surroundings": "\n\n".join(self.own.values()),
            "behaviors": self.behaviors,
            "probes": self.probes,
        }


def standing(source: str) -> str:
    """The imports and definitions of a cell: what other cells may lean on without anything being computed."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
    return "\n\n".join(ast.unparse(node) for node in ast.parse(source).body if isinstance(node, kinds))


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
    own, texts = {}, 1
    for cell in cells:
        shown = numbered(cell.source, source.stem[:2], texts)  # as in the learner's notebook
        texts += len(literals(cell.source))
        if "blank" not in cell.metadata and not cell.source.startswith("check"):
            own[shown.strip()] = "" if "setup" in cell.metadata.get("tags", []) else standing(cell.source)
    return Chapter(
        source.stem,
        tuple(task for cell in notebook.cells for task in tasks(cell.source)),
        answers,
        own,
        tuple(cell.source for pair in exercises for cell in pair),
        {number: behavior for number, (behavior, _) in probes.items()},
        {number: text for number, (_, text) in probes.items()},
    )
