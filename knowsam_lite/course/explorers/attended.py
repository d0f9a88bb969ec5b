"""Whether a person is using the notebook, so that widgets are worth showing."""

from importlib.util import find_spec

from knowsam_lite.course.audience import by_a_person


def attended(*packages: str) -> bool:
    """True if a person runs the notebook (one that a program runs must not keep widgets) and the widgets'
    `packages` are installed; to a person it says which is missing.
    """
    if not by_a_person():
        return False
    missing = [name for name in packages if not find_spec(name)]
    if missing:
        print(
            f"A picture in place of the explorer: pip install {' '.join(missing)}, then restart the kernel."
        )
    return not missing
