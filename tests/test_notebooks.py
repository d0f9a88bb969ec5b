"""The committed notebooks: guarded, run, compared; and what makes each of these red."""

import copy
import faulthandler
import json
import re
import shutil
import subprocess

import nbformat
import pytest
import torch
from helpers.chapters import NAMES, chapter, code_cells, committed, environment, exercise_cells, nbval
from helpers.guard import faults, looks, prose_words

from knowsam_lite.course.builder import ROOT, execute

# One change of a library function per chapter, which nbval must see: file, before, after.
PERTURBED = {
    "00": ("metrics.py", "np.count_nonzero(p & t) / total", "np.count_nonzero(p | t) / total"),
    "01": ("metrics.py", "np.percentile(pooled, 95)", "np.percentile(pooled, 50)"),
    "02": ("subnets.py", "skips.pop(), enlarge(x)", "enlarge(x), skips.pop()"),
    "03": ("subnets.py", "stage(up(x) + skips.pop())", "stage(up(x) - skips.pop())"),
    "04": ("losses.py", "z_other.detach().float()", "z_other.float()"),
    "05": ("uncertainty.py", "log_softmax(dim=1)", "log_softmax(dim=2)"),
    "06": ("sam/adapter.py", "nn.init.zeros_(self.up.weight)", "nn.init.ones_(self.up.weight)"),
    "07": ("sam/prompts.py", "return z - others", "return z + others"),
    "08": ("losses.py", "(log_p - log_q), dim=1", "(log_p - log_q), dim=2"),
    "09": ("mixing.py", 'largest=most == "uncertain"', 'largest=most == "certain"'),
    "10": ("methods/base.py", "(1 - progress) ** 2", "(1 + progress) ** 2"),
    "11": ("metrics.py", "percentile(means, [2.5, 97.5])", "percentile(means, [25, 75])"),
    "12": ("methods/bcp.py", "SIDE = 2 / 3", "SIDE = 1 / 3"),
    "13": ("methods/base.py", "(step + 1) / max(warm_up", "step / max(warm_up"),
    "14": ("methods/fixmatch.py", "p < threshold", "p <= threshold"),
    "15": ("suggest/choose.py", "int(nearest.argmax())", "int(nearest.argmin())"),
}


@pytest.mark.parametrize("name", NAMES)
def test_guard(name):
    assert faults(committed("solutions", name)) == []
    assert looks(committed("notebooks", name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_chapter_has_the_size_of_a_chapter(name):
    notebook = chapter(name)
    assert 45 <= len(notebook.cells) <= 80
    assert 2000 <= prose_words(notebook) <= 3500
    assert 4 <= len(exercise_cells(name)) <= 6
    text = "\n".join(cell.source for cell in notebook.cells)
    assert text.count("<details><summary>Hint") == len(exercise_cells(name))
    assert len(re.findall(r"Difficulty \d of 5 · importance \d of 5 · \d+ minutes", text)) == len(
        exercise_cells(name)
    )


def test_the_figures_that_the_tour_quotes_stand_in_the_tables():
    number = r"\b0\.\d{3}\b"
    quoted = set(re.findall(number, (ROOT / "solutions" / "00_tour.py").read_text("utf8")))
    assert len(quoted) > 15
    assert quoted <= set(re.findall(number, (ROOT / "docs" / "from_scratch.md").read_text("utf8")))


def stripped(notebook):
    for cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None


def renumbered(notebook):
    code_cells(notebook)[3].execution_count = 99


def warned(notebook):
    noise = nbformat.v4.new_output("stream", name="stderr", text="FutureWarning")
    code_cells(notebook)[0].outputs.append(noise)


def with_widgets(notebook):
    notebook.metadata["widgets"] = {}


def with_a_path(notebook):
    code_cells(notebook)[0].outputs[0].text += "/".join(["wrote ", "home", "someone", "file.png"])


def without_alt(notebook):
    picture = next(o for c in code_cells(notebook) for o in c.outputs if "image/png" in o.get("data", {}))
    picture.metadata = {}


def with_a_bare_picture(notebook):
    notebook.cells[0].source += "\n![](picture.png)"


def too_large(notebook):
    notebook.cells[0].source += "x" * 1024**2


def untagged(notebook):
    for cell in code_cells(notebook)[:-3]:
        cell.metadata = {}


SPOILERS = [
    (stripped, "execution counts"),
    (renumbered, "execution counts"),
    (warned, "stderr"),
    (with_widgets, "widget"),
    (with_a_path, "absolute path"),
    (without_alt, "alt text"),
    (with_a_bare_picture, "alt text"),
    (too_large, "bytes"),
    (untagged, "are compared"),
]


@pytest.mark.parametrize(("spoil", "says"), SPOILERS, ids=[spoil.__name__ for spoil, _ in SPOILERS])
def test_the_guard_goes_red(spoil, says):
    notebook = copy.deepcopy(committed("solutions", NAMES[0]))
    spoil(notebook)
    assert any(says in fault for fault in faults(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_solution_under_nbval(name):
    """Runs at "ci"; what is committed ran at "laptop": so the compared cells agree at both."""
    command = nbval([ROOT / "solutions" / f"{name}.ipynb"])
    outcome = subprocess.run(command, cwd=ROOT, env=environment("ci"), capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout[-4000:]


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_complete_run_under_nbval_on_a_gpu(tmp_path):
    """At "gpu": sam_vit_b at 256 pixels where its weights can be had, and a row of figures to commit."""
    faulthandler.cancel_dump_traceback_later()  # it may take longer than any other test
    shutil.copy(ROOT / "solutions" / "10_complete_run.ipynb", tmp_path)
    command = nbval([tmp_path / "10_complete_run.ipynb"], seconds=7200)
    outcome = subprocess.run(command, cwd=tmp_path, env=environment("gpu"), capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stdout[-4000:]
    row = json.loads(next(tmp_path.glob("runs/*/figures.json")).read_text("utf8"))
    print(row)
    assert row["device"] == torch.cuda.get_device_name() and float(row["seconds a step"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_nbval_sees_a_wrong_library(name, tmp_path):
    shutil.copytree(ROOT / "knowsam_lite", tmp_path / "knowsam_lite")
    file, before, after = PERTURBED[name[:2]]
    path = tmp_path / "knowsam_lite" / file
    text = path.read_text("utf8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    shutil.copy(ROOT / "solutions" / f"{name}.ipynb", tmp_path)
    command = nbval([tmp_path / f"{name}.ipynb"])
    outcome = subprocess.run(
        command, cwd=tmp_path, env=environment("smoke", tmp_path), capture_output=True, text=True
    )
    assert outcome.returncode == 1, outcome.stdout[-4000:]
    failed = int(re.search(r"(\d+) failed", outcome.stdout).group(1))
    assert 1 <= failed < len(code_cells(chapter(name))) / 2, "some compared cells, not the whole notebook"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_student_notebook_runs_to_its_end(name, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = execute(committed("notebooks", name), ROOT / "notebooks", "smoke")
    said = {}
    for cell in code_cells(notebook):
        text = "".join(output.get("text", "") for output in cell.outputs)
        if cell.source.startswith(("check(", "quiz(")):
            said[cell.source] = text.strip()
        else:
            assert "not started" not in text or cell.source.startswith(("check.report", "check.card"))
    assert len(said) == len(exercise_cells(name)) + 1
    assert all(text.endswith(": not started") for text in said.values()), said
