"""The reference pages: every object exists, every loss term and every taught formula has its equation."""

import importlib
import re
from pathlib import Path

import pytest
from helpers.base import small_net, tiny_teacher, two_stream_batch
from helpers.chapters import NAMES, chapter
from test_layers import LAYERS

from knowsam_lite.config import Config
from knowsam_lite.course.map import GROUPS, MANY, library_map, with_map
from knowsam_lite.course.pages import pages
from knowsam_lite.course.reference import CHAPTERS, EQUATIONS, GLOSSARY, SYMBOLS
from knowsam_lite.methods import KnowSAM

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("equation", EQUATIONS, ids=lambda e: e.name)
def test_what_an_equation_names_exists(equation):
    for address in equation.code:
        module, _, name = address.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name))
    assert equation.chapter in CHAPTERS and equation.source
    assert equation.latex.count("{") == equation.latex.count("}")


def test_every_loss_term_of_the_method_has_one_equation():
    config = Config(image_size=32)
    method = KnowSAM(config, 2, small_net(2), small_net(2), teacher=tiny_teacher(2)).train()
    terms = {name.removeprefix("mixed/") for name in method.losses(two_stream_batch(2), config.steps - 1)}
    claimed = [term for equation in EQUATIONS for term in equation.terms]
    assert sorted(claimed) == sorted(terms)


@pytest.mark.parametrize("module", ["losses", "uncertainty", "mixing", "aggregation"])
def test_every_public_function_of_the_formulas_has_an_equation(module):
    found = importlib.import_module(f"knowsam_lite.{module}")
    own = {
        name
        for name, thing in vars(found).items()
        if getattr(thing, "__module__", "") == found.__name__ and not name.startswith("_")
    }
    helpers = {"branch", "Mixed"}  # a piece of HAM, and the tuple that `mix` returns
    covered = {address.rpartition(".")[2] for equation in EQUATIONS for address in equation.code}
    assert own - helpers - covered == set()


def test_each_chapter_of_a_block_uses_its_equations_code():
    for equation in EQUATIONS:
        name = next((name for name in NAMES if name.startswith(equation.chapter)), None)
        text = "" if name is None else "\n".join(cell.source for cell in chapter(name).cells)
        if name is not None:
            used = [address.rpartition(".")[2] in text for address in equation.code]
            assert any(used), f"chapter {name} does not mention {equation.code}"


def test_terms_and_symbols_are_unique_and_defined_in_a_sentence():
    assert len({s.latex for s in SYMBOLS}) == len(SYMBOLS)
    assert len({e.name for e in EQUATIONS}) == len(EQUATIONS)
    lower = [term.lower() for term in GLOSSARY]
    assert len(set(lower)) == len(lower)
    assert all(len(meaning.split()) >= 4 for meaning in GLOSSARY.values())


def test_pages_link_to_files_that_exist():
    made = pages(ROOT)
    names = {
        "README.md",
        "layout.md",
        "equations.md",
        "notation.md",
        "glossary.md",
        "methods.md",
        "marking.md",
        "alts.json",
    }
    assert {path.name for path in made} == names
    for path, text in made.items():
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (path.parent / target).resolve().exists(), target


def test_the_map_names_every_file_of_the_library_with_what_it_is():
    package = ROOT / "knowsam_lite"
    text = library_map(package)
    assert {name for names in GROUPS.values() for name in names} == set(LAYERS) - {"__main__"}
    for path in package.rglob("*.py"):
        place = path.relative_to(package).as_posix()
        if path.name not in ("__init__.py", "__main__.py") and not place.startswith(tuple(MANY)):
            assert f"| `{place}` | " in text, place
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert all(len(row.split("` | ")[1]) > 10 for row in rows)
    layout = (ROOT / "docs" / "layout.md").read_text("utf8")
    assert with_map(layout, package) == layout, "run python -m knowsam_lite.course build"
    assert with_map("no marks", package) == "no marks"
