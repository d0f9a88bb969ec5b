"""Exercise 00.2, whom to label."""

from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from knowsam_lite.course.chapters.ch00.shared import attempt
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes
from knowsam_lite.data import Record

Choose = Callable[[Sequence[Record], int], Collection[str]]
WANTED = (1, 3, 4, 5, 7, 9)


def patients(sizes: Sequence[tuple[str, str, int]], shuffled: bool = False) -> list[Record]:
    """Records for groups (name, split, number of images), group by group or interleaved."""
    made = [
        (place, Record(f"{group}_{place}", Path("i.png"), Path("m.png"), group, split))
        for group, split, count in sizes
        for place in range(count)
    ]
    return [record for _, record in (sorted(made, key=lambda pair: pair[0]) if shuffled else made)]


CLINICS = (
    patients(
        [("p1", "test", 2), ("p2", "train", 3), ("p3", "train", 2), ("p4", "val", 1), ("p5", "train", 4)]
    ),
    patients([("q1", "train", 1), ("q2", "train", 4), ("q3", "test", 3), ("q4", "train", 4)], shuffled=True),
)


def right_choice(records: Sequence[Record], wanted: int) -> list[str]:
    """Whole groups of training images, in order of appearance, until there are at least `wanted` images."""
    chosen: list[str] = []
    train = [record for record in records if record.split == "train"]
    for group in dict.fromkeys(record.group for record in train):
        if len(chosen) < wanted:
            chosen += [record.id for record in train if record.group == group]
    return chosen


def _chosen(f: Choose, records: Sequence[Record], wanted: int) -> list[str]:
    """The choice as strings, so that anything that is not an id shows up as such."""
    return [str(name) for name in f(records, wanted)]


def _membership(f: Choose, records: Sequence[Record], wanted: int) -> Tensor:
    """Which records were chosen (0 or 1 each), which groups were named, and how many names came back."""
    chosen = _chosen(f, records, wanted)
    named = [*(record.id for record in records), *dict.fromkeys(record.group for record in records)]
    return torch.tensor([*(float(name in chosen) for name in named), float(len(chosen))])


def _choice_probe(f: Choose) -> list[Tensor]:
    return [attempt(_membership, f, r, w) for r in CLINICS for w in WANTED]


def _single_images(records: Sequence[Record], wanted: int) -> list[str]:
    return [record.id for record in records if record.split == "train"][:wanted]


def _cut_off(records: Sequence[Record], wanted: int) -> list[str]:
    return right_choice(records, len(records))[:wanted]


def _names_of_groups(records: Sequence[Record], wanted: int) -> list[str]:
    ids = right_choice(records, wanted)
    return list(dict.fromkeys(record.group for record in records if record.id in ids))


def _all_splits(records: Sequence[Record], wanted: int) -> list[str]:
    chosen: list[str] = []
    for group in dict.fromkeys(record.group for record in records):
        if len(chosen) < wanted:
            chosen += [record.id for record in records if record.group == group]
    return chosen


def _by_groups(records: Sequence[Record], stop: Callable[[list[str], list[str], int], bool]) -> list[str]:
    """Groups in order until `stop(chosen so far, the next group's ids, groups so far)`."""
    chosen: list[str] = []
    train = [record for record in records if record.split == "train"]
    for count, group in enumerate(dict.fromkeys(record.group for record in train)):
        ids = [record.id for record in train if record.group == group]
        if stop(chosen, ids, count):
            break
        chosen += ids
    return chosen


def _neighbours(records: Sequence[Record], wanted: int) -> list[str]:
    chosen: list[str] = []
    train = [record for record in records if record.split == "train"]
    for _, members in groupby(train, key=lambda record: record.group):
        if len(chosen) < wanted:
            chosen += [record.id for record in members]
    return chosen


def _whole_groups(f: Choose) -> bool:
    for records in CLINICS:
        for wanted in WANTED:
            chosen = set(_chosen(f, records, wanted))
            groups = {record.group for record in records if record.id in chosen}
            if {record.id for record in records if record.group in groups} != chosen:
                return False
    return True


def _only_training(f: Choose) -> bool:
    split = {record.id: record.split for records in CLINICS for record in records}
    return all(split.get(i) == "train" for r in CLINICS for w in WANTED for i in _chosen(f, r, w))


def _list_of_ids(f: Choose) -> bool:
    known = {record.id for record in CLINICS[1]}
    chosen = _chosen(f, CLINICS[1], 9)
    return isinstance(f(CLINICS[1], 9), list) and set(chosen) <= known and len(set(chosen)) == len(chosen)


CHOICE = Exercise(
    "00.2",
    "whom to label",
    _choice_probe,
    (
        Property(
            "interface",
            "choose_patients(records, wanted) returns a list of ids, none of them twice",
            lambda f: takes(f, 2) and _list_of_ids(f),
        ),
        Property("split", "training images only", _only_training),
        Property("groups", "every patient is labelled as a whole or not at all", _whole_groups),
        Property(
            "amount",
            "at least `wanted` images, and no patient more than that takes",
            lambda f: all(
                len(f(records, w)) == len(right_choice(records, w)) for records in CLINICS for w in WANTED
            ),
        ),
        Property(
            "value",
            "the patients who appear first, also where their images take turns",
            lambda f: all(
                sorted(_chosen(f, records, w)) == sorted(right_choice(records, w))
                for records in CLINICS
                for w in WANTED
            ),
        ),
    ),
    (
        Mistake(
            "single images",
            "you took single images: the rest of the patient is then mere unlabelled copies of them.",
            "hint 1: first collect the ids of each group.",
            _single_images,
        ),
        Mistake(
            "cut off",
            "you cut the list at the wanted number, and the cut goes through a patient.",
            "hint 2: a group is added as a whole.",
            _cut_off,
        ),
        Mistake(
            "names of groups",
            "you returned the patients' names; the ids of their images are wanted.",
            "hint 1: the dict leads from a group to its ids.",
            _names_of_groups,
        ),
        Mistake(
            "all splits",
            "a patient of another split was chosen; what you test on must not be learned.",
            "hint 1: pass over records whose split is not train.",
            _all_splits,
        ),
        Mistake(
            "groups were counted",
            "you took as many patients as images were wanted.",
            "hint 2: the length of the list of ids is what counts.",
            lambda records, wanted: _by_groups(records, lambda chosen, ids, count: count >= wanted),
        ),
        Mistake(
            "stopped too soon",
            "you left out the patient with whom the wanted number is passed; it says at least.",
            "hint 2: ask before adding a group whether enough are there already.",
            lambda records, wanted: _by_groups(
                records, lambda chosen, ids, count: len(chosen) + len(ids) > wanted
            ),
        ),
        Mistake(
            "one patient too many",
            "when exactly the wanted number was reached you took one patient more.",
            "hint 2: exactly enough is enough.",
            lambda records, wanted: _by_groups(records, lambda chosen, ids, count: len(chosen) > wanted),
        ),
        Mistake(
            "neighbours in the list",
            "you took a patient's images for neighbours in the list; in the second test they take turns.",
            "hint 1: a dict from group to ids does not care about the order.",
            _neighbours,
        ),
    ),
    right_choice,
)
