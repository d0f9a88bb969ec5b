"""Exercise 02.3, the way down."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.chapters.ch02.shared import filled, picture
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same, takes
from knowsam_lite.errors import UserError
from knowsam_lite.subnets import make_encoder

Down = Callable[[nn.ModuleList, Tensor], list[Tensor]]


def _encoder() -> nn.ModuleList:
    return filled(make_encoder((4, 6, 8), (0, 0, 0)))


def _down_probe(f: Down) -> list[Tensor]:
    maps = f(_encoder(), picture(2, 3, 32, 48))
    return [*maps, torch.tensor(_refused(f)), torch.tensor(_takes_grey(f))]


def _takes_grey(f: Down) -> bool:
    """False if the network complains about the number of channels."""
    try:
        f(_encoder(), picture(1, 1, 16, 16))
    except RuntimeError:
        return False
    return True


def _down_gradient(f: Down) -> bool:
    def arriving(g: Down) -> list[Tensor]:
        x = picture(1, 3, 16, 16)
        return [part for i in range(3) for part in gradients(lambda t, i=i: g(_encoder(), t)[i], x)]

    return same(arriving(f), arriving(subnets.encode))


def _refused(f: Down) -> bool:
    try:
        f(_encoder(), picture(1, 3, 20, 32))
    except UserError:
        return True
    return False


def _walk(
    shrink: Callable[[Tensor], Tensor], first: bool = False, keep_small: bool = False
) -> Callable[[nn.ModuleList, Tensor], list[Tensor]]:
    """A wrong way down: shrinks differently, shrinks before the first block, or keeps the shrunken maps."""

    def encode(encoder: nn.ModuleList, x: Tensor) -> list[Tensor]:
        kept = []
        for i, block in enumerate(encoder):
            x = block(shrink(x) if first else x)
            small = x if first or i == len(encoder) - 1 else shrink(x)
            kept.append(small if keep_small else x)
            x = small
        return kept

    return encode


def _plainly(encoder: nn.ModuleList, x: Tensor) -> list[Tensor]:
    maps = [encoder[0](x)]
    for block in encoder[1:]:
        maps.append(block(_halved(maps[-1])))
    return maps


def _listed(change: Callable[[list[Tensor], Tensor], list[Tensor]]) -> Down:
    """An answer that changes the list of right maps, given the image."""
    return lambda encoder, x: change(subnets.encode(encoder, x), x)


def _halved(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2)


DESCEND = Exercise(
    "02.3",
    "the way down",
    _down_probe,
    (
        Property(
            "interface",
            "encode(encoder, x) returns one map per block",
            lambda f: takes(f, 2) and len(f(_encoder(), picture(1, 3, 16, 16))) == 3,
        ),
        Property(
            "shape",
            "full size first, each next one of half the height and width",
            lambda f: (
                [tuple(t.shape) for t in f(_encoder(), picture(2, 3, 32, 48))]
                == [(2, 4, 32, 48), (2, 6, 16, 24), (2, 8, 8, 12)]
            ),
        ),
        Property(
            "value",
            "what each block returns, before it is pooled; the next one gets its largest of four",
            lambda f: all(
                same(
                    f(_encoder(), picture(2, 3, 32, 48, seed=s)),
                    subnets.encode(_encoder(), picture(2, 3, 32, 48, seed=s)),
                )
                for s in (1, 2)
            ),
        ),
        Property(
            "grey",
            "grey images (N, 1, H, W) are taken, too",
            lambda f: same(
                f(_encoder(), picture(1, 1, 16, 16)),
                subnets.encode(_encoder(), picture(1, 1, 16, 16).repeat(1, 3, 1, 1)),
            ),
        ),
        Property("sizes", "an image of 20 × 32 pixels is refused with a UserError", _refused),
        Property("gradient", "the image gets a gradient through every map", _down_gradient),
    ),
    (
        Mistake(
            "shrunk before the first block",
            "the image was halved before the first block: the full size is lost for good.",
            "hint 1: the first block sees the image as it is.",
            _walk(_halved, first=True),
        ),
        Mistake(
            "average-pooling",
            "you took the mean of four pixels; this network takes the largest.",
            "hint 2: F.max_pool2d(features, 2).",
            _walk(lambda x: F.avg_pool2d(x, 2)),
        ),
        Mistake(
            "every second pixel",
            "you kept the first of four pixels; this network takes the largest.",
            "hint 2: F.max_pool2d(features, 2).",
            _walk(lambda x: x[..., ::2, ::2]),
        ),
        Mistake(
            "kept after shrinking",
            "you kept the maps after pooling; a skip needs them before it, at full resolution.",
            "hint 3: keep what a block returns.",
            _walk(_halved, keep_small=True),
        ),
        Mistake(
            "only the deepest",
            "only the last map came back; the skips need all of them.",
            "hint 3: a list, one map per block.",
            lambda encoder, x: subnets.encode(encoder, x)[-1:],
        ),
        Mistake(
            "deepest first",
            "the maps are right, but in the wrong order: full size comes first.",
            "hint 3: append in the order of the blocks.",
            lambda encoder, x: subnets.encode(encoder, x)[::-1],
        ),
        Mistake(
            "never halved",
            "nothing is halved between the blocks: all maps have full size.",
            "hint 1: pooling comes between blocks.",
            _walk(lambda x: x),
        ),
        Mistake(
            "all maps after pooling",
            "each map was kept after it was halved, the last one, too.",
            "hint 3: keep what each block returns.",
            lambda encoder, x: [_halved(e) for e in subnets.encode(encoder, x)],
        ),
        Mistake(
            "as_image forgotten",
            "the maps of colour images are right, but grey ones fail and sizes that cannot work are taken.",
            "the text: begin with as_image(x).",
            _plainly,
        ),
        Mistake(
            "the image in the list",
            "the list begins with the image; it should begin with what the first block returns.",
            "hint 3: one map for each block.",
            _listed(lambda maps, x: [x, *maps]),
        ),
    ),
    subnets.encode,
)
