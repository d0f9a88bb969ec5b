"""Chapter 00, the tour: properties, catalogued mistakes, and the quiz's key."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.data import Record
from knowsam_lite.metrics import dice
from knowsam_lite.students import Students


def attempt(call: Callable[..., Tensor], *arguments: Any) -> Tensor:
    """What `call(*arguments)` returns, or its error's words as bytes, so that a probe goes on."""
    try:
        return call(*arguments)
    except NotImplementedError:
        raise
    except Exception as error:
        return torch.tensor(list(f"{type(error).__name__}: {error}".encode()))


# ---------------------------------------------------------------- 00.1 Dice

Score = Callable[[Tensor, Tensor], Tensor]


def _answers(classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (3, C, 8, 6) and labels (3, 8, 6); the last image has neither class 1 nor a guess of it."""
    z = noise(3, classes, 8, 6, seed=seed)
    y = noise(3, classes, 8, 6, seed=seed + 50).argmax(dim=1)
    z[2, 1], y[2][y[2] == 1] = -99.0, 0
    return z, y


def library_scores(z: Tensor, y: Tensor) -> Tensor:
    """Dice of every foreground class of every image by the library's metric: (N, C - 1)."""
    labels = z.argmax(dim=1)
    rows = [[dice(p == c, t == c) for c in range(1, z.shape[1])] for p, t in zip(labels, y, strict=True)]
    return torch.tensor(rows)


def _counts(z: Tensor, y: Tensor, first: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Sizes of overlap, prediction and truth of the classes from `first` on: (N, C - first) each."""
    classes = range(first, z.shape[1])
    p = torch.stack([z.argmax(dim=1) == c for c in classes], dim=1)
    t = torch.stack([y == c for c in classes], dim=1)
    return (p & t).sum((2, 3)), p.sum((2, 3)), t.sum((2, 3))


def _with_background(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y, first=0)
    return torch.where(p + t > 0, 2 * both / (p + t), 1.0)


def _intersection_over_union(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y)
    return torch.where(p + t > 0, both / (p + t - both), 1.0)


def _empty_is(value: float) -> Score:
    def score(z: Tensor, y: Tensor) -> Tensor:
        both, p, t = _counts(z, y)
        return torch.where(p + t > 0, 2 * both / (p + t), value)

    return score


def _half(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = _counts(z, y)
    return torch.where(p + t > 0, both / (p + t), 1.0)


def _whole_batch(z: Tensor, y: Tensor) -> Tensor:
    both, p, t = (count.sum(dim=0) for count in _counts(z, y))
    return torch.where(p + t > 0, 2 * both / (p + t), 1.0)


def _one_half(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(dim=1)[:, 1:] > 0.5
    t = torch.stack([y == c for c in range(1, z.shape[1])], dim=1)
    both, sizes = (p & t).sum((2, 3)), p.sum((2, 3)) + t.sum((2, 3))
    return torch.where(sizes > 0, 2 * both / sizes, 1.0)


def _soft(z: Tensor, y: Tensor) -> Tensor:
    p = z.softmax(dim=1)[:, 1:]
    t = torch.stack([y == c for c in range(1, z.shape[1])], dim=1)
    return 2 * (p * t).sum((2, 3)) / (p.sum((2, 3)) + t.sum((2, 3)))


def _empty_images(f: Score) -> bool:
    z, y = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64)
    z[:, 0] = 5
    missed = y.clone()
    missed[:, 0, 0] = 1
    return same(f(z, y), torch.ones(1, 1)) and same(f(z, missed), torch.zeros(1, 1))


DICE = Exercise(
    "00.1",
    "Dice of each class",
    lambda f: [f(*_answers(c, c)) for c in (2, 3, 4)],
    (
        Property(
            "interface",
            "dice_per_class(z, y) takes logits and labels and returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(*_answers(2)), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W) and (N, H, W) -> (N, C - 1): the background is left out",
            lambda f: all(f(*_answers(c)).shape == (3, c - 1) for c in (2, 4)),
        ),
        Property("dtype", "float32", lambda f: f(*_answers(3)).dtype == torch.float32),
        Property(
            "value",
            "the library's Dice, image by image and class by class, for 2 to 5 classes",
            lambda f: all(same(f(*_answers(c, c)), library_scores(*_answers(c, c))) for c in (2, 3, 4, 5)),
        ),
        Property("empty", "1 where neither has the class, 0 where only one has it", _empty_images),
        Property(
            "invariance",
            "adding one number to all logits of a pixel changes nothing",
            lambda f: same(f(*_answers(3)), f(_answers(3)[0] + noise(3, 1, 8, 6, seed=7), _answers(3)[1])),
        ),
    ),
    (
        Mistake(
            "the background counts",
            "class 0 has a column, too; it is large and easy, and would hide every failure.",
            "hint 2 of exercise 00.1: the classes begin at 1.",
            _with_background,
        ),
        Mistake(
            "IoU",
            "you divided by the union: that is IoU, always the smaller of the two.",
            "the equation above exercise 00.1: below the line stand both sizes, added.",
            _intersection_over_union,
        ),
        Mistake(
            "the 2 is missing",
            "a perfect answer gets one half instead of 1.",
            "the equation above exercise 00.1 begins with a 2.",
            _half,
        ),
        Mistake(
            "nan where both are empty",
            "where neither mask has the class you divided 0 by 0.",
            "hint 3 of exercise 00.1: torch.where chooses 1 there.",
            _empty_is(torch.nan),
        ),
        Mistake(
            "0 where both are empty",
            "an image without the class, rightly left empty, got the worst score.",
            "hint 3 of exercise 00.1: two empty masks agree perfectly.",
            _empty_is(0.0),
        ),
        Mistake(
            "one number for the batch",
            "the pixels of all images were counted together: one image can no longer be told from another.",
            "hint 2 of exercise 00.1: sum over height and width, not over the images.",
            _whole_batch,
        ),
        Mistake(
            "more than one half",
            "a class was taken where it has more than one half; with three classes the winner may have less.",
            "hint 1 of exercise 00.1: argmax finds the winner.",
            _one_half,
        ),
        Mistake(
            "probabilities in place of a mask",
            "you added up probabilities; that is a loss to train with, but a mask says yes or no.",
            "hint 1 of exercise 00.1: first logits become labels.",
            _soft,
        ),
    ),
)


# ---------------------------------------------------------------- 00.2 whom to label

Choose = Callable[[Sequence[Record], int], Collection[str]]
WANTED = (1, 3, 4, 5, 7, 9)


def patients(sizes: Sequence[tuple[str, str, int]], shuffled: bool = False) -> list[Record]:
    """Records of groups (name, split, number of images), one group after the other or taking turns."""
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
    """Whole groups of training images, in the order in which they appear, up to `wanted` images or more."""
    chosen: list[str] = []
    train = [record for record in records if record.split == "train"]
    for group in dict.fromkeys(record.group for record in train):
        if len(chosen) < wanted:
            chosen += [record.id for record in train if record.group == group]
    return chosen


def _chosen(f: Choose, records: Sequence[Record], wanted: int) -> list[str]:
    """What was chosen, as words, so that what is no id is found to be none."""
    return [str(name) for name in f(records, wanted)]


def _membership(f: Choose, records: Sequence[Record], wanted: int) -> Tensor:
    """Which records were chosen, 0 or 1 each, which groups were named, and how many names came back."""
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
            "hint 1 of exercise 00.2: first collect the ids of each group.",
            _single_images,
        ),
        Mistake(
            "cut off",
            "you cut the list at the wanted number, and the cut goes through a patient.",
            "hint 2 of exercise 00.2: a group is added as a whole.",
            _cut_off,
        ),
        Mistake(
            "names of groups",
            "you returned the patients' names; the ids of their images are wanted.",
            "hint 1 of exercise 00.2: the dict leads from a group to its ids.",
            _names_of_groups,
        ),
        Mistake(
            "all splits",
            "a patient of another split was chosen; what you test on must not be learned.",
            "hint 1 of exercise 00.2: pass over records whose split is not train.",
            _all_splits,
        ),
        Mistake(
            "groups were counted",
            "you took as many patients as images were wanted.",
            "hint 2 of exercise 00.2: the length of the list of ids is what counts.",
            lambda records, wanted: _by_groups(records, lambda chosen, ids, count: count >= wanted),
        ),
        Mistake(
            "stopped too soon",
            "you left out the patient with whom the wanted number is passed; it says at least.",
            "hint 2 of exercise 00.2: ask before adding a group whether enough are there already.",
            lambda records, wanted: _by_groups(
                records, lambda chosen, ids, count: len(chosen) + len(ids) > wanted
            ),
        ),
        Mistake(
            "one patient too many",
            "when exactly the wanted number was reached you took one patient more.",
            "hint 2 of exercise 00.2: exactly enough is enough.",
            lambda records, wanted: _by_groups(records, lambda chosen, ids, count: len(chosen) > wanted),
        ),
        Mistake(
            "neighbours in the list",
            "you took a patient's images for neighbours in the list; in the second test they take turns.",
            "hint 1 of exercise 00.2: a dict from group to ids does not care about the order.",
            _neighbours,
        ),
    ),
)


# ---------------------------------------------------------------- 00.3 a box from a mask

Box = Callable[[Tensor], Tensor]


def _rough(top: int, left: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A ragged mask (12, 9) of known extent, whose first and last pixel are not its outermost columns."""
    mask = torch.zeros(12, 9, dtype=torch.bool)
    inner = noise(height, width, seed=seed) > 0.5
    inner[0, 0] = inner[-1, -1] = False
    inner[0, -1] = inner[-1, 0] = True
    mask[top : top + height, left : left + width] = inner
    return mask


MASKS = (
    _rough(2, 1, 5, 7),
    _rough(0, 3, 12, 2, seed=1),
    _rough(7, 4, 1, 1, seed=2),
    _rough(3, 0, 8, 4, seed=3),
)
EMPTY = torch.zeros(12, 9, dtype=torch.bool)


def right_box(mask: Tensor) -> Tensor:
    """x0, y0, x1, y1 of the smallest box around a mask (H, W); the whole image where it is empty."""
    height, width = mask.shape
    if not mask.any():
        return torch.tensor([0.0, 0.0, width - 1.0, height - 1.0])
    columns, rows = mask.any(dim=0).nonzero().flatten(), mask.any(dim=1).nonzero().flatten()
    return torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).float()


def _box_probe(f: Box) -> list[Tensor]:
    """The boxes of four masks, and only if they are right that of the empty one."""
    boxes = [attempt(f, mask) for mask in MASKS]
    return boxes if not same(boxes, [right_box(mask) for mask in MASKS]) else [*boxes, attempt(f, EMPTY)]


def _changed_box(change: Callable[[Tensor, Tensor], Tensor]) -> Box:
    """A wrong answer made from the right box and the mask."""
    return lambda mask: change(right_box(mask), mask)


def _for_empty(answer: Callable[[Tensor], Tensor]) -> Box:
    """An answer that is wrong for empty masks alone."""
    return lambda mask: right_box(mask) if mask.any() else answer(mask)


def _middle_rows(mask: Tensor) -> Tensor:
    ys, xs = mask.nonzero(as_tuple=True)
    return torch.stack([xs[0], ys[0], xs[-1], ys[-1]]).float()


BOX = Exercise(
    "00.3",
    "a box from a mask",
    _box_probe,
    (
        Property(
            "interface",
            "box_of(mask) returns one tensor",
            lambda f: takes(f, 1) and isinstance(f(MASKS[0]), Tensor),
        ),
        Property("shape", "(H, W) -> (4,)", lambda f: f(MASKS[0]).shape == (4,)),
        Property(
            "dtype", "float32, as SAM's prompt encoder wants it", lambda f: f(MASKS[0]).dtype == torch.float32
        ),
        Property(
            "value",
            "x0, y0, x1, y1 of the outermost pixels",
            lambda f: all(same(f(m), right_box(m)) for m in MASKS),
        ),
        Property(
            "empty", "the whole image where the mask is empty", lambda f: same(f(EMPTY), right_box(EMPTY))
        ),
        Property(
            "invariance",
            "turning rows into columns exchanges x and y",
            lambda f: all(same(f(m.T), f(m)[[1, 0, 3, 2]]) for m in MASKS),
        ),
    ),
    (
        Mistake(
            "y before x",
            "rows come first in a tensor, but SAM's boxes begin with x, the column.",
            "hint 2 of exercise 00.3: x0, y0, x1, y1.",
            _changed_box(lambda box, mask: box[[1, 0, 3, 2]]),
        ),
        Mistake(
            "width and height",
            "the last two numbers are width and height; SAM wants the opposite corner.",
            "the equation above exercise 00.3: the last two are the largest column and row.",
            _changed_box(lambda box, mask: torch.cat([box[:2], box[2:] - box[:2]])),
        ),
        Mistake(
            "one too far",
            "the far corner lies one pixel outside; a slice ends there, a box does not.",
            "the equation above exercise 00.3: the largest column of the mask itself.",
            _changed_box(lambda box, mask: box + torch.tensor([0.0, 0.0, 1.0, 1.0])),
        ),
        Mistake(
            "parts of the image",
            "the coordinates were divided by the image's size; SAM counts in pixels.",
            "hint 2 of exercise 00.3: nothing is divided.",
            _changed_box(lambda box, mask: box / torch.tensor([*mask.shape[::-1], *mask.shape[::-1]])),
        ),
        Mistake(
            "whole numbers",
            "the box is right but of an integer type.",
            "hint 2 of exercise 00.3: .float() at the end.",
            _changed_box(lambda box, mask: box.long()),
        ),
        Mistake(
            "an error where the mask is empty",
            "an empty mask has no smallest column, and your code stops there.",
            "hint 3 of exercise 00.3: look first whether mask.any().",
            _for_empty(lambda mask: mask.nonzero(as_tuple=True)[1].min()),
        ),
        Mistake(
            "one too far where the mask is empty",
            "counted from 0, the last column of the image is its width minus 1.",
            "hint 3 of exercise 00.3 gives the last column and row.",
            _for_empty(lambda mask: torch.tensor([0.0, 0.0, *map(float, mask.T.shape)])),
        ),
        Mistake(
            "the first and the last pixel",
            "you took the first and the last pixel in reading order, which need not be the outermost ones.",
            "hint 1 of exercise 00.3: the smallest and the largest, of rows and of columns.",
            _middle_rows,
        ),
    ),
)


# ---------------------------------------------------------------- 00.4 who learns

Learners = Callable[[Tensor, Mapping[str, nn.Module]], Collection[str]]
NETWORKS = ("first", "second", "frozen", "idle", "partly", "adapted")


class _Toy(nn.Module):
    """Six small networks and five questions about who learns from what."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({name: nn.Linear(3, 3) for name in NETWORKS[:5]})
        self.networks["adapted"] = nn.Sequential(nn.Linear(3, 3).requires_grad_(False), nn.Linear(3, 3))
        self.networks["frozen"].requires_grad_(False)

    def questions(self) -> list[Tensor]:
        """Losses: the first alone, two through a frozen one, detached, times zero, part of one."""
        x, net = noise(4, 3), self.networks
        through = net["frozen"](net["second"](x))
        return [
            -net["first"](x.abs()).exp().sum(),
            net["adapted"](through).square().sum(),
            net["second"](net["first"](x).detach()).square().sum(),
            net["first"](x).sum() + 0 * net["idle"](x).sum(),
            net["frozen"](F.linear(x, torch.eye(3), net["partly"].get_parameter("bias"))).square().sum(),
        ]


ANSWERS = ({"first"}, {"second", "adapted"}, {"second"}, {"first"}, {"partly"})


def learners(loss: Tensor, networks: Mapping[str, nn.Module]) -> set[str]:
    """The names of the networks that learn from a loss: what exercise 00.4 asks for."""
    return {
        name
        for name, network in networks.items()
        if any(g.any() for g in _grads(loss, network) if g is not None)
    }


def _marks(f: Learners, loss: Tensor, toy: _Toy) -> Tensor:
    named = set(f(loss, dict(toy.networks.items())))
    return torch.tensor([float(name in named) for name in NETWORKS])


def _learners_probe(f: Learners) -> list[Tensor]:
    toy = _Toy()
    losses = [loss for loss in toy.questions() for _ in range(2)]  # each asked twice: the graph must survive
    marks = [attempt(_marks, f, loss, toy) for loss in losses]
    return [*marks, torch.tensor([float(p.grad is not None) for p in toy.parameters()])]


def _answers_right(f: Learners, which: Sequence[int]) -> bool:
    toy = _Toy()
    losses = toy.questions()
    return all(set(f(losses[i], dict(toy.networks.items()))) == ANSWERS[i] for i in which)


def _leaves_no_trace(f: Learners) -> bool:
    toy = _Toy()
    loss = toy.questions()[1]
    first, again = (set(f(loss, dict(toy.networks.items()))) for _ in range(2))
    return first == again and all(p.grad is None for p in toy.parameters())


def _grads(loss: Tensor, network: nn.Module) -> list[Tensor | None]:
    trained = [p for p in network.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)) if trained else []


def _named(told: Callable[[Tensor, nn.Module], bool]) -> Learners:
    """An answer that asks `told(loss, network)` of every network."""
    return lambda loss, networks: {name for name, network in networks.items() if told(loss, network)}


def _zero_counts(loss: Tensor, network: nn.Module) -> bool:
    return any(g is not None for g in _grads(loss, network))


def _all_parts(loss: Tensor, network: nn.Module) -> bool:
    found = _grads(loss, network)
    return bool(found) and all(g is not None and bool(g.any()) for g in found)


def _frozen_too(loss: Tensor, network: nn.Module) -> bool:
    found = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in found)


def _asked(loss: Tensor, network: nn.Module, keep: bool, unused: bool) -> bool:
    trained = [p for p in network.parameters() if p.requires_grad]
    if not trained:
        return False
    found = torch.autograd.grad(loss, trained, retain_graph=keep, allow_unused=unused)
    return any(g is not None and bool(g.any()) for g in found)


def _graph_gone(loss: Tensor, network: nn.Module) -> bool:
    return _asked(loss, network, keep=False, unused=True)


def _unused(loss: Tensor, network: nn.Module) -> bool:
    return _asked(loss, network, keep=True, unused=False)


def _nothing_to_ask(loss: Tensor, network: nn.Module) -> bool:
    trained = [p for p in network.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True)
    return any(g is not None and bool(g.any()) for g in found)


def _by_backward(loss: Tensor, networks: Mapping[str, nn.Module], keep: bool) -> set[str]:
    loss.backward(retain_graph=keep)
    return {
        name
        for name, network in networks.items()
        if any(p.grad is not None and bool(p.grad.any()) for p in network.parameters())
    }


LEARNERS = Exercise(
    "00.4",
    "who learns from a loss",
    _learners_probe,
    (
        Property(
            "interface",
            "who_learns(loss, networks) returns a set of names",
            lambda f: takes(f, 2) and isinstance(f(_Toy().questions()[0], {"none": nn.Identity()}), set),
        ),
        Property(
            "value", "the networks through which the loss was computed", lambda f: _answers_right(f, [0])
        ),
        Property(
            "frozen",
            "a frozen network learns nothing, yet lets the gradient pass",
            lambda f: _answers_right(f, [1]),
        ),
        Property("detach", "nobody learns on the far side of a detach", lambda f: _answers_right(f, [2])),
        Property("zero", "a gradient of exactly 0 teaches nothing", lambda f: _answers_right(f, [3])),
        Property("part", "one parameter with a gradient is enough", lambda f: _answers_right(f, [4])),
        Property("trace", "the graph survives, and no .grad is left behind", _leaves_no_trace),
    ),
    (
        Mistake(
            "backward",
            "backward adds to .grad, where it stays, and frees the graph: a second question fails.",
            "hint 1 of exercise 00.4: autograd.grad returns gradients and stores none.",
            lambda loss, networks: _by_backward(loss, networks, keep=False),
        ),
        Mistake(
            "backward leaves gradients",
            "backward adds to .grad, and the next question finds what this one left there.",
            "hint 1 of exercise 00.4: autograd.grad returns gradients and stores none.",
            lambda loss, networks: _by_backward(loss, networks, keep=True),
        ),
        Mistake(
            "frozen parameters",
            "you asked for the gradient of frozen parameters, and autograd refuses.",
            "hint 2 of exercise 00.4: only parameters whose requires_grad is true.",
            _named(_frozen_too),
        ),
        Mistake(
            "nothing to ask",
            "you asked about a network in which nothing is trained, and autograd refuses an empty list.",
            "hint 2 of exercise 00.4: not at all if there are none.",
            _named(_nothing_to_ask),
        ),
        Mistake(
            "no part in the loss",
            "you asked about parameters that have no part in the loss, and autograd takes that for an error.",
            "hint 2 of exercise 00.4: allow_unused=True.",
            _named(_unused),
        ),
        Mistake(
            "a gradient of 0 counts",
            "you took any gradient that is not None, also one of nothing but zeros.",
            "hint 3 of exercise 00.4: .any() is true if one number differs from 0.",
            _named(_zero_counts),
        ),
        Mistake(
            "every parameter",
            "you named a network only if all of its parameters learn; one is enough.",
            "hint 3 of exercise 00.4: any, not all.",
            _named(_all_parts),
        ),
        Mistake(
            "the graph is gone",
            "the first network's question freed the graph, and the question about the next one fails.",
            "hint 2 of exercise 00.4: retain_graph=True.",
            _named(_graph_gone),
        ),
    ),
)


# ---------------------------------------------------------------- 00.5 the finished method in use

Segment = Callable[..., Tensor]


def small_students(classes: int = 3) -> Students:
    """Students of one convolution each, with weights and BatchNorm statistics of some life."""
    torch.manual_seed(classes)
    nets = [nn.Sequential(nn.Conv2d(3, classes, 5, padding=2), nn.BatchNorm2d(classes)) for _ in range(2)]
    students = Students(classes, *nets)
    for module in students.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.3 * noise(module.num_features, seed=1)
            module.running_var = noise(module.num_features, seed=2).abs() + 0.5
    return students


def _photo(height: int = 40, width: int = 28, seed: int = 0) -> np.ndarray:
    """A smooth colour picture, uint8 (H, W, 3), of its full range."""
    coarse = noise(1, 3, 5, 4, seed=seed, scale=1.0).sigmoid()
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (255 * fine[0].movedim(0, -1)).round().byte().numpy()


def right_logits(students: Students, image: np.ndarray, size: int, scale: float = 255) -> Tensor:
    """The fused logits (1, C, size, size) of an image, in evaluation mode."""
    x = torch.tensor(image).movedim(-1, 0).unsqueeze(0) / scale
    students.eval()
    with torch.no_grad():
        return students(F.interpolate(x, (size, size), mode="bilinear", align_corners=False)).logits_f


def _grown(z: Tensor, image: np.ndarray) -> Tensor:
    return F.interpolate(z, image.shape[:2], mode="bilinear", align_corners=False).argmax(dim=1)[0]


def right_segment(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    """The class of every pixel of an image, (H, W): what exercise 00.5 asks for."""
    return _grown(right_logits(students, image, size), image)


def _segment_probe(f: Segment) -> list[Tensor]:
    made = []
    for classes, image, size in ((3, _photo(), 32), (4, _photo(30, 50, seed=1), 16), (3, _photo(16, 16), 16)):
        students = small_students(classes).train()
        graphs: list[float] = []
        students.ham.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        made += [attempt(f, students, image, size), torch.tensor([float(students.training), *graphs])]
    return made


def _segment_value(f: Segment) -> bool:
    return all(
        same(f(small_students(c), _photo(seed=c), 32), right_segment(small_students(c), _photo(seed=c), 32))
        for c in (2, 3, 4)
    )


def _native_size(f: Segment) -> bool:
    students = small_students()
    return all(f(students, _photo(h, w), 32).shape == (h, w) for h, w in ((40, 28), (64, 64), (33, 90)))


def _trained_mode(f: Segment) -> bool:
    students = small_students().train()
    before = [tensor.clone() for tensor in students.buffers()]
    made = f(students, _photo(), 32)
    return same(made, right_segment(small_students(), _photo(), 32)) and same(
        before, list(students.buffers())
    )


def _no_graph(f: Segment) -> bool:
    students, seen = small_students(), []
    students.ham.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    f(students, _photo(), 32)
    return seen == [False]


def _as_batch(image: np.ndarray, size: int) -> Tensor:
    """What the networks should see: (1, 3, size, size) in [0, 1]."""
    x = torch.tensor(image).movedim(-1, 0).unsqueeze(0) / 255
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


@torch.no_grad()
def _unet_alone(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students.eval()(_as_batch(image, size)).logits_a, image)


@torch.no_grad()
def _in_training_mode(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students(_as_batch(image, size)).logits_f, image)


def _with_a_graph(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students.eval()(_as_batch(image, size)).logits_f, image)


def _labels_grown(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    labels = right_logits(students, image, size).argmax(dim=1, keepdim=True).float()
    return F.interpolate(labels, image.shape[:2], mode="nearest")[0, 0].long()


def _sideways(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(right_logits(students, image.swapaxes(0, 1), size), image)


@torch.no_grad()
def _reshaped(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    x = torch.tensor(image).reshape(1, 3, *image.shape[:2]) / 255
    return _grown(students.eval()(F.interpolate(x, (size, size), mode="bilinear")).logits_f, image)


SEGMENT = Exercise(
    "00.5",
    "from image to mask",
    _segment_probe,
    (
        Property(
            "interface",
            "segment(students, image, size=64) returns one tensor",
            lambda f: takes(f, 2) and takes(f, 3) and isinstance(f(small_students(), _photo()), Tensor),
        ),
        Property("shape", "uint8 (H, W, 3) -> (H, W), whatever size the networks want", _native_size),
        Property(
            "dtype",
            "int64, one class per pixel",
            lambda f: f(small_students(), _photo(), 32).dtype == torch.int64,
        ),
        Property("value", "the winner of the fused logits, for 2, 3 and 4 classes", _segment_value),
        Property(
            "default",
            "without a third argument the networks look at 64 x 64 pixels",
            lambda f: same(f(small_students(), _photo()), right_segment(small_students(), _photo())),
        ),
        Property(
            "mode",
            "students that come from training are put into evaluation mode, and stay unchanged",
            _trained_mode,
        ),
        Property("graph", "no graph is kept", _no_graph),
    ),
    (
        Mistake(
            "bytes",
            "the networks saw numbers up to 255; they were trained on [0, 1].",
            "hint 1 of exercise 00.5: divide by 255.",
            lambda students, image, size=64: _grown(right_logits(students, image, size, 1.0), image),
        ),
        Mistake(
            "the U-Net alone",
            "you returned the first of the three answers, the U-Net's.",
            "hint 3 of exercise 00.5: students(x).logits_f.",
            _unet_alone,
        ),
        Mistake(
            "training mode",
            "BatchNorm used the statistics of this one image, and counted it in.",
            "hint 2 of exercise 00.5: students.eval() first.",
            _in_training_mode,
        ),
        Mistake(
            "a graph is kept",
            "the mask is right, but PyTorch kept what a backward pass would need, and nobody asks for one.",
            "hint 2 of exercise 00.5: with torch.no_grad().",
            _with_a_graph,
        ),
        Mistake(
            "winner first, size second",
            "you took the winner on the small grid and enlarged that: the outline has steps.",
            "hint 3 of exercise 00.5: enlarge the logits, then take the winner.",
            _labels_grown,
        ),
        Mistake(
            "not brought back",
            "the mask has the networks' size, not the image's.",
            "hint 3 of exercise 00.5: F.interpolate to image.shape[:2].",
            lambda students, image, size=64: right_logits(students, image, size).argmax(dim=1)[0],
        ),
        Mistake(
            "sideways",
            "the networks saw the image with rows and columns exchanged.",
            "hint 1 of exercise 00.5: (H, W, 3) becomes (3, H, W), height before width.",
            _sideways,
        ),
        Mistake(
            "reshaped",
            "reshape leaves the numbers in their order and mixes colours with places.",
            "hint 1 of exercise 00.5: .movedim(-1, 0) moves the axis.",
            _reshaped,
        ),
    ),
)

EXERCISES = (DICE, CHOICE, BOX, LEARNERS, SEGMENT)

QUIZ = (
    Answer("a", "slices of one patient are alike, so some would stand on both sides.", "whom to label"),
    Answer("d", "ring and filled ring have the same box, and SAM is told no name.", "what SAM does not know"),
    Answer("b", "z_f is detached on its way into SAM, so SAM's loss stops there.", "who learns from whom"),
    Answer("c", "the students and HAM; SAM has taught and stays behind.", "the finished method in use"),
    Answer(
        "a",
        "with labels alone and the same two networks, only the method itself differs.",
        "the result first",
    ),
)
