"""The frame of the project: what is where, what it depends on, and what importing it costs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]


def test_top_level_layout():
    folders = ["notebooks", "solutions", "knowsam_lite", "data_scripts", "tests", ".ci"]
    files = [
        "README.md",
        "CHANGELOG.md",
        "CITATION.cff",
        "Containerfile",
        "LICENSE",
        "LICENSE-TEXT",
        "Makefile",
        "environment.yml",
        "pyproject.toml",
        "requirements.lock",
        ".ci/run",
    ]
    assert [name for name in folders if not (ROOT / name).is_dir()] == []
    assert [name for name in files if not (ROOT / name).is_file()] == []


EXTRAS = "cluster,coco,course,dev,onnx,pretrained,volumes"


def requirements(extras: list[str]) -> list[str]:
    return [
        *PROJECT["dependencies"],
        *(one for name in extras for one in PROJECT["optional-dependencies"][name]),
    ]


def test_the_lock_file_pins_what_setup_installs_within_its_bounds():
    lines = (ROOT / "requirements.lock").read_text("utf8").splitlines()
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    pinned = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    for requirement in map(Requirement, requirements(EXTRAS.split(","))):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_setup_and_container_install_the_same_extras():
    assert f"EXTRAS := {EXTRAS}\n" in (ROOT / "Makefile").read_text("utf8")
    run_only = EXTRAS.replace("dev,", "")  # nobody runs the tests in the container
    assert f"-c requirements.lock -e '.[{run_only}]'" in (ROOT / "Containerfile").read_text("utf8")


def test_environment_holds_python_pip_and_the_editable_install_only():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf8"))
    assert environment["dependencies"] == [
        "python>=3.11",
        "pip",
        {"pip": [f"-e .[{EXTRAS}]"]},
    ]
    assert set(environment) == {"name", "channels", "dependencies"}
    assert {"course", "dev", "volumes"} <= set(PROJECT["optional-dependencies"])


def test_dependencies_have_lower_bounds_and_no_caps():
    versions = [one.split(";")[0] for one in requirements(list(PROJECT["optional-dependencies"]))]
    assert [version for version in versions if not re.fullmatch(r"[A-Za-z0-9-]+>=[0-9.]+\s*", version)] == []


def test_citation_names_the_paper_and_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf8"))
    paper = citation["preferred-citation"]
    assert citation["version"] == PROJECT["version"]
    assert paper["doi"] == "10.1109/TMI.2025.3530097"
    assert [author["family-names"] for author in paper["authors"]] == [
        "Huang",
        "Zhou",
        "Fu",
        "Zhang",
        "Zhou",
        "Gong",
        "Liang",
    ]


def test_importing_the_library_leaves_the_heavy_packages_alone():
    heavy = ["matplotlib", "albumentations", "segment_anything"]
    program = f"import sys, knowsam_lite; print([name for name in {heavy} if name in sys.modules])"
    outcome = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.strip() == "[]"


def test_no_file_names_a_path_of_one_machine():
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        outcome = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if outcome.returncode != 0:
        pytest.skip("not a git checkout")
    homes = "|".join(["home", "root", "work", "Users", "opt"])
    # An absolute path: nothing that could be a relative path or an address stands before the slash.
    pattern = re.compile(rf"(?<![\w./~$}}):-])/(?:{homes})/\w")
    found = []
    for name in filter(None, outcome.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".safetensors", ".png", ".jpg", ".npz"}:
            text = path.read_text("utf8", errors="replace")
            found += [f"{name}: {match.group()}" for match in pattern.finditer(text)]
    assert found == []
