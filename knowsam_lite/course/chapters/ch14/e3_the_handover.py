"""Exercise 14.3, whose answer is taught."""

from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.methods.knowsam_plus import agreement, handover

Handover = Callable[[Tensor, Tensor, Tensor], Tensor]
Dice = Callable[[Tensor, Tensor, int], Tensor]


def _three(classes: int = 2, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of student, average and SAM for three images that agree in part."""
    common = noise(3, classes, 6, 5, seed=seed)
    own = [noise(3, classes, 6, 5, seed=seed + i, scale=s) for i, s in ((1, 1.0), (2, 1.5), (3, 2.5))]
    student, average, sam = (common + one for one in own)
    return student, average, sam


def _cases(f: Handover) -> list[Tensor]:
    return [f(*_three(c, seed)) for c in (2, 4) for seed in (0, 10)]


def _map(foreground: bool) -> Tensor:
    """Logits of one image, all of one class."""
    z = torch.zeros(1, 2, 4, 4)
    z[:, int(foreground)] = 5.0
    return z


def _corner(size: int) -> Tensor:
    z = _map(False)
    z[:, 1, :size, :size] = 9.0
    return z


def _whole(f: Handover) -> list[Tensor]:
    """All alike; the average apart from SAM; the student apart from the average; all empty."""
    full, corner, empty = _map(True), _corner(2), _map(False)
    return [
        f(full, full, full),
        f(full, full, empty),
        f(empty, full, full),
        f(empty, empty, empty),
        f(corner, full, corner),
    ]


def _made(
    dice: Dice = agreement,
    pairs: tuple[tuple[int, int], tuple[int, int]] = ((0, 1), (1, 2)),
    join: Callable[[Tensor, Tensor], Tensor] = lambda a, b: a * b,
    shape: Callable[[Tensor], Tensor] = lambda r: r.view(-1, 1, 1, 1),
    labels: Callable[[Tensor], Tensor] = lambda z: z.argmax(dim=1),
    extra: bool = False,
) -> Handover:
    """r, built from parts; each mistake replaces one."""

    def handover(z: Tensor, z_ema: Tensor, z_s: Tensor) -> Tensor:
        maps = [labels(one) for one in (z, z_ema, z_s)]
        found = [dice(maps[i], maps[j], z.shape[1]) for i, j in pairs]
        outer = dice(maps[0], maps[2], z.shape[1]) if extra else 1.0
        return shape(join(*found) * outer)

    return handover


def _with_background(a: Tensor, b: Tensor, num_classes: int) -> Tensor:
    scores = [agreement((a == c).long(), (b == c).long(), 2) for c in range(num_classes)]
    return torch.stack(scores).mean(dim=0)


def _accuracy(a: Tensor, b: Tensor, num_classes: int) -> Tensor:
    return (a == b).flatten(1).float().mean(dim=1)


def _one_class(a: Tensor, b: Tensor, num_classes: int) -> Tensor:
    return agreement((a == 1).long(), (b == 1).long(), 2)


def _batch(a: Tensor, b: Tensor, num_classes: int) -> Tensor:
    one = agreement(a.flatten(0, 1)[None], b.flatten(0, 1)[None], num_classes)
    return one.expand(len(a))


HANDOVER = Exercise(
    "14.3",
    "the handover",
    lambda f: [*_cases(f), *_whole(f)],
    (
        Property(
            "interface",
            "handover(z, z_ema, z_s) returns (N, 1, 1, 1), to be multiplied with maps",
            lambda f: takes(f, 3) and f(*_three()).shape == (3, 1, 1, 1),
        ),
        Property(
            "ends",
            "1 where all three agree, 0 where one of them stands alone",
            lambda f: same(_whole(f)[:3], [torch.full((1, 1, 1, 1), v) for v in (1.0, 0.0, 0.0)]),
        ),
        Property(
            "value",
            "the product of two Dices, for 2 and 4 classes",
            lambda f: same(_cases(f), _cases(handover)),
        ),
        Property(
            "middle", "the average stands between the other two", lambda f: same(_whole(f), _whole(handover))
        ),
        Property(
            "each",
            "each image has its own, whatever the others are",
            lambda f: same(f(*_three()), torch.cat([f(*(z[i : i + 1] for z in _three())) for i in range(3)])),
        ),
    ),
    (
        Mistake(
            "added",
            "the mean of the two was taken: a student that has left its average still gets half of the say.",
            "the equation above: a product.",
            _made(join=lambda a, b: (a + b) / 2),
        ),
        Mistake(
            "the smaller one",
            "you took the smaller of the two; they are multiplied.",
            "the equation above: a product.",
            _made(join=torch.minimum),
        ),
        Mistake(
            "one of them",
            "only the student and its average were compared; whether SAM agrees was not asked.",
            "hint 2: two comparisons.",
            _made(join=lambda a, b: a),
        ),
        Mistake(
            "SAM alone",
            "only the average and SAM were compared; whether the student is calm was not asked.",
            "hint 2: two comparisons.",
            _made(join=lambda a, b: b),
        ),
        Mistake(
            "the student in the middle",
            "student and SAM were compared; it is the average that meets both.",
            "hint 2: student with average, average with SAM.",
            _made(pairs=((0, 1), (0, 2))),
        ),
        Mistake(
            "the complement",
            "this is 1 - r: SAM would teach where all agree, and the average where it stands alone.",
            "the text: 1 where the three agree.",
            _made(join=lambda a, b: 1 - a * b),
        ),
        Mistake(
            "pixels that agree",
            "you counted equal pixels; background everywhere would agree with nearly anything.",
            "hint 1: agreement, which is Dice of the foreground.",
            _made(_accuracy),
        ),
        Mistake(
            "background counted",
            "the background counts as a class; it is large, and always agrees.",
            "hint 1: agreement leaves class 0 out.",
            _made(_with_background),
        ),
        Mistake(
            "two classes",
            "only class 1 was compared; there may be more.",
            "hint 1: agreement takes the number of classes, z.shape[1].",
            _made(_one_class),
        ),
        Mistake(
            "one number for the batch",
            "all images share one r; each has its own.",
            "hint 3: (N,) becomes (N, 1, 1, 1).",
            _made(_batch),
        ),
        Mistake(
            "flat",
            "r has shape (N,): multiplied with maps (N, C, H, W) it would meet the width.",
            "hint 3: view(-1, 1, 1, 1).",
            _made(shape=lambda r: r),
        ),
        Mistake(
            "three comparisons",
            "student and SAM were compared as well; the average meets both, and that is enough.",
            "hint 2: two comparisons.",
            _made(join=lambda a, b: a * b, extra=True),
        ),
        Mistake(
            "the image axis",
            "the largest was looked for along the images, not along the classes.",
            "hint 1: argmax(dim=1).",
            _made(labels=lambda z: z.argmax(dim=0)),
        ),
        Mistake(
            "logits compared",
            "agreement got logits; it compares label maps.",
            "hint 1: argmax(dim=1) first.",
            _made(labels=lambda z: z),
        ),
        Mistake(
            "the mean over the images",
            "the mean over the batch was taken, and all images share it.",
            "hint 3: (N,), one number for each image.",
            _made(shape=lambda r: r.mean().expand(len(r)).view(-1, 1, 1, 1)),
        ),
        Mistake(
            "the student twice",
            "student and average were compared twice; the second comparison is that of average and SAM.",
            "hint 2: times average with SAM.",
            _made(join=lambda a, b: a * a),
        ),
    ),
    handover,
)
