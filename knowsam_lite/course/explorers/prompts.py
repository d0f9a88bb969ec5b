"""The prompt explorer: click a point, drag a box, add a rough mask, and watch SAM's mask follow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.course.explorers.attended import attended
from knowsam_lite.course.explorers.canvas import canvas
from knowsam_lite.course.explorers.layout import beside
from knowsam_lite.course.show import picture, show
from knowsam_lite.errors import UserError
from knowsam_lite.figures import question, questions
from knowsam_lite.sam import PromptedSam

SURE = 6.0  # the logit of a certain pixel in a mask prompt
CLICK = 0.02  # a drag shorter than this share of the picture is a click
SAYS = (
    "Click: a point. Drag: a box. Purple: SAM's answer, white: the truth, light blue: the prompts. "
    "The number is the Dice of answer and truth."
)


@torch.no_grad()
def ask(sam: PromptedSam, embedding: Tensor, question: Mapping[str, Any]) -> NDArray[np.bool_]:
    """SAM's mask, bool (S, S), of one image's embedding (1, D, g, g).

    `question`: any of "points" [(x, y, inside)], "box" (x0, y0, x1, y1), in pixels, and "mask" bool (S, S).
    """
    prompts: dict[str, Any] = {}
    if question.get("points"):
        points = torch.tensor(question["points"], dtype=torch.float32)
        prompts["points"] = points[None, None, :, :2], points[None, None, :, 2]  # (1, 1, P, 2), (1, 1, P)
    if question.get("box") is not None:
        prompts["boxes"] = torch.tensor(question["box"], dtype=torch.float32).view(1, 1, 4)
    if question.get("mask") is not None:
        logits = torch.where(torch.as_tensor(question["mask"]), SURE, -SURE)[None, None]
        side = 4 * embedding.shape[-1]
        prompts["masks"] = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
    z = sam.segment(embedding, **prompts)  # (1, 1, 4g, 4g)
    size = (sam.image_size, sam.image_size)
    return (F.interpolate(z, size, mode="bilinear", align_corners=False)[0, 0] > 0).numpy()


def answered(sam: PromptedSam, case: Mapping[str, Any], question: Mapping[str, Any]) -> dict[str, Any]:
    """A case for `figures.questions`: `case` holds "id", "image", "truth" and the image's "embedding"."""
    shown = {name: case[name] for name in ("id", "image", "truth")}
    try:
        answer = ask(sam, case["embedding"], question)
    except UserError:  # no prompt was given
        answer = np.zeros(np.shape(case["truth"]), dtype=bool)
    return {**shown, **question, "answer": answer}


def explore(
    sam: PromptedSam, cases: Sequence[Mapping[str, Any]], still: Sequence[Mapping[str, Any]], alt: str
) -> Any:
    """Let the reader prompt `sam` on `cases` (see `answered`; each with a "mask" to offer as a prompt), or
    where widgets do not run, draw `still`, cases for `figures.questions`, with `alt` in words.

    Returns what it shows: the panel of widgets, or the data of the figure.
    """
    if not attended("ipywidgets", "anywidget"):
        return show(questions, still, alt=alt)
    from IPython.display import display

    shown = panel(sam, cases)
    display(shown)
    return shown


def panel(sam: PromptedSam, cases: Sequence[Mapping[str, Any]]) -> Any:
    """The widgets: the picture, on which one clicks and drags, and the controls on its right."""
    import ipywidgets as widgets

    last = sam.image_size - 1
    chosen = widgets.Dropdown(options=[(case["id"], i) for i, case in enumerate(cases)], description="image")
    kind = widgets.ToggleButtons(
        options=[("inside", True), ("outside", False)], description="points", style={"button_width": "84px"}
    )
    masked = widgets.Checkbox(description="rough mask")
    clear = widgets.Button(description="clear")
    asked: dict[str, Any] = {"points": [(last // 2, last // 2, True)], "box": None}

    def redraw(_: object = None) -> None:
        case = cases[chosen.value]
        prompts = {**asked, "mask": case["mask"] if masked.value else None}
        shown.png = picture(question, answered(sam, case, prompts), alt="")[1]["image/png"]

    def dragged(x0: float, y0: float, x1: float, y1: float) -> None:
        columns, rows = (sorted(round(last * share) for share in pair) for pair in ((x0, x1), (y0, y1)))
        if max(abs(x1 - x0), abs(y1 - y0)) < CLICK:
            asked["points"] = [*asked["points"], (columns[0], rows[0], kind.value)]
        else:
            asked["box"] = (columns[0], rows[0], columns[1], rows[1])
        redraw()

    def forget(_: object = None) -> None:
        asked.update(points=[], box=None)
        masked.value = False
        redraw()

    def another(_: object = None) -> None:
        asked.update(points=[(last // 2, last // 2, True)], box=None)
        redraw()

    shown = canvas(dragged)
    chosen.observe(another, "value")
    masked.observe(redraw, "value")
    clear.on_click(forget)
    redraw()
    return beside(shown, [chosen, kind, masked, clear], SAYS)
