"""A chapter as a page: its executed notebook, the exercises open, each solution folded below."""

from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from knowsam_lite import __version__
from knowsam_lite.course.blanks import blanked

LINKS = """\
{{download}}`The notebook to work in <{name}.student.ipynb>` (JupyterLab: `make lab`) ·
[open it in Colab]({colab}/notebooks/{name}.ipynb) ·
[the source of this page]({repository}/blob/v{version}/solutions/{name}.py)"""


def page(path: Path, address: str) -> NotebookNode:
    """The page of a solved notebook; `address` is the repository's."""
    notebook = nbformat.read(path, as_version=4)
    colab = f"https://colab.research.google.com/github{address.removeprefix('https://github.com')}"
    links = LINKS.format(
        name=path.stem,
        colab=f"{colab}/blob/v{__version__}",
        repository=address,
        version=__version__,
    )
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cells.append(nbformat.v4.new_markdown_cell(_linked(cell.source, links), id=cell.id))
        else:
            cells += _code(cell)
    return nbformat.from_dict({**notebook, "cells": cells})


def _linked(source: str, links: str) -> str:
    """Text in which the line of badges, pictures from elsewhere, is one of links."""
    lines = source.split("\n")
    badges = [line for line in lines if line.startswith("[![")]
    kept = [line for line in lines if line not in badges]
    if badges:
        kept.insert(lines.index(badges[0]), links)
    return "\n".join(kept)


def _code(cell: NotebookNode) -> list[NotebookNode]:
    """A code cell, folded where it shows a solution or only sets up."""
    pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
    shown: dict[str, Any] = {}
    if pictures:
        alt = "".join(pictures[0].data.get("text/plain", ""))
        shown = {"image": {"alt": " ".join(alt.split())}}
    blank = cell.metadata.get("blank", [])
    folded = bool(blank) or "setup" in cell.metadata.get("tags", [])
    prompt = {"code_prompt_show": "Solution" if blank else "Set-up", "code_prompt_hide": "Hide"}
    cell.metadata = nbformat.from_dict(
        {"tags": ["hide-input"] if folded else [], "mystnb": {**shown, **(prompt if folded else {})}}
    )
    if not blank:
        return [cell]
    return [nbformat.v4.new_code_cell(blanked(cell.source, blank), id=f"{cell.id}-open"), cell]
