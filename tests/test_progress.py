"""What a notebook that a person runs shows and keeps; one that a program runs prints plain lines."""

import json

import pytest
from helpers.chapters import NAMES, answer

from knowsam_lite.course import progress, quiz
from knowsam_lite.course.builder import ROOT
from knowsam_lite.course.checks import Checker
from knowsam_lite.course.told import COLORS, Line, card
from knowsam_lite.course.welcome import page


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The file of a learner's progress."""
    path = tmp_path / "home" / "progress.json"
    monkeypatch.setenv(progress.VARIABLE, str(path))
    return path


@pytest.fixture
def shown(monkeypatch):
    """What a person's notebook displays."""
    found = []
    for module in ("cards", "checks", "told"):
        monkeypatch.setattr(f"knowsam_lite.course.{module}.by_a_person", lambda: True)
    monkeypatch.setattr("IPython.display.display", lambda data, **_: found.append(data))
    return found


def stub(z):
    raise NotImplementedError


def stub_of_two(p_a, p_b):
    raise NotImplementedError


def test_a_program_keeps_nothing_and_prints(kept, capsys):
    one = Checker()
    one("05.1", stub)
    one.report()
    assert "05.1" in capsys.readouterr().out and not kept.exists()


def test_a_card_says_the_plain_lines_in_colours(kept, shown, capsys):
    Checker()("05.1", answer("05_uncertainty_and_ham", "05.1"))
    quiz("05", ["b", "c", "?", "?", "d"])
    checked, marked = shown
    assert capsys.readouterr().out == ""
    assert checked["text/plain"].endswith("  All properties hold.")
    assert checked["text/html"].count(COLORS["good"]) > 3 and COLORS["bad"] not in checked["text/html"]
    assert marked["text/plain"].splitlines()[2] == "3  open" and COLORS["bad"] in marked["text/html"]
    assert "&lt;i&gt;" in card([Line("<i>", "bad")]), "no text becomes markup"


def test_an_exercises_card_is_renewed_by_its_check(kept, shown, capsys):
    one = Checker()
    numbers = {"difficulty": 2, "importance": 5, "minutes": 10}
    one.card("05.1", **numbers)
    one("05.1", answer("05_uncertainty_and_ham", "05.1"))
    first, _, renewed = (data["text/plain"] for data in shown)
    assert first == "Difficulty 2 of 5 · importance 5 of 5 · 10 minutes · not started"
    assert renewed == first.replace("not started", "done")
    Checker().card("05.1", **numbers)  # another kernel
    assert shown[-1]["text/plain"] == renewed and COLORS["good"] in shown[-1]["text/html"]


def test_a_program_gets_a_card_without_a_state_of_its_own(kept, capsys):
    kept.parent.mkdir()
    kept.write_text(json.dumps({"05.1": "done"}))
    Checker().card("05.1", difficulty=2, importance=5, minutes=10)
    assert capsys.readouterr().out == "Difficulty 2 of 5 · importance 5 of 5 · 10 minutes · not started\n"


def test_another_kernel_knows_what_was_done(kept, shown):
    Checker()("05.2", answer("05_uncertainty_and_ham", "05.2"))
    later = Checker()
    later("05.2", stub_of_two)  # a fresh copy of the notebook
    later("05.1", stub)
    assert json.loads(kept.read_text()) == {"05.1": "not started", "05.2": "done"}
    kept.write_text(json.dumps({**json.loads(kept.read_text()), "00.1": "done", "99.7": "done"}))
    later.report()
    lines = shown[-1]["text/plain"].splitlines()
    assert lines[0] == "chapter 00: 1 of 5 done" and lines[2].endswith("done")
    assert lines[-1] == "chapter 05: 1 of 5 done" and len(lines) == 7


@pytest.mark.parametrize("damage", ["off", "unwritable", "no json", "a list"])
def test_no_notebook_fails_for_its_progress(damage, kept, shown, monkeypatch):
    if damage == "off":
        monkeypatch.setenv(progress.VARIABLE, "off")
    elif damage == "unwritable":
        kept.parent.write_text("a file where the folder should be")
    else:
        kept.parent.mkdir()
        kept.write_text({"no json": "{", "a list": "[1]"}[damage])
    one = Checker()
    one("05.1", stub)
    one.report()
    assert shown[-1]["text/plain"].endswith("chapter 05: 0 of 5 done")
    assert kept.exists() == (damage not in ("off", "unwritable"))


def test_the_start_page_lists_every_chapter_and_its_state(kept):
    kept.parent.mkdir()
    kept.write_text(json.dumps({"05.1": "done", "05.2": "to mend"}))
    text = page(ROOT).cells[0].source
    assert [line for line in text.splitlines() if line.endswith("| ●○○○○ | 1 of 5 |")]
    for name in NAMES:
        assert f"]({name}.ipynb) |" in text and (ROOT / "notebooks" / f"{name}.ipynb").is_file()
    assert text.count("| not started |") == len(NAMES) - 1
