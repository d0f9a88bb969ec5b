"""Checks that teach: one fixed line per property, and for a wrong answer the name of the mistake.

An exercise's own numbers never appear in what is printed, so the text is the same on every machine.
"""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from knowsam_lite.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

# The place of a hint: numbered hints, or the text, table or equation of the exercise or above it.
PLACE = re.compile(r"^(hints? \d(?: and \d)?|the (?:equation|text|table))(?: (above))?(?=[ :,.])(?! of )")
SHOWN = 4  # largest number of mistakes offered when none fits exactly
# Library classes made to be inherited from: what an exercise asks for is left to their subclasses.
CONTRACTS = ("knowsam_lite.methods.base.Method", "knowsam_lite.methods.with_sam.WithSam")


@dataclass(frozen=True)
class Property:
    """A property of a right answer: `says` is printed, `holds(answer)` decides; an exception is a no."""

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


@dataclass(frozen=True)
class Exercise:
    """`number` is "CC.E": chapter, exercise. `probe(answer)` gives tensors that tell two answers apart."""

    number: str
    title: str
    probe: Callable[[Any], Sequence["Tensor"]]
    properties: tuple[Property, ...]
    mistakes: tuple[Mistake, ...]

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


def fingerprint(exercise: Exercise, answer: Any) -> "list[Tensor] | str":
    """What the answer computes on the probes, or the exception that it raises, in words."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            return [tensor.detach().clone() for tensor in exercise.probe(answer)]
        except Exception as error:
            return described(error)


def described(error: Exception) -> str:
    """The exception's type and the first line of its message."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"


def raised_by(answer: Any, error: Exception) -> bool:
    """True if the error was raised in the answer's module or below it, not in the check that uses it."""
    home, trace = getattr(answer, "__module__", None), error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == home:
            return True
        trace = trace.tb_next
    return False


def alike(a: "list[Tensor] | str", b: "list[Tensor] | str") -> bool:
    """True if two fingerprints are the same: shapes, types, and values within rounding."""
    import torch

    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return len(a) == len(b) and all(
        s.shape == t.shape
        and s.dtype == t.dtype
        and torch.allclose(s.double(), t.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
        for s, t in zip(a, b, strict=True)
    )


def diagnose(exercise: Exercise, answer: Any) -> Mistake | None:
    """The catalogued mistake that computes the same as the answer, if there is one."""
    made = fingerprint(exercise, answer)
    return next((m for m in exercise.mistakes if alike(made, fingerprint(exercise, m.answer))), None)


def failures(exercise: Exercise, answer: Any) -> dict[str, str]:
    """Property -> why it does not hold ("" if it computes something else).

    A bare NotImplementedError, that of an untouched stub, passes through; PyTorch's own have a message.
    """
    import torch

    failed = {}
    for prop in exercise.properties:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                if not prop.holds(answer):
                    failed[prop.name] = ""
            except Exception as error:
                if isinstance(error, NotImplementedError) and not str(error):
                    raise
                said = (
                    "Your code raised" if raised_by(answer, error) else "What you return is of no use here:"
                )
                failed[prop.name] = f"{said} {described(error)}"
    return failed


def suspects(exercise: Exercise, failed: set[str]) -> list[Mistake]:
    """Catalogued mistakes that break some of these properties and no others. In greedy order: each breaks as
    many as possible of those that the ones before leave.

    Empty if every property failed: then anything would fit.
    """
    if len(failed) == len(exercise.properties):
        return []
    broken = [(mistake, failures(exercise, mistake.answer).keys()) for mistake in exercise.mistakes]
    fitting = [(mistake, names) for mistake, names in broken if names and names <= failed]
    first, left = [], set(failed)
    while fitting:
        best = max(fitting, key=lambda pair: len(pair[1] & left))
        fitting.remove(best)
        first.append(best[0])
        left -= best[1]
    return first


class Checker:
    """`check("05.1", entropy_map)` checks an answer; `check.report()` shows your progress."""

    def __init__(self) -> None:
        self.results: dict[str, str] = {}

    def __call__(self, number: str, answer: Any) -> None:
        exercise = find_exercise(number)
        self.results[number] = "to mend"
        if is_librarys(answer):
            print(f"{number}  {exercise.title}: this is the library's own, and no answer of yours;")
            print("      run the cell that defines yours, then this one again")
            return
        try:
            failed = failures(exercise, answer)
        except NotImplementedError:
            self.results[number] = "not started"
            print(f"{number}  {exercise.title}: not started")
            return
        print(f"{number}  {exercise.title}")
        for prop in exercise.properties:
            print(f"  {'no' if prop.name in failed else 'ok'}  {prop.name:<10}  {prop.says}")
        if not failed:
            self.results[number] = "done"
            print("  All properties hold.")
            return
        self._explain(exercise, answer, failed)

    def _explain(self, exercise: Exercise, answer: Any, failed: dict[str, str]) -> None:
        mistake = diagnose(exercise, answer)
        if mistake is not None:
            print(f"  What happened: {mistake.says}")
            print(f"  What helps: {exercise.help_for(mistake)}")
            return
        for error in dict.fromkeys(filter(None, failed.values())):
            print(f"  {error}")
        print(f"  Begin with the first line that says no; the hints stand above exercise {exercise.number}.")
        perhaps = list(dict.fromkeys(mistake.says for mistake in suspects(exercise, set(failed))))
        if perhaps:
            print("  Your mistake is not in the catalogue, or there are two. What fits some of these lines:")
        for says in perhaps[:SHOWN]:
            print(f"  - {says}")
        if perhaps[SHOWN:]:
            print(f"  - and {len(perhaps) - SHOWN} more: see the hints")

    def report(self) -> None:
        """Print the state of every exercise of the chapters checked in this session."""
        for chapter in sorted({number.split(".")[0] for number in self.results}):
            module = import_module(f"knowsam_lite.course.chapters.ch{chapter}")
            states = [self.results.get(exercise.number, "not started") for exercise in module.EXERCISES]
            for exercise, state in zip(module.EXERCISES, states, strict=True):
                print(f"{exercise.number}  {exercise.title:<36}  {state}")
            print(f"chapter {chapter}: {states.count('done')} of {len(states)} done")


check = Checker()
