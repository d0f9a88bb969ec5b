"""Exercise 13.5, a decoder over several strides."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Forward = Callable[[Any, Sequence[Tensor], tuple[int, int]], Tensor]
WIDTHS, DIM, CLASSES = (4, 6, 8), 5, 3
SIZES = ((14, 12), (7, 6), (4, 3))  # of the features; the finest stands for stride 2


def _features(sizes: Sequence[tuple[int, int]] = SIZES) -> list[Tensor]:
    return [noise(2, d, *s, seed=d) for d, s in zip(WIDTHS, sizes, strict=True)]


def _nearest(p: Tensor, f: Tensor) -> Tensor:
    return F.interpolate(p, f.shape[-2:], mode="nearest")


def _top_down(
    self: Any,
    features: Sequence[Tensor],
    enlarge: Callable[[Tensor, Tensor], Tensor] = _nearest,
    join: Callable[[Tensor, Tensor], Tensor] = lambda f, p: f + p,
) -> Tensor:
    *finer, merged = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
    for f in reversed(finer):
        merged = join(f, enlarge(merged, f))
    return merged


def _large(z: Tensor, size: tuple[int, int], mode: str = "bilinear", corners: bool | None = False) -> Tensor:
    return F.interpolate(z, size, mode=mode, align_corners=None if mode == "nearest" else corners)


def _made(forward: Forward) -> type[nn.Module]:
    class Made(nn.Module):
        def __init__(self, widths: Sequence[int], dim: int, num_classes: int):
            super().__init__()
            self.lateral = nn.ModuleList(nn.Conv2d(width, dim, 1) for width in widths)
            self.head = nn.Conv2d(dim, num_classes, 3, padding=1)

        def forward(self, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
            return forward(self, features, size)

    return Made


RIGHT = _made(lambda self, f, size: _large(self.head(_top_down(self, f)), size))


def _net(kind: Any) -> nn.Module:
    net = kind(WIDTHS, DIM, CLASSES)
    for i, p in enumerate(net.parameters()):
        p.data = noise(*p.shape, seed=20 + i, scale=0.5)
    return net


def _answer(kind: Any) -> Tensor:
    return _net(kind)(_features(), (28, 24))


def _pulls(kind: Any) -> list[Tensor]:
    """The gradient at every feature map."""
    leaves = [f.requires_grad_() for f in _features()]
    z = _net(kind)(leaves, (28, 24))
    found = torch.autograd.grad((z * noise(*z.shape, seed=9)).sum(), leaves, allow_unused=True)
    return [torch.zeros_like(f) if g is None else g for f, g in zip(leaves, found, strict=True)]


def _odd(kind: Any) -> Tensor:
    return _net(kind)(_features(((9, 11), (5, 6), (3, 3))), (17, 21))


def _probe(kind: Any) -> list[Tensor]:
    return [_answer(kind), _odd(kind), *_pulls(kind)]


def _deepest(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    return _large(self.head(self.lateral[-1](features[-1])), size)


def _finest(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    return _large(self.head(self.lateral[0](features[0])), size)


def _changed(**parts: Any) -> type[nn.Module]:
    return _made(lambda self, f, size: _large(self.head(_top_down(self, f, **parts)), size))


def _last_only(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Only the neighbour above is added: what was merged before is lost."""
    laid = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
    return _large(self.head(laid[0] + _nearest(laid[1], laid[0])), size)


