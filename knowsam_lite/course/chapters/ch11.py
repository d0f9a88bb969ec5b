"""Chapter 11, reading results: properties, catalogued mistakes, and the quiz's key."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.calibration import reliability, risk_coverage
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.course.quiz import Answer
from knowsam_lite.metrics import dice, drawn_means

Array = NDArray[Any]


def _tensors(made: Any) -> list[Tensor]:
    """What an answer gave, an array or several, as tensors of one type."""
    return [
        torch.as_tensor(np.asarray(part, dtype=float))
        for part in (made if isinstance(made, tuple) else (made,))
    ]


def _near(a: Any, b: Any) -> bool:
    return same(_tensors(a), _tensors(b))


# ---------------------------------------------------------------- 11.1 an ablation table

Rung = tuple[str, float, float, float]
Table = Callable[[dict[str, Array]], list[Rung]]


def right_rungs(scores: dict[str, Array]) -> list[Rung]:
    """Name, mean, deviation over the seeds and gain over the rung before, for each variant in order."""
    rows: list[Rung] = []
    for name, dices in scores.items():
        seeds = dices.mean(axis=1)
        gain = seeds.mean() - rows[-1][1] if rows else 0.0
        rows.append((name, float(seeds.mean()), float(seeds.std(ddof=1)), float(gain)))
    return rows


def _scores(seed: int, variants: int = 4, seeds: int = 3, images: int = 7) -> dict[str, Array]:
    """Scores in which seeds, images and variants differ by unlike amounts; the names are not sorted."""
    rng = np.random.default_rng(seed)
    return {
        f"{'zqab'[i]}{i}": 0.4
        + 0.1 * rng.random()
        + 0.05 * rng.random((seeds, 1))
        + 0.2 * rng.random((1, images))
        + 0.1 * rng.random((seeds, images))
        for i in range(variants)
    }


def _rungs_probe(f: Table) -> list[Tensor]:
    found = []
    for seed, seeds in ((0, 3), (1, 2), (2, 5)):
        given = _scores(seed, seeds=seeds)
        rows = f(given)
        found += [torch.tensor([list(given).index(row[0]) for row in rows])]
        found += [torch.tensor([[float(number) for number in row[1:]] for row in rows])]
    return found


def _column(f: Table, place: int) -> bool:
    return all(
        same(
            torch.tensor([float(row[place]) for row in f(_scores(seed, seeds=seeds))]),
            torch.tensor([row[place] for row in right_rungs(_scores(seed, seeds=seeds))]),
        )
        for seed, seeds in ((3, 3), (4, 2), (5, 6))
    )


def _table_with(
    spread: Callable[[Array], float] | None = None, gain: Callable[[list[float]], float] | None = None
) -> Table:
    """The right table with another spread of (seeds, images), or another gain from the means so far."""

    def rungs(scores: dict[str, Array]) -> list[Rung]:
        rows, means = [], []
        for name, _, deviation, more in right_rungs(scores):
            means.append(float(scores[name].mean()))
            rows.append(
                (
                    name,
                    means[-1],
                    float(spread(scores[name])) if spread else deviation,
                    float(gain(means)) if gain else more,
                )
            )
        return rows

    return rungs


RUNGS = Exercise(
    "11.1",
    "an ablation table",
    _rungs_probe,
    (
        Property(
            "interface",
            "rungs(scores) returns a list of tuples of four: a name and three numbers",
            lambda f: takes(f, 1) and all(len(row) == 4 and isinstance(row[0], str) for row in f(_scores(0))),
        ),
        Property(
            "order",
            "one row for each variant, in the order given",
            lambda f: [row[0] for row in f(_scores(0))] == list(_scores(0)),
        ),
        Property("mean", "the mean over seeds and images", lambda f: _column(f, 1)),
        Property("deviation", "the deviation of the seeds' means, with n - 1", lambda f: _column(f, 2)),
        Property("first", "the first rung gains nothing", lambda f: float(f(_scores(0))[0][3]) == 0),
        Property("gain", "each gain is taken over the rung just before", lambda f: _column(f, 3)),
    ),
    (
        Mistake(
            "divided by n",
            "the deviation divides by n, not by n - 1: with three seeds it is a fifth too small.",
            "hint 2 of exercise 11.1: .std(ddof=1).",
            _table_with(spread=lambda d: d.mean(axis=1).std()),
        ),
        Mistake(
            "deviation over everything",
            "the deviation is that of all scores, so the images' difficulty is taken for the seeds' luck.",
            "hint 2 of exercise 11.1: first the mean of each seed, then the deviation of these means.",
            _table_with(spread=lambda d: d.std(ddof=1)),
        ),
        Mistake(
            "deviation over the images",
            "the deviation is that of the images, averaged over the seeds: axis 0 was averaged first.",
            "hint 1 of exercise 11.1: the images lie on axis 1.",
            _table_with(spread=lambda d: d.mean(axis=0).std(ddof=1)),
        ),
        Mistake(
            "standard error",
            "the deviation is divided by the root of the number of seeds: that is the mean's standard error.",
            "the equation above exercise 11.1: the deviation of the seeds, not of their mean.",
            _table_with(spread=lambda d: d.mean(axis=1).std(ddof=1) / len(d) ** 0.5),
        ),
        Mistake(
            "gain over the first",
            "each gain is taken over the first rung, so later parts are credited with all earlier ones.",
            "hint 3 of exercise 11.1: the row before is rows[-1].",
            _table_with(gain=lambda m: m[-1] - m[0]),
        ),
        Mistake(
            "gain with the wrong sign",
            "the gain is the rung before minus this one: improvements come out negative.",
            "hint 3 of exercise 11.1: this mean minus the mean before.",
            _table_with(gain=lambda m: m[-2] - m[-1] if len(m) > 1 else 0.0),
        ),
        Mistake(
            "the first gains its mean",
            "the first rung gains its whole mean; there is nothing before it, so it gains 0.",
            "hint 3 of exercise 11.1: no rung before, no gain.",
            _table_with(gain=lambda m: m[-1] - (m[-2] if len(m) > 1 else 0.0)),
        ),
    ),
)


# ---------------------------------------------------------------- 11.2 seeds and images, drawn

Drawn = Callable[[Array, Array, Array], Array]


def _drawing(
    seeds: int = 3, images: int = 6, repetitions: int = 20, seed: int = 0
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(seed)
    delta = rng.normal(size=(seeds, images))
    sizes = (repetitions, seeds), (repetitions, images)
    return delta, rng.integers(0, seeds, sizes[0]), rng.integers(0, images, sizes[1])


DRAWINGS = ((3, 6, 20, 0), (2, 9, 5, 1), (5, 4, 7, 2), (1, 8, 6, 3), (4, 4, 6, 4))


def _drawn_probe(f: Drawn) -> list[Tensor]:
    return [tensor for sizes in DRAWINGS for tensor in _tensors(f(*_drawing(*sizes)))]


def _every_pair(delta: Array, rows: Array, columns: Array) -> list[float]:
    """The oracle: every drawn seed with every drawn image, one after the other."""
    return [
        sum(delta[s, i] for s in seeds for i in images) / (len(seeds) * len(images))
        for seeds, images in zip(rows.tolist(), columns.tolist(), strict=True)
    ]


def _orders(f: Drawn) -> bool:
    """Another order within a draw changes nothing, another order of the repetitions moves the means along."""
    delta, rows, columns = _drawing(3, 6, 8, 5)
    made = _tensors(f(delta, rows, columns))[0]
    return same(_tensors(f(delta, rows[:, ::-1], columns[:, ::-1]))[0], made) and same(
        _tensors(f(delta, rows[::-1], columns[::-1]))[0], made.flip(0)
    )


DRAWN = Exercise(
    "11.2",
    "seeds and images, drawn",
    _drawn_probe,
    (
        Property(
            "interface",
            "drawn_means(delta, rows, columns) returns an array",
            lambda f: takes(f, 3) and isinstance(f(*_drawing()), np.ndarray),
        ),
        Property(
            "shape",
            "one mean for each repetition: (R,)",
            lambda f: all(np.shape(f(*_drawing(*sizes))) == (sizes[2],) for sizes in DRAWINGS),
        ),
        Property(
            "identity",
            "when everything is drawn once, it is the plain mean",
            lambda f: _near(
                f(_drawing()[0], np.arange(3)[None], np.arange(6)[None]), _drawing()[0].mean()[None]
            ),
        ),
        Property(
            "value",
            "every drawn seed meets every drawn image",
            lambda f: all(
                _near(f(*_drawing(*sizes)), np.array(_every_pair(*_drawing(*sizes)))) for sizes in DRAWINGS
            ),
        ),
        Property("invariance", "the order within a draw does not matter", _orders),
    ),
    (
        Mistake(
            "only images drawn",
            "the seeds are not drawn: the interval would not know that seeds differ.",
            "hint 1 of exercise 11.2: both index arrays are used.",
            lambda d, rows, columns: d.mean(axis=0)[columns].mean(axis=1),
        ),
        Mistake(
            "only seeds drawn",
            "the images are not drawn: the interval would not know that images differ.",
            "hint 1 of exercise 11.2: both index arrays are used.",
            lambda d, rows, columns: d.mean(axis=1)[rows].mean(axis=1),
        ),
        Mistake(
            "one seed for each repetition",
            "only the first drawn seed of each repetition is used.",
            "hint 2 of exercise 11.2: np.ix_ crosses all drawn seeds with all drawn images.",
            lambda d, rows, columns: d[rows[:, :1], columns].mean(axis=1),
        ),
        Mistake(
            "a seed for each image",
            "each drawn image has a seed of its own, as if every score were an independent trial.",
            "hint 2 of exercise 11.2: all images of a repetition meet the same drawn seeds.",
            lambda d, rows, columns: np.array(
                [d[np.resize(s, len(i)), i].mean() for s, i in zip(rows, columns, strict=True)]
            ),
        ),
        Mistake(
            "one mean for all",
            "all repetitions were averaged into one number; the interval needs their spread.",
            "hint 3 of exercise 11.2: one mean for each repetition.",
            lambda d, rows, columns: np.array(drawn_means(d, rows, columns).mean()),
        ),
        Mistake(
            "sum for mean",
            "the drawn differences were added up, not averaged.",
            "hint 3 of exercise 11.2: a mean for each repetition.",
            lambda d, rows, columns: drawn_means(d, rows, columns) * d.size,
        ),
        Mistake(
            "median",
            "the median of the drawn scores was taken; the difference to be judged is a mean.",
            "the equation above exercise 11.2: a sum over seeds and images, divided by their number.",
            lambda d, rows, columns: np.array(
                [np.median(d[np.ix_(s, i)]) for s, i in zip(rows, columns, strict=True)]
            ),
        ),
        Mistake(
            "an index array too far",
            "an index ran out of its axis, or two index arrays did not fit each other.",
            "hint 2 of exercise 11.2: seeds index axis 0, images axis 1, and np.ix_ crosses them.",
            lambda d, rows, columns: np.array([d[s, i].mean() for s, i in zip(rows, columns, strict=True)]),
        ),
    ),
)


# ---------------------------------------------------------------- 11.3 kinds of failure

Kind = Callable[[Array, Array], str]
KINDS = ("good", "nothing found", "false alarm", "elsewhere", "too small", "too large", "wrong shape")


def right_kind(pred: Array, true: Array) -> str:
    """What is wrong with a prediction, by the pixels that it hit, added and missed."""
    hit = np.count_nonzero(pred & true)
    added, missed = np.count_nonzero(pred & ~true), np.count_nonzero(~pred & true)
    if dice(pred, true) >= 0.8:
        return "good"
    if not pred.any():
        return "nothing found"
    if not true.any():
        return "false alarm"
    if hit == 0:
        return "elsewhere"
    if missed > 2 * added:
        return "too small"
    return "too large" if added > 2 * missed else "wrong shape"


def _box(rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    mask = np.zeros((20, 20), bool)
    mask[slice(*rows), slice(*columns)] = True
    return mask


TRUTH = _box((5, 15), (5, 15))  # 100 pixels
EMPTY = np.zeros_like(TRUTH)
CASES: tuple[tuple[Array, Array, str], ...] = (
    (TRUTH, TRUTH, "good"),
    (EMPTY, EMPTY, "good"),
    (_box((6, 15), (5, 15)), TRUTH, "good"),
    (_box((3, 18), (5, 15)), TRUTH, "good"),  # Dice is exactly 0.8
    (_box((5, 15), (8, 15)), TRUTH, "good"),  # Dice is 0.82, IoU 0.7
    (EMPTY, TRUTH, "nothing found"),
    (TRUTH, EMPTY, "false alarm"),
    (_box((0, 4), (0, 4)), TRUTH, "elsewhere"),
    (_box((16, 19), (2, 18)), TRUTH, "elsewhere"),
    (_box((7, 12), (7, 12)), TRUTH, "too small"),
    (_box((3, 10), (6, 12)), TRUTH, "too small"),  # it adds a little, too
    (_box((9, 15), (5, 15)) | _box((15, 17), (5, 13)), TRUTH, "too small"),  # 40 missed, 16 added
    (_box((7, 20), (5, 15)), TRUTH, "too large"),  # 20 missed, 50 added
    (_box((5, 15), (0, 19)), TRUTH, "too large"),
    (_box((0, 20), (0, 14)), TRUTH, "too large"),
    (_box((5, 15), (9, 19)), TRUTH, "wrong shape"),  # as many added as missed
    (_box((2, 13), (2, 13)), TRUTH, "wrong shape"),
    (_box((5, 15), (7, 19)) & ~_box((5, 15), (7, 9)), TRUTH, "wrong shape"),
    (_box((0, 15), (8, 14)), TRUTH, "wrong shape"),
    (_box((10, 20), (5, 15)) & ~_box((15, 20), (5, 10)), TRUTH, "wrong shape"),  # missed is twice added
    (_box((0, 15), (5, 15)) & ~_box((5, 8), (5, 10)) & ~_box((0, 2), (5, 10)), TRUTH, "too large"),
    (_box((5, 20), (5, 15)) & ~_box((5, 10), (5, 10)), TRUTH, "wrong shape"),  # added is twice missed
)


def _kinds(f: Kind) -> list[str]:
    return [f(pred, true) for pred, true, _ in CASES]


def _kinds_probe(f: Kind) -> list[Tensor]:
    return [torch.tensor([KINDS.index(kind) if kind in KINDS else -1 for kind in _kinds(f)])]


def _says(*wanted: str) -> Callable[[Kind], bool]:
    return lambda f: all(f(pred, true) == kind for pred, true, kind in CASES if kind in wanted)


def _rules(
    order: tuple[str, ...] = KINDS, ratio: float = 2.0, **tests: Callable[[Array, Array], bool]
) -> Kind:
    """The kinds asked one after the other in an order of their own, some with a test of their own."""

    def count(pred: Array, true: Array) -> tuple[int, int, int]:
        return tuple(int(np.count_nonzero(m)) for m in (pred & true, pred & ~true, ~pred & true))  # type: ignore

    asked: dict[str, Callable[[Array, Array], bool]] = {
        "good": lambda p, t: dice(p, t) >= 0.8,
        "nothing found": lambda p, t: not p.any(),
        "false alarm": lambda p, t: not t.any(),
        "elsewhere": lambda p, t: count(p, t)[0] == 0,
        "too small": lambda p, t: count(p, t)[2] > ratio * count(p, t)[1],
        "too large": lambda p, t: count(p, t)[1] > ratio * count(p, t)[2],
        "wrong shape": lambda p, t: True,
    }
    asked |= {name.replace("_", " "): test for name, test in tests.items()}
    return lambda pred, true: next(name for name in order if asked[name](pred, true))


KIND = Exercise(
    "11.3",
    "kinds of failure",
    _kinds_probe,
    (
        Property(
            "interface",
            "failure_kind(pred, true) returns one of the seven names",
            lambda f: takes(f, 2) and all(kind in KINDS for kind in _kinds(f)),
        ),
        Property("good", "Dice of at least 0.8 is good, two empty masks as well", _says("good")),
        Property(
            "empty",
            "an empty prediction and an empty truth are told apart",
            _says("nothing found", "false alarm"),
        ),
        Property("elsewhere", "no common pixel, though neither is empty", _says("elsewhere")),
        Property("too small", "more than twice as many missed pixels as added ones", _says("too small")),
        Property("too large", "more than twice as many added pixels as missed ones", _says("too large")),
        Property("shape", "all the rest", _says("wrong shape")),
    ),
    (
        Mistake(
            "elsewhere asked first",
            "a prediction of nothing also has no common pixel: it was called elsewhere.",
            "hint 1 of exercise 11.3: the order of the questions is that of the list.",
            _rules(("good", "elsewhere", "nothing found", "false alarm", *KINDS[4:])),
        ),
        Mistake(
            "empty asked first",
            "two empty masks agree; they were called a failure.",
            "hint 1 of exercise 11.3: ask for good first.",
            _rules(("nothing found", "false alarm", "good", *KINDS[3:])),
        ),
        Mistake(
            "added and missed exchanged",
            "too small and too large have changed places.",
            "hint 2 of exercise 11.3: added is pred and not true, missed is true and not pred.",
            _rules(
                (*KINDS[:4], "too large", "too small", "wrong shape"),
                too_small=lambda p, t: int((p & ~t).sum()) > 2 * int((t & ~p).sum()),
                too_large=lambda p, t: int((t & ~p).sum()) > 2 * int((p & ~t).sum()),
            ),
        ),
        Mistake(
            "areas compared",
            "the areas of the masks were compared; what counts is what was missed against what was added.",
            "hint 3 of exercise 11.3: missed > 2 * added.",
            _rules(
                too_small=lambda p, t: t.sum() > 2 * p.sum(), too_large=lambda p, t: p.sum() > 2 * t.sum()
            ),
        ),
        Mistake(
            "larger or smaller",
            "every failure with common pixels was called too small or too large.",
            "hint 3 of exercise 11.3: only if one is more than twice the other; the rest is wrong shape.",
            _rules(too_small=lambda p, t: p.sum() < t.sum(), too_large=lambda p, t: True),
        ),
        Mistake(
            "any difference is enough",
            "more missed than added was already called too small: the factor of two is missing.",
            "hint 3 of exercise 11.3: more than twice as many.",
            _rules(ratio=1.0),
        ),
        Mistake(
            "equal is enough",
            "exactly twice as many was already enough; it has to be more.",
            "hint 3 of exercise 11.3: > and not >=.",
            _rules(
                too_small=lambda p, t: (t & ~p).sum() >= 2 * (p & ~t).sum(),
                too_large=lambda p, t: (p & ~t).sum() >= 2 * (t & ~p).sum(),
            ),
        ),
        Mistake(
            "good only above 0.8",
            "a Dice of exactly 0.8 was called a failure.",
            "the list above exercise 11.3: at least 0.8.",
            _rules(good=lambda p, t: dice(p, t) > 0.8),
        ),
        Mistake(
            "IoU for Dice",
            "the IoU was asked to be at least 0.8, not the Dice: it is smaller, so good masks are failures.",
            "hint 1 of exercise 11.3: dice(pred, true).",
            _rules(good=lambda p, t: not (p | t).any() or (p & t).sum() / (p | t).sum() >= 0.8),
        ),
        Mistake(
            "empty ones exchanged",
            "nothing found and false alarm have changed places.",
            "the list above exercise 11.3: nothing found is an empty prediction, false alarm an empty truth.",
            _rules(nothing_found=lambda p, t: not t.any(), false_alarm=lambda p, t: not p.any()),
        ),
        Mistake(
            "elsewhere not asked",
            "a prediction without a common pixel was judged by its size; it is elsewhere.",
            "the list above exercise 11.3: elsewhere is asked before too small.",
            _rules(tuple(kind for kind in KINDS if kind != "elsewhere")),
        ),
    ),
)


# ---------------------------------------------------------------- 11.4 reliability

Reliable = Callable[..., tuple[Array, Array, Array]]


def _answers(n: int = 200, seed: int = 0) -> tuple[Array, Array]:
    """Confidences, some exactly 0, 1 and on an edge of four parts, and whether they were right."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(n) * 0.7 + 0.3
    confidence[:6] = [0.0, 1.0, 1.0, 0.25, 0.5, 0.75]
    return confidence, rng.random(n) < confidence**2


