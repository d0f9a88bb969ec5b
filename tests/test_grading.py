"""`course grade`: hostile programs do no harm, nothing runs in place, points are right."""

import csv
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import nbformat
import pytest
import torch
from helpers.handed_in import FORK, HAM, Handed, asked_in, broken, exercise_cells, hand_in, worth
from safetensors.torch import save_file

from knowsam_lite.course.__main__ import main
from knowsam_lite.course.checks import fingerprint
from knowsam_lite.course.grading import sandbox
from knowsam_lite.course.grading.limits import Limits
from knowsam_lite.course.grading.marks import Answer, differs, named, read_results
from knowsam_lite.course.grading.pages import gradebook
from knowsam_lite.course.grading.submissions import collect
from knowsam_lite.course.grading.worker import TimeIsUp, at_most
from knowsam_lite.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's namespaces and Landlock")
SMALL = Limits(seconds=1.5, memory=0.3, disk=0.02, processes=12)
CONFINED = """
from pathlib import Path
from knowsam_lite.course.grading.limits import Limits, confine
limits = Limits({0.seconds}, {0.memory}, {0.disk}, {0.processes})
print("landlock", confine(Path.cwd(), limits, True), flush=True)
"""


def confined(program: str, folder: Path) -> sandbox.Outcome:
    """Run a program as submissions run; skips where this system cannot."""
    if not sandbox.namespaces():
        pytest.skip("this system does not let a process have its own network")
    folder.mkdir()
    command = [sys.executable, "-c", CONFINED.format(SMALL) + program]
    variables = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    outcome = sandbox.run(command, folder, SMALL, variables)
    if "landlock False" in outcome.printed:
        pytest.skip("this system has no Landlock")
    assert "landlock True" in outcome.printed, outcome.printed
    return outcome


# ---------------------------------------------------------------- hostile programs


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("while True: pass", "took longer than 1.5 s"),
        (FORK, "started more than 12 processes"),
        (
            "for i in range(9): open(f'f{i}', 'wb').write(b'x' * 10**7)\nimport time; time.sleep(9)",
            "wrote more than",
        ),
    ],
)
def test_what_takes_too_much_is_ended(program, ended, tmp_path):
    outcome = confined(program, tmp_path / "own")
    assert outcome.ended.startswith(ended) and outcome.seconds < 5


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("x = bytearray(10**9)", "MemoryError"),
        ("import mmap; mmap.mmap(-1, 10**9)", "Cannot allocate memory"),
        ("import socket; socket.create_connection(('127.0.0.1', 9), 1)", "unreachable"),
        ("import socket; socket.create_connection(('192.0.2.1', 80), 1)", "unreachable"),
    ],
)
def test_what_is_not_allowed_is_an_error_there(program, said, tmp_path):
    outcome = confined(program, tmp_path / "own")
    assert outcome.ended == "" and said in outcome.printed


def test_files_outside_are_neither_read_nor_changed(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "secret").write_text("secret")
    other.chmod(0o777)
    program = f"""
import os
for attempt in (
    lambda: print(open({str(other / "secret")!r}).read()),
    lambda: os.remove({str(other / "secret")!r}),
    lambda: open({str(other / "new")!r}, "w"),
):
    try:
        attempt()
    except OSError as error:
        print(error.strerror)
os.system("rm -rf {other}; touch {other}/new")
"""
    outcome = confined(program, tmp_path / "own")
    assert outcome.printed.count("Permission denied") >= 4 and "secret\n" not in outcome.printed
    assert [path.read_text() for path in other.iterdir()] == ["secret"]


def test_other_processes_are_out_of_reach_and_none_stays(tmp_path):
    mine = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        program = f"""
import os, time
for process in ({mine.pid}, -1):
    try:
        os.kill(process, 9)
    except OSError as error:
        print(error.strerror)
if os.fork() == 0:
    os.setsid()
    open("left", "w").write(os.readlink("/proc/self"))
    time.sleep(77)
time.sleep(0.3)
"""
        outcome = confined(program, tmp_path / "own")
        assert outcome.printed.count("No such process") == 2 and mine.poll() is None
        assert (tmp_path / "own" / "left").exists()
        import psutil

        assert not [
            p for p in psutil.process_iter(["cmdline"]) if "sleep(77)" in " ".join(p.info["cmdline"] or [])
        ]
    finally:
        mine.kill()


