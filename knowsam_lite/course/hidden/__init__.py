"""The hidden tests for instructors, also used to judge mutants: what an answer does beyond its check.

One file per chapter, one function per exercise: it takes the answer and yields everything worth comparing.
The instructor's notebooks contain the source of what an exercise needs, so a chapter depends only on `shared`
and the library. The wheel does not contain this package (pyproject.toml).
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.resources import files
from pkgutil import iter_modules
from typing import Any

from torch import Tensor

Behavior = Callable[[Any], Iterator[Tensor]]


def behavior() -> dict[str, Behavior]:
    """What the answer of every exercise does, by exercise number."""
    chapters = sorted(m.name for m in iter_modules(__path__) if m.name.startswith("ch"))
    found: dict[str, Behavior] = {}
    for name in chapters:
        found |= import_module(f"{__name__}.{name}").BEHAVIOR
    return found


def source(chapter: str) -> str:
    """The source of `shared` and then of a chapter ("05"), to be read as one module; "" if there is none."""
    parts = [files(__name__) / f"{name}.py" for name in ("shared", f"ch{chapter}")]
    return "\n".join(part.read_text("utf8") for part in parts) if parts[1].is_file() else ""
