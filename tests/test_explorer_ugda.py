"""The explorer of UGDA: what it draws, what it shows without a reader, and that the knobs are connected."""

import numpy as np
import pytest
import torch

from knowsam_lite import figures
from knowsam_lite.course.explorers import ugda
from knowsam_lite.errors import UserError


@pytest.fixture
def pairs():
    """Two pairs; labelled images are 0 and of class 0, unlabelled ones 1 and of class 1 everywhere."""
    z = 3 * torch.randn(4, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    z *= torch.linspace(0.2, 2, 32).view(-1, 1)  # surer downwards
    x = torch.ones(2, 3, 32, 32)
    y = torch.ones(2, 32, 32, dtype=torch.int64)
    return ugda.Pairs(0 * x, 0 * y, z[:2], x, y, z[2:])


def test_a_row_says_whose_each_pixel_is(pairs):
    made = ugda.row(pairs, ugda.Setting("certain", grid=8, count=12), i=1)
    assert made["id"] == "12 most certain\nof 8 × 8"
    assert made["regions"].sum(axis=(1, 2)).tolist() == [12, 12]
    assert (made["pseudo"] == made["target"].astype(bool)).all()  # here class 1 is SAM's alone
    assert (made["mixed"][..., 0] == 255 * made["target"]).all()
    chosen, board = made["regions"][0], made["uncertainty"][0]
    assert board[chosen].max() <= board[~chosen].min()


def test_exchange_returns_whose_the_targets_are(pairs, tmp_path):
    rows = [ugda.row(pairs, setting) for setting in ugda.SETTINGS]
    drawn = figures.exchange(rows, tmp_path / "a.png")
    assert drawn["rows"][0] == "5 most uncertain\nof 4 × 4"
    assert drawn["pseudo"] == [[n, 1 - n] for n in (5 / 16, 5 / 16, 20 / 64, 1 / 16, 1.0)]
    unknown = {**rows[0], "target": np.full((2, 32, 32), -1)}
    figures.exchange([unknown], tmp_path / "b.png")
    assert (tmp_path / "a.png").stat().st_size > (tmp_path / "b.png").stat().st_size
    with pytest.raises(UserError, match="found no exchange"):
        figures.exchange([], tmp_path / "c.png")


def test_without_a_reader_five_settings_are_drawn(pairs, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append(data))
    assert not ugda.attended("ipywidgets")
    ugda.explore(pairs, alt="Five settings of one pair, one below the other.")
    (picture,) = shown
    assert list(picture) == ["image/png", "text/plain"] and picture["text/plain"].startswith("Five")


def test_a_reader_gets_knobs_that_turn(pairs, monkeypatch):
    drawn, shown = [], []
    monkeypatch.setattr(ugda, "attended", lambda name: True)
    draw = ugda.picture
    monkeypatch.setattr(
        ugda, "picture", lambda figure, rows, **how: drawn.append(rows[0]) or draw(figure, rows, **how)
    )
    monkeypatch.setattr("IPython.display.display", lambda data, **how: shown.append(data))
    ugda.explore(pairs, alt="Five settings.")
    left, knobs = shown[0].children
    pair, most, grid, count = knobs.children
    before = bytes(left.children[0].value)
    assert drawn[-1]["id"] == str(ugda.Setting())
    most.value, grid.value = "certain", 8
    count.value = 40
    assert drawn[-1]["id"] == "40 most certain\nof 8 × 8"
    assert bytes(left.children[0].value) != before
    pair.value = 1
    assert not np.array_equal(drawn[-1]["uncertainty"], drawn[-2]["uncertainty"])
    grid.value = 2  # the count follows
    assert count.value == 4 and drawn[-1]["id"] == "4 most certain\nof 2 × 2"
