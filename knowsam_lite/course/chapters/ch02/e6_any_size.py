"""Exercise 02.6, any size."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch02.shared import filled, picture
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import same, takes
from knowsam_lite.subnets import STRIDE, UNet

Predict = Callable[[nn.Module, Tensor], Tensor]


def any_size(net: nn.Module, x: Tensor) -> Tensor:
    """Logits (N, C, H, W) of images (N, 3, H, W) of any size, in evaluation mode and without a graph."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
    net.eval()
    with torch.no_grad():
        return net(padded)[..., :height, :width]


def _small_net() -> nn.Module:
    return filled(UNet(2, (4, 4, 4, 4, 4), (0.3,) * 5)).train()


SIZES = ((50, 39), (16, 48), (23, 80), (17, 33), (28, 21))


def _size_probe(f: Predict) -> list[Tensor]:
    asked = [f(_small_net(), picture(2, 3, h, w)) for h, w in SIZES[:3]]
    return [*asked, torch.tensor(float(_no_graph(f)))]


def _size_value(f: Predict) -> bool:
    return all(
        same(
            f(_small_net(), picture(1, 3, h, w, seed=h)), any_size(_small_net(), picture(1, 3, h, w, seed=h))
        )
        for h, w in SIZES
    )


@contextmanager
def _noted(net: nn.Module) -> Iterator[list[bool]]:
    """Record whether gradients were enabled at each call of the network."""
    seen: list[bool] = []
    handle = net.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    try:
        yield seen
    finally:
        handle.remove()


def _no_graph(f: Predict) -> bool:
    net = _small_net()
    with _noted(net) as seen:
        f(net, picture(1, 3, 20, 20))
    return seen == [False]


def _statistics(f: Predict) -> bool:
    net = _small_net()
    before = [tensor.clone() for tensor in net.buffers()]
    f(net, picture(2, 3, 40, 40))
    return same(before, list(net.buffers()))


def _sized(
    sides: Callable[[int, int], tuple[int, int, int, int]],
    mode: str = "replicate",
    crop: Callable[[Tensor, int, int], Tensor] = lambda z, h, w: z[..., :h, :w],
    train: bool = False,
) -> Predict:
    """A wrong answer that pads, crops or runs the net differently; `sides` gives left, right, top, bottom."""

    def predict(net: nn.Module, x: Tensor) -> Tensor:
        net.train(train)
        with torch.no_grad():
            return crop(net(F.pad(x, sides(*x.shape[-2:]), mode=mode)), *x.shape[-2:])

    return predict


