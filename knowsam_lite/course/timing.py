"""How long a chapter takes: to read it and run its cells, and the minutes of its exercises."""

import re
from dataclasses import dataclass

import jupytext

from knowsam_lite.course.marking import tasks

# Words a minute, with cells run, pictures looked at and the quiz: chapters 02 and 07 were timed at 110
# minutes each, and their exercises are given 56 and 44.
PACE = 55
COUNTED = ("no", "one", "two", "three", "four", "five", "six", "seven")
# What is no prose: code, formulas, tags and addresses.
APART = (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"`[^`\n]+`", r"<[^>]+>", r"\]\([^)]*\)")


@dataclass(frozen=True)
class Time:
    """Minutes of a chapter, to the next five, and how many exercises it has."""

    reading: int
    exercises: int
    count: int

    @property
    def whole(self) -> int:
        """Reading and exercises."""
        return self.reading + self.exercises

    def __str__(self) -> str:
        return (
            f"about {self.whole} minutes: {self.reading} to read and run, {self.exercises} for "
            f"{COUNTED[self.count]} exercises"
        )


def words(text: str) -> int:
    """The number of words of prose in Markdown."""
    for pattern in APART:
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return len(re.findall(r"[A-Za-z][\w'-]*", text))


def time_of(source: str) -> Time:
    """The time that a chapter takes, from the text of its source."""
    cells = jupytext.reads(source, fmt="py:percent").cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    found = tasks(prose)
    return Time(5 * round(words(prose) / PACE / 5), sum(task.minutes for task in found), len(found))
