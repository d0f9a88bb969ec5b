"""Slides are a chapter's headings, equations and figures, and nothing of its exercises."""

import pytest
from helpers.chapters import NAMES, committed

from knowsam_lite.course.slides import deck


@pytest.mark.parametrize("name", NAMES)
def test_a_deck_shows_every_figure_and_no_exercise(name):
    whole, made = committed("solutions", name), deck(committed("solutions", name))
    drawn = [[o for o in cell.get("outputs", []) if "image/png" in o.data] for cell in made.cells]
    figures = [o for cell in whole.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert [o.data["image/png"] for row in drawn for o in row] == [o.data["image/png"] for o in figures]
    text = "\n".join(cell.source for cell in made.cells)
    assert "Exercise" not in text and "Hint" not in text and "check(" not in text
    assert text.count("$$") >= 6 and "# Recap" in text
    assert all(cell.metadata.slideshow.slide_type for cell in made.cells)


def test_the_pages_hide_their_code():
    exporter = pytest.importorskip("nbconvert").SlidesExporter(exclude_input=True)
    html, _ = exporter.from_notebook_node(deck(committed("solutions", NAMES[0])))
    assert "reveal" in html and "The tour" in html and "jp-InputArea-editor" not in html.split("<body")[1]
