"""The map of the library in docs/layout.md: every file with the first sentence of its docstring."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

BEGIN, END = "<!-- map: made by `python -m knowsam_lite.course build` -->", "<!-- end of map -->"
# What a reader looks for, and the files and folders of the package that hold it.
GROUPS = {
    "The paper's blocks": (
        *("uncertainty", "subnets", "decoders", "aggregation", "students", "losses", "mixing", "sam"),
    ),
    "Methods and what is done with them": (
        *(
            "methods",
            "encoders",
            "training",
            "interrupt",
            "evaluation",
            "metrics",
            "calibration",
            "predict",
            "web",
            "runs",
        ),
        *("suggest", "report", "figures", "compare", "bench"),
    ),
    "Data": ("data", "downloads"),
    "Speed": ("fast",),
    "Several processes": ("parallel",),
    "The authors' behavior": ("official",),
    "Course": ("course",),
    "Infrastructure": (*("config", "errors", "files", "colors", "machine", "deprecated", "cli", "commands"),),
}
MANY = {  # folders of one file for each of many like things
    "course/chapters": "one folder per chapter: exercises, catalogued mistakes, quiz",
    "course/hidden": "probes of each answer, for instructors' hidden tests and mutation tests",
}


def summary(path: Path) -> str:
    """The first sentence of a file's docstring."""
    words = " ".join((ast.get_docstring(ast.parse(path.read_text("utf8"))) or "").split("\n\n")[0].split())
    return re.split(r"(?<=[a-z)`])\. (?=[A-Z`])", words)[0].rstrip(".").replace("|", "\\|")


def rows(package: Path, name: str) -> Iterator[tuple[str, str]]:
    """A file, or a folder and its files: path below the package, and what it is."""
    if (package / f"{name}.py").is_file():
        yield f"{name}.py", summary(package / f"{name}.py")
        return
    yield f"{name}/", summary(package / name / "__init__.py")
    many = {folder: words for folder, words in MANY.items() if folder.startswith(f"{name}/")}
    for path in sorted((package / name).rglob("*.py")):
        place = path.relative_to(package).as_posix()
        if path.name not in ("__init__.py", "__main__.py") and not place.startswith(tuple(many) or "/"):
            yield place, summary(path)
    for folder, words in many.items():
        yield f"{folder}/", words


def library_map(package: Path) -> str:
    """The whole map as Markdown."""
    lines = ["| where, in `knowsam_lite/` | what |", "|---|---|"]
    for title, names in GROUPS.items():
        lines.append(f"| **{title}** | |")
        lines += [f"| `{place}` | {words} |" for name in names for place, words in rows(package, name)]
    return "\n".join(lines)


def with_map(page: str, package: Path) -> str:
    """A page with the map between its marks as the files are now; without marks as it is."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{library_map(package)}\n\n{END}{after}" if begin and end else page