def _bottom_up(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    merged, *deeper = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
    for f in deeper:
        merged = f + _nearest(merged, f)
    return _large(self.head(merged), size)


def _from_the_finest(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Begins with the finest map and goes on with the deepest."""
    merged, *others = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
    for f in reversed(others):
        merged = f + _nearest(merged, f)
    return _large(self.head(merged), size)


def _finer_first(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """Begins with the deepest map and adds the finest first."""
    *finer, merged = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
    for f in finer:
        merged = f + _nearest(merged, f)
    return _large(self.head(merged), size)


def _shrunk(self: Any, features: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """The finer map is brought to the deeper one's size."""
    *finer, merged = (lateral(f) for lateral, f in zip(self.lateral, features, strict=True))
    for f in reversed(finer):
        merged = merged + _nearest(f, merged)
    return _large(self.head(merged), size)


def _bent(self: Any, features: Sequence[Tensor]) -> Tensor:
    *finer, merged = (lateral(f).relu() for lateral, f in zip(self.lateral, features, strict=True))
    for f in reversed(finer):
        merged = f + _nearest(merged, f)
    return merged


DECODER = Exercise(
    "13.5",
    "a decoder",
    _probe,
    (
        Property(
            "interface",
            "TopDown(widths, dim, num_classes) takes features and a size",
            lambda k: takes(k, 3) and takes(_net(k), 2),
        ),
        Property(
            "shape",
            "logits (N, num_classes, H, W) of the size asked for",
            lambda k: _answer(k).shape == (2, CLASSES, 28, 24),
        ),
        Property(
            "value",
            "laid into one width, added from the deepest to the finest, then read and enlarged",
            lambda k: same(_answer(k), _answer(RIGHT)),
        ),
        Property("odd sizes", "features that are not exactly halves", lambda k: same(_odd(k), _odd(RIGHT))),
        Property(
            "gradient", "it reaches the features of every stride", lambda k: same(_pulls(k), _pulls(RIGHT))
        ),
    ),
    (
        Mistake(
            "the deepest alone",
            "only the deepest features are read: it knows what, hardly where.",
            "hint 2: a loop over the finer ones.",
            _made(_deepest),
        ),
        Mistake(
            "the finest alone",
            "only the finest features are read; what the deeper ones know is lost.",
            "hint 2: begin with the deepest and add the finer ones.",
            _made(_finest),
        ),
        Mistake(
            "one neighbour",
            "the finest got its neighbour's features, not what was merged before.",
            "hint 2: the sum goes on into the next round.",
            _made(_last_only),
        ),
        Mistake(
            "bottom up",
            "you went from the finest to the deepest: the answer is as coarse as the deepest.",
            "hint 2: the deepest first.",
            _made(_bottom_up),
        ),
        Mistake(
            "averaged",
            "you took the mean of the two; they are added.",
            "the equation above: plus.",
            _changed(join=lambda f, p: (f + p) / 2),
        ),
        Mistake(
            "multiplied",
            "you multiplied the two; they are added.",
            "the equation above: plus.",
            _changed(join=lambda f, p: f * p),
        ),
        Mistake(
            "always twice",
            "the map was doubled; sizes that are odd are not each other's double.",
            "hint 3: interpolate to the size of the finer map.",
            _changed(enlarge=lambda p, f: F.interpolate(p, scale_factor=2.0, mode="nearest")),
        ),
        Mistake(
            "bilinear on the way",
            "maps were enlarged bilinearly before the sum; there the nearest pixel is copied.",
            'hint 3: mode="nearest" on the way, "bilinear" at the end.',
            _changed(
                enlarge=lambda p, f: F.interpolate(p, f.shape[-2:], mode="bilinear", align_corners=False)
            ),
        ),
        Mistake(
            "nearest at the end",
            "the logits were enlarged by copying pixels: the mask has stairs.",
            'hint 4: mode="bilinear".',
            _made(lambda self, f, size: _large(self.head(_top_down(self, f)), size, "nearest")),
        ),
        Mistake(
            "enlarged, then read",
            "the head read the enlarged map: many times the work, and a 3 x 3 window that sees little.",
            "hint 4: first the head, then the size.",
            _made(lambda self, f, size: self.head(_large(_top_down(self, f), size))),
        ),
        Mistake(
            "corners aligned",
            "with align_corners=True the map is stretched to the edges and shifts against the image.",
            "hint 4: align_corners=False.",
            _made(lambda self, f, size: _large(self.head(_top_down(self, f)), size, corners=True)),
        ),
        Mistake(
            "not enlarged",
            "the logits still have the size of the finest features.",
            "hint 4: F.interpolate to the size asked for.",
            _made(lambda self, f, size: self.head(_top_down(self, f))),
        ),
        Mistake(
            "the finest first",
            "you began with the finest map; the deepest comes first.",
            "hint 2: begin with the last one.",
            _made(_from_the_finest),
        ),
        Mistake(
            "not reversed",
            "after the deepest map came the finest; the next finer one comes next.",
            "hint 2: reversed(...).",
            _made(_finer_first),
        ),
        Mistake(
            "the finer one shrunk",
            "the finer map was brought to the size of the deeper one, and its detail is lost.",
            "hint 3: enlarge what is merged to the size of the finer map.",
            _made(_shrunk),
        ),
        Mistake(
            "probabilities",
            "you return probabilities; logits are asked for.",
            "hint 4: the head, then the size, no softmax.",
            _made(lambda self, f, size: _large(self.head(_top_down(self, f)).softmax(dim=1), size)),
        ),
        Mistake(
            "a bend",
            "there is a ReLU in between; the maps are added as the convolutions leave them.",
            "the equation above: convolve, enlarge, add.",
            _made(lambda self, f, size: _large(self.head(_bent(self, f)), size)),
        ),
    ),
    RIGHT,
)
