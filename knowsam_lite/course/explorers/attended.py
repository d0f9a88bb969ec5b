"""Whether a person is using the notebook, so that widgets are worth showing."""

from importlib.util import find_spec


def attended() -> bool:
    """True if ipywidgets is installed and the front end that runs the cell can ask a person for input.

    A program that executes a notebook (a build, a test) says in each request that it takes no input; such a
    notebook must not keep widgets.
    """
    if not find_spec("ipywidgets"):
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))
