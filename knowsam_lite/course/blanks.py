"""What a learner writes in an exercise: emptied for the notebooks, between marks for the teacher's."""

import ast
from collections.abc import Iterable

from knowsam_lite.errors import UserError


def bodies(source: str, names: Iterable[str]) -> list[tuple[int, int, str]]:
    """Where the bodies of functions `f` and methods `C.m` stand, docstrings not counted, from the last one
    up: the lines from, up to, and their indentation. Raises UserError for a name that is not there.
    """
    found: dict[str, list[ast.stmt]] = {}
    for node in ast.parse(source).body:
        for item, prefix in [(node, "")] + [
            (n, f"{node.name}.") for n in getattr(node, "body", []) if isinstance(node, ast.ClassDef)
        ]:
            if isinstance(item, ast.FunctionDef):
                found[prefix + item.name] = item.body
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise UserError(f"found # blank: {unknown[0]}, expected one of {', '.join(found)}: correct it")
    places = []
    for body in sorted((found[name] for name in names), key=lambda body: -body[0].lineno):
        has_docstring = isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant)
        rest = body[1:] if has_docstring else body
        places.append((rest[0].lineno - 1, rest[-1].end_lineno or 0, " " * rest[0].col_offset))
    return places


def blanked(source: str, names: Iterable[str]) -> str:
    """Empty the bodies of functions `f` and methods `C.m`; signature and docstring stay."""
    lines = source.splitlines()
    for start, stop, indent in bodies(source, names):
        stub = ["# Your code here, in place of the next line.", "raise NotImplementedError"]
        lines[start:stop] = [indent + line for line in stub]
    return "\n".join(lines)


def solved(source: str, names: Iterable[str]) -> str:
    """A solution with the bodies that learners write between nbgrader's marks."""
    lines = source.splitlines()
    for start, stop, gap in bodies(source, names):
        lines[start:stop] = [f"{gap}### BEGIN SOLUTION", *lines[start:stop], f"{gap}### END SOLUTION"]
    return "\n".join(lines)
