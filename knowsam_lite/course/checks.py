"""Checks that teach: one fixed line per property, and for a wrong answer the name of the mistake.

What a right or a catalogued answer prints holds no number of its own, so it is the same on every machine.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from knowsam_lite.course import progress
from knowsam_lite.course.alike import alike, close
from knowsam_lite.course.audience import by_a_person
from knowsam_lite.course.cards import Cards
from knowsam_lite.course.evidence import comparisons, counterexample, described, own_line, seeded
from knowsam_lite.course.told import KINDS, Kind, Line, tell
from knowsam_lite.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# The place of a hint: numbered hints, or the text, table or equation of the exercise or above it.
PLACE = re.compile(r"^(hints? \d(?: and \d)?|the (?:equation|text|table))(?: (above))?(?=[ :,.])(?! of )")
MARKS: dict[str, Kind] = {"ok": "good", "no": "bad", "-": "quiet"}
SHOWN = 3  # largest number of mistakes offered when none fits exactly
# Library classes made to be inherited from: what an exercise asks for is left to their subclasses.
CONTRACTS = ("knowsam_lite.methods.base.Method", "knowsam_lite.methods.with_sam.WithSam")


@dataclass(frozen=True)
class Property:
    """A property of a right answer: `says` is printed, `holds(answer)` decides."""

    name: str
    says: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that learners give: what it is, which hint helps, and the answer itself.

    A hint begins with its place ("hint 2: ...", "the equation above: ..."); `Exercise.help_for` adds
    the exercise's number.
    """

    name: str
    says: str
    hint: str
    answer: Any


@dataclass(frozen=True, eq=False)
class Exercise:
    """`number` is "CC.E": chapter, exercise. `probe(answer)` gives tensors that tell two answers apart;
    `right` is the answer with which wrong ones are compared.
    """

    number: str
    title: str
    probe: Callable[[Any], Sequence["Tensor"]]
    properties: tuple[Property, ...]
    mistakes: tuple[Mistake, ...]
    right: Any

    def help_for(self, mistake: Mistake) -> str:
        """The mistake's hint as it is printed: "hint 2: ..." becomes "hint 2 of exercise 05.1: ..."."""
        return PLACE.sub(
            lambda place: f"{place[1]} {place[2] or 'of'} exercise {self.number}", mistake.hint, count=1
        )


def find_exercise(number: str) -> Exercise:
    """The exercise of this number. Raises UserError if there is none."""
    chapter = number.split(".")[0]
    try:
        exercises: Sequence[Exercise] = import_module(f"knowsam_lite.course.chapters.ch{chapter}").EXERCISES
        return next(exercise for exercise in exercises if exercise.number == number)
    except (ModuleNotFoundError, StopIteration):
        raise UserError(f'found exercise {number!r}, expected a number such as "05.1": correct it') from None


def is_librarys(answer: Any) -> bool:
    """True if the answer is an object of this library, or a class that inherits from one that does the work
    (not from one of `CONTRACTS` alone).
    """
    kinds = inspect.getmro(answer) if inspect.isclass(answer) else (answer,)
    homes = [str(getattr(kind, "__module__", "")) for kind in kinds]
    return any(
        home.split(".")[0] == "knowsam_lite" and f"{home}.{kind.__qualname__}" not in CONTRACTS
        for home, kind in zip(homes, kinds, strict=True)
    )


@dataclass(frozen=True)
class Verdict:
    """What a property says of an answer: "ok", "no", or "-" where it cannot be judged before an earlier
    "no" is mended; and the error that was raised, if any.
    """

    mark: str
    why: str = ""


def fingerprint(exercise: Exercise, answer: Any) -> "list[Tensor] | str":
    """What the answer computes on the probes, or the exception that it raises, in words."""
    with seeded():
        try:
            return [tensor.detach().clone() for tensor in exercise.probe(answer)]
        except Exception as error:
            return described(error)


@cache
def known(exercise: Exercise) -> "tuple[list[Tensor] | str, ...]":
    """The fingerprints of the right answer and of the catalogued mistakes, in their order."""
    return tuple(fingerprint(exercise, a) for a in (exercise.right, *(m.answer for m in exercise.mistakes)))


