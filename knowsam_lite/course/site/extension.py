"""What Sphinx is told: formulas as MathML, docstrings as this library writes them, links into the source."""

import re
from itertools import zip_longest
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert

from knowsam_lite.course.site.terms import mark

LINK = re.compile(r"(?<!!)\[([^\]\n]+)\]\(([^)\s:#]+)(#[^)\s]*)?\)")


def setup(app: Any) -> dict[str, Any]:
    """Register everything with a Sphinx application."""
    app.add_config_value("checkout", "", "env")
    app.add_config_value("repository", "", "env")
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-process-signature", _signature)
    app.connect("source-read", _links)
    app.connect("doctree-read", _terms)
    return {"parallel_read_safe": True}


def _terms(app: Any, tree: nodes.document) -> None:
    mark(tree, app.env.docname)


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="formula">{convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _docstring(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Text and `code` as reStructuredText, in which other signs and indented lines would mean something."""
    parts = "\n".join(lines).split("`")
    made = ""
    for text, code in zip_longest(parts[::2], parts[1::2], fillvalue=""):
        gap = "\\ " if made and text[:1].strip() else ""  # marks end at a space or where one is hidden
        made += gap + re.sub(r"([\\*|]|_(?=\W|$))", r"\\\1", text)
        made += ("\\ " if text[-1:].strip() else "") + f"``{code}``" if code else ""
    lines[:] = re.sub(r"((?:^ +\S.*\n?)+)", r"\n::\n\n\1\n", made, flags=re.MULTILINE).split("\n")


def _signature(
    app: Any, what: str, name: str, thing: Any, options: Any, arguments: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """A signature in which ArrayLike is a word, not the twenty that it stands for."""
    from numpy.typing import ArrayLike
    from sphinx.util.typing import stringify_annotation

    long = stringify_annotation(ArrayLike, "smart")
    return tuple(words and words.replace(long, "ArrayLike") for words in (arguments, returned))  # type: ignore[return-value]


def _links(app: Any, name: str, content: list[str]) -> None:
    """Links between files of the repository lead to pages, to highlighted source, or to the repository."""
    checkout, here = Path(app.config.checkout), Path(app.srcdir, name).parent

    def moved(link: re.Match) -> str:
        words, target, place = link[1], link[2], link[3] or ""
        if (here / target).is_file():
            return link[0]
        path = (checkout / here.relative_to(app.srcdir) / target).resolve()
        if not path.is_relative_to(checkout) or not path.exists():
            return link[0]  # Sphinx names it
        inside = path.relative_to(checkout)
        if inside.parts[0] == "knowsam_lite" and path.suffix == ".py":
            top = "../" * len(Path(name).parts[:-1])
            anchor = words.strip("`").split(".")[-1] if words.startswith("`") else ""
            address = f"{top}_modules/{inside.with_suffix('.html')}#{anchor}"
            return f'<a href="{address}"><code>{words.strip("`")}</code></a>'
        return f"[{words}]({app.config.repository}/{inside}{place})"

    content[0] = LINK.sub(moved, content[0])
