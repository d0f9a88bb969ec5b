"""What a class hands in: right answers, catalogued mistakes and hostile notebooks, with their marks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import nbformat

from helpers.chapters import NAMES, ROOT, committed, exercise_cells
from knowsam_lite.course.marking import Task, tasks

HAM, SKD = "05_uncertainty_and_ham", "08_skd"
FULL, CHECK_ONLY, HIDDEN_ONLY, NOTHING = (True, True), (True, False), (False, True), (False, False)


@dataclass(frozen=True)
class Handed:
    """A student's notebook of a chapter: its solutions, some replaced, removed or with a cell before.

    `answers`: exercise -> its cell's source, or None to leave it open. `before`: exercise -> a cell before.
    `marks`: exercise -> points for check and hidden tests, where not all. `mistakes`: the names expected.
    """

    student: str
    chapter: str = HAM
    answers: dict[str, str | None] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    marks: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    mistakes: dict[str, str] = field(default_factory=dict)
    note: str = ""  # words of the gradebook's note

    def notebook(self) -> nbformat.NotebookNode:
        """The learner's notebook as the course hands it out, filled in."""
        made, solved = committed("notebooks", self.chapter), exercise_cells(self.chapter)
        cells = []
        for cell, after in pairwise([*made.cells, nbformat.v4.new_code_cell()]):
            asked = next((n for n in solved if after.source.startswith(f'check("{n}"')), None)
            if cell.cell_type != "code" or asked is None:
                gone = any(cell.source.startswith(f'check("{n}"') for n in self.removed)
                cells += [] if gone else [cell]
                continue
            if asked in self.before:
                cells.append(nbformat.v4.new_code_cell(self.before[asked]))
            answer = self.answers.get(asked, solved[asked][1])
            cell.source = cell.source if answer is None else answer
            cells += [] if asked in self.removed else [cell]
        made.cells = cells
        return made

    def points(self) -> dict[str, int]:
        """The points that each exercise deserves."""
        asked = asked_in(self.chapter)
        got = {t.number: zip(worth(t), self.marks.get(t.number, FULL), strict=True) for t in asked}
        return {number: sum(points for points, given in pairs if given) for number, pairs in got.items()}


def worth(task: Task) -> tuple[int, int]:
    return task.check_points, task.hidden_points


def asked_in(chapter: str) -> list[Task]:
    return tasks((ROOT / "solutions" / f"{chapter}.py").read_text("utf8"))


def wrong(
    student: str, number: str, old: str, new: str, name: str = "", marks: tuple[bool, bool] = NOTHING
) -> Handed:
    """A solution in which one thing is exchanged for another, and the catalogued name of that."""
    chapter = next(each for each in NAMES if each.startswith(number[:2]))
    source = exercise_cells(chapter)[number][1]
    assert old in source, (number, old)
    answers = {number: source.replace(old, new)}
    return Handed(student, chapter, answers, marks={number: marks}, mistakes={number: name} if name else {})


def alone(chapter: str, *numbers: str) -> dict[str, tuple[bool, bool]]:
    """Marks of a notebook in which these exercises alone count."""
    return {t.number: NOTHING for t in asked_in(chapter) if t.number not in numbers}


UNCHECKED = {n: NOTHING if n == "05.1" else HIDDEN_ONLY for n in exercise_cells(HAM)}
FORK = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass"
DEAF = "while True:\n    try:\n        while True:\n            pass\n    except BaseException:\n        pass"
DELETE = """\
import os, pathlib, shutil
for place in {places}:
    shutil.rmtree(place, ignore_errors=True)
    os.system(f"rm -rf {{place}}; touch {{place}}/evil")
    try:
        pathlib.Path(place, "evil").write_text("evil")
    except OSError as error:
        print(error)"""
PATCH = "import knowsam_lite.course.checks as checks\nchecks.failures = lambda exercise, answer: {}"
SLY = """\
def entropy_map(z):
    torch.allclose = lambda *a, **k: True
    torch.equal = lambda *a: True
    return z.float().sum(dim=1)"""
FORGE = """\
import atexit, json
row = dict(exercise="05.1", state="done", librarys=False, said="", fault="", errors={}, changed=[])
atexit.register(lambda: print(json.dumps(row), file=open("results.jsonl", "a")))"""
LIBRARYS = "from knowsam_lite.uncertainty import entropy_map"
RENAMED = exercise_cells(HAM)["05.1"][1].replace("def entropy_map", "def mine") + '\ncheck("05.1", mine)'


