"""A changed solution must fail its check: automatic mutations, seeded, of every taught function."""

from collections.abc import Iterable

import pytest
import torch
from helpers.chapters import NAMES, answer, exercise_cells
from helpers.mutations import mutants

from knowsam_lite.course.checks import failures, find_exercise
from knowsam_lite.course.hidden import behavior

BEHAVIOR = behavior()
EXERCISES = [(name, number) for name in NAMES for number in exercise_cells(name)]
COUNT, SEED, WANTED = 60, 0, 0.9  # mutants tried per exercise, their choice, and the part that must fail


def differs(number: str, original: object, mutant: object) -> bool:
    """Whether a mutant does anything else than the original."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = list(BEHAVIOR[number](original))
        torch.manual_seed(0)
        try:
            made = list(BEHAVIOR[number](mutant))
        except Exception:
            return True
    return len(made) != len(expected) or not all(map(same, made, expected))


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-4, equal_nan=True)


def fails(number: str, mutant: object) -> bool:
    try:
        return bool(failures(find_exercise(number), mutant))
    except NotImplementedError:
        return True


def survivors(name: str, number: str) -> tuple[int, list[str]]:
    """How many mutants change behaviour, and those of them that pass the check."""
    original, source = answer(name, number), exercise_cells(name)[number][1]
    changed, left = 0, []
    for what, text in mutants(source, SEED, COUNT):
        try:
            mutant = answer(name, number, text)
        except Exception:  # does not even define anything
            changed += 1
            continue
        if differs(number, original, mutant):
            changed += 1
            left += [] if fails(number, mutant) else [what]
    return changed, left


@pytest.mark.parametrize(("name", "number"), EXERCISES)
def test_mutations_of_the_solution_fail_the_check(name, number, record_property):
    changed, left = survivors(name, number)
    record_property("survivors", left)
    report(number, changed, left)
    assert changed >= 5, "too few mutants to say anything"
    assert len(left) <= (1 - WANTED) * changed, f"{len(left)} of {changed} pass the check of {number}: {left}"


def report(number: str, changed: int, left: Iterable[str]) -> None:
    print(f"{number}: {changed} mutants change behaviour; survivors: {list(left) or 'none'}")
