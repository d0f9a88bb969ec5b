"""The bodies that learners write in an exercise: emptied for the notebooks, marked for the instructor's."""

import ast
from collections.abc import Iterable

from knowsam_lite.errors import UserError


def bodies(source: str, names: Iterable[str]) -> list[tuple[int, int, str]]:
    """The bodies of functions `f` and methods `C.m` without their docstrings, last one first: first line,
    last line, indentation. Raises UserError for an unknown name.
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
    """A solution in which nbgrader's marks enclose the bodies that learners write."""
    lines = source.splitlines()
    for start, stop, gap in bodies(source, names):
        lines[start:stop] = [f"{gap}### BEGIN SOLUTION", *lines[start:stop], f"{gap}### END SOLUTION"]
    return "\n".join(lines)
