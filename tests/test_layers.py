"""Who may import whom, how long a file is and how many lie at the top: the house stays in order."""

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "knowsam_lite"
# Files and folders of the package, lowest first: each imports from those above it in this list alone.
LAYERS = (
    *("deprecated", "errors", "files", "downloads", "colors", "machine", "interrupt", "config", "parallel"),
    *("metrics", "calibration", "uncertainty", "subnets", "decoders", "aggregation", "students"),
    *(
        "losses",
        "mixing",
        "data",
        "sam",
        "encoders",
        "official",
        "methods",
        "fast",
        "runs",
        "predict",
        "web",
        "evaluation",
    ),
    *(
        "figures",
        "training",
        "suggest",
        "report",
        "bench",
        "compare",
        "commands",
        "cli",
        "course",
        "__main__",
    ),
)
BLOCKS = ("uncertainty", "subnets", "decoders", "aggregation", "students", "losses", "mixing", "sam")
# Narrower than the order of LAYERS.
MAY_IMPORT_FAST = {"fast", "training", "evaluation", "predict", "bench"}
MAY_IMPORT_OUTER = {"cli", "course", "__main__"}
LONG = {"course/reference.py"}  # one formula a line
LINES, LOOSE = 330, 24


def name_of(path: Path) -> str:
    """A file as a module below the package: "sam.encoder", "runs", and "" for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def statements(tree: ast.AST) -> Iterable[ast.AST]:
    """Every node of a file that can run, those inside functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from statements(node)


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    found = set()
    for node in statements(ast.parse(path.read_text("utf8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, module = name.partition(".")
            if package == "knowsam_lite":
                found.add(module if module in FILES else module.rpartition(".")[0])
    return found - {""}


def edges() -> list[tuple[str, str, str, str]]:
    """Each import between two entries of the top level: from, to, and the modules themselves."""
    found = []
    for module, path in FILES.items():
        for other in imports(path):
            a, b = module.split(".")[0], other.split(".")[0]
            if a != b and module:
                found.append((a, b, module, other))
    return found


def test_every_import_goes_down():
    tops = {module.split(".")[0] for module in FILES} - {""}
    assert tops == set(LAYERS), "name a new file or folder in LAYERS"
    upwards = [f"{m} -> {o}" for a, b, m, o in edges() if LAYERS.index(b) > LAYERS.index(a)]
    print(f"{len(edges())} imports between {len(LAYERS)} files and folders, {len(upwards)} of them upwards")
    assert upwards == []


def test_the_blocks_know_no_method():
    assert [f"{m} -> {o}" for a, b, m, o in edges() if a in BLOCKS and b in ("methods", "training")] == []


def test_few_know_what_is_fast_and_nobody_the_outermost():
    assert [m for a, b, m, _ in edges() if b == "fast" and a not in MAY_IMPORT_FAST] == []
    assert [m for a, b, m, _ in edges() if b in ("cli", "course") and a not in MAY_IMPORT_OUTER] == []


def test_no_module_needs_itself():
    graph = {module: imports(path) - {module} for module, path in FILES.items()}
    for module in graph:  # what a package's __init__ imports of its own files is no cycle
        if FILES[module].name == "__init__.py":
            continue
        graph[module] = {other for other in graph[module] if not module.startswith(f"{other}.")}
    TopologicalSorter(graph).prepare()  # raises CycleError with the modules' names


def test_files_are_short_and_the_top_level_is_small():
    lengths = {str(p.relative_to(PACKAGE)): len(p.read_text("utf8").splitlines()) for p in FILES.values()}
    assert {name: n for name, n in lengths.items() if n > LINES and name not in LONG} == {}
    loose = sorted(path.name for path in PACKAGE.iterdir() if path.is_file())
    print(f"{len(loose)} loose files at the top: {', '.join(loose)}")
    assert len(loose) <= LOOSE
