"""The reference pages under docs/, the map of the library among them, made from code and chapters."""

import inspect
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from knowsam_lite.course import alts, marking
from knowsam_lite.course.map import with_map
from knowsam_lite.course.reference import CHAPTERS, EQUATIONS, GLOSSARY, SYMBOLS
from knowsam_lite.course.timing import time_of

PACKAGE = Path(__file__).resolve().parents[1]
NOTE = "<!-- Made by `python -m knowsam_lite.course build` from knowsam_lite/course/reference.py. -->"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def link(chapter: str, names: Sequence[str]) -> str:
    """A chapter's number and topic, as a link to its student notebook if it is written."""
    says = f"{chapter} {CHAPTERS[chapter]}"
    found = next((name for name in names if name.startswith(chapter)), None)
    return says if found is None else f"[{says}](../notebooks/{found}.ipynb)"


def where(address: str) -> str:
    """A link to the file of a code address; code of PyTorch is only named."""
    module, _, name = address.rpartition(".")
    if not module.startswith("knowsam_lite"):
        return f"`{address}`"
    return f"[`{name}`](../{module.replace('.', '/')}.py)"


def equations(names: Sequence[str]) -> str:
    """The equation-to-code map: every formula, what computes it, which chapter builds it."""
    parts = [
        f"# From equation to code\n\n{NOTE}\n",
        "Every formula of the method, chapter by chapter. Letters that are not explained here are in "
        "[notation](notation.md). Terms of UGDA's mixed batch, among them the pseudo-labels, are in the log "
        "with `mixed/` before their names. No gradient goes from SAM's terms to the students or back.\n",
    ]
    for equation in EQUATIONS:
        code = ", ".join(map(where, equation.code))
        parts.append(f"## {equation.name[0].upper()}{equation.name[1:]}\n\n$${equation.latex}$$\n")
        parts.append(f"Code: {code} · chapter {link(equation.chapter, names)} · source: {equation.source}")
        if equation.terms:
            parts[-1] += f" · in the log as {', '.join(f'`{term}`' for term in equation.terms)}"
        parts[-1] += "\n"
    return "\n".join(parts)


def notation() -> str:
    """The letters, in formulas and in code."""
    rows = [(f"${s.latex}$", f"`{s.code}`" if s.code else "", s.shape, s.meaning) for s in SYMBOLS]
    return f"# Notation\n\n{NOTE}\n\nThe paper's letters, in code and notebooks alike.\n\n" + (
        table(("symbol", "in code", "shape", "meaning"), rows) + "\n"
    )


def glossary() -> str:
    """The terms, each in one sentence."""
    rows = [
        (f"**{term}**", meaning) for term, meaning in sorted(GLOSSARY.items(), key=lambda t: t[0].lower())
    ]
    return f"# Glossary\n\n{NOTE}\n\n{table(('term', 'meaning'), rows)}\n"


def methods() -> str:
    """What each method does and where it comes from, from its class's docstring."""
    from knowsam_lite.methods import METHODS, SamDistillation

    single = {name: method for name, method in METHODS.items() if not issubclass(method, SamDistillation)}
    plugged = sum(issubclass(method, SamDistillation) for method in METHODS.values())
    parts = [
        "# Methods\n\n<!-- Made by `python -m knowsam_lite.course build` from the classes' docstrings. -->\n",
        "`knowsam-lite train --method NAME` trains one, `knowsam-lite compare --methods NAME NAME ...`\n"
        "several. All run in one loop on the same networks, but some train one net and some two (`urpc`,\n"
        "`cdma` and `mc_net_plus` are defined by decoders of their own: `--students paper`). w is the\n"
        "ramp exp(-5 (1 - t/t_max)^2); warm-ups and starts are fractions of the run. Unless said, labelled\n"
        "images are augmented weakly and unlabelled ones strongly; `compare --augmentation published` gives\n"
        "each method's unlabelled images the views with which it was published, mostly weak ones. Moving\n"
        "averages are the exception: `mean_teacher`, `ua_mt` and `bcp` keep the published decay of 0.99,\n"
        "which reaches back 100 steps however long the run is; the other methods' reach back 4 % of it.\n"
        "Other letters: [notation](notation.md).\n",
    ]
    for name, method in {**single, "NAME+skd": SamDistillation}.items():
        file = (inspect.getsourcefile(method) or "").rpartition("/methods/")[2]
        parts.append(f"## {name}\n\n{inspect.getdoc(method)}\n")
        parts.append(f"Code: [`{method.__name__}`](../knowsam_lite/methods/{file})\n")
    parts.append(f"{plugged} methods take `+skd`: those without a SAM of their own.\n")
    return "\n".join(parts)


def with_minutes(page: str, sources: Sequence[Path]) -> str:
    """A page whose table of chapters, "| [..](notebooks/NN_topic.ipynb) | builds | minutes |", says how long
    each takes.
    """
    for source in sources:
        row = rf"^(\| \[[^|]*\(notebooks/{source.stem}\.ipynb\)[^|]*\|[^|]*\|) \d+ \|"
        whole = time_of(source.read_text("utf8")).whole
        page = re.sub(row, rf"\g<1> {whole} |", page, flags=re.MULTILINE)
    return page


def pages(root: Path) -> dict[Path, str]:
    """The reference pages of a checkout, the layout with its map of the library, the README with the minutes
    of chapters, and the figures' texts: file -> text.
    """
    sources = sorted((root / "solutions").glob("[0-9][0-9]_*.py"))
    names = [path.stem for path in sources]
    docs = root / "docs"
    layout = docs / "layout.md"
    mapped = {layout: with_map(layout.read_text("utf8"), PACKAGE)} if layout.is_file() else {}
    readme = root / "README.md"
    timed = {readme: with_minutes(readme.read_text("utf8"), sources)} if readme.is_file() else {}
    return {
        **mapped,
        **timed,
        docs / "equations.md": equations(names),
        docs / "notation.md": notation(),
        docs / "glossary.md": glossary(),
        docs / "methods.md": methods(),
        docs / "marking.md": marking.page(sources),
        root / "knowsam_lite" / "course" / "alts.json": alts.page(sources),
    }
