"""Builds the site with Sphinx from what lies in the repository; no notebook is run, nothing fetched."""

import importlib.util
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from knowsam_lite import __version__
from knowsam_lite.course.builder import repository, sources, text
from knowsam_lite.course.map import GROUPS
from knowsam_lite.course.site import chapters
from knowsam_lite.course.site.links import dead
from knowsam_lite.errors import UserError
from knowsam_lite.files import new_folder, write_text

NEEDED = ("sphinx", "pydata_sphinx_theme", "myst_nb", "latex2mathml")
START = """\
# {title}

{intro}

![The method as a map: images go to two subnets, their logits to HAM, its map to SAM as a prompt, and
SAM's answer back to both](docs/pipeline.png)

**[Begin with the tour](notebooks/00_tour.ipynb)**, or look up [a formula](docs/equations.md),
[a term](docs/glossary.md), [a letter](docs/notation.md), [a method](docs/methods.md),
[a function](api/README.md).

```{{toctree}}
:hidden:
notebooks/README
docs/README
{demo}api/README
```
"""
DEMO = """\
# Try a model

A trained model of this library, in your browser: the picture that you choose is sent nowhere.

```{raw} html
<iframe src="demo/index.html" title="A trained model" class="demo"></iframe>
<p><a href="demo/index.html">On a page of its own</a></p>
```
"""
NEWLINE = "\n"
TREE = "\n```{{toctree}}\n:glob:\n{}\n```\n"
GUIDES = {
    "The course": ("equations", "notation", "glossary", "teaching", "marking"),
    "Guides": ("own_data", "lab", "annotate", "scale", "data/README", "data/[a-z]*", "layout"),
    "Methods and measurements": (
        "methods",
        "teachers",
        "/knowsam_lite/weights/*",
        "starts",
        "starts_trials",
        "from_scratch",
        "comparison/README",
        "comparison/protocol",
        "comparison/scratch/README",
        "parity",
        "speed",
        "speed_trials",
    ),
}
CSS = """\
.formula { overflow-x: auto; margin: 1rem 0 } math { font-size: 1.05em }
.bd-page-width { max-width: 100rem }
iframe.demo { width: 100%; height: 60rem; border: 0 }
a.term { color: inherit; text-decoration: underline dotted; cursor: help }
"""
SKIPPED = ("course.hidden", "course.chapters", "course.site", "course.grading.worker")


def build(out: Path, root: Path, demo: Path | None = None) -> list[str]:
    """Write the site into `out`, which must be new or empty, and return its dead links. `demo` is a folder
    that `knowsam-lite demo` wrote, to be shown in a page.

    Raises UserError if what it needs is not installed, if `demo` is none, or if Sphinx warns of anything.
    """
    if demo is not None and not (demo / "model.js").is_file():
        raise UserError(
            f"found no model.js in {demo}, expected the folder of `knowsam-lite demo`: make it first"
        )
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"found no {', '.join(missing)}, expected it for the site: run `make site`")
    with tempfile.TemporaryDirectory() as place, new_folder(out) as made:
        source = Path(place, "source")
        assemble(source, root, demo is not None)
        warnings = _sphinx(source, made, Path(place, "trees"), root)
        if warnings:
            raise UserError(f"found {len(warnings)} warnings of Sphinx, expected none: mend {warnings[0]}")
        if demo is not None:
            shutil.copytree(demo, made / "demo")
        return dead(made)


def _sphinx(source: Path, out: Path, trees: Path, root: Path) -> list[str]:
    """Build pages and return the warnings."""
    from sphinx.application import Sphinx

    said = io.StringIO()
    address = f"{repository(root)}/blob/v{__version__}"
    app = Sphinx(
        source,
        None,
        out,
        trees,
        "html",
        confoverrides={**settings(), "checkout": str(root), "repository": address},
        status=None,
        warning=said,
    )
    app.build()
    return [line for line in said.getvalue().splitlines() if line.strip()]