def test_files_that_are_links_pipes_or_too_long_are_not_read(tmp_path):
    (tmp_path / "plain").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    os.mkfifo(tmp_path / "pipe")
    read = [sandbox.read_foreign(tmp_path / name, 5) for name in ("plain", "link", "pipe", "none")]
    assert read == [b"12345", b"", b"", b""] and sandbox.read_foreign(tmp_path / "plain", 4) == b""


# ---------------------------------------------------------------- what is handed in


def test_students_and_chapters_are_found(tmp_path):
    right = Handed("anna").notebook()
    for place in (
        "anna/ex.ipynb",
        "ben/05/05_work (1).ipynb",
        "ben/05/.ipynb_checkpoints/x.ipynb",
        "cleo.ipynb",
    ):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(json.dumps(right))
    (tmp_path / "readme.txt").touch()
    said = broken(tmp_path)
    for name in ("dan.ipynb.txt", "eva.json", "finn.zip"):  # as a browser, or a student, saves them
        (tmp_path / name).write_text(json.dumps(right))
        said[name.partition(".")[0]] = f"{name} is no notebook by its name"
    (tmp_path / "gina.IPYNB").write_text(json.dumps(right))
    found = {s.student: s for s in collect(tmp_path, ["05", "08"])}
    assert len(found) == 4 + len(said)
    assert {found[name].chapter for name in ("anna", "ben", "cleo", "gina")} == {"05"}
    assert len(found["anna"].cells) == sum(cell.cell_type == "code" for cell in right.cells)
    for student, words in said.items():
        assert words in found[student].fault, student


def test_nothing_handed_in_is_one_line(tmp_path):
    with pytest.raises(
        UserError, match=r"found nothing in .*, expected a notebook, or a folder, for each student"
    ):
        collect(tmp_path, ["05"])
    with pytest.raises(UserError, match="found no folder"):
        collect(tmp_path / "none", ["05"])


def test_foreign_results_that_are_not_the_graders_are_left_out(tmp_path):
    row = {
        "exercise": "05.1",
        "state": "done",
        "librarys": False,
        "said": "",
        "fault": "",
        "errors": {},
        "changed": [],
    }
    lines = [
        row,
        {**row, "exercise": "05.2", "state": "best"},
        {**row, "exercise": "../05.3"},
        [],
        {"cell": "x"},
    ]
    text = "\n".join(map(json.dumps, lines)) + "\n{\n\xff" + "[" * 100_000
    (tmp_path / "results.jsonl").write_text(text, encoding="latin1")
    save_file({"hidden/0001": torch.ones(1), "hidden/0000": torch.zeros(2)}, tmp_path / "05.1.safetensors")
    results = read_results(tmp_path)
    assert list(results.answers) == ["05.1"] and not results.whole and len(results.errors) >= 5
    assert [t.shape for t in results.answers["05.1"].made["hidden"]] == [(2,), (1,)]
    (tmp_path / "05.1.safetensors").write_bytes(b"\x00" * 100)
    assert read_results(tmp_path).answers["05.1"].made == {}


def test_differences_from_the_solution_are_said():
    one, two = torch.tensor([1.0, float("nan")]), torch.tensor([1.00001, float("nan")])
    assert differs([one], [two]) == "" and "other values" in differs([one], [one + 1])
    assert "shape (2,), expected (1, 2)" in differs([one], [one[None]])
    assert differs([], [one]) == "it gives 0 results, expected 1"
    assert differs("ValueError: no", [one]) == "it raises ValueError: no"


# ---------------------------------------------------------------- the command


