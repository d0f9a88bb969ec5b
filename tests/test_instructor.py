"""The teacher's notebooks: nbgrader's metadata, hidden tests that are fair and sharp, marks, refusals."""

import ast
import copy
import re
import subprocess
import sys
from functools import cache

import nbformat
import pytest
import torch
from helpers.chapters import (
    NAMES,
    answer,
    chapter,
    code_cells,
    committed,
    environment,
    exercise_cells,
    surroundings,
)
from torch import Tensor, nn

from knowsam_lite.course import builder, hidden, instructor
from knowsam_lite.course.blanks import blanked, solved
from knowsam_lite.course.checks import failures, find_exercise
from knowsam_lite.course.marking import page, tasks
from knowsam_lite.errors import UserError

ROOT = builder.ROOT
EXERCISES = [(name, number) for name in NAMES for number in exercise_cells(name)]


@cache
def assignment(name, seed=1):
    return instructor.assignment(chapter(name), hidden.source(name[:2]), seed)


def graded(name, seed=1):
    """grade_id -> cell."""
    cells = [cell for cell in assignment(name, seed).cells if "nbgrader" in cell.metadata]
    return {cell.metadata.nbgrader.grade_id: cell for cell in cells}


def complaint(name, number, thing, seed=1):
    """Run the hidden tests of an exercise on an answer: what they complain about, or ""."""
    namespace = {"__name__": "__main__"}
    exec(surroundings(name), namespace)
    what, source = exercise_cells(name)[number]
    exec(source, namespace)
    namespace[what] = thing
    cell = graded(name, seed)[f"hidden-{number.replace('.', '-')}"]
    try:
        exec(cell.source, namespace)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def released(source):
    """What nbgrader leaves to the learner of a cell."""
    source = re.sub(
        r"( *)### BEGIN SOLUTION\n.*?### END SOLUTION", r"\1raise NotImplementedError()", source, flags=re.S
    )
    return re.sub(r"\n### BEGIN HIDDEN TESTS\n.*?### END HIDDEN TESTS", "", source, flags=re.S)


# ---------------------------------------------------------------- hidden tests


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_the_solution_passes_the_hidden_tests_of_any_seed(name, number):
    before = torch.get_rng_state()
    assert [complaint(name, number, answer(name, number), seed) for seed in (1, 4)] == ["", ""]
    assert torch.equal(torch.get_rng_state(), before), "later cells would see other random numbers"


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_an_untouched_stub_fails_them(name, number):
    _, source = exercise_cells(name)[number]
    blanks = next(c.metadata.blank for c in code_cells(chapter(name)) if c.source == source)
    assert "NotImplementedError" in complaint(name, number, answer(name, number, blanked(source, blanks)))


def test_the_librarys_own_object_fails_them():
    from knowsam_lite.uncertainty import entropy_map

    assert "is the library's own" in complaint("05_uncertainty_and_ham", "05.1", entropy_map)


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_most_catalogued_mistakes_fail_them(name, number, monkeypatch):
    """All fail the check. A wrong type alone, or a file written unsafely, costs the check's points only."""
    monkeypatch.setattr("knowsam_lite.course.checks.is_librarys", lambda _: False)  # they are made of it
    mistakes = find_exercise(number).mistakes
    passing = [m.name for m in mistakes if not complaint(name, number, m.answer)]
    assert len(passing) <= len(mistakes) / 3, passing


class LateDown(nn.Module):
    """The adapter with its layers made in the other order."""

    def __init__(self, dim: int, skip: bool, ratio: float = 0.25) -> None:
        super().__init__()
        self.up = nn.Linear(int(dim * ratio), dim)
        self.down = nn.Linear(dim, int(dim * ratio))
        self.skip = skip
        for weight in (self.up.weight, self.up.bias):
            weight.data.zero_()

    def forward(self, x: Tensor) -> Tensor:
        change = self.up(nn.functional.gelu(self.down(x)))
        return x + change if self.skip else change


def by_categorical(z: Tensor) -> Tensor:
    logs = torch.log_softmax(z.to(torch.float32), 1)
    return (logs.exp() * logs).sum(1).neg() / torch.log(torch.tensor(float(z.size(1))))


def by_inequality(p_a: Tensor, p_b: Tensor) -> Tensor:
    return ((p_a > 0.5) != (p_b > 0.5)).type_as(p_a)


def by_division(z: Tensor, temperature: float) -> Tensor:
    return (z.float() / temperature).log_softmax(1).exp()


def by_hand(log_p: Tensor, log_q: Tensor) -> Tensor:
    return torch.einsum("nchw,nchw->nhw", log_p.exp(), log_p - log_q)


