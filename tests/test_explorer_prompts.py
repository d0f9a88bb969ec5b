"""The prompt explorer: what it asks, what it draws, and what stands in where nobody turns its knobs."""

import numpy as np
import pytest
import torch
from PIL import Image

from knowsam_lite import UserError, figures
from knowsam_lite.course.explorers import prompts
from knowsam_lite.sam import BACKBONES, PromptedSam, load_pretrained


@pytest.fixture(scope="module")
def sam():
    made = PromptedSam(BACKBONES["sam_mini"], 64).eval()
    load_pretrained(made)
    return made


@pytest.fixture(scope="module")
def case(sam):
    """One bright square on dark ground."""
    x = torch.full((1, 3, 64, 64), 0.2)
    x[..., 16:40, 24:48] = 0.8
    image = (255 * x[0]).byte().movedim(0, -1).numpy()
    truth = (x[0, 0] > 0.5).numpy()
    with torch.no_grad():
        embedding = sam.encode(x)
    return {"id": "square", "image": image, "truth": truth, "embedding": embedding, "mask": truth}


QUESTIONS = {
    "point": {"points": [(36, 28, True)]},
    "box": {"box": (24, 16, 47, 39)},
    "box and point outside": {"box": (24, 16, 47, 39), "points": [(2, 60, False)]},
    "mask": {"mask": np.pad(np.ones((24, 24), bool), ((16, 24), (24, 16)))},
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_every_prompt_finds_the_square_and_is_drawn(question, sam, case, tmp_path):
    shown = prompts.answered(sam, case, question)
    assert shown["answer"].shape == (64, 64) and "embedding" not in shown
    assert figures.questions([shown], tmp_path / "a.png")["dice"][0] > 0.8
    figures.questions([{**shown, "points": [], "box": None, "mask": None}], tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes(), "the prompt is drawn"


def test_an_answer_shows_on_an_image_of_its_own_colour(case, tmp_path):
    paint = tuple(int(figures.COLORS["SAM"][i : i + 2], 16) for i in (1, 3, 5))
    image = np.full((64, 64, 3), paint, np.uint8)
    drawn = {**case, "image": image, "answer": np.arange(64) < 32 + 0 * case["truth"]}
    figures.questions([drawn], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        row = np.asarray(picture.convert("HSV"))[100]
    left, right = (row[x, 1] for x in (80, 280))
    assert left > 40 > right == 0, "tinted inside the answer, grey outside"


def test_x_is_the_column(sam, case):
    beside = prompts.ask(sam, case["embedding"], {"box": (24, 16, 47, 39)})
    assert beside[28, 36] and not beside[44, 20]


def test_no_question_gets_an_empty_answer(sam, case):
    assert not prompts.answered(sam, case, {})["answer"].any()


def test_a_figure_of_nothing_is_an_error(tmp_path):
    with pytest.raises(UserError, match="found no case"):
        figures.questions([], tmp_path / "a.png")


def test_the_panel_follows_its_knobs(sam, case):
    pytest.importorskip("anywidget")
    left, right = prompts.panel(sam, [case]).children
    canvas = left.children[0]
    _, kind, masked, clear = right.children
    seen = [canvas.png]
    canvas.drag = [0.4, 0.25, 0.75, 0.65, 1.0]  # a box
    seen.append(canvas.png)
    kind.value = False
    canvas.drag = [0.05, 0.9, 0.05, 0.9, 2.0]  # a click: a point outside
    seen.append(canvas.png)
    clear.click()
    masked.value = True
    seen.append(canvas.png)
    assert len(set(seen)) == 4 and all(png.startswith(b"\x89PNG") for png in seen)


def test_a_drag_is_a_box_of_the_images_pixels_and_a_click_a_point(sam, case, monkeypatch):
    pytest.importorskip("anywidget")
    asked = []
    answered = prompts.answered
    monkeypatch.setattr(
        prompts, "answered", lambda s, c, question: asked.append(question) or answered(s, c, question)
    )
    canvas = prompts.panel(sam, [case]).children[0].children[0]
    canvas.drag = [1.0, 0.5, 0.25, 0.0, 1.0]  # from right to left and upwards
    canvas.drag = [0.0, 1.0, 0.01, 1.0, 2.0]
    assert asked[-1]["box"] == (16, 0, 63, 32)
    assert asked[-1]["points"][-1] == (0, 63, True)


def test_where_nobody_can_turn_knobs_a_picture_stands_in(sam, case, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, **_: shown.append(data))
    still = [prompts.answered(sam, case, question) for question in QUESTIONS.values()]
    data = prompts.explore(sam, [case], still, alt="A square, asked about in four ways.")
    assert len(data["dice"]) == len(still)
    assert "image/png" in shown[0] and not any("widget" in kind for kind in shown[0])
