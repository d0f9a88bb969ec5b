"""The teacher's notebooks go through nbgrader itself: assignment made, submissions marked."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from helpers.chapters import NAMES, ROOT, exercise_cells
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator

from knowsam_lite.course import instructor
from knowsam_lite.course.marking import tasks

MARKED = "05_uncertainty_and_ham"  # the chapter in which submissions are marked
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


def answered(notebook, name: str, numbers):
    """The learner's notebook with the solutions of these exercises typed in."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        kind, _, number = cell.metadata.get("nbgrader", {}).get("grade_id", "").partition("-")
        number = number.replace("-", ".")
        if kind == "exercise" and number in numbers:
            cell.source = exercise_cells(name)[number][1]
    return notebook


@pytest.fixture(scope="module")
def course(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("course")
    instructor.build(folder, ROOT)
    return folder


def released(course: Path, name: str):
    return nbformat.read(course / "release" / name / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_without_answers_is_made(course, name):
    nbgrader(course, "generate_assignment", name, "--force")
    made = released(course, name)
    MetadataValidator().validate_nb(made)
    text = nbformat.writes(made)
    assert "HIDDEN TESTS" not in text and "hidden_" not in text and "BEGIN SOLUTION" not in text
    assert text.count("raise NotImplementedError()") >= len(exercise_cells(name))


def test_marks_are_what_the_answers_are_worth(course):
    nbgrader(course, "generate_assignment", MARKED, "--force")
    numbers = list(exercise_cells(MARKED))
    submitted = {"all": numbers, "none": [], "first": numbers[:1]}
    for student, solved in submitted.items():
        folder = course / "submitted" / student / MARKED
        folder.mkdir(parents=True)
        nbformat.write(answered(released(course, MARKED), MARKED, solved), folder / f"{MARKED}.ipynb")
    nbgrader(course, "autograde", MARKED)

    source = (ROOT / "solutions" / f"{MARKED}.py").read_text("utf8")
    worth = {task.number: task.check_points + task.hidden_points for task in tasks(source)}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        for student, solved in submitted.items():
            found = gradebook.find_submission(MARKED, student)
            assert found.max_score == sum(worth.values())
            assert found.score == sum(worth[number] for number in solved), student
            assert not found.needs_manual_grade