@pytest.mark.parametrize(
    ("number", "other"),
    [
        ("05.1", by_categorical),
        ("05.2", by_inequality),
        ("06.3", LateDown),
        ("08.1", by_division),
        ("08.2", by_hand),
    ],
)
def test_another_right_answer_passes_check_and_hidden_tests(number, other):
    name = next(name for name in NAMES if name.startswith(number[:2]))
    assert failures(find_exercise(number), other) == {}
    assert complaint(name, number, other) == ""


def test_every_exercise_has_probes_and_a_missing_one_is_named():
    assert {number for _, number in EXERCISES} <= set(hidden.behavior())
    with pytest.raises(UserError, match=r"found no probes of exercise 77[.]1 in course/hidden"):
        instructor.probing("77.1", hidden.source("77"), 1)


def test_the_seed_changes_the_numbers_of_the_hidden_tests_alone():
    one, other = graded(NAMES[0], 1), graded(NAMES[0], 2)
    changed = {key for key in one if one[key].source != other[key].source}
    assert changed and all(key.startswith("hidden-") for key in changed)
    first = instructor.probing("05.1", hidden.source("05"), 3)[1]
    assert "FIRST_SEED = 30000" in first and "manual_seed(FIRST_SEED + seed)" in first


@pytest.mark.parametrize("name", NAMES)
def test_hidden_tests_appear_in_no_notebook(name):
    kept = [cell.source for cell in assignment(name).cells if "HIDDEN TESTS" in cell.source]
    names = {found for source in kept for found in re.findall(r"hidden_\d\d_\d", source)}
    assert len(names) == len(exercise_cells(name))
    for folder in ("solutions", "notebooks"):
        text = nbformat.writes(committed(folder, name))
        assert "HIDDEN TESTS" not in text and not any(found in text for found in names)


# ---------------------------------------------------------------- nbgrader's format


@pytest.mark.parametrize("name", NAMES)
def test_cells_have_nbgraders_metadata(name):
    """Version 3, as nbgrader's documentation describes it: its keys, and which may go together."""
    made = assignment(name)
    nbformat.validate(made)
    keys = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
    numbers = [number.replace(".", "-") for number in exercise_cells(name)]
    assert sorted(graded(name)) == sorted(
        f"{k}-{n}" for n in numbers for k in ("check", "exercise", "hidden")
    )
    for grade_id, cell in graded(name).items():
        data, locked = cell.metadata.nbgrader, not grade_id.startswith("exercise")
        assert cell.cell_type == "code" and set(data) == keys | ({"points"} if locked else set())
        assert data.schema_version == 3 and data.task is False
        assert (data.grade, data.locked, data.solution) == (locked, locked, not locked)
        if locked:
            assert type(data.points) is int and data.points > 0
    assert all("blank" not in cell.metadata for cell in made.cells)


@pytest.mark.parametrize("name", NAMES)
def test_what_learners_get_holds_no_answer(name):
    for number, (_, source) in exercise_cells(name).items():
        cell = graded(name)[f"exercise-{number.replace('.', '-')}"]
        left = released(cell.source)
        assert "raise NotImplementedError()" in left and ast.parse(left)
        secret = set(source.splitlines()) - set(left.splitlines())
        assert len(secret) >= 1 and "BEGIN" not in left
    for grade_id, cell in graded(name).items():
        left = released(cell.source)
        if grade_id.startswith("check"):
            assert left.startswith('check("') and "\n" not in left
        if grade_id.startswith("hidden"):
            assert left.startswith("# When your work is marked") and "\n" not in left
    text = "\n".join(released(cell.source) for cell in assignment(name).cells)
    assert "<summary>Solution" not in text and "solution-executed" not in text
    assert not re.search(r'^quiz\(.*"[a-d]"', text, re.MULTILINE)


def test_both_bodies_of_a_class_are_marked():
    source = (
        "class A:\n    def f(self):\n        'Doc.'\n        return 1\n\n    def g(self):\n        return 2"
    )
    made = solved(source, ["A.f", "A.g"])
    assert made.count("        ### BEGIN SOLUTION") == made.count("        ### END SOLUTION") == 2
    assert "Doc." in released(made) and "return" not in released(made)


# ---------------------------------------------------------------- the command


def run(*arguments):
    command = [sys.executable, "-m", "knowsam_lite.course", "build", *map(str, arguments)]
    return subprocess.run(command, env=environment("smoke"), capture_output=True, text=True)


def test_the_command_makes_the_same_course_twice(tmp_path):
    wanted = [NAMES[0][:2], NAMES[-1][:2]]
    one, other = tmp_path / "one", tmp_path / "other"
    other.mkdir()
    outcome = run(*wanted, "--instructor", one)
    assert outcome.returncode == 0, outcome.stderr
    found = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    names = (NAMES[0], NAMES[-1])
    assert [str(p) for p in found] == ["nbgrader_config.py", *(f"source/{n}/{n}.ipynb" for n in names)]
    assert outcome.stdout.count("wrote ") == 3
    instructor.build(other, ROOT, wanted)
    assert [(one / p).read_bytes() for p in found] == [(other / p).read_bytes() for p in found]


