"""Exercise 01.4, IoU in two ways."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.metrics import dice, iou

TwoWays = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _masks(seed: int = 0, shape: tuple[int, int, int] = (6, 7, 9)) -> tuple[Tensor, Tensor]:
    """Six images: both masks empty, only pred empty, only true empty, a small object, two large ones."""
    pred, true = noise(*shape, seed=seed) > 0.4, noise(*shape, seed=seed + 50) > 0.9
    pred[0], true[0], pred[1], true[2] = False, False, False, False
    pred[3], true[3] = False, False
    pred[3, 2, 2:4], true[3, 2, 3:5] = True, True
    return pred, true


def _iou_both(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """From the library's `iou`: the mean over images, and all pixels pooled as one image."""
    images = [iou(p, t) for p, t in zip(pred.numpy(), true.numpy(), strict=True)]
    return torch.tensor(images).mean(), torch.tensor(iou(pred.numpy(), true.numpy()))


def _nothing() -> tuple[Tensor, Tensor]:
    return torch.zeros(2, 4, 5, dtype=torch.bool), torch.zeros(2, 4, 5, dtype=torch.bool)


def _iou_probe(f: TwoWays) -> list[Tensor]:
    return [made for pair in (_masks(), _masks(3), _nothing()) for made in f(*pair)]