def diagnose(exercise: Exercise, answer: Any) -> Mistake | None:
    """The catalogued mistake that computes the same as the answer, if there is one. Where the probes do not
    tell it from the right answer, the same properties have to fail as well.
    """
    made, (right, *theirs) = fingerprint(exercise, answer), known(exercise)
    told = not alike(made, right)
    for mistake, other in zip(exercise.mistakes, theirs, strict=True):
        if alike(made, other) and (
            told or failures(exercise, answer).keys() == failures(exercise, mistake.answer).keys()
        ):
            return mistake
    return None


def verdicts(exercise: Exercise, answer: Any) -> dict[str, Verdict]:
    """Property -> what it says of the answer.

    A bare NotImplementedError, that of an untouched stub, passes through; PyTorch's own have a message.
    """
    found: dict[str, Verdict] = {}
    raised = set()  # the answer's own lines
    for prop in exercise.properties:
        failed = any(verdict.mark == "no" for verdict in found.values())
        with seeded(), comparisons() as unlike:
            try:
                holds = prop.holds(answer)
            except Exception as error:
                if isinstance(error, NotImplementedError) and not str(error):
                    raise
                line = own_line(answer, error)
                says = (
                    f"Your code raised {described(error)}\n    {line}"
                    if line
                    else (f"The check could not use your answer: {described(error)}")
                )
                known = line in raised if line else failed
                raised.add(line)
                found[prop.name] = Verdict("-" if known else "no", says)
                continue
        judged = any(_comparable(*pair) for pair in unlike) or not unlike
        found[prop.name] = Verdict("ok" if holds else "no" if judged or not failed else "-")
    return found


def _comparable(found: Sequence["Tensor"], expected: Sequence["Tensor"]) -> bool:
    """True if two unlike lists of tensors differ in values, not only in number, shapes or types."""
    return len(found) == len(expected) and any(
        s.shape == t.shape and not close(s, t) for s, t in zip(found, expected, strict=True)
    )


def failures(exercise: Exercise, answer: Any) -> dict[str, str]:
    """Property -> why it does not hold ("" if it computes something else)."""
    found = verdicts(exercise, answer)
    return {name: verdict.why for name, verdict in found.items() if verdict.mark != "ok"}


def suspects(exercise: Exercise, answer: Any) -> list[Mistake]:
    """Catalogued mistakes that may be part of the answer's, the most telling first.

    On the probes on which such a mistake is wrong the answer is wrong, too, and on half of them or more
    it has the mistake's own values. A tensor of equal numbers tells little: many mistakes end there.
    """
    made, (right, *theirs) = fingerprint(exercise, answer), known(exercise)
    telling = []
    for mistake, others in zip(exercise.mistakes, theirs, strict=True):
        if isinstance(made, str) or isinstance(others, str) or not len(made) == len(others) == len(right):
            continue
        each = [slice(i, i + 1) for i in range(len(right))]
        wrong = [i for i in each if not alike(others[i], right[i])]
        agreeing = sum(alike(made[i], others[i]) and _telling(made[i][0]) for i in wrong)
        if wrong and 2 * agreeing >= len(wrong) and not any(alike(made[i], right[i]) for i in wrong):
            telling.append((agreeing, mistake))
    return [mistake for _, mistake in sorted(telling, key=lambda pair: -pair[0])]


def _telling(tensor: "Tensor") -> bool:
    return tensor.numel() == 1 or tensor.unique().numel() > 1