def test_a_folder_inside_the_repository_or_not_empty_is_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    link = tmp_path / "link"
    link.symlink_to(ROOT)
    cases = [
        (ROOT / "build" / "course", "inside the repository"),
        (ROOT, "inside the repository"),
        (link / "course", "inside the repository"),
        (tmp_path / "full", "not empty"),
        (tmp_path / "full" / "file", "not empty"),
    ]
    for folder, says in cases:
        with pytest.raises(UserError, match=rf"found .* {says}, expected .*: name another"):
            instructor.build(folder, ROOT)
    outcome = run("--instructor", tmp_path / "full")
    assert outcome.returncode == 2 and outcome.stdout == ""
    assert len(outcome.stderr.splitlines()) == 1 and outcome.stderr.startswith("error: found ")
    assert not (ROOT / "build" / "course").exists()


def test_without_the_probes_it_says_so(tmp_path, monkeypatch):
    monkeypatch.delattr("knowsam_lite.course.hidden")
    monkeypatch.setitem(sys.modules, "knowsam_lite.course.hidden", None)
    with pytest.raises(UserError, match="expected the whole repository"):
        instructor.build(tmp_path / "course", ROOT)
    assert not (tmp_path / "course").exists()


ALL_HIDDEN = """
import ast
import sys
from pathlib import Path
assert not [p for p in sys.path if Path(p or ".").resolve().name == "tests"]
import nbformat
from knowsam_lite.course import instructor
for file in Path(sys.argv[1]).rglob("*.ipynb"):
    space = {"__name__": "__main__"}
    for cell in nbformat.read(file, as_version=4).cells:
        kind = cell.metadata.get("nbgrader", {}).get("grade_id", "").split("-")[0]
        if kind in ("exercise", "hidden"):
            exec(cell.source, space)
        elif cell.cell_type == "code" and not cell.source.endswith("setup()") and not kind:  # no trainings
            kept = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)
            tree = ast.parse(cell.source)
            tree.body = [node for node in tree.body if isinstance(node, kept)]
            exec(compile(tree, file.stem, "exec"), space)
        if kind == "hidden":
            print(file.stem, cell.metadata.nbgrader.grade_id)
"""


@pytest.mark.slow
def test_every_hidden_cell_runs_where_the_tests_of_this_repository_are_not(tmp_path):
    made = instructor.build(tmp_path / "course", ROOT)
    assert len(made) == 1 + len(NAMES)
    command = [sys.executable, "-c", ALL_HIDDEN, str(tmp_path / "course")]
    outcome = subprocess.run(command, env=environment("smoke"), cwd=tmp_path, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-2000:]
    wanted = {f"{name} hidden-{number.replace('.', '-')}" for name, number in EXERCISES}
    assert wanted <= set(outcome.stdout.splitlines())


def test_an_unknown_chapter_is_one_line(tmp_path):
    outcome = run("77", "--instructor", tmp_path / "course")
    assert outcome.returncode == 2 and outcome.stderr.startswith(
        "error: found chapter '77', expected one of 00"
    )
    assert not (tmp_path / "course").exists()
    assert run("77", "--check").returncode == 2
    assert [s.stem for s in builder.sources(ROOT, [NAMES[1][:2]])] == [NAMES[1]]


# ---------------------------------------------------------------- marks


def test_every_exercise_is_worth_points_and_its_mistakes_stand_on_the_page():
    text = page(builder.sources(ROOT))
    for name in NAMES:
        source = (ROOT / "solutions" / f"{name}.py").read_text("utf8")
        found = tasks(source)
        assert [task.number for task in found] == list(exercise_cells(name))
        assert found == [task for cell in chapter(name).cells for task in tasks(cell.source)]
        points = [
            cell.metadata.nbgrader.points for cell in graded(name).values() if cell.metadata.nbgrader.grade
        ]
        assert sum(points) == sum(task.difficulty + task.importance for task in found)
        for task in found:
            assert f"### {task.number} {task.title}" in text
            assert all(f"| {m.name} |" in text for m in find_exercise(task.number).mistakes)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4, 5}


def test_the_pages_of_teaching_name_every_chapter():
    text = (ROOT / "docs" / "teaching.md").read_text("utf8")
    for number in [name[:2] for name in NAMES]:
        assert re.search(rf"\b{number}\b", text), number
    for exercise in re.findall(r"\b\d\d\.\d\b", text):
        if any(name.startswith(exercise[:2]) for name in NAMES):
            assert find_exercise(exercise)
    assert copy.copy(text).count("](marking.md)") >= 1
