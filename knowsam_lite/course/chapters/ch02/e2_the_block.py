"""Exercise 02.2, the block."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch02.shared import filled, picture
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, same
from knowsam_lite.subnets import ConvBlock


def shapes(net: nn.Module) -> dict[str, torch.Size]:
    """Name -> shape of every tensor in a module."""
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def _block_run(kind: Any, train: bool, dropout: float = 0.3) -> Tensor:
    block = filled(kind(3, 5, dropout)).train(train)
    torch.manual_seed(1)
    return block(picture(2, 3, 9, 7))


def _block_probe(kind: Any) -> list[Tensor]:
    plain = filled(kind(3, 4)).train()(picture(2, 3, 9, 7))
    return [_block_run(kind, False), _block_run(kind, True), _block_run(kind, True, 0.6), plain]


def _block_default(kind: Any) -> bool:
    plain = filled(kind(2, 2)).train()
    x = picture(2, 2, 8, 8)
    return same(plain(x), filled(ConvBlock(2, 2)).train()(x)) and same(plain(x), plain(x))


def _wrong_block(layers: Callable[[int, int, float], Sequence[nn.Module]]) -> type:
    class Wrong(nn.Sequential):
        def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0):
            super().__init__(*layers(in_channels, out_channels, dropout))

    return Wrong


def _half(
    i: int,
    o: int,
    slope: float = 0.01,
    padding: int = 1,
    act: type[nn.Module] | None = None,
    bias: bool = True,
) -> list[nn.Module]:
    """Convolution, BatchNorm, activation."""
    last = act() if act else nn.LeakyReLU(slope)
    return [nn.Conv2d(i, o, 3, padding=padding, bias=bias), nn.BatchNorm2d(o), last]


def _act_first(i: int, o: int, p: float) -> list[nn.Module]:
    (conv, norm, act), (conv_2, norm_2, act_2) = _half(i, o), _half(o, o)
    return [conv, act, norm, nn.Dropout(p), conv_2, act_2, norm_2]


BLOCK = Exercise(
    "02.2",
    "the convolution block",
    _block_probe,
    (
        Property(
            "interface",
            "ConvBlock(in_channels, out_channels, dropout): two convolutions with bias, two BatchNorms",
            lambda k: shapes(k(3, 5, 0.2)) == shapes(ConvBlock(3, 5)),
        ),
        Property(
            "shape",
            "(N, C_in, H, W) -> (N, C_out, H, W): the size stays",
            lambda k: k(3, 5)(picture(2, 3, 9, 7)).shape == (2, 5, 9, 7),
        ),
        Property(
            "value",
            "the seven layers in their order, in evaluation mode",
            lambda k: same(_block_run(k, False), _block_run(ConvBlock, False)),
        ),
        Property(
            "training",
            "and in training mode, with dropout",
            lambda k: all(same(_block_run(k, True, p), _block_run(ConvBlock, True, p)) for p in (0.3, 0.6)),
        ),
        Property("default", "without a third argument nothing is dropped", _block_default),
        Property(
            "gradient",
            "and the image gets their gradient",
            lambda k: same(
                gradients(filled(k(3, 4)), picture(2, 3, 8, 8)),
                gradients(filled(ConvBlock(3, 4)), picture(2, 3, 8, 8)),
            ),
        ),
    ),
    (
        Mistake(
            "no padding",
            "each convolution takes one pixel off every side, so the map shrinks by four.",
            "hint 1: padding=1.",
            _wrong_block(lambda i, o, p: [*_half(i, o, padding=0), nn.Dropout(p), *_half(o, o, padding=0)]),
        ),
        Mistake(
            "no bias",
            "the convolutions have no bias, and weights that were trained with one would not fit.",
            "the text: the convolutions have their bias.",
            _wrong_block(lambda i, o, p: [*_half(i, o, bias=False), nn.Dropout(p), *_half(o, o, bias=False)]),
        ),
        Mistake(
            "ReLU",
            "negative values became 0; LeakyReLU keeps a hundredth of them.",
            "hint 2: nn.LeakyReLU(0.01).",
            _wrong_block(
                lambda i, o, p: [*_half(i, o, act=nn.ReLU), nn.Dropout(p), *_half(o, o, act=nn.ReLU)]
            ),
        ),
        Mistake(
            "another slope",
            "negative values are multiplied by 0.1; the block's slope is 0.01.",
            "hint 2: nn.LeakyReLU(0.01).",
            _wrong_block(lambda i, o, p: [*_half(i, o, 0.1), nn.Dropout(p), *_half(o, o, 0.1)]),
        ),
        Mistake(
            "the slope of another network",
            "negative values are multiplied by 0.2; the block's slope is 0.01.",
            "hint 2: nn.LeakyReLU(0.01).",
            _wrong_block(lambda i, o, p: [*_half(i, o, 0.2), nn.Dropout(p), *_half(o, o, 0.2)]),
        ),
        Mistake(
            "dropout at the end",
            "dropout stands behind the second convolution; it belongs between the two.",
            "hint 3: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), *_half(o, o), nn.Dropout(p)]),
        ),
        Mistake(
            "no dropout",
            "nothing is dropped in training: the third argument is not used.",
            "hint 3: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), *_half(o, o)]),
        ),
        Mistake(
            "whole channels dropped",
            "nn.Dropout2d drops whole channels; the block drops single numbers.",
            "hint 3: nn.Dropout.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout2d(p), *_half(o, o)]),
        ),
        Mistake(
            "activation before BatchNorm",
            "the activation comes first and BatchNorm after it; here it is the other way round.",
            "hint 3: the order of the seven layers.",
            _wrong_block(_act_first),
        ),
        Mistake(
            "no activation at the end",
            "the block ends with BatchNorm; a LeakyReLU stands behind each of the two.",
            "hint 3: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(p), *_half(o, o)[:2]]),
        ),
        Mistake(
            "dropout twice",
            "numbers are dropped behind the second convolution, too; only between the two.",
            "hint 3: the order of the seven layers.",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(p), *_half(o, o), nn.Dropout(p)]),
        ),
        Mistake(
            "dropout of one half",
            "one half is dropped whatever the third argument says.",
            "hint 3: nn.Dropout(dropout).",
            _wrong_block(lambda i, o, p: [*_half(i, o), nn.Dropout(0.5), *_half(o, o)]),
        ),
    ),
    ConvBlock,
)
