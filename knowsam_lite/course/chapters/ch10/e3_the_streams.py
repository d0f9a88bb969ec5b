"""Exercise 10.3, the streams."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same
from knowsam_lite.data import Record
from knowsam_lite.data.sampler import Stream


def _records(count: int) -> list[Record]:
    return [Record(f"{i:02d}", Path(f"{i}"), None, f"{i}", "train") for i in range(count)]


def _walk(kind: Any, count: int, seed: int, name: int, positions: Sequence[int]) -> list[int]:
    stream = kind(_records(count), seed, name)
    return [int(stream[position].id) for position in positions]


def _stream_probe(kind: Any) -> list[Tensor]:
    return [
        torch.tensor(_walk(kind, count, seed, name, range(4 * count)))
        for count in (1, 5, 8)
        for seed in (0, 3)
        for name in (0, 1)
    ]


def _jumps(kind: Any) -> bool:
    forth = _walk(kind, 7, 1, 0, range(30))
    return [*reversed(_walk(kind, 7, 1, 0, range(29, -1, -1)))] == forth


def _rounds(kind: Any) -> bool:
    walk = _walk(kind, 7, 1, 0, range(28))
    return all(sorted(walk[i : i + 7]) == list(range(7)) for i in range(0, 28, 7))


def _anew(kind: Any) -> bool:
    walk = _walk(kind, 12, 1, 0, range(36))
    others = _walk(kind, 12, 2, 0, range(12)), _walk(kind, 12, 1, 1, range(12))
    return len({tuple(w) for w in (walk[:12], walk[12:24], walk[24:], *others)}) == 5


def _made_of(order: Callable[[Any, int, int], Any]) -> type:
    """A stream with a different record order: `order(stream, epoch, count)`."""

    class Wrong(Stream):
        def __getitem__(self, position: int) -> Record:
            epoch, place = divmod(position, len(self.records))
            return self.records[int(order(self, epoch, len(self.records))[place])]

    return Wrong


class _AlwaysAnew(Stream):
    """Draws with replacement."""

    def __getitem__(self, position: int) -> Record:
        rng = np.random.default_rng([self.seed, self.name, position])
        return self.records[int(rng.integers(len(self.records)))]


STREAM = Exercise(
    "10.3",
    "a stream of images",
    _stream_probe,
    (
        Property(
            "interface",
            "Stream(records, seed, name)[position] is one of the records",
            lambda k: isinstance(k(_records(5), 0, 0)[12], Record),
        ),
        Property("jumps", "any position can be asked, in any order, with the same answer", _jumps),
        Property("rounds", "each round holds every record exactly once", _rounds),
        Property("anew", "rounds, seeds and streams differ in their order", _anew),
        Property(
            "value",
            "the library's records",
            lambda k: same(_stream_probe(k), _stream_probe(Stream)),
        ),
        Property(
            "quiet",
            "PyTorch's and numpy's own random states are left alone",
            lambda k: _leaves_alone(lambda: _walk(k, 7, 1, 0, range(20))),
        ),
    ),
    (
        Mistake(
            "the same order every round",
            "every round has the same order, so the same images always meet in a batch.",
            "hint 2: the number of the round belongs into the seed.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.seed, s.name]).permutation(n)),
        ),
        Mistake(
            "both streams alike",
            "the labelled and the unlabelled stream are shuffled alike.",
            "hint 2: the name of the stream belongs into the seed.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.seed, epoch]).permutation(n)),
        ),
        Mistake(
            "the seed is not used",
            "your stream is the same for every seed of the run.",
            "hint 2: the seed belongs into the seed of the shuffle.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.name, epoch]).permutation(n)),
        ),
        Mistake(
            "with replacement",
            "each position draws on its own, so some images come twice in a round and others never.",
            "hint 1: shuffle a whole round, then take one place of it.",
            _AlwaysAnew,
        ),
        Mistake(
            "never shuffled",
            "the records come in their own order, round after round.",
            "hint 2: permutation shuffles the places of a round.",
            _made_of(lambda s, epoch, n: np.arange(n)),
        ),
        Mistake(
            "a sum of seeds",
            "the seeds were added up: another seed, stream or round can then be the same one again.",
            "hint 2: default_rng takes a list of three numbers.",
            _made_of(lambda s, epoch, n: np.random.default_rng(s.seed + s.name + epoch).permutation(n)),
        ),
        Mistake(
            "the name before the seed",
            "the three numbers stand in another order: it is a good shuffle, and not the library's.",
            "hint 2: seed, name, epoch.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.name, s.seed, epoch]).permutation(n)),
        ),
        Mistake(
            "the epoch before the name",
            "the name stands last: a good shuffle, and not the library's.",
            "hint 2: seed, name, epoch, in this order.",
            _made_of(lambda s, epoch, n: np.random.default_rng([s.seed, epoch, s.name]).permutation(n)),
        ),
    ),
    Stream,
)


def _leaves_alone(act: Callable[[], object]) -> bool:
    state, torch_state = np.random.get_state(legacy=False), torch.get_rng_state()
    act()
    after = np.random.get_state(legacy=False)
    return str(state) == str(after) and bool((torch_state == torch.get_rng_state()).all())
