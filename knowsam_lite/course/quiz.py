"""Five questions at the end of a chapter, marked on the spot."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from knowsam_lite.course.told import Line, tell
from knowsam_lite.errors import UserError

OPEN = "?"  # an answer that has not been given


@dataclass(frozen=True)
class Answer:
    """The right letter, why it is right, and where to read up on it."""

    letter: str
    because: str
    see: str


def quiz(chapter: str, answers: Sequence[str]) -> None:
    """Mark the letters given to a chapter's questions, in order; "?" is a question not yet answered.

    Raises UserError for a chapter without a quiz or another number of answers than of questions.
    """
    try:
        key: Sequence[Answer] = import_module(f"knowsam_lite.course.chapters.ch{chapter}").QUIZ
    except ModuleNotFoundError:
        raise UserError(f'found chapter {chapter!r}, expected one with a quiz, such as "05"') from None
    if len(answers) != len(key):
        raise UserError(
            f"found {len(answers)} answers, expected {len(key)}: write {OPEN!r} for those still open"
        )
    given = [answer.strip().lower() for answer in answers]
    if all(letter == OPEN for letter in given):
        tell([Line(f"quiz {chapter}: not started")])
        return
    lines = []
    for number, (letter, answer) in enumerate(zip(given, key, strict=True), start=1):
        if letter == OPEN:
            lines.append(Line(f"{number}  open", "quiet"))
        elif letter == answer.letter:
            lines.append(Line(f"{number}  right: {answer.because}", "good"))
        else:
            lines.append(Line(f"{number}  not {letter}: read again {answer.see}", "bad"))
    right = sum(letter == answer.letter for letter, answer in zip(given, key, strict=True))
    tell([*lines, Line(f"quiz {chapter}: {right} of {len(key)} right")])