def _plane() -> tuple[Array, Array]:
    confidence, right = _answers(120, 3)
    return confidence.reshape(2, 6, 10), right.reshape(2, 6, 10)


def _low() -> tuple[Array, Array]:
    """Answers without confidence: the last parts are empty."""
    confidence, right = _answers(60, 4)
    return confidence[6:] * 0.5, right[6:]


def _slow(confidence: Array, right: Array, bins: int) -> tuple[Array, Array, Array]:
    """The oracle: each part asks every answer whether it belongs to it."""
    sums = np.zeros((3, bins))
    for c, r in zip(confidence.ravel().tolist(), right.ravel().tolist(), strict=True):
        part = bins - 1 if c == 1 else next(b for b in range(bins) if b / bins <= c < (b + 1) / bins)
        sums[:, part] += [1, c, r]
    return sums[0], sums[1], sums[2]


def _reliable_probe(f: Reliable) -> list[Tensor]:
    given: list[tuple[Any, ...]] = [
        (*_answers(), 4),
        (*_answers(50, 1), 8),
        (*_plane(), 2),
        (*_low(), 8),
        (*_answers(80, 2),),
    ]
    return [tensor for arguments in given for tensor in _tensors(f(*arguments))]


def _sums(f: Reliable, place: int) -> bool:
    return all(
        _near(f(c, r, bins)[place], _slow(c, r, bins)[place])
        for c, r, bins in ((*_answers(), 4), (*_answers(60, 5), 8), (*_plane(), 4))
    )


