"""Exercise 01.3, two streams."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Stream

Steps = Callable[[Stream, Stream, int, int, int], list[Record]]
SIZES = ((2, 3), (1, 4), (3, 3), (4, 0))


def streams(labeled: int = 5, unlabeled: int = 13, seed: int = 0) -> tuple[Stream, Stream]:
    """A labelled stream with records 0, 1, ... and an unlabelled one with records 100, 101, ..."""

    def walk(first: int, size: int, name: int) -> Stream:
        ids = [str(first + i) for i in range(size)]
        return Stream([Record(i, Path(i), None, i, "train") for i in ids], seed, name)

    return walk(0, labeled, 0), walk(100, unlabeled, 1)


def _ids(records: Iterable[Record]) -> Tensor:
    return torch.tensor([float(record.id) for record in records])


def _by_position(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    return [labeled[step * n_l + i] for i in range(n_l)] + [unlabeled[step * n_u + i] for i in range(n_u)]


def _steps_probe(f: Steps) -> list[Tensor]:
    return [_ids(f(*streams(), step, *sizes)) for sizes in SIZES for step in (0, 3, 1, 40)]


def _steps_epoch(f: Steps) -> bool:
    """Five labelled, thirteen unlabelled records, one of each per step: each round has every record once."""
    walked = [f(*streams(), step, 1, 1) for step in range(65)]
    rounds = [
        {walked[i][place].id for i in range(start, start + size)}
        for place, size in ((0, 5), (1, 13))
        for start in range(0, 65, size)
    ]
    return all(len(found) in (5, 13) for found in rounds) and len(rounds) == 18


def _pure(f: Steps) -> bool:
    late, _, again = (_ids(f(*streams(), step, 2, 3)) for step in (9, 2, 9))
    return same(late, again) and same(late, _ids(_by_position(*streams(), 9, 2, 3)))


def _with_replacement(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    generator = torch.Generator().manual_seed(step)
    return [
        stream.records[int(torch.randint(len(stream.records), (), generator=generator))]
        for stream, size in ((labeled, n_l), (unlabeled, n_u))
        for _ in range(size)
    ]


def _one_round(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    sizes = len(labeled.records), len(unlabeled.records)
    first = [labeled[(step * n_l + i) % sizes[0]] for i in range(n_l)]
    return first + [unlabeled[(step * n_u + i) % sizes[1]] for i in range(n_u)]


def _one_pace(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    start = step * (n_l + n_u)
    return [labeled[start + i] for i in range(n_l)] + [unlabeled[start + n_l + i] for i in range(n_u)]


def _sliding(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    return [labeled[step + i] for i in range(n_l)] + [unlabeled[step + i] for i in range(n_u)]


def _unlabeled_first(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    made = _by_position(labeled, unlabeled, step, n_l, n_u)
    return made[n_l:] + made[:n_l]


def _from_one_position(count: Callable[[int, int], int]) -> Steps:
    """Both streams are read from the same position, step * count(n_l, n_u)."""

    def wrong(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
        start = step * count(n_l, n_u)
        return [labeled[start + i] for i in range(n_l)] + [unlabeled[start + i] for i in range(n_u)]

    return wrong


def _by_turns(labeled: Stream, unlabeled: Stream, step: int, n_l: int, n_u: int) -> list[Record]:
    made = _by_position(labeled, unlabeled, step, n_l, n_u)
    pairs = [record for pair in zip(made[:n_l], made[n_l:], strict=False) for record in pair]
    both = min(n_l, n_u)
    return pairs + made[both:n_l] + made[n_l + both :]


STEPS = Exercise(
    "01.3",
    "the images of a step",
    _steps_probe,
    (
        Property(
            "interface",
            "step_records(labeled, unlabeled, step, n_labeled, n_unlabeled) returns a list of records",
            lambda f: takes(f, 5) and all(isinstance(r, Record) for r in f(*streams(), 0, 2, 3)),
        ),
        Property(
            "count",
            "n_labeled records of the labelled stream, then n_unlabeled of the other",
            lambda f: all(
                [float(r.id) >= 100 for r in f(*streams(), 2, n_l, n_u)] == [False] * n_l + [True] * n_u
                for n_l, n_u in SIZES
            ),
        ),
        Property(
            "value",
            "the records at the streams' next positions, for several sizes of batch",
            lambda f: all(
                same(_ids(f(*streams(seed=1), step, *s)), _ids(_by_position(*streams(seed=1), step, *s)))
                for s in SIZES
                for step in range(12)
            ),
        ),
        Property(
            "rounds", "within one round of a stream no image is missing and none comes twice", _steps_epoch
        ),
        Property("pure", "step 9 is the same, before and after step 2", _pure),
    ),
    (
        Mistake(
            "sliding by one",
            "each step moves on by one record only, so neighbouring batches share images.",
            "hint 1: each step has taken n_labeled records.",
            _sliding,
        ),
        Mistake(
            "one pace for both",
            "both streams move on by the whole batch, so each leaves out what the other takes.",
            "hint 2: each stream walks at its own pace.",
            _one_pace,
        ),
        Mistake(
            "the first round again and again",
            "after one round you begin the same round again: the order is never shuffled anew.",
            "hint 3: a stream never ends, no % is needed.",
            _one_round,
        ),
        Mistake(
            "drawn with replacement",
            "images are drawn at random for each step: some come twice in a round, some not at all.",
            "hint 1: ask the stream by position.",
            _with_replacement,
        ),
        Mistake(
            "the same batch at every step",
            "the step plays no part: every step gets the images of step 0.",
            "hint 1: the stream has come to position step * n_labeled.",
            lambda labeled, unlabeled, step, n_l, n_u: _by_position(labeled, unlabeled, 0, n_l, n_u),
        ),
        Mistake(
            "unlabelled first",
            "the unlabelled records come first; the loss takes the first part for the labelled half.",
            "the text: first the labelled ones.",
            _unlabeled_first,
        ),
        Mistake(
            "the labelled stream's position for both",
            "the unlabelled stream is asked from the labelled one's position: it repeats or skips images.",
            "hint 2: its position has nothing to do with n_labeled.",
            _from_one_position(lambda n_l, n_u: n_l),
        ),
        Mistake(
            "the whole batch as pace",
            "both streams move on by the whole batch and leave images out.",
            "hint 2: each stream walks at its own pace.",
            _from_one_position(lambda n_l, n_u: n_l + n_u),
        ),
        Mistake(
            "the next step's images",
            "steps count from 0: your step 0 begins where step 1 should.",
            "hint 1: before step 0 nothing has been taken.",
            lambda labeled, unlabeled, step, n_l, n_u: _by_position(labeled, unlabeled, step + 1, n_l, n_u),
        ),
        Mistake(
            "by turns",
            "labelled and unlabelled records take turns; the labelled ones should all come first.",
            "the text: first the labelled ones.",
            _by_turns,
        ),
        Mistake(
            "two lists in one",
            "you return a list of two lists; one list of records is wanted.",
            "the text: + joins two lists into one.",
            lambda labeled, unlabeled, step, n_l, n_u: [
                _by_position(labeled, unlabeled, step, n_l, 0),
                _by_position(labeled, unlabeled, step, 0, n_u),
            ],
        ),
        Mistake(
            "the labelled stream slides",
            "the labelled stream goes on by one record for each step; each step takes n_labeled.",
            "hint 1: step * n_labeled records were taken.",
            lambda labeled, unlabeled, step, n_l, n_u: (
                [labeled[step + i] for i in range(n_l)]
                + _by_position(labeled, unlabeled, step, n_l, n_u)[n_l:]
            ),
        ),
        Mistake(
            "one record late",
            "the labelled half begins one record late: the very first one is left out.",
            "hint 1: i from 0 on.",
            lambda labeled, unlabeled, step, n_l, n_u: (
                [labeled[step * n_l + i + 1] for i in range(n_l)]
                + _by_position(labeled, unlabeled, step, n_l, n_u)[n_l:]
            ),
        ),
    ),
    _by_position,
)
