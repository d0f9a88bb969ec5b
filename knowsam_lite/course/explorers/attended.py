"""Whether somebody sits in front of the notebook, so that widgets are worth showing."""

from importlib.util import find_spec


def attended() -> bool:
    """True where ipywidgets is installed and a front end runs the cell that could ask a person something.

    A notebook that is executed by a program (a build, a test) says in each request that it takes no input;
    it shall not keep widgets.
    """
    if not find_spec("ipywidgets"):
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))
