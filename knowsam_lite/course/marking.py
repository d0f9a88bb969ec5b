"""Marks: what each exercise is worth, and the page docs/marking.md, made from sources and catalogues."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from knowsam_lite.course.checks import find_exercise

HEAD = re.compile(
    r"^(?:# )?### Exercise (?P<number>\d\d\.\d): (?P<title>.+)\n(?:#? *\n)+"
    r"(?:# )?Difficulty (?P<difficulty>\d) of 5 · importance (?P<importance>\d) of 5 · "
    r"(?P<minutes>\d+) minutes",
    re.MULTILINE,
)
NOTE = "<!-- Made by `python -m knowsam_lite.course build` from solutions/*.py and course/chapters/*.py. -->"
INTRO = """\
What each exercise is worth, and what goes wrong in it. [Teaching](teaching.md) says how to use both.

An exercise is worth its difficulty plus its importance. The first number of points is for the check that the
learner sees, the second for the hidden tests of `build --instructor`, which ask the same of other random
numbers, sizes and numbers of classes. The tables list the mistakes that `check` knows: its description of
what happened, and the hint it points to."""


@dataclass(frozen=True)
class Task:
    """An exercise as described by its heading in the source; `minutes` is the time a learner should need."""

    number: str
    title: str
    difficulty: int
    importance: int
    minutes: int

    @property
    def hidden_points(self) -> int:
        """Points for the tests that the learner does not see."""
        return (self.difficulty + self.importance) // 2

    @property
    def check_points(self) -> int:
        """Points for the check that the learner sees."""
        return self.difficulty + self.importance - self.hidden_points


def tasks(text: str) -> list[Task]:
    """The exercises of a source or of a notebook's text, in order."""
    found = [match.groupdict() for match in HEAD.finditer(text)]
    counts = ("difficulty", "importance", "minutes")
    return [Task(f["number"], f["title"], *(int(f[name]) for name in counts)) for f in found]


def page(sources: Sequence[Path]) -> str:
    """The page of points and mistakes of all chapters."""
    chapters = {source.stem: tasks(source.read_text("utf8")) for source in sources}
    parts = [f"# Marking\n\n{NOTE}\n\n{INTRO}\n\n{_sums(chapters)}"]
    for name, found in chapters.items():
        parts += [f"## [{name[:2]} {name[3:].replace('_', ' ')}](../notebooks/{name}.ipynb)"] * bool(found)
        parts += [_notes(task) for task in found]
    return "\n\n".join(parts) + "\n"


def _sums(chapters: dict[str, list[Task]]) -> str:
    """The table of the chapters: exercises, minutes of exercise, points."""
    lines = ["| chapter | exercises | minutes of exercise | points |", "| --- | --- | --- | --- |"]
    for name, found in chapters.items():
        points = f"{sum(t.check_points for t in found)} + {sum(t.hidden_points for t in found)}"
        lines += [f"| {name[:2]} | {len(found)} | {sum(t.minutes for t in found)} | {points} |"] * bool(found)
    return "\n".join(lines)


def _notes(task: Task) -> str:
    """One exercise: its points, and its catalogued mistakes with the hint that helps."""
    exercise = find_exercise(task.number)
    mistakes = [(m.name, m.says, exercise.help_for(m)) for m in exercise.mistakes]
    rows = [[" ".join(cell.split()).replace("|", r"\|") for cell in row] for row in mistakes]
    return "\n".join(
        [
            f"### {task.number} {task.title}\n",
            f"{task.check_points} + {task.hidden_points} points · difficulty {task.difficulty} of 5 · "
            f"importance {task.importance} of 5 · {task.minutes} minutes\n",
            "| mistake | what happened | what helps |",
            "| --- | --- | --- |",
            *(f"| {' | '.join(row)} |" for row in rows),
        ]
    )
