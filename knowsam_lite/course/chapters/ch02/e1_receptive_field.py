"""Exercise 02.1, receptive field."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite import subnets
from knowsam_lite.course.chapters.ch02.shared import filled
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import takes
from knowsam_lite.subnets import make_encoder

Network = Callable[[Tensor], Tensor]
Field = Callable[..., tuple[int, int]]


def receptive_field(net: Callable[[Tensor], Tensor], size: int = 256) -> tuple[int, int]:
    """Height and width, in pixels of the image, of the box that the middle pixel of net(x) depends on.

    `net` takes images (N, 3, size, size) and returns maps (N, C, H, W).
    """
    x = torch.rand(8, 3, size, size, requires_grad=True)
    out = net(x)
    middle = out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum()
    (gradient,) = torch.autograd.grad(middle, x)
    seen = gradient.abs().sum(dim=(0, 1)) > 0  # (8, 3, size, size) -> (size, size)
    rows, columns = seen.any(dim=1).nonzero(), seen.any(dim=0).nonzero()
    return int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1


def _edges(height: int = 3, width: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution with weights -1 except a strong centre, so that signs matter."""
    net = nn.Conv2d(3, 3, (height, width), padding="same", bias=False, **options)
    nn.init.constant_(net.weight, -1.0)
    with torch.no_grad():
        net.weight[:, :, height // 2, width // 2] = 4.0
    return net


def _known() -> list[tuple[Network, int, tuple[int, int]]]:
    """Networks, an image size to try each at, and the field worked out by hand."""
    pooled = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1), nn.MaxPool2d(2)
    )
    encoder = filled(make_encoder((3, 4, 4), (0, 0, 0)))
    return [
        (_edges(), 24, (3, 3)),
        (_edges(3, 7), 24, (3, 7)),
        (nn.Sequential(_edges(), _edges(5, 3)), 24, (7, 5)),
        (_edges(dilation=4), 32, (9, 9)),
        (filled(pooled), 32, (10, 10)),
        (lambda x: subnets.encode(encoder, x)[2], 64, (32, 32)),
        (nn.Sequential(_edges(25, 25), nn.MaxPool2d(2)), 16, (16, 16)),  # wider than the image
        (nn.Sequential(_edges(13), nn.AvgPool2d((1, 4))), 16, (13, 6)),  # a map that is not square
    ]


def _traces(f: Field) -> Tensor:
    net = _edges()
    f(net, 16)
    return torch.tensor(float(net.weight.grad is not None))


def _field_probe(f: Field) -> list[Tensor]:
    fields = [torch.tensor([float(n) for n in f(net, size)]) for net, size, _ in _known()]
    whole = torch.tensor(all(type(n) is int for n in f(_edges(), 16)))
    return [*fields, _traces(f), whole]


def _by_hand(f: Field) -> bool:
    return all(tuple(f(net, size)) == field for net, size, field in _known())


def _field(
    of: Callable[[Tensor], Tensor] = lambda out: out[:, :, out.shape[2] // 2, out.shape[3] // 2].sum(),
    box: Callable[[Tensor], int] = lambda at: int(at.max() - at.min()) + 1,
    strength: Callable[[Tensor], Tensor] = torch.abs,
    image: Callable[..., Tensor] = torch.rand,
    backward: bool = False,
) -> Field:
    """A wrong measurement of the field: the right one with one part changed."""

    def field(net: Network, size: int = 256) -> tuple[int, int]:
        x = image(8, 3, size, size).requires_grad_()
        middle = of(net(x))
        if backward:
            middle.backward(inputs=[x, *getattr(net, "parameters", list)()])
        gradient = x.grad if x.grad is not None else torch.autograd.grad(middle, x)[0]
        seen = strength(gradient).sum(dim=(0, 1)) > 0
        return box(seen.any(dim=1).nonzero()), box(seen.any(dim=0).nonzero())

    return field


def _middle_of_image(net: Network, size: int = 256) -> tuple[int, int]:
    return _field(of=lambda out: out[:, :, size // 2, size // 2].sum())(net, size)


def _tensors(net: Network, size: int = 256) -> Any:
    return torch.tensor(receptive_field(net, size)).unbind()


FIELD = Exercise(
    "02.1",
    "receptive field",
    _field_probe,
    (
        Property(
            "interface",
            "receptive_field(net, size) returns two whole numbers; size is 256 if left out",
            lambda f: takes(f, 2) and takes(f, 1) and all(isinstance(n, int) for n in f(_edges())),
        ),
        Property("value", "the fields of eight networks that can be worked out by hand", _by_hand),
        Property(
            "repeat",
            "the same field whatever the random image",
            lambda f: len({tuple(f(*_known()[5][:2])) for _ in range(3)}) == 1,
        ),
        Property("no trace", "the network's parameters hold no .grad afterwards", lambda f: not _traces(f)),
    ),
    (
        Mistake(
            "the whole map",
            "you took the gradient of all output pixels, and together they see everything.",
            "hint 2: one output pixel, the middle one.",
            _field(of=lambda out: out.sum()),
        ),
        Mistake(
            "the corner",
            "you asked the first output pixel, and most of its field lies outside the image.",
            "hint 2: half of the height and half of the width.",
            _field(of=lambda out: out[:, :, 0, 0].sum()),
        ),
        Mistake(
            "a fence post",
            "from pixel 3 to pixel 5 there are three pixels, not two.",
            "hint 3: last minus first, plus 1.",
            _field(box=lambda at: int(at.max() - at.min())),
        ),
        Mistake(
            "rows counted",
            "you counted the rows that are touched; a convolution with gaps skips some inside the box.",
            "hint 3: the box reaches from the first to the last.",
            _field(box=len),
        ),
        Mistake(
            "positive only",
            "only positive gradients count for you; a pixel that lowers the output is seen as well.",
            "hint 3: take the absolute value before you sum.",
            _field(strength=lambda g: g),
        ),
        Mistake(
            "a blank image",
            "all pixels were equal; then max-pooling sends the gradient to one of several equals.",
            "hint 1: random images.",
            _field(image=torch.zeros),
        ),
        Mistake(
            "a blank image, gradients left behind",
            "all pixels were equal, so max-pooling hides some; and backward() left gradients in the network.",
            "hints 1 and 2: random images, and torch.autograd.grad.",
            _field(image=torch.ones, backward=True),
        ),
        Mistake(
            "width before height",
            "the two numbers are exchanged: height comes first.",
            "hint 3: rows give the height.",
            lambda net, size=256: receptive_field(net, size)[::-1],
        ),
        Mistake(
            "gradients left behind",
            "the field is right, but backward() left gradients in the network's parameters.",
            "hint 2: torch.autograd.grad gives the gradient back and leaves nothing.",
            _field(backward=True),
        ),
        Mistake(
            "the middle of the image",
            "you took the middle of the image as the output's; a smaller map has no such pixel.",
            "hint 2: half of out.shape[2] and of out.shape[3].",
            _middle_of_image,
        ),
        Mistake(
            "tensors in place of numbers",
            "the field is right, but as two tensors; plain whole numbers are wanted.",
            "hint 3: int(...).",
            _tensors,
        ),
        Mistake(
            "one image, one channel",
            "only the first channel of the first image was asked: max-pooling hides pixels that others "
            "would show.",
            "hint 2: the sum over all images and channels.",
            _field(of=lambda out: out[0, 0, out.shape[2] // 2, out.shape[3] // 2]),
        ),
    ),
    receptive_field,
)
