"""The figure of a prediction over its truth, and the metric explorer made of it."""

import types

import numpy as np
import pytest

from knowsam_lite import figures, metrics
from knowsam_lite.course.explorers import attended as front
from knowsam_lite.course.explorers import metrics as explorer
from knowsam_lite.errors import UserError
from knowsam_lite.figures.overlaps import farthest


def square(top: int, left: int, side: int = 6) -> np.ndarray:
    mask = np.zeros((24, 32), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_overlaps_return_the_scores_that_they_print(tmp_path):
    pairs = {"shifted": (square(4, 9), square(4, 6)), "nothing": (square(0, 0, 0), square(4, 6))}
    told = figures.overlaps(pairs, tmp_path / "a.png", columns=1)
    assert told["shifted"] == {"dice": 0.5, "iou": pytest.approx(1 / 3), "hd95": 3.0}
    assert told["nothing"] == {"dice": 0.0, "iou": 0.0, "hd95": 40.0}
    for wrong, says in (
        ({}, "found no pair"),
        ({"a": (square(0, 0), square(0, 0).T)}, "found shapes .* in 'a', expected two masks"),
        ({"a": (np.zeros(4, bool), np.zeros(4, bool))}, "expected two masks"),
    ):
        with pytest.raises(UserError, match=says):
            figures.overlaps(wrong, tmp_path / "b.png")


def test_the_bar_is_as_long_as_hd95():
    """Here the percentile falls on a distance that occurs, so the two are equal."""
    pred, true = square(4, 17), square(4, 6)
    ends = farthest(pred, true)
    assert ends is not None and np.linalg.norm(ends[0] - ends[1]) == metrics.hd95(pred, true) == 11
    assert metrics.surface(pred)[tuple(ends[0])] and metrics.surface(true)[tuple(ends[1])]
    assert farthest(square(0, 0, 0), true) is None


def test_deform_does_one_thing_at_a_time():
    true = explorer.ellipse(10)
    assert (explorer.deform(true) == true).all()
    assert (explorer.deform(true, right=3, down=-2) == np.roll(true, (-2, 3), (0, 1))).all()
    larger, smaller = explorer.deform(true, grow=1), explorer.deform(true, grow=-1)
    assert (larger >= true).all() and (true >= smaller).all() and larger.sum() > true.sum() > smaller.sum()
    assert not explorer.deform(true, grow=-explorer.SIDE).any()
    assert 0 < (true & ~explorer.deform(true, hole=3)).sum() < 3.2 * 9
    assert (explorer.deform(true, speck=4) & ~true).sum() == 16


def test_what_the_static_pictures_show(monkeypatch):
    """The statements that chapter 01 makes below them."""
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append(data))
    told = explorer.explore()
    assert list(told) == list(explorer.SHOWN) and "image/png" in shown[0]
    larger, smaller = told["3 pixels larger"], told["3 pixels smaller"]
    assert larger["hd95"] == smaller["hd95"] == 3 and larger["dice"] > smaller["dice"] + 0.05
    assert told["a hole"]["dice"] > 0.9 and told["a hole"]["hd95"] > 6
    assert told["a speck of 2 x 2"]["hd95"] == 0 and told["a speck of 5 x 5"]["hd95"] > 12
    assert abs(told["small, 1 right"]["dice"] - told["6 pixels right"]["dice"]) < 0.01


def test_a_slider_changes_the_picture():
    pytest.importorskip("ipywidgets")
    left, sliders = explorer.panel().children
    drawn = left.children[0]
    before = bytes(drawn.value)
    assert before.startswith(b"\x89PNG")
    next(slider for slider in sliders.children if slider.description == "hole").value = 5
    assert bytes(drawn.value) != before


def test_widgets_are_shown_only_to_somebody(monkeypatch, capsys):
    pytest.importorskip("ipywidgets")
    for kernel, expected in (
        (types.SimpleNamespace(get_parent=lambda: {"content": {"allow_stdin": True}}), True),
        (types.SimpleNamespace(get_parent=lambda: {"content": {"allow_stdin": False}}), False),
        (types.SimpleNamespace(get_parent=lambda: {}), False),
        (None, False),
    ):
        shell = types.SimpleNamespace(kernel=kernel)
        monkeypatch.setattr("IPython.get_ipython", lambda shell=shell: shell)
        assert front.attended("ipywidgets") is expected
    monkeypatch.setattr(front, "by_a_person", lambda: True)
    assert not front.attended("ipywidgets", "no_such_package")
    assert "pip install no_such_package" in capsys.readouterr().out