def settings() -> dict[str, Any]:
    """Sphinx's configuration."""
    return {
        "project": "knowsam_lite",
        "version": __version__,
        "extensions": [
            "myst_nb",
            "sphinx.ext.autodoc",
            "sphinx.ext.viewcode",
            "knowsam_lite.course.site.extension",
        ],
        "nb_execution_mode": "off",
        "nb_merge_streams": True,
        "myst_enable_extensions": ["dollarmath"],
        "myst_heading_anchors": 4,
        "exclude_patterns": ["**.student.ipynb"],
        "suppress_warnings": ["misc.highlighting_failure"],  # ```csv is known to GitHub alone
        "autodoc_inherit_docstrings": False,
        "autodoc_typehints_format": "short",
        "autodoc_member_order": "bysource",
        "add_module_names": False,
        "html_theme": "pydata_sphinx_theme",
        "html_math_renderer": "mathml",
        "html_static_path": ["_static"],
        "html_css_files": ["site.css"],
        "html_sidebars": {"try_it": []},
        "html_copy_source": False,
        "html_show_sphinx": False,
        "html_theme_options": {
            "logo": {"text": "knowsam_lite"},
            "navigation_with_keys": False,
            "show_toc_level": 2,
            "secondary_sidebar_items": ["page-toc"],
            "footer_start": [],
            "footer_end": [],
        },
    }


def assemble(source: Path, root: Path, demo: bool = False) -> None:
    """Put what Sphinx reads into `source`, laid out as the repository is, so that links hold; with `demo`
    a page that shows the folder `demo` of the site.
    """
    written = shutil.ignore_patterns("*.json", "table.md")  # a reader's `compare --report`
    shutil.copytree(root / "docs", source / "docs", ignore=written)
    for card in (root / "knowsam_lite" / "weights").glob("*.md"):
        (source / "knowsam_lite" / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copy(card, source / "knowsam_lite" / "weights")
    (source / "_static").mkdir()
    write_text(source / "_static" / "site.css", CSS)
    title, intro = (root / "README.md").read_text("utf8").split("\n\n", 2)[:2]
    write_text(
        source / "index.md", START.format(title=title.lstrip("# "), intro=intro, demo="try_it\n" * demo)
    )
    if demo:
        write_text(source / "try_it.md", DEMO)

    (source / "notebooks").mkdir()
    names = [path.stem for path in sources(root)]
    for name in names:
        made = chapters.page(root / "solutions" / f"{name}.ipynb", repository(root))
        write_text(source / "notebooks" / f"{name}.ipynb", text(made))
        shutil.copy(root / "notebooks" / f"{name}.ipynb", source / "notebooks" / f"{name}.student.ipynb")
    table = (root / "notebooks" / "README.md").read_text("utf8").partition("\n| chapter")
    words = f"# Course\n\nEach page is a notebook, executed, its solutions folded.\n{''.join(table[1:])}"
    write_text(source / "notebooks" / "README.md", words + TREE.format(":hidden:\n" + NEWLINE.join(names)))

    guides = [f"## {head}\n{TREE.format(NEWLINE.join(found))}" for head, found in GUIDES.items()]
    write_text(source / "docs" / "README.md", "\n".join(["# Guides\n", *guides]))
    (source / "api").mkdir()
    for place, words in reference(root / "knowsam_lite"):
        write_text(source / "api" / place, words)


def reference(package: Path) -> Iterator[tuple[str, str]]:
    """A page for each file or folder at the top of the package, and the page of all: file name, text."""
    parts = ["# Reference\n\nEvery module, from its docstrings; [source] leads into the code.\n"]
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n" + TREE.format(NEWLINE.join(names)))
        for name in names:
            modules = [m for m in _modules(package, name) if not m.startswith(SKIPPED)]
            heads = [f"\n## {m}\n" if m != name else "" for m in modules]
            described = (head + _automodule(m) for head, m in zip(heads, modules, strict=True))
            yield f"{name}.md", f"# {name}\n" + "".join(described)
    yield "README.md", "\n".join(parts)


def _modules(package: Path, name: str) -> list[str]:
    found = sorted((package / name).rglob("*.py")) if (package / name).is_dir() else [package / f"{name}.py"]
    inside = [path.relative_to(package).with_suffix("") for path in found if path.stem != "__main__"]
    return [".".join(part for part in path.parts if part != "__init__") for path in inside]


def _automodule(module: str) -> str:
    lines = [
        f".. automodule:: knowsam_lite.{module}",
        "   :members:",
        "   :ignore-module-all:",
        "   :show-inheritance:",
    ]
    return "\n```{eval-rst}\n" + "\n".join(lines) + "\n```\n"
