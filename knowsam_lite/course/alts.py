"""Alternative texts of figures. Authors write them beside the figure, learners' code has their number.

A text says what a picture shows, so in the code it would answer the question that stands above the picture.
"""

import ast
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("alts.json")


def literals(source: str) -> list[ast.Constant]:
    """The texts that a source gives to an argument `alt`, in order."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    given = [k.value for call in calls for k in call.keywords if k.arg == "alt"]
    return sorted((v for v in given if isinstance(v, ast.Constant)), key=lambda v: (v.lineno, v.col_offset))


def page(sources: Sequence[Path]) -> str:
    """The file of all texts: "CC.n", the n-th of chapter CC, -> text."""
    texts = {
        f"{source.stem[:2]}.{n}": constant.value
        for source in sources
        for n, constant in enumerate(literals(source.read_text("utf8")), start=1)
    }
    return json.dumps(texts, indent=0, ensure_ascii=False) + "\n"


def numbered(source: str, chapter: str, first: int) -> str:
    """A cell whose texts are replaced by their numbers in a chapter, from `first` on."""
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for n, text in reversed(list(enumerate(literals(source), start=first))):
        begin = starts[text.lineno - 1] + text.col_offset
        end = starts[(text.end_lineno or text.lineno) - 1] + (text.end_col_offset or 0)
        data = data[:begin] + f'"{chapter}.{n}"'.encode() + data[end:]
    return data.decode()


@cache
def _texts() -> dict[str, str]:
    return json.loads(FILE.read_text("utf8"))


def spelled(alt: str) -> str:
    """The text of a number; any other text as it is."""
    return _texts().get(alt, alt)
