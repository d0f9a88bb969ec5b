"""Points: what the process of a submission wrote down, compared with what the solution computes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from knowsam_lite.course.alike import alike
from knowsam_lite.course.checks import Exercise, Mistake, find_exercise, known
from knowsam_lite.course.grading.chapter import Chapter
from knowsam_lite.course.grading.sandbox import read_foreign
from knowsam_lite.course.marking import Task

LINES, TENSORS = 2**20, 2**28  # bytes of results that are read
STATES = ("done", "to mend", "not started")
MISSING = "missing"


@dataclass(frozen=True)
class Answer:
    """What is known of one answer: the check's words, and tensors, or an exception in words, by kind."""

    state: str  # one of STATES, or MISSING
    said: str = ""
    fault: str = ""
    librarys: bool = False
    changed: tuple[str, ...] = ()
    made: dict[str, "list[Tensor] | str"] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """What the process of a submission wrote down: answers by exercise, and the errors of its cells."""

    answers: dict[str, Answer]
    errors: tuple[str, ...]
    whole: bool  # it came to its end
    changed: tuple[str, ...]  # functions that are not what they were at the start
    landlock: bool = False


@dataclass(frozen=True)
class Mark:
    """The points of one exercise and what the learner is told: `mistake` is the catalogued one, if any."""

    task: Task
    state: str
    check: int
    hidden: int
    said: str = ""
    notes: tuple[str, ...] = ()
    mistake: Mistake | None = None
    odd: bool = False  # a teacher should look at it

    @property
    def points(self) -> int:
        return self.check + self.hidden


def read_results(folder: Path) -> Results:
    """What a process left in its folder; whatever is not as `worker` writes it is left out."""
    answers: dict[str, Answer] = {}
    errors: list[str] = []
    whole, landlock = False, False
    changed: tuple[str, ...] = ()
    for line in read_foreign(folder / "results.jsonl", LINES).decode("utf-8", "replace").splitlines():
        try:
            row = json.loads(line)
            if "exercise" in row:
                answers[str(row["exercise"])] = _answer(folder, row)
            elif "cell" in row:
                errors.append(f"cell {int(row['cell'])} raised {row['error']}")
            elif "whole" in row:
                whole, changed = True, tuple(map(str, row["changed"]))
            else:
                landlock = bool(row["landlock"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            errors.append("a line of the results is not what the grader writes")
    return Results(answers, tuple(errors), whole, changed, landlock)


def _answer(folder: Path, row: dict[str, Any]) -> Answer:
    number, state = str(row["exercise"]), str(row["state"])
    if state not in STATES or "/" in number:
        raise ValueError(state)
    made: dict[str, list[Tensor] | str] = {kind: str(words) for kind, words in row["errors"].items()}
    data = read_foreign(folder / f"{number}.safetensors", TENSORS)
    try:
        tensors = load(data) if data else {}
    except SafetensorError:
        tensors = {}
    for name in sorted(tensors):
        kept = made.setdefault(name.split("/")[0], [])
        if isinstance(kept, list):
            kept.append(tensors[name])
    changed = tuple(map(str, row["changed"]))
    return Answer(state, str(row["said"]), str(row["fault"]), bool(row["librarys"]), changed, made)


def mark(chapter: Chapter, results: Results, solution: Results) -> list[Mark]:
    """The marks of a submission, in the order of the exercises. `solution`: the results of the solutions.

    The check's points need its words, which come from the submission's process; the hidden tests' points need
    the solution's numbers, compared here.
    """
    return [_mark(task, results, solution.answers[task.number]) for task in chapter.tasks]


def _mark(task: Task, results: Results, solution: Answer) -> Mark:
    answer = results.answers.get(task.number)
    if answer is None:
        why = (
            "Your notebook has no such answer."
            if results.whole
            else "Your notebook ended before this answer."
        )
        return Mark(task, MISSING, 0, 0, notes=(why,))
    if answer.state == "not started":
        return Mark(task, answer.state, 0, 0, answer.said)
    exercise = find_exercise(task.number)
    mistake = named(exercise, answer)
    fits = differs(answer.made.get("hidden", []), solution.made["hidden"])
    passed = answer.state == "done" and not answer.librarys
    notes, odd = [answer.fault] if answer.fault else [], False
    if answer.changed:
        notes.append(f"Your notebook replaces {', '.join(answer.changed)}: no check counts after that.")
        passed = False
    elif passed and (mistake is not None or isinstance(answer.made.get("check"), str)):
        notes.append("The check says yes to an answer that it refuses: your teacher will look at it.")
        passed, odd = False, True
    if answer.librarys:
        fits = "it is the library's own"
    if fits and passed:
        notes.append(f"On other inputs than the check's: {fits}.")
        odd = True
    return Mark(
        task,
        "done" if passed else "to mend",
        task.check_points if passed else 0,
        0 if fits else task.hidden_points,
        answer.said,
        tuple(notes),
        None if passed else mistake,
        odd,
    )


def named(exercise: Exercise, answer: Answer) -> Mistake | None:
    """The catalogued mistake that computes the same as an answer, if there is one."""
    made = answer.made.get("check")
    if made is None:
        return None
    return next((m for m, wrong in _catalogue(exercise) if alike(made, wrong)), None)


_CATALOGUES: dict[str, list[tuple[Mistake, "list[Tensor] | str"]]] = {}


def _catalogue(exercise: Exercise) -> list[tuple[Mistake, "list[Tensor] | str"]]:
    """What each catalogued mistake computes, once a process."""
    if exercise.number not in _CATALOGUES:
        right, *theirs = known(exercise)  # a mistake that the probes do not tell from it is none here
        pairs = zip(exercise.mistakes, theirs, strict=True)
        _CATALOGUES[exercise.number] = [(m, made) for m, made in pairs if not alike(made, right)]
    return _CATALOGUES[exercise.number]


def differs(made: "Sequence[Tensor] | str", expected: "Sequence[Tensor] | str") -> str:
    """In what the results of the hidden tests differ from the solution's, "" if in nothing."""
    if isinstance(made, str) or isinstance(expected, str):
        return f"it raises {made}" if isinstance(made, str) else "it computes nothing"
    if len(made) != len(expected):
        return f"it gives {len(made)} results, expected {len(expected)}"
    for a, b in zip(made, expected, strict=True):
        if a.shape != b.shape:
            return f"a result has the shape {tuple(a.shape)}, expected {tuple(b.shape)}"
    wrong = sum(
        not torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4, equal_nan=True)
        for a, b in zip(made, expected, strict=True)
    )
    return f"{wrong} of {len(made)} results have other values" if wrong else ""