@pytest.fixture
def grade(monkeypatch, capsys):
    """The command: its exit code, and what it prints to each stream."""

    def run(folder: Path, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["course", "grade", str(folder), *options])
        code = main()
        return code, *capsys.readouterr()

    return run


@pytest.mark.slow
def test_a_small_class_gets_what_it_deserves(grade, tmp_path):
    """One notebook with a right answer, a mistake, a renamed one, an endless one, and an early end."""
    entropy, disagreement = (exercise_cells(HAM)[number][1] for number in ("05.1", "05.2"))
    folder = tmp_path / "class"
    mixed = Handed(
        "=anna",
        answers={
            "05.1": entropy.replace(" / math.log(z.shape[1])", ""),
            "05.2": disagreement.replace("def disagreement_map", "def mine") + "\ncheck('05.2', mine)",
        },
        before={"05.5": "import os\nos._exit(3)"},
    )
    hand_in(folder, [mixed])
    broken(folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.ipynb") if not path.is_symlink()}
    code, _, errors = grade(folder)
    assert code == 0, errors
    assert {path: path.read_bytes() for path in before} == before

    rows = list(csv.DictReader((tmp_path / "class_graded" / "gradebook.csv").open(encoding="utf-8")))
    book = {row["student"]: row for row in rows}
    asked = {t.number: sum(worth(t)) for t in asked_in(HAM)}
    deserved = {"05.1": 0, "05.5": 0}
    own = book["'=anna"]
    assert {n: int(own[n]) for n in asked} == {**asked, **deserved} and "exit code 3" in own["note"]
    assert int(own["points"]) == sum({**asked, **deserved}.values()) and int(own["of"]) == sum(asked.values())
    assert len(rows) == 8 and all(row["points"] == "0" for name, row in book.items() if name != "'=anna")
    overview = (tmp_path / "class_graded" / "overview.html").read_text("utf8")
    assert "not divided by log C" in overview and "no notebook in the folder" in overview
    page = (tmp_path / "class_graded" / "feedback" / "=anna.html").read_text("utf8")
    assert "What happened: " in page and "http" not in page and "ended before this answer" in page

    code, _, errors = grade(folder)
    assert code == 2 and errors.startswith("error: found files in")


@pytest.mark.slow
def test_right_notebooks_get_all_points_and_no_note(grade, tmp_path):
    """Also where a check makes an optimizer, and where the line of a check was deleted."""
    folder = tmp_path / "class"
    hand_in(folder, [Handed("anna", "06_sam_and_adapter"), Handed("ben")])
    path = folder / f"ben/{HAM}.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith('check("05.1"')]
    nbformat.write(notebook, path)
    code, _, errors = grade(folder)
    assert code == 0, errors
    book = (tmp_path / "class_graded" / "gradebook.csv").open(encoding="utf-8")
    assert [(row["note"], row["points"] == row["of"]) for row in csv.DictReader(book)] == [("", True)] * 2


def test_bad_options_are_one_line(grade, tmp_path):
    for options, said in (
        (["--seconds", "0"], "error: found --seconds 0.0, expected more than 0: correct it"),
        ([], "error: found nothing in"),
    ):
        code, _, errors = grade(tmp_path, *options)
        assert code == 2 and errors.startswith(said) and len(errors.splitlines()) == 1


def test_a_gradebook_of_nobody_has_its_head():
    assert gradebook([], Path()) == "student,notebook,chapter,points,of,note\n"


@pytest.mark.parametrize("chapter", ["01", "05", "08"])
def test_a_right_answer_is_never_taken_for_a_mistake(chapter):
    for exercise in import_module(f"knowsam_lite.course.chapters.ch{chapter}").EXERCISES:
        answer = Answer("done", made={"check": fingerprint(exercise, exercise.right)})
        assert named(exercise, answer) is None


def test_a_time_limit_goes_on_after_one_inside_it():
    with pytest.raises(TimeIsUp), at_most(0.3):
        with at_most(5):
            pass
        time.sleep(5)
    with at_most(0.2):
        pass
    time.sleep(0.3)  # nothing is left behind
