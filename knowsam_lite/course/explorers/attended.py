"""Whether a person is using the notebook, so that widgets are worth showing."""

from importlib.util import find_spec

from knowsam_lite.course.audience import by_a_person


def attended() -> bool:
    """True if ipywidgets is installed and a person runs the notebook: one that a program runs must not keep
    widgets.
    """
    return bool(find_spec("ipywidgets")) and by_a_person()