def _missing(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, -width % STRIDE, 0, -height % STRIDE


def _exchanged(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, -height % STRIDE, 0, -width % STRIDE


def _always(height: int, width: int) -> tuple[int, int, int, int]:
    return 0, STRIDE - width % STRIDE, 0, STRIDE - height % STRIDE


def _before(height: int, width: int) -> tuple[int, int, int, int]:
    return -width % STRIDE, 0, -height % STRIDE, 0


def _with_graph(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    return net.eval()(F.pad(x, _missing(height, width), mode="replicate"))[..., :height, :width]


def _resized(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    up = (height + -height % STRIDE, width + -width % STRIDE)
    net.eval()
    with torch.no_grad():
        z = net(F.interpolate(x, up, mode="bilinear", align_corners=False))
    return F.interpolate(z, (height, width), mode="bilinear", align_corners=False)


def _centred(net: nn.Module, x: Tensor) -> Tensor:
    height, width = x.shape[-2:]
    down, right = -height % STRIDE, -width % STRIDE
    top, left = down // 2, right // 2
    net.eval()
    with torch.no_grad():
        z = net(F.pad(x, (left, right - left, top, down - top), mode="replicate"))
    return z[..., top : top + height, left : left + width]


SIZE = Exercise(
    "02.6",
    "any size",
    _size_probe,
    (
        Property(
            "interface",
            "any_size(net, x) returns one tensor",
            lambda f: takes(f, 2) and isinstance(f(_small_net(), picture(1, 3, 32, 32)), Tensor),
        ),
        Property(
            "shape",
            "(N, 3, H, W) -> (N, C, H, W), for five sizes",
            lambda f: all(f(_small_net(), picture(2, 3, h, w)).shape == (2, 2, h, w) for h, w in SIZES),
        ),
        Property(
            "value",
            "the logits of the image with its last column and row repeated, for five sizes",
            _size_value,
        ),
        Property("statistics", "asking does not change the network: BatchNorm's buffers stay", _statistics),
        Property("no graph", "the network is asked once, without a graph", _no_graph),
    ),
    (
        Mistake(
            "asked in training mode",
            "the network was in training mode: dropout is at work, BatchNorm looks at the batch.",
            "hint 2: net.eval() before you ask.",
            _sized(_missing, train=True),
        ),
        Mistake(
            "zeros, in training mode",
            "the new pixels are black, and the network was in training mode.",
            'hint 1: mode="replicate"; and hint 2: net.eval().',
            _sized(_missing, mode="constant", train=True),
        ),
        Mistake(
            "padded with zeros",
            "the new pixels are black; they should repeat the image's last row and column.",
            'hint 1: mode="replicate".',
            _sized(_missing, mode="constant"),
        ),
        Mistake(
            "padded where nothing is missing",
            "a side that is a multiple of 16 already got 16 more pixels.",
            "hint 1: -n % 16 is 0 where nothing is missing.",
            _sized(_always),
        ),
        Mistake(
            "zeros, also where nothing is missing",
            "the new pixels are black, and a side that is a multiple of 16 already got 16 of them.",
            'hint 1: -n % 16, and mode="replicate".',
            _sized(_always, mode="constant"),
        ),
        Mistake(
            "padded left and above",
            "the new pixels stand left and above; they belong right and below.",
            "hint 1: the order is left, right, top, bottom.",
            _sized(_before, crop=lambda z, h, w: z[..., -h:, -w:]),
        ),
        Mistake(
            "height and width exchanged",
            "what is missing in height was added to the width, and the other way round.",
            "hint 1: (0, right, 0, bottom): the width comes first.",
            _sized(_exchanged),
        ),
        Mistake(
            "not cut back",
            "the logits have the size of the padded image.",
            "hint 3: cut the logits to the image's size.",
            _sized(_missing, crop=lambda z, h, w: z),
        ),
        Mistake(
            "cut at the wrong end",
            "you kept the last rows and columns; the image stands in the first ones.",
            "hint 3: from 0 to height, from 0 to width.",
            _sized(_missing, crop=lambda z, h, w: z[..., -h:, -w:]),
        ),
        Mistake(
            "a graph kept",
            "the logits are right, but every map was kept for a backward pass that never comes.",
            "hint 2: with torch.no_grad() around the call.",
            _with_graph,
        ),
        Mistake(
            "stretched",
            "the image was resized; padding leaves every pixel as sharp as it was.",
            "hint 1: F.pad.",
            _resized,
        ),
        Mistake(
            "mirrored",
            "the new pixels mirror the image; they should repeat its last row and column.",
            'hint 1: mode="replicate".',
            _sized(_missing, mode="reflect"),
        ),
        Mistake(
            "half on each side",
            "the pixels were added on all four sides; they belong at the right and at the bottom.",
            "hint 1: (0, right, 0, bottom).",
            _centred,
        ),
        Mistake(
            "added at the left, cut at the right",
            "the pixels were added at the left and at the top, and the logits cut at the other end.",
            "hint 1: (0, right, 0, bottom).",
            _sized(_before),
        ),
        Mistake(
            "probabilities",
            "these are probabilities; logits are wanted.",
            "the text: no softmax.",
            lambda net, x: any_size(net, x).softmax(dim=1),
        ),
        Mistake(
            "classes",
            "these are the winners; logits are wanted.",
            "the text: no argmax.",
            lambda net, x: any_size(net, x).argmax(dim=1),
        ),
    ),
    any_size,
)