class Checker:
    """`check("05.1", entropy_map)` checks an answer; `check.report()` shows your progress."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}
        self.cards = Cards()

    def __call__(self, number: str, answer: Any) -> None:
        exercise = find_exercise(number)
        self.results[number] = "to mend"
        lines = self._judge(exercise, answer)
        state = self.results[number]
        tell(lines, Line(state, KINDS[state]))
        if by_a_person():
            progress.keep({number: state})
            self.cards.renew(number, self.results)

    def card(self, number: str, **numbers: int) -> None:
        """Show an exercise's card: its difficulty, importance and minutes, and the learner's state."""
        self.cards.show(number, numbers, self.results)

    def _judge(self, exercise: Exercise, answer: Any) -> list[Line]:
        """What is said of an answer; its state is in `results` then."""
        number, title = exercise.number, f"{exercise.number}  {exercise.title}"
        if is_librarys(answer):
            return [
                Line(f"{title}: this is the library's own, and no answer of yours;"),
                Line("      run the cell that defines yours, then this one again"),
            ]
        try:
            found = verdicts(exercise, answer)
        except NotImplementedError:
            self.results[number] = "not started"
            return [Line(f"{title}: not started")]
        said = [Line(title)]
        for prop in exercise.properties:
            mark = found[prop.name].mark
            said.append(Line(f"  {mark:<2}  {prop.name:<10}  {prop.says}", MARKS[mark]))
        if all(verdict.mark == "ok" for verdict in found.values()):
            self.results[number] = "done"
            return [*said, Line("  All properties hold.", "good")]
        return [*said, *self._explained(exercise, answer, found)]

    def _explained(self, exercise: Exercise, answer: Any, found: dict[str, Verdict]) -> Iterator[Line]:
        mistake = diagnose(exercise, answer)
        if mistake is not None:
            yield Line(f"  What happened: {mistake.says}", "bad")
            yield Line(f"  What helps: {exercise.help_for(mistake)}")
            return
        if any(verdict.mark == "-" for verdict in found.values()):
            yield Line("  A line marked - cannot be judged yet.", "quiet")
        for error in dict.fromkeys(v.why for v in found.values() if v.mark == "no" and v.why):
            yield Line(f"  {error}", "bad")
        yield from self._example(
            exercise, answer, [p for p in exercise.properties if found[p.name] == Verdict("no")]
        )
        yield Line(
            f"  Begin with the first line that says no; the hints stand above exercise {exercise.number}."
        )
        perhaps = suspects(exercise, answer)
        if perhaps:
            yield Line(
                "  Your mistake is not in the catalogue, or there are two. Some of your values are those of:"
            )
        for mistake in perhaps[:SHOWN]:
            yield Line(f"  - {mistake.name} ({exercise.help_for(mistake)})")

    def _example(self, exercise: Exercise, answer: Any, failed: Sequence[Property]) -> Iterator[Line]:
        """A small input that shows what is wrong: the first one with a wrong value, else the first."""
        seen: tuple[str, ...] = ()
        values = False
        for prop in failed:
            example = counterexample(answer, exercise.right, prop.holds)
            if example and (not seen or example.values):
                seen = f"  An example for {prop.name}:", *(f"    {line}" for line in example.lines)
                values = example.values
            if values:
                break
        yield from map(Line, seen)

    def report(self) -> None:
        """Show the state of every exercise of the chapters checked in this session; where a person runs the
        notebook also what was done before.
        """
        kept = progress.load() if by_a_person() else {}
        before = {number: state for number, state in kept.items() if _is_known(number)}
        now = {number.split(".")[0] for number in self.results}
        states = progress.merged(before, self.results)
        lines: list[Line] = []
        for chapter in sorted(now | {number.split(".")[0] for number in before}):
            exercises: Sequence[Exercise] = import_module(
                f"knowsam_lite.course.chapters.ch{chapter}"
            ).EXERCISES
            reached = [states.get(exercise.number, "not started") for exercise in exercises]
            if chapter in now:
                for exercise, state in zip(exercises, reached, strict=True):
                    lines.append(
                        Line(f"{exercise.number}  {exercise.title:<36}  {state}", KINDS.get(state, "quiet"))
                    )
            lines.append(Line(f"chapter {chapter}: {reached.count('done')} of {len(reached)} done"))
        if lines:
            tell(lines)


def _is_known(number: str) -> bool:
    """False for what another version of the course may have left in the file."""
    try:
        return bool(find_exercise(number))
    except UserError:
        return False


check = Checker()
