"""Whether a person runs the notebook, or a program: a build, a test, a grader."""

import sys


def by_a_person() -> bool:
    """True in a notebook whose front end can ask a person for input.

    A program that executes a notebook says in each request that it takes no input.
    """
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))
