"""The notebooks for a teacher: an nbgrader course with points and hidden tests, outside the repository.

The hidden tests are the probes of course/hidden, drawn from other seeds, in which an answer is compared
with the solution. The learners' notebooks do not contain them.
"""

import ast
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

import nbformat
from nbformat import NotebookNode

from knowsam_lite.course.blanks import solved
from knowsam_lite.course.builder import solution, sources, text
from knowsam_lite.course.marking import Task, tasks
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text

CONFIG = """\
import os

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "knowsam_lite"
c.ExecutePreprocessor.timeout = 600  # seconds a cell
# No mark depends on a training, so none is run.
os.environ.setdefault("KNOWSAM_LITE_BUDGET", "smoke")
"""
DONE = """\
### BEGIN HIDDEN TESTS
assert check.results["{number}"] == "done", "the check of {number} does not pass"
### END HIDDEN TESTS"""
HIDDEN = """\
# When your work is marked, exercise {number} is tested here once more, on other inputs.
### BEGIN HIDDEN TESTS
def solution_{name}():
{solution}

    return {answer}


def hidden_{name}(answer):
    import torch

    from knowsam_lite.course.checks import is_librarys

{probes}

    def probed(thing):
        torch.manual_seed(0)
        return list({behavior}(thing))

    assert not is_librarys(answer), "{number} is the library's own, and no answer"
    with torch.random.fork_rng(devices=[]):
        made, expected = probed(answer), probed(solution_{name}())
    assert len(made) == len(expected), "{number} gives another number of results"
    for i, (a, b) in enumerate(zip(made, expected)):
        assert a.shape == b.shape, f"{number}, probe {{i}}: found {{a.shape}}, expected {{b.shape}}"
        same = torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4, equal_nan=True)
        assert same, f"{number}, probe {{i}}: other values than the solution's"


hidden_{name}({answer})
### END HIDDEN TESTS"""


def build(folder: Path, root: Path, chapters: Sequence[str] = (), seed: int = 1) -> list[Path]:
    """Make `folder` an nbgrader course of the chapters and return the files; `seed` draws the hidden tests.

    Raises UserError unless `folder` is new or empty, and outside the repository.
    """
    if folder.resolve().is_relative_to(root.resolve()):
        raise UserError(f"found {folder} inside the repository, expected a folder outside: name another")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"found {folder} not empty, expected a new or empty folder: name another")
    try:
        from knowsam_lite.course import hidden
    except ImportError:  # an installed package does not have them
        raise UserError("found no hidden tests here, expected the whole repository: clone it") from None
    made = {
        folder / "source" / source.stem / f"{source.stem}.ipynb": text(
            assignment(solution(source, root), hidden.source(source.stem[:2]), seed)
        )
        for source in sources(root, chapters)
    }
    for path, words in {folder / "nbgrader_config.py": CONFIG, **made}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, words)
    return [folder / "nbgrader_config.py", *made]


def assignment(complete: NotebookNode, probes: str, seed: int) -> NotebookNode:
    """A chapter's solution as nbgrader's source notebook: answers marked, checks locked and worth points."""
    worth = {task.number: task for cell in complete.cells for task in tasks(cell.source)}
    cells, task = [], None
    for cell, after in pairwise([*complete.cells, nbformat.v4.new_code_cell()]):
        blanks = cell.metadata.get("blank", [])
        made = nbformat.from_dict({**cell, "metadata": {}})
        cells.append(made)
        if blanks:
            number, answer = checked(after.source)
            task = worth[number]
            made.source = solved(cell.source, blanks)
            made.metadata = _graded("exercise", task)
            hidden = hidden_tests(task.number, answer, cell.source, probes, seed)
        elif task is not None:
            made.source += "\n" + DONE.format(number=task.number)
            made.metadata = _graded("check", task, task.check_points)
            cells.append(nbformat.v4.new_code_cell(hidden, id=f"{cell.id}-hidden"))
            cells[-1].metadata = _graded("hidden", task, task.hidden_points)
            task = None
        elif cell.source.startswith("quiz"):
            made.source = re.sub(r'"[a-d]"', '"?"', cell.source)
        elif "[![" in cell.source:
            made.source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("[!["))
    return nbformat.from_dict({**complete, "cells": cells})


def checked(source: str) -> tuple[str, str]:
    """Number and name of the answer in a cell `check("05.1", entropy_map)`, from its source."""
    number, answer = re.findall(r'^check\("([^"]+)", (\w+)\)$', source, re.MULTILINE)[0]
    return number, answer


def _graded(kind: str, task: Task, points: int | None = None) -> NotebookNode:
    """nbgrader's metadata, version 3, of a cell; without points, the learner fills it in."""
    graded = points is not None
    worth = {"points": points} if graded else {}
    return nbformat.from_dict(
        {
            "nbgrader": {
                "grade": graded,
                "grade_id": f"{kind}-{task.number.replace('.', '-')}",
                "locked": graded,
                "schema_version": 3,
                "solution": not graded,
                "task": False,
                **worth,
            }
        }
    )


def hidden_tests(number: str, answer: str, solution: str, probes: str, seed: int) -> str:
    """The cell that compares `answer` with `solution`, a source, on the probes of this exercise."""
    name, needed = probing(number, probes, seed)
    return HIDDEN.format(
        number=number,
        name=number.replace(".", "_"),
        answer=answer,
        solution=indent(solution, "    "),
        probes=indent(needed, "    "),
        behavior=name,
    )


def probing(number: str, probes: str, seed: int) -> tuple[str, str]:
    """The function of `hidden` that probes this exercise: its name, and the source of all it needs. `probes`:
    the source of its chapter.

    Raises UserError if there is none.
    """
    own = "knowsam_lite.course.hidden.shared"  # stands in the same source
    body = [node for node in ast.parse(probes).body if getattr(node, "module", None) != own]
    made = {name: node for node in body for name in _names(node)}
    table: Any = getattr(made.get("BEHAVIOR"), "value", ast.Dict([], []))
    known = {key.value: value.id for key, value in zip(table.keys, table.values, strict=True)}
    if number not in known:
        raise UserError(f"found no probes of exercise {number} in course/hidden, expected some: add them")
    wanted, open_ = set(), [known[number]]
    while open_:
        node = made[open_.pop()]
        if node not in wanted:
            wanted.add(node)
            open_ += [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in made]
    used = {n.id for node in wanted for n in ast.walk(node) if isinstance(n, ast.Name)}
    parts = []
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom) and set(_names(node)) & used:
            node.names = [alias for alias in node.names if _bound(alias) in used]
            parts.append(ast.unparse(node))
        elif node in wanted and not isinstance(node, ast.Import | ast.ImportFrom):
            parts.append(("\n" if isinstance(node, ast.FunctionDef) else "") + _segment(probes, node))
    words = "\n".join(parts)
    return known[number], re.sub(
        r"^FIRST_SEED = \d+", f"FIRST_SEED = {10_000 * seed}", words, flags=re.MULTILINE
    )


def _segment(text: str, node: ast.stmt) -> str:
    return ast.get_source_segment(text, node) or ""


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.split(".")[0]


def _names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [_bound(alias) for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
