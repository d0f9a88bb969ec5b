"""What a graded class becomes: a gradebook, a page for each student, and an overview for the teacher."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from urllib.parse import quote

from knowsam_lite.course.grading.grade import Graded
from knowsam_lite.course.grading.marks import MISSING, STATES, Mark
from knowsam_lite.course.reference import CHAPTERS
from knowsam_lite.files import new_folder, write_text
from knowsam_lite.report.markup import opening, page, section, table, tag

UNNAMED = "not in the catalogue"


def write(graded: Sequence[Graded], folder: Path, out: Path) -> None:
    """Write gradebook.csv, overview.html and feedback/STUDENT.html into `out`, which must be new or empty."""
    with new_folder(out) as made:
        (made / "feedback").mkdir()
        write_text(made / "gradebook.csv", gradebook(graded, folder))
        write_text(made / "overview.html", overview(graded, folder.name))
        for student, own in _by_student(graded):
            write_text(made / "feedback" / f"{student}.html", feedback(student, own))


def _by_student(graded: Sequence[Graded]) -> Iterator[tuple[str, list[Graded]]]:
    for student, own in groupby(sorted(graded, key=_student), key=_student):
        yield student, list(own)


def _student(made: Graded) -> str:
    return made.submission.student


def gradebook(graded: Sequence[Graded], folder: Path) -> str:
    """One line for each submission: its points, those of each exercise, and what happened to it."""
    numbers = sorted({t.number for g in graded if g.chapter is not None for t in g.chapter.tasks})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["student", "notebook", "chapter", "points", "of", *numbers, "note"])
    for g in graded:
        points = {m.task.number: m.points for m in g.marks}
        where = g.submission.path.relative_to(folder)
        row = [g.submission.student, where, g.submission.chapter, g.points, g.possible]
        writer.writerow(map(_plain, [*row, *(points.get(n, "") for n in numbers), "; ".join(g.notes)]))
    return text.getvalue()


def _plain(value: object) -> str:
    """A cell that no spreadsheet takes for a formula: the names are the students' own."""
    words = str(value)
    return f"'{words}" if words.startswith(("=", "+", "-", "@", "\t", "\r")) else words


def feedback(student: str, own: Sequence[Graded]) -> str:
    """A student's page: points, and what the check says of each answer."""
    parts = [tag("h1", student)]
    for g in own:
        name = g.submission.path.name
        if g.chapter is not None:
            name = f"{g.chapter.number} {CHAPTERS[g.chapter.number]}"
        said = [tag("p", f"Note: {note}.", class_="note") for note in g.notes[:5]]
        if not g.marks:
            parts.append(section(name, *said, tag("p", "Nothing could be marked: please hand it in again.")))
            continue
        rows = [
            (m.task.number, [tag("span", m.task.title), f"{m.points} of {_worth(m)}", tag("span", m.state)])
            for m in g.marks
        ]
        parts.append(
            section(
                f"{name}: {g.points} of {g.possible} points",
                *said,
                table(("exercise", "title", "points", "state"), rows),
                *(_answer(m) for m in g.marks),
            )
        )
    parts.append(
        tag(
            "footer", "Half of the points are for the check that you know, half for the same on other inputs."
        )
    )
    return page(f"Feedback for {student}", "\n".join(parts))


def _worth(mark: Mark) -> int:
    return mark.task.check_points + mark.task.hidden_points


def _answer(mark: Mark) -> str:
    """One exercise of a student's page."""
    points = (
        f"{mark.check} of {mark.task.check_points} for the check, {mark.hidden} of {mark.task.hidden_points}"
    )
    return "".join(
        [
            tag("h3", f"{mark.task.number} {mark.task.title}"),
            tag("p", f"{points} on other inputs.", class_="quiet"),
            tag("pre", mark.said.rstrip()) if mark.said else "",
            *(tag("p", note) for note in mark.notes),
        ]
    )


def overview(graded: Sequence[Graded], name: str) -> str:
    """The teacher's page: which exercise, which named mistake, how often; what to look at; all students."""
    marked = [g for g in graded if g.marks]
    parts = [
        tag("h1", f"{name}: {len(graded)} submissions"),
        _facts(graded, marked),
        section("Exercises", *_exercises(marked)),
        section("Mistakes", *_mistakes(marked)),
        section("To look at", *_odd(graded)),
        section("Students", _students(graded)),
    ]
    return page(f"Overview of {name}", "\n".join(parts))


def _facts(graded: Sequence[Graded], marked: Sequence[Graded]) -> str:
    shares = sorted(g.points / g.possible for g in marked)
    facts = {
        "submissions": len(graded),
        "could not be marked": len(graded) - len(marked),
        "median of the points": f"{shares[len(shares) // 2]:.0%}" if shares else "-",
        "all points": sum(g.points == g.possible for g in marked),
    }
    items = "".join(f"<li>{tag('b', value)}{tag('span', words)}</li>" for words, value in facts.items())
    return f'<ul class="facts">{items}</ul>'


def _marks(graded: Iterable[Graded]) -> dict[str, list[Mark]]:
    """The marks of all submissions by exercise."""
    found: dict[str, list[Mark]] = {}
    for m in (m for g in graded for m in g.marks):
        found.setdefault(m.task.number, []).append(m)
    return dict(sorted(found.items()))


def _exercises(marked: Sequence[Graded]) -> list[str]:
    states = (*STATES, MISSING)
    rows = []
    for number, marks in _marks(marked).items():
        count = Counter(m.state for m in marks)
        share = sum(m.points for m in marks) / sum(map(_worth, marks))
        cells = [tag("span", marks[0].task.title), *(str(count[state]) for state in states), f"{share:.0%}"]
        rows.append((number, cells))
    return [table(("exercise", "title", *states, "points"), rows)]


def _mistakes(marked: Sequence[Graded]) -> list[str]:
    rows = []
    for number, marks in _marks(marked).items():
        wrong = [m for m in marks if m.state == "to mend"]
        says = {m.mistake.name: m.mistake.says for m in wrong if m.mistake is not None}
        count = Counter(m.mistake.name if m.mistake is not None else UNNAMED for m in wrong)
        for mistake, times in count.most_common():
            rows.append((number, [tag("span", mistake), str(times), tag("span", says.get(mistake, ""))]))
    if not rows:
        return [tag("p", "None.")]
    return [_wrapped(table(("exercise", "mistake", "times", "what happened"), rows))]


def _wrapped(made: str) -> str:
    return f"{opening('div', class_='wide')}{made}</div>"


def _odd(graded: Sequence[Graded]) -> list[str]:
    """What a person should see: faults of notebooks, and answers that fit the check alone."""
    rows = []
    for g in graded:
        words = [*g.notes, *(f"{m.task.number}: {' '.join(m.notes)}" for m in g.marks if m.odd)]
        if words:
            rows.append((g.submission.student, [tag("span", "; ".join(words))]))
    return [_wrapped(table(("student", "what"), rows))] if rows else [tag("p", "Nothing.")]


def _students(graded: Sequence[Graded]) -> str:
    rows = []
    for g in graded:
        student = g.submission.student
        link = tag("a", "feedback", href=f"feedback/{quote(student, errors='replace')}.html")
        points = f"{g.points} of {g.possible}" if g.possible else "-"
        rows.append((student, [tag("span", g.submission.chapter), points, f"{g.seconds:.0f} s", link]))
    return table(("student", "chapter", "points", "time", ""), rows)
