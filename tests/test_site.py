"""The site's own pieces: chapters with folded solutions, links, docstrings. `make test-extra` builds it."""

import importlib.util
import re
from fnmatch import fnmatch

import pytest
from helpers.chapters import NAMES, ROOT, exercise_cells

from knowsam_lite.course.site import chapters
from knowsam_lite.course.site.build import GUIDES, assemble, build
from knowsam_lite.course.site.links import dead
from knowsam_lite.errors import UserError

ADDRESS = "https://example.org/knowsam"
HAM = "05_uncertainty_and_ham"


def test_solutions_are_folded_below_open_exercises():
    cells = chapters.page(ROOT / "solutions" / f"{HAM}.ipynb", ADDRESS).cells
    folded = [
        i for i, c in enumerate(cells) if c.metadata.get("mystnb", {}).get("code_prompt_show") == "Solution"
    ]
    assert [cells[i].source for i in folded] == [source for _, source in exercise_cells(HAM).values()]
    assert all("hide-input" in cells[i].metadata.tags for i in folded)
    assert all("raise NotImplementedError" in cells[i - 1].source for i in folded)
    shown = [c.source for c in cells if "hide-input" not in c.metadata.get("tags", [])]
    assert not any(source in shown for _, source in exercise_cells(HAM).values())


def test_a_page_links_to_its_notebook_and_shows_no_picture_from_elsewhere():
    words = "\n".join(c.source for c in chapters.page(ROOT / "solutions" / f"{HAM}.ipynb", ADDRESS).cells)
    assert f"<{HAM}.student.ipynb>" in words and f"/notebooks/{HAM}.ipynb)" in words
    assert re.search(r"!\[[^]]*\]\(http", words) is None
    assert "badge" not in words


def test_pictures_keep_their_alternative_text():
    cells = chapters.page(ROOT / "solutions" / f"{HAM}.ipynb", ADDRESS).cells
    drawn = [c for c in cells if any("image/png" in o.get("data", {}) for o in c.get("outputs", []))]
    assert len(drawn) >= 3 and all(len(c.metadata.mystnb.image.alt) > 40 for c in drawn)


def test_every_page_of_docs_has_its_place(tmp_path):
    assemble(tmp_path, ROOT)
    docs = tmp_path / "docs"
    (docs / "README.md").unlink()  # the list of them
    listed = {name for names in GUIDES.values() for name in names}
    pages = [path.relative_to(docs).with_suffix("").as_posix() for path in docs.rglob("*.md")]
    assert [page for page in pages if not any(fnmatch(page, name) for name in listed)] == []
    assert {f"{name}.ipynb" for name in NAMES} <= {p.name for p in (tmp_path / "notebooks").iterdir()}
    assert "| [00 the tour](00_tour.ipynb)" in (tmp_path / "notebooks" / "README.md").read_text("utf8")


def test_a_demo_has_a_page_where_one_is_given(tmp_path):
    for demo in (False, True):
        assemble(tmp_path / str(demo), ROOT, demo)
        assert ("\ntry_it\n" in (tmp_path / str(demo) / "index.md").read_text("utf8")) is demo
        assert (tmp_path / str(demo) / "try_it.md").exists() is demo
    with pytest.raises(UserError, match=r"no model\.js"):
        build(tmp_path / "site", ROOT, tmp_path)


def test_dead_links_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        '<a href="sub/b.html#there">1</a><a href="#top">2</a><img src="none.png">'
    )
    (tmp_path / "sub" / "b.html").write_text(
        '<p id="there"></p><a href="../a.html#gone">x</a><a href="https://x.org/y">'
    )
    assert dead(tmp_path) == ["a.html: none.png", "sub/b.html: ../a.html#gone"]


@pytest.mark.skipif(
    importlib.util.find_spec("latex2mathml") is None, reason="the extra `site` is not installed"
)
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("Takes `x` (N, C).", "Takes ``x`` (N, C)."),
        ("a * b, |p| and f_ of `w`^2", "a \\* b, \\|p\\| and f\\_ of ``w``\\ ^2"),
    ],
)
def test_docstrings_become_plain_text(words, expected):
    from knowsam_lite.course.site.extension import _docstring

    lines = [words]
    _docstring(None, "", "", None, None, lines)
    assert lines == [expected]


def test_a_term_is_linked_where_a_page_first_has_it():
    nodes = pytest.importorskip("docutils.nodes")
    terms = pytest.importorskip("knowsam_lite.course.site.terms")
    from docutils.utils import new_document

    def page():
        words = "Entropy, and entropy again; entropy-like, a fused map."
        tree = new_document("page")
        tree += [
            nodes.title("", "Dice"),
            nodes.paragraph("", "", nodes.literal("", "SAM"), nodes.Text(words)),
        ]
        return tree

    found = page()
    terms.mark(found, "notebooks/05")
    linked = list(found.findall(nodes.reference))
    assert [link.astext() for link in linked] == ["Entropy", "fused map"]
    assert linked[0]["refuri"] == "../docs/glossary.html#term-entropy" and linked[0]["reftitle"]
    assert found.astext() == page().astext(), "the words are the same"
    elsewhere = page()
    terms.mark(elsewhere, "api/losses")
    assert not list(elsewhere.findall(nodes.reference))
