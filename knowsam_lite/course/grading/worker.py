"""Runs the cells of one submission and writes down what its answers compute; started by `sandbox.run`.

`python -m knowsam_lite.course.grading.worker FOLDER` reads FOLDER/job.json. It judges nothing: what the check
says and the tensors go to files in FOLDER, which the process that grades compares with the solution's.
"""

import io
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell
from safetensors.torch import save_file
from torch import Tensor
from traitlets.config import Config

from knowsam_lite import course
from knowsam_lite.course import budget, checks, quiz, setup, show
from knowsam_lite.course.checks import Checker, described, find_exercise, fingerprint, is_librarys
from knowsam_lite.course.grading.limits import Limits, confine

WATCHED = ("builtins", "inspect", "knowsam_lite", "numpy", "torch")
SAID = 10_000  # characters of a check's words that are kept
PARTS = 4  # one cell or exercise may take this part of the submission's time


class TimeIsUp(BaseException):
    """Raised in a cell or an answer that takes too long; no `except Exception` stops it."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises TimeIsUp inside after so many seconds. Around another one it goes on where that one ends."""

    def stop(_: int, __: FrameType | None) -> None:
        raise TimeIsUp(f"took longer than {seconds:g} s")

    handler = signal.signal(signal.SIGALRM, stop)
    began, (left, _) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if left:
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - began), 0.01))


def made_once() -> None:
    """Make one optimizer of each kind: with its first one PyTorch replaces the method `step` of the class."""
    for kind in list(vars(torch.optim).values()):
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer):
            make: Any = kind
            with suppress(Exception):  # the base class, and those that want other parameters
                make([torch.nn.Parameter(torch.zeros(1, 1))])


class Originals:
    """The functions, methods and classes of the watched modules as they are when this is made."""

    def __init__(self) -> None:
        self.known: list[tuple[str, Mapping[str, Any], str, Any]] = []
        self.codes: list[tuple[str, FunctionType, CodeType]] = []
        for name, module in list(sys.modules.items()):
            if name.split(".")[0] in WATCHED:
                self.keep(name, vars(module))

    def keep(self, name: str, space: Mapping[str, Any]) -> None:
        """Remember what a module or a class defines."""
        for key, value in list(space.items()):
            if callable(value):
                self.known.append((f"{name}.{key}", space, key, value))
            if type(value) is FunctionType:
                self.codes.append((f"{name}.{key}", value, value.__code__))
            elif issubclass(type(value), type) and value.__module__ == name:
                self.keep(f"{name}.{key}", vars(value))

    def changed(self) -> list[str]:
        """Names of the first ten that are something else now, or compute something else."""
        moved = (name for name, space, key, value in self.known if space.get(key) is not value)
        recoded = (name for name, function, code in self.codes if function.__code__ is not code)
        return sorted({*moved, *recoded})[:10]


class Handing(Checker):
    """Takes the place of the notebook's `check`: `check("05.1", answer)` hands the answer in."""

    def __init__(self, judge: Callable[[str, Any], None]) -> None:
        super().__init__()
        self.judge = judge

    def __call__(self, number: str, answer: Any) -> None:
        self.results[str(number)] = "to mend"
        self.judge(str(number), answer)


class Worker:
    """One submission: `job` holds its cells and what its chapter asks for."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder, self.job = folder, job
        self.step = job["limits"]["seconds"] / PARTS
        self.probes: dict[str, Any] = {}
        for number, source in job["probes"].items():
            space: dict[str, Any] = {}
            exec(source, space)
            self.probes[number] = space[job["behaviors"][number]]
        for number in job["answers"]:
            find_exercise(number)
        self.shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        self.check = Handing(self.judge)
        given = {"budget": budget, "check": self.check, "quiz": quiz, "setup": setup, "show": show}
        course.check = checks.check = self.check  # a first cell of another release imports it from there
        self.shell.push(given)
        self.shell.run_cell(job["surroundings"], silent=True).raise_error()
        for name in job["answers"].values():
            self.shell.user_ns.pop(name, None)  # the chapter imports the library's after its exercise
        self.seen: dict[str, Any] = {}  # exercise -> what its name was last, but for the library's own
        made_once()
        with self.shell.builtin_trap:
            self.originals = Originals()

    def write(self, **row: Any) -> None:
        """Add a line to what is known, at once: nobody knows how far this process gets."""
        with open(self.folder / "results.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def run(self) -> None:
        """Run the cells in order, then judge what was not handed in by a check."""
        for index, source in self.job["cells"]:
            self.cell(index, source)
        for number, name in self.job["answers"].items():
            answer = self.seen.get(number, self.shell.user_ns.get(name))
            if number not in self.check.results and answer is not None:
                self.judge(number, answer)
        self.write(whole=True, changed=self.changed())

    def cell(self, index: int, source: str) -> None:
        """Run one cell as a notebook does; an error ends the cell alone."""
        with at_most(self.step):
            outcome = self.shell.run_cell(source, store_history=False)
        error = outcome.error_before_exec or outcome.error_in_exec
        if error is not None and not (isinstance(error, NotImplementedError) and not str(error)):
            self.write(cell=index, error=described(error)[:SAID])
        for number, name in self.job["answers"].items():  # the chapter imports the library's in a later cell
            if (answer := self.shell.user_ns.get(name)) is not None and not is_librarys(answer):
                self.seen[number] = answer

    def judge(self, number: str, answer: Any) -> None:
        """Write down what the check says of an answer, and what the answer computes."""
        if number not in self.job["answers"]:
            return
        checker, said, fault = Checker(), io.StringIO(), ""
        made: dict[str, list[Tensor] | str] = {}
        try:
            with at_most(self.step), redirect_stdout(said):
                checker(number, answer)
                if checker.results[number] != "not started" and not is_librarys(answer):
                    made["check"] = fingerprint(find_exercise(number), answer)
                    made["hidden"] = probed(self.probes[number], answer)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            checker.results[number], fault = "to mend", f"{type(error).__name__}: {error}"
        self.write(
            exercise=number,
            state=checker.results[number],
            librarys=is_librarys(answer),
            said=said.getvalue()[:SAID],
            fault=fault[:SAID],
            errors={kind: words[:SAID] for kind, words in made.items() if isinstance(words, str)},
            changed=self.changed(),
        )
        kept = {
            f"{kind}/{i:04d}": tensor.detach().contiguous().clone()
            for kind, tensors in made.items()
            if not isinstance(tensors, str)
            for i, tensor in enumerate(tensors)
        }
        save_file(kept, self.folder / f"{number}.safetensors")

    def changed(self) -> list[str]:
        """Functions of the library, of PyTorch and of Python that were replaced since the start."""
        with self.shell.builtin_trap:  # IPython has an `exit` of its own
            return self.originals.changed()


def probed(behavior: Callable[[Any], Iterator[Tensor]], answer: Any) -> "list[Tensor] | str":
    """What the hidden tests see of an answer, or the exception that it raises, in words."""
    torch.manual_seed(0)
    try:
        return [tensor.detach().clone() for tensor in behavior(answer)]
    except Exception as error:
        return described(error)


def main() -> None:
    """Prepare everything that is trusted, give up the rights to more, then run the cells."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text("utf8"))
    (folder / "job.json").unlink()  # it holds the hidden tests and their seed
    worker = Worker(folder, job)
    limits = Limits(**job["limits"])
    worker.write(landlock=confine(folder, limits, job["alone"]))
    worker.run()


if __name__ == "__main__":
    main()