def _adds_up(f: Reliable) -> bool:
    """Two halves, added, are the whole: what is returned are sums."""
    (c, r), half = _answers(90, 7), 40
    one, two, whole = f(c[:half], r[:half], 4), f(c[half:], r[half:], 4), f(c, r, 4)
    return all(_near(a + b, w) for a, b, w in zip(one, two, whole, strict=True))


def _parts(
    part: Callable[[Array, int], Array] | None = None,
    change: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = lambda n, c, r: (n, c, r),
    minlength: bool = True,
    wrong: bool = False,
) -> Reliable:
    """The right answer with one piece replaced."""

    def made(confidence: Array, right: Array, bins: int = 10) -> tuple[Array, Array, Array]:
        if part is None:
            place = np.minimum((confidence * bins).astype(int), bins - 1).ravel()
        else:
            place = part(confidence, bins).ravel()
        least = bins if minlength else 0
        weights = (None, confidence.ravel(), (~right if wrong else right).ravel())
        n, c, r = (np.bincount(place, weights=w, minlength=least).astype(float) for w in weights)
        with np.errstate(divide="ignore", invalid="ignore"):
            return change(n, c, r)

    return made


RELIABLE = Exercise(
    "11.4",
    "a reliability diagram",
    _reliable_probe,
    (
        Property(
            "interface",
            "reliability(confidence, right, bins) returns three arrays; bins is 10 if it is not given",
            lambda f: takes(f, 3) and len(f(*_answers(), 4)) == 3 and len(f(*_answers())[0]) == 10,
        ),
        Property(
            "shape",
            "(bins,) each, whatever the shape of the answers, and for empty parts too",
            lambda f: all(np.shape(a) == (8,) for given in (_plane(), _low()) for a in f(*given, 8)),
        ),
        Property("count", "each answer lies in one part; 1 lies in the last one", lambda f: _sums(f, 0)),
        Property("confidence", "the sums of the confidences", lambda f: _sums(f, 1)),
        Property("right", "the numbers of right answers", lambda f: _sums(f, 2)),
        Property("invariance", "the sums of two halves, added, are those of the whole", _adds_up),
    ),
    (
        Mistake(
            "a part too many",
            "a confidence of 1 fell into a part of its own, behind the last one.",
            "hint 1 of exercise 11.4: np.minimum(..., bins - 1).",
            _parts(part=lambda c, bins: (c * bins).astype(int)),
        ),
        Mistake(
            "empty parts missing",
            "parts at the end in which no answer lies are missing, so the arrays are too short.",
            "hint 2 of exercise 11.4: minlength=bins.",
            _parts(minlength=False),
        ),
        Mistake(
            "rounded",
            "the parts were found by rounding: each is shifted by half its width.",
            "hint 1 of exercise 11.4: .astype(int) cuts off; do not round.",
            _parts(part=lambda c, bins: np.minimum(np.round(c * bins).astype(int), bins - 1)),
        ),
        Mistake(
            "edges belong to the part below",
            "a confidence on an edge was put into the part below it.",
            "the smallest example above exercise 11.4: the lower edge belongs to a part.",
            _parts(part=lambda c, bins: np.maximum(np.ceil(c * bins).astype(int) - 1, 0)),
        ),
        Mistake(
            "means in place of sums",
            "means were returned, not sums: means of two images cannot be added, and empty parts have none.",
            "hint 3 of exercise 11.4: sums only; the means come later.",
            _parts(change=lambda n, c, r: (n, c / n, r / n)),
        ),
        Mistake(
            "means, and 0 for empty parts",
            "means were returned, not sums: the means of two images cannot be added.",
            "hint 3 of exercise 11.4: sums only; the means come later.",
            _parts(change=lambda n, c, r: (n, c / np.maximum(n, 1), r / np.maximum(n, 1))),
        ),
        Mistake(
            "the wrong ones counted",
            "the wrong answers were counted in place of the right ones.",
            "hint 2 of exercise 11.4: weights=right.",
            _parts(wrong=True),
        ),
        Mistake(
            "another order",
            "the number of right answers came before the sum of the confidences.",
            "the text of exercise 11.4: how many, the sum of their confidences, how many are right.",
            _parts(change=lambda n, c, r: (n, r, c)),
        ),
        Mistake(
            "the middle of each part",
            "the middle of the part stands for its confidences; within a part they are not spread evenly.",
            "hint 2 of exercise 11.4: sum the confidences themselves.",
            _parts(change=lambda n, c, r: (n, n * (np.arange(len(n)) + 0.5) / len(n), r)),
        ),
        Mistake(
            "always ten parts",
            "the number of parts is always ten; bins is not used.",
            "hint 1 of exercise 11.4: confidence * bins.",
            lambda confidence, right, bins=10: reliability(confidence, right, 10),
        ),
    ),
)


