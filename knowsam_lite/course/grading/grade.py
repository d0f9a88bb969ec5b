"""Grades a class: the solutions first, then every submission in a process of its own, a few at a time."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import knowsam_lite
from knowsam_lite.course.builder import sources
from knowsam_lite.course.grading import sandbox
from knowsam_lite.course.grading.chapter import Chapter, read_chapter
from knowsam_lite.course.grading.limits import Limits
from knowsam_lite.course.grading.marks import Mark, Results, mark, read_results
from knowsam_lite.course.grading.submissions import Submission, collect
from knowsam_lite.errors import UserError

DEFAULT = Limits()
WORKER = "knowsam_lite.course.grading.worker"
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "SYSTEMROOT")  # of the environment; no password is


@dataclass(frozen=True)
class Graded:
    """A submission with its marks, which are empty if it could not be marked; `notes` are the teacher's."""

    submission: Submission
    chapter: Chapter | None
    marks: tuple[Mark, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def points(self) -> int:
        return sum(each.points for each in self.marks)

    @property
    def possible(self) -> int:
        return sum(t.check_points + t.hidden_points for t in self.chapter.tasks) if self.chapter else 0


def grade(
    folder: Path,
    root: Path,
    limits: Limits = DEFAULT,
    processes: int = 2,
    seed: int = 1,
    told: Callable[[str], None] = print,
) -> list[Graded]:
    """Mark every submission in `folder`, in its order. `seed` draws the hidden tests, `told` hears of each.

    Raises UserError if there is nothing to mark, or if a chapter's own solutions do not pass here.
    """
    named = {source.stem[:2]: source for source in sources(root)}
    found = collect(folder, named)
    if not sandbox.namespaces():
        told("note: this system separates no processes: submissions can reach the network and your programs")
    known = {n: read_chapter(named[n], root, seed) for n in sorted({s.chapter for s in found if s.chapter})}
    wanted = sorted({s.chapter for s in found if not s.fault})
    with ThreadPoolExecutor(processes) as pool:
        solved = dict(zip(wanted, pool.map(lambda n: solution(known[n], limits), wanted), strict=True))
        if any(not results.landlock for results in solved.values()):
            told("note: this system has no Landlock: submissions can read and write the files that you can")
        jobs = {pool.submit(_graded, s, known, solved, limits): i for i, s in enumerate(found)}
        graded: dict[int, Graded] = {}
        for done, job in enumerate(as_completed(jobs), start=1):
            made = graded[jobs[job]] = job.result()
            told(f"{done} of {len(found)}  {_line(made)}")
    return [graded[i] for i in range(len(found))]


def _line(made: Graded) -> str:
    first = f"  ({made.notes[0]})" if made.notes else ""
    where = made.submission.chapter or "--"
    return f"{made.submission.student}  {where}  {made.points} of {made.possible} points{first}"


def solution(chapter: Chapter, limits: Limits) -> Results:
    """What a chapter's own solutions compute here. Raises UserError if they do not pass."""
    results, outcome = execute(chapter, list(enumerate(chapter.solved, start=1)), limits)
    failed = [t.number for t in chapter.tasks if _fails(results, t.number)]
    if failed:
        says = "; ".join([outcome.ended, *results.errors, *outcome.printed.strip().splitlines()[-1:]]).strip(
            "; "
        )
        raise UserError(
            f"found the course's own solution of {failed[0]} failing here ({says or 'no message'}), expected "
            "full points: give it more --seconds or --memory, or check this installation"
        )
    return results


def _fails(results: Results, number: str) -> bool:
    answer = results.answers.get(number)
    hidden = answer is not None and isinstance(answer.made.get("hidden", ""), str)
    return answer is None or answer.state != "done" or hidden or bool(answer.changed)


def execute(
    chapter: Chapter, cells: Sequence[tuple[int, str]], limits: Limits
) -> tuple[Results, sandbox.Outcome]:
    """Run cells in a process of their own, in a new folder that is removed afterwards."""
    job = {**chapter.job(cells), "limits": asdict(limits), "alone": sandbox.has_own_user()}
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    library = Path(knowsam_lite.__file__).parents[1]
    variables = {
        "PYTHONPATH": os.pathsep.join([str(library), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "CUDA_VISIBLE_DEVICES": "",  # the same device for all, and no card that they would share
        "KNOWSAM_LITE_BUDGET": "smoke",
    }
    with tempfile.TemporaryDirectory(prefix="grade_", ignore_cleanup_errors=True) as place:
        folder = Path(place).resolve()
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        command = [sys.executable, "-m", WORKER, str(folder)]
        outcome = sandbox.run(command, folder, limits, {**kept, **variables})
        return read_results(folder), outcome


def _graded(
    submission: Submission, known: dict[str, Chapter], solved: dict[str, Results], limits: Limits
) -> Graded:
    chapter = known.get(submission.chapter)
    if submission.fault or chapter is None:
        return Graded(submission, chapter, (), (submission.fault,), 0.0)
    results, outcome = execute(chapter, submission.cells, limits)
    notes = []
    if outcome.ended:
        notes.append(f"the notebook {outcome.ended} and was stopped")
    elif not results.whole:
        notes.append(f"the notebook ended its process (exit code {outcome.code})")
    changed = sorted({*results.changed, *(name for a in results.answers.values() for name in a.changed)})
    if changed:
        notes.append(f"the notebook replaces {', '.join(changed)}")
    marks = mark(chapter, results, solved[chapter.number])
    return Graded(submission, chapter, tuple(marks), (*notes, *results.errors), outcome.seconds)
