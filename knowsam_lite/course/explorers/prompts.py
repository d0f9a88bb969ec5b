"""The prompt explorer: set points, drag a box, add a rough mask, and watch SAM's mask follow."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.course.explorers.attended import attended
from knowsam_lite.course.show import picture, show
from knowsam_lite.errors import UserError
from knowsam_lite.figures import questions
from knowsam_lite.sam import PromptedSam

SURE = 6.0  # the logit of a certain pixel in a mask prompt
POINTS = ("no point", "inside", "outside")


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
    if not attended():
        return show(questions, still, alt=alt)
    from IPython.display import display

    shown = panel(sam, cases)
    display(shown)
    return shown


def panel(sam: PromptedSam, cases: Sequence[Mapping[str, Any]]) -> Any:
    """The widgets: the controls on the right, the picture on the left."""
    import ipywidgets as widgets

    last = sam.image_size - 1
    chosen = widgets.Dropdown(options=[(case["id"], i) for i, case in enumerate(cases)], description="image")
    points = []
    for start in (last // 2, last // 4):
        kind = widgets.ToggleButtons(options=POINTS, style={"button_width": "84px"})
        x, y = (widgets.IntSlider(start, 0, last, description=name) for name in ("column", "row"))
        points.append((kind, x, y))
    points[0][0].value = "inside"
    boxed = widgets.Checkbox(description="box")
    columns, rows = (
        widgets.IntRangeSlider(value=(last // 4, 3 * last // 4), min=0, max=last, description=name)
        for name in ("columns", "rows")
    )
    masked = widgets.Checkbox(description="rough mask")
    shown = widgets.Image(format="png", width=340)
    shown.layout.align_self = "flex-start"  # a box would stretch it to its own height

    def redraw(_: object = None) -> None:
        question: dict[str, Any] = {
            "points": [
                (x.value, y.value, kind.value == "inside") for kind, x, y in points if kind.value != POINTS[0]
            ]
        }
        if boxed.value:
            question["box"] = (columns.value[0], rows.value[0], columns.value[1], rows.value[1])
        case = cases[chosen.value]
        if masked.value:
            question["mask"] = case["mask"]
        shown.value = picture(questions, [answered(sam, case, question)], alt="")[1]["image/png"]

    controls = [chosen, *(control for point in points for control in point), boxed, columns, rows, masked]
    for control in controls:
        control.observe(redraw, "value")
    redraw()
    return widgets.HBox([shown, widgets.VBox(controls)])
