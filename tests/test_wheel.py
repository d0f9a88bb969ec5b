"""The built wheel without this checkout: the first cell installs it, the first chapter runs."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from helpers.chapters import NAMES

from knowsam_lite.course import hidden

ROOT = Path(__file__).resolve().parents[1]
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
nbformat.write(notebook, sys.argv[1])
"""


def run(command: list, **options) -> str:
    """Standard output of a command that has to succeed."""
    outcome = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert outcome.returncode == 0, outcome.stdout[-2000:] + outcome.stderr[-2000:]
    return outcome.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what packages are made of, for building leaves files beside the source."""
    source = tmp_path_factory.mktemp("package") / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-TEXT"):
        shutil.copy(ROOT / name, source)
    for name in ("knowsam_lite", "tests", "solutions", "notebooks"):
        shutil.copytree(ROOT / name, source / name)
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    run([*pip, "-w", folder, source])
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """The Python of a new environment that has what others wrote, linked to, and nothing of this project."""
    folder = tmp_path_factory.mktemp("empty")
    run([sys.executable, "-m", "venv", folder / "venv"])
    others = folder / "others"
    others.mkdir()
    for package in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if "knowsam" not in package.name.lower() and package.suffix != ".pth" and package.stem != "pip":
            (others / package.name).symlink_to(package)
    python = folder / "venv" / "bin" / "python"
    site = run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"]).strip()
    (Path(site) / "others.pth").write_text(f"{others}\n", encoding="utf-8")
    run([python, "-m", "ipykernel", "install", "--prefix", folder / "venv", "--name", "python3"])
    return python


@pytest.mark.slow
def test_the_wheel_holds_the_course_and_the_weights(wheel):
    listing = run([sys.executable, "-m", "zipfile", "-l", wheel])
    assert "knowsam_lite/weights/sam_mini.safetensors" in listing
    assert "web/pages/annotate.html" in listing and "web/pages/demo.js" in listing
    assert f"knowsam_lite/course/chapters/ch{NAMES[0][:2]}/__init__.py" in listing
    assert "tests/" not in listing and "solutions/" not in listing


@pytest.mark.slow
def test_neither_wheel_nor_sdist_holds_a_hidden_test(wheel, source, tmp_path):
    make = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run([sys.executable, "-c", make, tmp_path], cwd=source)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        carried = {m.name: sdist.extractfile(m).read() for m in sdist.getmembers() if m.isfile()}
    with zipfile.ZipFile(wheel) as archive:
        carried |= {f"wheel: {name}": archive.read(name) for name in archive.namelist()}
    assert any("wheel: " in name for name in carried) and any(name.endswith("PKG-INFO") for name in carried)
    assert [name for name in carried if "course/hidden" in name] == []
    # Long lines, of which one may be found elsewhere by chance; and the names in the teacher's notebooks.
    probes = [hidden.source(name[:2]).split("BEHAVIOR:")[0].split("\ndef ", 1)[1] for name in NAMES]
    lines = {line.strip() for text in probes for line in text.splitlines() if len(line.strip()) > 60}
    names = {f"hidden_{name[:2]}_{number}" for name in NAMES for number in range(1, 10)}
    assert len(lines) > 50
    texts = {name: data.decode("utf8", "ignore") for name, data in carried.items() if name.endswith(".py")}
    for name, text in texts.items():
        assert sum(line in text for line in lines) <= 1, name
        assert [found for found in re.findall(r"hidden_\d\d_\d", text) if found in names] == [], name


@pytest.mark.slow
def test_the_first_chapter_runs_from_its_first_cell(wheel, empty, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment |= {
        "KNOWSAM_LITE_WHEEL": str(wheel),
        "KNOWSAM_LITE_BUDGET": "smoke",
        "OMP_NUM_THREADS": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    where = [empty, "-c", "import importlib.util as i; print(i.find_spec('knowsam_lite'))"]
    assert run(where, cwd=tmp_path, env=environment).strip() == "None", "the environment begins without it"
    notebook = tmp_path / "chapter.ipynb"
    notebook.write_bytes((ROOT / "notebooks" / f"{NAMES[0]}.ipynb").read_bytes())
    run([empty, "-c", RUN, notebook], cwd=tmp_path, env=environment)
    first = next(c for c in nbformat.read(notebook, as_version=4).cells if c.cell_type == "code")
    assert first.outputs[0].text.startswith("knowsam_lite ")
    found = run(
        [empty, "-c", "import knowsam_lite; print(knowsam_lite.__file__)"], cwd=tmp_path, env=environment
    )
    assert str(ROOT) not in found and "site-packages" in found
