"""What moved or was renamed still imports from where it was, and says where it is now."""

import importlib
from pathlib import Path

import pytest

from knowsam_lite import deprecated
from knowsam_lite.methods.bcp import BCP

# A line for each module of version 0.1.0 that some public names have left: module: name name ...
ADDRESSES = (Path(__file__).parent / "helpers" / "old_addresses.txt").read_text("utf8").splitlines()
OLD = [(m, n) for m, names in (line.split(": ") for line in ADDRESSES) for n in names.split()]


@pytest.mark.parametrize("module", sorted({module for module, _ in OLD}))
def test_every_old_name_imports_with_a_warning_that_gives_the_new_address(module):
    here = importlib.import_module(module)
    for name in (n for m, n in OLD if m == module):
        vars(here).pop(name, None)  # a submodule of this name, if one was imported before
        with pytest.warns(DeprecationWarning) as caught:
            thing = getattr(here, name)
        said = str(caught[0].message)
        assert said.startswith(f"{module}.{name} is now knowsam_lite.")
        home, _, leaf = said.split(" is now ")[1].rpartition(".")
        assert getattr(importlib.import_module(home), leaf) is thing


def test_the_statement_that_people_wrote_works():
    with pytest.warns(DeprecationWarning, match="knowsam_lite.methods.Bcp is now .*bcp.BCP"):
        from knowsam_lite.methods import Bcp
    with pytest.warns(DeprecationWarning, match="knowsam_lite.overlay.overlay is now knowsam_lite.colors"):
        from knowsam_lite.overlay import overlay
    assert Bcp is BCP and callable(overlay)


@pytest.mark.parametrize("module", ["knowsam_lite", "knowsam_lite.runs", "knowsam_lite.memory"])
def test_a_name_that_never_was_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing


def test_every_row_of_the_tables_is_tested():
    rows = {f"{m}.{n}".removeprefix("knowsam_lite.") for m, n in OLD}
    rows.add("knowsam_lite.KnowSam")  # of the package itself
    assert {old for old in deprecated.NAMES if old not in rows} == set()
    assert {m.removeprefix("knowsam_lite.") for m, _ in OLD} >= set(deprecated.MODULES)
