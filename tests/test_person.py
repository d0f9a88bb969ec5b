"""The simulated person who prompts SAM: boxes that fit, and clicks in the middle of the largest mistake."""

import numpy as np
import pytest

from knowsam_lite.web.clicks import Prompt
from knowsam_lite.web.person import first_prompt, innermost, next_click


def rectangle(top: int, bottom: int, left: int, right: int) -> np.ndarray:
    drawn = np.zeros((12, 20), bool)
    drawn[top:bottom, left:right] = True
    return drawn


def test_the_first_prompt_is_the_tight_box_or_the_middle():
    truth = rectangle(2, 7, 3, 8)
    assert first_prompt("box", truth) == Prompt((3.0, 2.0, 8.0, 7.0))
    assert first_prompt("click", truth) == Prompt((5.5, 4.5))


@pytest.mark.parametrize(
    ("found", "inside"), [(rectangle(0, 0, 0, 0), True), (rectangle(2, 7, 3, 18), False)]
)
def test_a_click_lies_in_the_mistake_on_its_side(found, inside):
    truth = rectangle(2, 7, 3, 8)
    click = next_click(found, truth)
    x, y = click.at
    assert click.inside is inside and truth[int(y), int(x)] == inside and (found ^ truth)[int(y), int(x)]


def test_the_pictures_edge_is_a_border_and_nothing_wrong_needs_no_click():
    assert innermost(rectangle(0, 5, 0, 5)) == (2.5, 2.5, 3.0)
    assert innermost(rectangle(0, 0, 0, 0))[2] == 0
    assert next_click(rectangle(2, 7, 3, 8), rectangle(2, 7, 3, 8)) is None
