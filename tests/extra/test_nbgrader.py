"""The teacher's notebooks go through nbgrader itself: assignment made, submissions marked."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from chapters import ROOT, exercise_cells
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator

from knowsam_lite.course import instructor
from knowsam_lite.course.marking import tasks

CHAPTERS = ["05_uncertainty_and_ham", "08_skd"]
SECONDS = 600


def nbgrader(course: Path, *arguments: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # it calls alembic by name
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_DIR": str(course / ".jupyter"),
        "JUPYTER_DATA_DIR": str(course / ".data"),
        "JUPYTER_RUNTIME_DIR": str(course / ".runtime"),
    }
    environment.pop("KNOWSAM_LITE_BUDGET", None)  # the course's own configuration sets it
    command = [sys.executable, "-m", "nbgrader", *arguments]
    outcome = subprocess.run(
        command, cwd=course, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert outcome.returncode == 0, outcome.stdout[-3000:] + outcome.stderr[-3000:]


def answered(released, name: str, numbers):
    """The learner's notebook with the solutions of these exercises typed in."""
    notebook = copy.deepcopy(released)
    for cell in notebook.cells:
        kind, _, number = cell.metadata.get("nbgrader", {}).get("grade_id", "").partition("-")
        number = number.replace("-", ".")
        if kind == "exercise" and number in numbers:
            cell.source = exercise_cells(name)[number][1]
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    instructor.build(folder, ROOT, [name[:2] for name in CHAPTERS])
    return folder


@pytest.mark.parametrize("name", CHAPTERS)
def test_marks_are_what_the_answers_are_worth(course, name):
    nbgrader(course, "generate_assignment", name)
    released = nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)
    MetadataValidator().validate_nb(released)
    text = nbformat.writes(released)
    assert "HIDDEN TESTS" not in text and "hidden_" not in text and "BEGIN SOLUTION" not in text
    assert text.count("raise NotImplementedError()") >= len(exercise_cells(name))

    numbers = list(exercise_cells(name))
    submitted = {"all": numbers, "none": [], "first": numbers[:1]}
    for student, solved in submitted.items():
        folder = course / "submitted" / student / name
        folder.mkdir(parents=True)
        nbformat.write(answered(released, name, solved), folder / f"{name}.ipynb")
    nbgrader(course, "autograde", name)

    source = (ROOT / "solutions" / f"{name}.py").read_text("utf8")
    worth = {task.number: task.check_points + task.hidden_points for task in tasks(source)}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for student, solved in submitted.items():
            found = gradebook.find_submission(name, student)
            assert found.max_score == sum(worth.values())
            assert found.score == sum(worth[number] for number in solved), student
            assert not found.needs_manual_grade