# ---------------------------------------------------------------- 11.5 risk and coverage

Curve = Callable[[Array, Array], tuple[Array, Array]]


def _doubts(n: int = 12, seed: int = 0) -> tuple[Array, Array]:
    """Risks, and doubts of which two are equal."""
    rng = np.random.default_rng(seed)
    risk = rng.random(n)
    doubt = risk + 0.5 * rng.random(n)
    doubt[n // 2] = doubt[0]
    return risk, doubt


def _inputs_kept(f: Curve) -> bool:
    given, fresh = _doubts(12, 6), _doubts(12, 6)
    f(*given)
    return all(np.array_equal(a, b) for a, b in zip(given, fresh, strict=True))


def _curve_probe(f: Curve) -> list[Tensor]:
    curves = [f(*_doubts(n, seed)) for n, seed in ((12, 0), (5, 1), (1, 2), (30, 3))]
    return [t for curve in curves for t in _tensors(curve)] + [torch.tensor([_inputs_kept(f)])]


def _curve_value(f: Curve) -> bool:
    for n, seed in ((12, 4), (7, 5)):
        risk, doubt = _doubts(n, seed)
        ranked = sorted(range(n), key=lambda i: (doubt[i], i))
        wanted = [sum(risk[i] for i in ranked[:k]) / k for k in range(1, n + 1)]
        if not _near(f(risk, doubt)[1], np.array(wanted)):
            return False
    return True


def _curve_with(
    order: Callable[[Array, Array], Array] = lambda risk, doubt: np.argsort(doubt, kind="stable"),
    value: Callable[[Array], Array] = lambda r: np.cumsum(r) / np.arange(1, len(r) + 1),
    first: int = 1,
) -> Curve:
    def curve(risk: Array, doubt: Array) -> tuple[Array, Array]:
        kept = np.arange(first, len(risk) + first)
        return kept / len(risk), value(risk[order(risk, doubt)])

    return curve


def _sorted_in_place(risk: Array, doubt: Array) -> tuple[Array, Array]:
    risk[:] = risk[np.argsort(doubt, kind="stable")]
    return _curve_with(order=lambda risk, doubt: np.arange(len(risk)))(risk, doubt)


CURVE = Exercise(
    "11.5",
    "risk and coverage",
    _curve_probe,
    (
        Property(
            "interface",
            "risk_coverage(risk, doubt) returns two arrays",
            lambda f: takes(f, 2) and len(f(*_doubts())) == 2,
        ),
        Property("shape", "as long as the risks", lambda f: all(np.shape(a) == (12,) for a in f(*_doubts()))),
        Property(
            "coverage",
            "from 1 / n, when one answer is kept, to 1",
            lambda f: _near(f(*_doubts(8))[0], np.arange(1, 9) / 8),
        ),
        Property(
            "end",
            "when all are kept, the risk is the mean risk",
            lambda f: _near(np.array(f(*_doubts())[1][-1:]), np.array([_doubts()[0].mean()])),
        ),
        Property("value", "the mean risk of the k answers of least doubt", _curve_value),
        Property(
            "invariance",
            "only the ranking of the doubts counts",
            lambda f: _near(f(_doubts()[0], np.exp(3 * _doubts()[1])), f(*_doubts())),
        ),
        Property("quiet", "risks and doubts are left as they were", _inputs_kept),
    ),
    (
        Mistake(
            "the most doubtful first",
            "the answers of most doubt are kept first: the curve is the wrong way round.",
            "hint 1 of exercise 11.5: argsort puts the smallest doubt first.",
            _curve_with(order=lambda risk, doubt: np.argsort(-doubt, kind="stable")),
        ),
        Mistake(
            "turned round",
            "the order was turned round: the answers of most doubt are kept first.",
            "hint 1 of exercise 11.5: argsort already puts the smallest doubt first.",
            _curve_with(order=lambda risk, doubt: np.argsort(doubt, kind="stable")[::-1]),
        ),
        Mistake(
            "coverage is k",
            "the coverage is the number of kept answers; it should be their share.",
            "the equation above exercise 11.5: the coverage is k / n.",
            lambda risk, doubt: (np.arange(1.0, len(risk) + 1), risk_coverage(risk, doubt)[1]),
        ),
        Mistake(
            "sorted by risk",
            "the answers were sorted by their risk, which nobody knows without the truth.",
            "hint 1 of exercise 11.5: sort by doubt.",
            _curve_with(order=lambda risk, doubt: np.argsort(risk, kind="stable")),
        ),
        Mistake(
            "not sorted",
            "the answers were kept in the order in which they came.",
            "hint 1 of exercise 11.5: sort by doubt.",
            _curve_with(order=lambda risk, doubt: np.arange(len(risk))),
        ),
        Mistake(
            "sum for mean",
            "the risks were added up and not divided by the number of kept answers.",
            "hint 2 of exercise 11.5: divide by k.",
            _curve_with(value=np.cumsum),
        ),
        Mistake(
            "divided by all",
            "the sum of the kept risks was divided by the number of all answers.",
            "hint 2 of exercise 11.5: divide by k, the number of those that are kept.",
            _curve_with(value=lambda r: np.cumsum(r) / len(r)),
        ),
        Mistake(
            "the risk of the last one",
            "the value is the risk of the k-th answer, not the mean of all that are kept.",
            "hint 2 of exercise 11.5: a cumulative sum.",
            _curve_with(value=lambda r: r),
        ),
        Mistake(
            "coverage from 0",
            "the coverage starts at 0: no answer kept has no risk.",
            "hint 3 of exercise 11.5: k from 1 to n.",
            _curve_with(first=0),
        ),
        Mistake(
            "doubt averaged",
            "the doubts of the kept answers were averaged, not their risks.",
            "hint 2 of exercise 11.5: the risks, in the order of the doubts.",
            lambda risk, doubt: risk_coverage(doubt, doubt),
        ),
        Mistake(
            "outputs exchanged",
            "the mean risks came first and the coverage second.",
            "the text of exercise 11.5: the coverage, and the mean risk.",
            lambda risk, doubt: risk_coverage(risk, doubt)[::-1],
        ),
        Mistake(
            "equals turned round",
            "of equal doubts the later answer was kept first.",
            'hint 1 of exercise 11.5: np.argsort(doubt, kind="stable").',
            _curve_with(order=lambda risk, doubt: np.argsort(-doubt, kind="stable")[::-1]),
        ),
        Mistake(
            "inputs changed",
            "the curve is right, but an array that was handed in has changed; whoever uses it next is wrong.",
            "hint 2 of exercise 11.5: risk[order] is a new array; do not write into the old one.",
            _sorted_in_place,
        ),
    ),
)

EXERCISES = (RUNGS, DRAWN, KIND, RELIABLE, CURVE)

QUIZ = (
    Answer(
        "d",
        "the interval shrinks around the luck of two trainings, which are as far apart as before.",
        "step 2, seeds and images",
    ),
    Answer(
        "c",
        "the largest of many noisy gains is too large; other images take it back.",
        "step 3, many comparisons",
    ),
    Answer("b", "an interval that holds 0 leaves both signs open.", "step 2, seeds and images"),
    Answer(
        "a", "dividing all logits by one number changes confidence, but no winner.", "step 5, calibration"
    ),
    Answer("a", "0 for an empty mask rewards finding nothing.", "where code and library differ"),
)


def half_and_half(gains: Array, repetitions: int, seed: int) -> Iterator[tuple[float, float]]:
    """Gains (variants, images): the best variant's mean on a random half, and its mean on the other half."""
    rng = np.random.default_rng(seed)
    images = gains.shape[1]
    for _ in range(repetitions):
        order = rng.permutation(images)
        chosen, others = order[: images // 2], order[images // 2 :]
        best = gains[:, chosen].mean(axis=1).argmax()
        yield float(gains[best, chosen].mean()), float(gains[best, others].mean())
