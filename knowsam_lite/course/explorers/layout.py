"""The layout of all explorers: a picture of 400 pixels, a line of words below it, the controls beside it."""

from collections.abc import Sequence
from typing import Any

WIDTH = 400  # pixels of the picture on the screen; it is drawn at twice as many


def still() -> Any:
    """A widget that shows the PNG in its `value`."""
    import ipywidgets as widgets

    return widgets.Image(format="png", width=WIDTH)


def beside(shown: Any, controls: Sequence[Any], says: str) -> Any:
    """The panel: the picture `shown` with the words `says` below it, the controls on its right."""
    import ipywidgets as widgets

    shown.layout.width = f"{WIDTH}px"
    shown.layout.align_self = "flex-start"  # a box would stretch it to its own height
    words = widgets.HTML(f'<div style="max-width:{WIDTH}px;line-height:1.4">{says}</div>')
    left = widgets.VBox([shown, words])
    return widgets.HBox([left, widgets.VBox(list(controls))])
