"""What a committed notebook must be, so that nbval compares something and a reader sees something."""

import re
from collections.abc import Iterator

import nbformat
from nbformat import NotebookNode

LIMIT = 1024**2  # bytes
# A path of one machine, not an address and not a relative path.
ABSOLUTE = re.compile(
    r"(?<![\w./~$}):-])/(?:home|root|work|Users|opt|tmp|usr|mnt|content)/\w|[A-Z]:\\\\?Users"
)


def faults(notebook: NotebookNode) -> list[str]:
    """Everything that is wrong with an executed notebook."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = []
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        found.append("execution counts are not 1..n")
    compared = [cell for cell in cells if "nbval-check-output" in cell.metadata.get("tags", [])]
    found += [f"compared, but without output: {cell.id}" for cell in compared if not _text(cell).strip()]
    if len(compared) < 0.4 * len(cells):
        found.append(f"only {len(compared)} of {len(cells)} code cells are compared")
    return found + list(_looks(notebook))


def _looks(notebook: NotebookNode) -> Iterator[str]:
    """What holds for student notebooks, too."""
    size = len(nbformat.writes(notebook).encode())
    if size > LIMIT:
        yield f"{size} bytes, more than {LIMIT}"
    if "widgets" in notebook.metadata:
        yield "widget state in the metadata"
    for cell in notebook.cells:
        text = cell.source + _text(cell)
        if ABSOLUTE.search(text):
            yield f"absolute path: {cell.id}"
        if re.search(r"!\[\s*\]\(", cell.source) or re.search(r"<img(?![^>]*\balt=)", cell.source):
            yield f"picture without alt text: {cell.id}"
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr" or output.output_type == "error":
                yield f"stderr or error: {cell.id}"
            if any("widget" in kind for kind in output.get("data", {})):
                yield f"widget: {cell.id}"
            if "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt", "")
                if len(alt.split()) < 5:
                    yield f"picture without alt text: {cell.id}"


def looks(notebook: NotebookNode) -> list[str]:
    """Everything that is wrong with a notebook that need not be executed."""
    return list(_looks(notebook))


def _text(cell: NotebookNode) -> str:
    """The text of a cell's outputs."""
    outputs = cell.get("outputs", [])
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in outputs)


def prose_words(notebook: NotebookNode) -> int:
    """Words of the markdown cells without code, formulas, tags and addresses."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"`[^`\n]+`", r"<[^>]+>", r"\]\([^)]*\)"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return len(re.findall(r"[A-Za-z][\w'-]*", text))
