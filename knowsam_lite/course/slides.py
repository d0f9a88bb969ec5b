"""Slides of a chapter: its headings, equations and figures; code, exercises and text are left out.

The pages fetch reveal.js and MathJax from a network when they are shown.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from knowsam_lite.course.builder import sources
from knowsam_lite.files import write_text

HEADING = re.compile(r"^#{1,2} (.+)$", re.MULTILINE)  # of the chapter and of its steps
EQUATION = re.compile(r"\$\$.+?\$\$", re.DOTALL)
QUIET = ("From equation to code", "Quiz")  # sections of tables and questions
WHOLE = ("Recap",)  # sections whose text is shown
# A figure fills its slide; nbconvert shows it as large as in a notebook, at the left.
STYLE = "<style>.reveal .jp-RenderedImage img { width: 100%; height: 32rem; object-fit: contain }</style>"


def deck(notebook: NotebookNode) -> NotebookNode:
    """The slides of an executed chapter as a notebook: one for each heading, below it one for each figure."""
    cells: list[NotebookNode] = []
    heading = ""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
            for picture in pictures:
                cells.append(_slide(f"### {heading}", "subslide"))
                shown = nbformat.v4.new_code_cell("", outputs=[picture])
                shown.metadata["slideshow"] = {"slide_type": "-"}
                cells.append(shown)
            continue
        for name, shown_here in _sections(cell.source):
            if name and name not in QUIET:
                heading = name
                cells.append(_slide(f"# {heading}", "slide"))
            cells += [_slide(f"### {heading}\n\n{words}", "subslide") for words in shown_here]
    return nbformat.v4.new_notebook(cells=cells)


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """The headings of a cell, "" before the first one, each with what is shown up to the next."""
    before, *rest = HEADING.split(text)
    yield "", EQUATION.findall(before)
    for name, body in zip(rest[::2], rest[1::2], strict=True):
        yield name, [body.strip()] if name in WHOLE else EQUATION.findall(body)


def _slide(text: str, kind: str) -> NotebookNode:
    cell = nbformat.v4.new_markdown_cell(text)
    cell.metadata["slideshow"] = {"slide_type": kind}
    return cell


def write(out: Path, root: Path) -> list[Path]:
    """Write NN_topic.slides.html of every chapter into the folder `out`, and return the paths."""
    from nbconvert import SlidesExporter

    exporter = SlidesExporter(exclude_input=True, exclude_output_prompt=True, exclude_input_prompt=True)
    written = []
    out.mkdir(parents=True, exist_ok=True)
    for source in sources(root):
        made = deck(nbformat.read(source.with_suffix(".ipynb"), as_version=4))
        html, _ = exporter.from_notebook_node(made, {"metadata": {"name": source.stem}})
        written.append(out / f"{source.stem}.slides.html")
        write_text(written[-1], html.replace("</head>", f"{STYLE}</head>", 1))
    return written