def _counts(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    return (pred & true).sum(dim=(1, 2)).float(), (pred | true).sum(dim=(1, 2)).float()


def _empty_is(value: float, pooled_value: float, left_out: bool = False) -> TwoWays:
    """Both ways with other values when both masks are empty; such images may be left out."""

    def wrong(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        both, either = _counts(pred, true)
        images = torch.where(either > 0, both / either, value)
        pooled = torch.where(either.sum() > 0, both.sum() / either.sum(), pooled_value)
        return images.nanmean() if left_out else images.mean(), pooled

    return wrong


def _empty_images(name: str, says: str, hint: str, value: float, left_out: bool = False) -> list[Mistake]:
    """One mistake about empty images, in three versions: the pooled 0 / 0 is right, unguarded, or also 0."""
    return [
        Mistake(name + more, says + also, hint, _empty_is(value, pooled_value, left_out))
        for more, also, pooled_value in (
            ("", "", 1.0),
            (", pooled nan", " And without any claimed pixel your pooled value is nan, not 1.", math.nan),
            (", pooled 0", " And without any claimed pixel your pooled value is 0, not 1.", 0.0),
        )
    ]


def _smoothed(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    both, either = _counts(pred, true)
    return ((both + 1) / (either + 1)).mean(), (both.sum() + 1) / (either.sum() + 1)


def _two_dice(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    images = [dice(p, t) for p, t in zip(pred.numpy(), true.numpy(), strict=True)]
    return torch.tensor(images).mean(), torch.tensor(dice(pred.numpy(), true.numpy()))


def _accuracy(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    right = (pred == true).float()
    return right.mean(dim=(1, 2)).mean(), right.mean()


def _ratios(
    divide: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]],
    axes: tuple[int, ...] = (1, 2),
) -> TwoWays:
    """Both ways from `divide(overlap, pred, true, union)`, all pixel counts per image."""

    def wrong(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
        both, either = pred & true, pred | true
        parts = [mask.sum(dim=axes).float() for mask in (both, pred, true, either)]
        whole = [part.sum() for part in parts]
        images, pooled = (torch.where(b > 0, a / b, 1.0) for a, b in (divide(*parts), divide(*whole)))
        return images.mean(), pooled

    return wrong


def _no_mean(pred: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    both, either = _counts(pred, true)
    return torch.where(either > 0, both / either, 1.0), _iou_both(pred, true)[1]


IOU = Exercise(
    "01.4",
    "IoU in two ways",
    _iou_probe,
    (
        Property(
            "interface",
            "iou_two_ways(pred, true) returns two numbers",
            lambda f: takes(f, 2) and [t.ndim for t in f(*_masks())] == [0, 0],
        ),
        Property(
            "dtype",
            "twice float32",
            lambda f: [t.dtype for t in f(*_masks())] == [torch.float32] * 2,
        ),
        Property(
            "images",
            "the mean of the images' own IoU, where an image that nobody claims counts 1",
            lambda f: all(same(f(*_masks(s))[0], _iou_both(*_masks(s))[0]) for s in range(4)),
        ),
        Property(
            "pooled",
            "the IoU of all pixels as one image",
            lambda f: all(same(f(*_masks(s))[1], _iou_both(*_masks(s))[1]) for s in range(4)),
        ),
        Property(
            "empty",
            "1 and 1 where nobody claims a pixel",
            lambda f: [float(value) for value in f(*_nothing())] == [1.0, 1.0],
        ),
        Property(
            "invariance",
            "prediction and truth may change places",
            lambda f: same(f(*_masks()), f(*reversed(_masks()))),
        ),
    ),
    (
        *_empty_images(
            "nan",
            "an image in which nobody claims a pixel gives 0 / 0, and one nan spoils the mean.",
            "hint 2: torch.where puts a 1 in its place.",
            math.nan,
        ),
        *_empty_images(
            "empty images left out",
            "images in which nobody claims a pixel are left out of the mean; they count 1.",
            "the text: an image without any claimed pixel counts 1.",
            math.nan,
            left_out=True,
        ),
        *_empty_images(
            "empty images count 0",
            "images in which nobody claims a pixel count 0, as they do with a small number in the divisor.",
            "hint 2: torch.where puts a 1 in its place.",
            0.0,
        ),
        Mistake(
            "pooled nan",
            "the first number is right; the second is nan if there is not one claimed pixel in all images.",
            "hint 3: 0 / 0 can happen to the pooled value, too.",
            _empty_is(1.0, math.nan),
        ),
        Mistake(
            "pooled 0",
            "the first number is right; the second is 0 if there is not one claimed pixel in all images.",
            "the text: then it is 1.",
            _empty_is(1.0, 0.0),
        ),
        Mistake(
            "smoothed by 1",
            "a 1 above and below mends 0 / 0 and bends every other value, those of small objects most.",
            "hint 2: change the empty images alone.",
            _smoothed,
        ),
        Mistake(
            "Dice",
            "these are Dice scores: the divisor is the sum of both masks in place of their union.",
            "hint 1: | is the union.",
            _two_dice,
        ),
        Mistake(
            "the same number twice",
            "your second number is the mean over the images again; pooling adds up before it divides.",
            "hint 3: first add up, then divide.",
            lambda pred, true: (_iou_both(pred, true)[0],) * 2,
        ),
        Mistake(
            "exchanged",
            "the pooled value comes first and the mean over the images second.",
            "the text: the mean over the images is the first number.",
            lambda pred, true: _iou_both(pred, true)[::-1],
        ),
        Mistake(
            "divided by the disagreement",
            "the overlap is divided by the pixels that only one claims; the union holds the overlap as well.",
            "hint 1: | is the union.",
            _ratios(lambda both, p, t, either: (both, either - both)),
        ),
        Mistake(
            "the pooled value twice",
            "the first number is the pooled one again: the pixels were added up before the division.",
            "hint 1: .sum(dim=(1, 2)) counts for each image.",
            lambda pred, true: (_iou_both(pred, true)[1],) * 2,
        ),
        Mistake(
            "share of right pixels",
            "background that both leave alone counts as right, so empty masks look good.",
            "the equation: only claimed pixels count.",
            _accuracy,
        ),
        Mistake(
            "the sum of both masks",
            "you divide by the pixels of both masks added up, in which the overlap counts twice.",
            "hint 1: | is the union.",
            _ratios(lambda both, p, t, either: (both, p + t)),
        ),
        Mistake(
            "a share of the prediction",
            "you divide by the prediction's pixels alone, so what is missed costs nothing.",
            "hint 1: | is the union.",
            _ratios(lambda both, p, t, either: (both, p)),
        ),
        Mistake(
            "a share of the truth",
            "you divide by the true pixels alone, so a prediction that claims everything is perfect.",
            "hint 1: | is the union.",
            _ratios(lambda both, p, t, either: (both, t)),
        ),
        Mistake(
            "rows counted one by one",
            "you count each row or column of an image by itself, and each empty one counts 1.",
            "hint 1: .sum(dim=(1, 2)) adds up a whole image.",
            _ratios(lambda both, p, t, either: (both, either), axes=(1,)),
        ),
        Mistake(
            "no mean",
            "your first result has one number for each image; their mean is wanted.",
            "the text: two numbers.",
            _no_mean,
        ),
        Mistake(
            "plain numbers",
            "you return plain numbers; tensors of type float32 are wanted.",
            "the text: no .item().",
            lambda pred, true: tuple(value.item() for value in _iou_both(pred, true)),
        ),
        Mistake(
            "double precision",
            "the values are right, but of type float64.",
            "the text: float32; no .double().",
            lambda pred, true: tuple(value.double() for value in _iou_both(pred, true)),
        ),
    ),
    _iou_both,
)