def thirty(places: list[str]) -> list[Handed]:
    """A class of thirty, hostile ones trying to destroy `places`; those that are no notebooks come on top."""
    kl = "torch.sum(log_p.exp() * (log_p - log_q), dim=1)"
    return [
        *(Handed(name) for name in ("anna", "björn li")),
        *(Handed(name, SKD) for name in ("dara", "emre")),
        Handed("farid", answers={"05.1": RENAMED}, note="NameError"),
        Handed(
            "grace",
            answers={"05.2": "def disagreement_map(a, b):\n    return ((a > half) != (b > half)).to(a)"},
            before={"05.2": "half = 0.5  # my own"},
        ),
        Handed("hana", answers=dict.fromkeys(["05.3", "05.4", "05.5"]), marks=alone(HAM, "05.1", "05.2")),
        Handed("igor", answers=dict.fromkeys(exercise_cells(HAM)), marks=alone(HAM)),
        wrong("jana", "05.1", " / math.log(z.shape[1])", "", "not divided by log C"),
        wrong("kofi", "05.1", "return -", "return ", "the minus sign is missing"),
        wrong("lena", "05.1", " / math.log(z.shape[1])", "", "not divided by log C"),
        wrong("mei", "05.2", ".to(p_a.dtype)", "", "left boolean", HIDDEN_ONLY),
        wrong("nils", "05.2", "torch.logical_xor", "torch.logical_or", "or in place of exclusive or"),
        wrong(
            "omar",
            "05.3",
            "entropy_map(z_b)], dim=1)",
            "entropy_map(z_b)], dim=1).detach()",
            "detached certainty",
        ),
        wrong("pia", "05.5", "copy.deepcopy(ham)", "ham", "no copy"),
        wrong("quinn", "08.1", "/ temperature", "* temperature", "multiplied by T"),
        wrong("rosa", "08.2", kl, kl.replace("log_p.exp()", "log_q.exp()"), "the student's weights"),
        wrong("sven", "08.3", "temperature**2 * ", "", "T squared is missing"),
        wrong("tara", "05.1", "return -(log_p.exp() * log_p)", "return (log_p * 2 - log_p.exp())"),
        Handed("uma", answers={"05.1": LIBRARYS}, marks={"05.1": NOTHING}),
        Handed(
            "loops",
            answers={"05.2": "def disagreement_map(a, b):\n    while True:\n        pass"},
            marks={"05.2": NOTHING},
        ),
        Handed("deaf", before={"05.1": DEAF}, marks=alone(HAM), note="took longer than"),
        Handed(
            "exits",
            before={"05.1": "import sys\nsys.exit()", "05.4": "import os\nos._exit(3)"},
            marks=alone(HAM, "05.1", "05.2", "05.3"),
            note="exit code 3",
        ),
        Handed("forks", before={"05.2": FORK}, marks=alone(HAM, "05.1"), note="processes"),
        Handed("hogs", before={"05.3": "hog = [bytearray(10**9) for _ in range(99)]"}, note="MemoryError"),
        Handed("deletes", before={"05.1": DELETE.format(places=places)}),
        Handed("prints", before={"05.1": "print('y' * 10**6)"}),
        tricky("patches", PATCH, UNCHECKED, "replaces"),
        tricky("forges", FORGE, {"05.1": NOTHING}),
        Handed("sly", answers={"05.1": SLY}, marks=UNCHECKED, note="replaces torch.allclose"),
    ]


def tricky(student: str, before: str, marks: dict[str, tuple[bool, bool]], note: str = "") -> Handed:
    """A wrong answer to 05.1, and a cell before it that is meant to make it pass."""
    made = wrong(student, "05.1", "return -", "return ")
    return Handed(student, made.chapter, made.answers, {"05.1": before}, marks=marks, note=note)


def hand_in(folder: Path, handed: list[Handed]) -> None:
    """Write the notebooks as they come back: FOLDER/STUDENT/CHAPTER.ipynb."""
    for each in handed:
        path = folder / each.student / f"{each.chapter}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(each.notebook(), path)


def broken(folder: Path) -> dict[str, str]:
    """Hand in what cannot be read: student -> words of the note."""
    made: dict[str, tuple[Callable[[Path], object], str]] = {
        "no json": (lambda p: p.write_text("not { json"), "cannot be read as a notebook"),
        "no utf8": (lambda p: p.write_bytes(b'{"cells": "\xff\xfe"}'), "cannot be read as a notebook"),
        "no cells": (lambda p: p.write_text("[1, 2]"), "no list of cells"),
        "deep": (lambda p: p.write_text("[" * 100_000), "cannot be read as a notebook"),
        "link": (lambda p: p.symlink_to("/etc/passwd"), "a link"),
        "other": (lambda p: nbformat.write(nbformat.v4.new_notebook(), p), "no exercise"),
    }
    for student, (write, _) in made.items():
        (folder / student).mkdir(parents=True)
        write(folder / student / "work.ipynb")
    (folder / "nothing").mkdir()
    return {student: words for student, (_, words) in made.items()} | {"nothing": "no notebook in the folder"}
