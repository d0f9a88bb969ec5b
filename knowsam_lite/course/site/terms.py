"""Terms of the glossary in the site: where a page first uses one, it links to its meaning and shows it."""

import os
import re

from docutils import nodes

from knowsam_lite.course.reference import GLOSSARY

PAGE = "docs/glossary"
PAGES = ("docs/", "notebooks/")  # of which terms are linked
WRITTEN = {form: term for term in GLOSSARY for form in (term, term[0].upper() + term[1:])}
TERM = re.compile(rf"(?<![\w-])({'|'.join(sorted(map(re.escape, WRITTEN), key=len, reverse=True))})(?![\w-])")
# What stays as it is: code, formulas, headings, links.
CLOSED = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.title, nodes.reference, nodes.raw)


def anchor(term: str) -> str:
    """The id of a term in the glossary's page."""
    return f"term-{nodes.make_id(term)}"


def mark(tree: nodes.document, page: str) -> None:
    """Give the glossary's terms their ids, or link each term where `page` ("docs/lab") first has it."""
    if page == PAGE:
        for word in tree.findall(nodes.strong):
            if word.astext() in GLOSSARY:
                word["ids"].append(anchor(word.astext()))
    elif page.startswith(PAGES):
        link(tree, os.path.relpath(f"{PAGE}.html", os.path.dirname(page)))


def link(tree: nodes.document, address: str) -> None:
    """Link the first use of each term to the glossary at `address`."""
    seen: set[str] = set()
    for text in list(tree.findall(nodes.Text)):
        if any(isinstance(node, CLOSED) for node in _above(text)):
            continue
        words, at, parts = text.astext(), 0, []
        for found in TERM.finditer(words):
            term = WRITTEN[found[0]]
            if term not in seen:
                seen.add(term)
                place = f"{address}#{anchor(term)}"
                linked = nodes.reference("", found[0], refuri=place, reftitle=GLOSSARY[term], internal=True)
                linked["classes"].append("term")
                parts += [nodes.Text(words[at : found.start()]), linked]
                at = found.end()
        if parts and text.parent is not None:
            text.parent.replace(text, [*parts, nodes.Text(words[at:])])


def _above(node: nodes.Node) -> list[nodes.Node]:
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found
