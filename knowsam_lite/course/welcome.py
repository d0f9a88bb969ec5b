"""The page with which JupyterLab opens: every chapter, and how far a learner has come in it."""

import re
from importlib import import_module
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from knowsam_lite.course import progress
from knowsam_lite.course.builder import KERNEL, sources
from knowsam_lite.course.timing import time_of

HEAD = """\
# The course

Open a chapter by its name. The state is that of your last visit; run the cell below for the present one.

| chapter | minutes | done | state |
|---|---|---|---|
"""
CELL = "from knowsam_lite.course import check\n\ncheck.report()"


def page(root: Path) -> NotebookNode:
    """The notebook, to lie beside the learners' notebooks of a repository in `root`."""
    states = progress.load()
    rows = [_row(source, states) for source in sources(root)]
    cells = [
        nbformat.v4.new_markdown_cell(HEAD + "\n".join(rows), id="chapters"),
        nbformat.v4.new_code_cell(CELL, id="report"),
    ]
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})


def _row(source: Path, states: dict[str, str]) -> str:
    text = source.read_text("utf8")
    title = re.search(r"^# # (.+)$", text, re.MULTILINE)
    exercises = import_module(f"knowsam_lite.course.chapters.ch{source.stem[:2]}").EXERCISES
    reached = [states.get(exercise.number) for exercise in exercises]
    done, all_ = reached.count("done"), len(exercises)
    bar = "●" * done + "○" * (all_ - done)
    name = title[1] if title else source.stem
    state = f"{done} of {all_}" if any(reached) else "not started"
    return f"| [{name}]({source.stem}.ipynb) | {time_of(text).whole} | {bar} | {state} |"
