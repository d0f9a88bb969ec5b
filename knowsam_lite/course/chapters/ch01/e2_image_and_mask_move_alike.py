"""Exercise 01.2, image and mask move alike."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes

Warp = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def _scene(size: tuple[int, int] = (20, 28), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two images of smooth blobs and their masks: classes 0 to 3, with one corner unknown."""
    coarse = noise(2, 4, 5, 7, seed=seed)
    z = F.interpolate(coarse, size, mode="bilinear", align_corners=False)
    y = z.argmax(dim=1)
    y[:, :4, :4] = -1
    return z[:, :3].sigmoid(), y


def _moves() -> list[Tensor]:
    """Matrices (2, 2, 3): a rotation, a small shift, a scaling that reads past the edge, a flip."""
    c, s = math.cos(0.43), math.sin(0.43)
    one = torch.tensor([[[c, -s, 0.0], [s, c, 0.0]], [[1.0, 0.0, 0.13], [0.0, 1.0, -0.27]]])
    two = torch.tensor([[[1.31, 0.1, 0.0], [0.0, 1.43, 0.07]], [[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    return [one, two]


def _grid(x: Tensor, theta: Tensor, align: bool = False) -> Tensor:
    return F.affine_grid(theta, list(x.shape), align_corners=align)


def _read(x: Tensor, grid: Tensor, mode: str, padding: str = "reflection", align: bool = False) -> Tensor:
    return F.grid_sample(x, grid, mode=mode, padding_mode=padding, align_corners=align)


def _warped(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    return _read(x, grid, "bilinear"), _read(y[:, None].float(), grid, "nearest")[:, 0].long()


def _warp_probe(f: Warp) -> list[Tensor]:
    return [made for theta in _moves() for made in f(*_scene(), theta)]


def _warp_classes(f: Warp) -> bool:
    """No new class appears: a mask of 0, 3 and -1 still holds only these."""
    x, y = _scene()
    y = torch.where(y >= 2, 3, torch.where(y == -1, -1, 0))
    return all(set(f(x, y, theta)[1].unique().tolist()) <= {-1, 0, 3} for theta in _moves())


def _warp_alike(f: Warp) -> bool:
    """An image that shows its own mask still does after the move, except at class borders."""
    _, y = _scene()
    x = y[:, None].float().expand(-1, 3, -1, -1)
    for theta in _moves():
        image, mask = f(x, y, theta)
        inner = image == image.round()  # bilinear means within a single class
        if not (image == mask[:, None])[inner].all() or inner.float().mean() < 0.5:
            return False
    return True


def _mask_bilinear(x: Tensor, y: Tensor, theta: Tensor, rounded: bool = False) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    classes = _read(y[:, None].float(), grid, "bilinear")[:, 0]
    return _read(x, grid, "bilinear"), (classes.round() if rounded else classes).long()


def _aligned(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta, align=True)
    mask = _read(y[:, None].float(), grid, "nearest", align=True)[:, 0].long()
    return _read(x, grid, "bilinear", align=True), mask


def _black(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta)
    mask = _read(y[:, None].float(), grid, "nearest", "zeros")[:, 0].long()
    return _read(x, grid, "bilinear", "zeros"), mask


def _mask_left_float(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    image, mask = _warped(x, y, theta)
    return image, mask.float()


def _padded(padding: str, image_too: bool = True) -> Warp:
    """The right move with different padding beyond the edge, in the mask and optionally in the image."""

    def wrong(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        grid = _grid(x, theta)
        mask = _read(y[:, None].float(), grid, "nearest", padding)[:, 0].long()
        return _read(x, grid, "bilinear", padding if image_too else "reflection"), mask

    return wrong


def _axis_kept(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    image, mask = _warped(x, y, theta)
    return image, mask[:, None]


def _first_move(x: Tensor, y: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    return _warped(x, y, theta[:1].expand(len(x), -1, -1))


def _moved(x: Tensor, y: Tensor, theta: Tensor, align: bool = False) -> tuple[Tensor, Tensor]:
    grid = _grid(x, theta, align)
    return _read(x, grid, "bilinear"), _read(y[:, None].float(), grid, "nearest")[:, 0].long()


WARP = Exercise(
    "01.2",
    "image and mask move alike",
    _warp_probe,
    (
        Property(
            "interface",
            "warp(x, y, theta) returns images and masks",
            lambda f: takes(f, 3) and len(f(*_scene(), _moves()[0])) == 2,
        ),
        Property(
            "shape",
            "(N, 3, H, W) and (N, H, W), as they came, H and W unlike",
            lambda f: [t.shape for t in f(*_scene(), _moves()[0])] == [(2, 3, 20, 28), (2, 20, 28)],
        ),
        Property(
            "dtype",
            "images float32, masks int64",
            lambda f: [t.dtype for t in f(*_scene(), _moves()[0])] == [torch.float32, torch.int64],
        ),
        Property("classes", "a mask of 0, 3 and -1 holds 0, 3 and -1 afterwards", _warp_classes),
        Property("alike", "an image of the mask itself still fits the mask", _warp_alike),
        Property(
            "value",
            "the right values, also beyond the edge",
            lambda f: all(
                same(f(*_scene(seed=1), theta), _warped(*_scene(seed=1), theta)) for theta in _moves()
            ),
        ),
        Property(
            "invariance",
            "no move changes nothing",
            lambda f: same(f(*_scene(), torch.eye(2, 3).expand(2, 2, 3)), _scene()),
        ),
    ),
    (
        Mistake(
            "mask sampled bilinearly",
            "the mask was averaged between pixels and cut to whole numbers: classes appear that nobody drew.",
            'hint 3: mode="nearest" for the mask.',
            _mask_bilinear,
        ),
        Mistake(
            "mask averaged and rounded",
            "the mask was averaged between pixels and rounded, which invents classes all the same.",
            'hint 3: mode="nearest" for the mask.',
            lambda x, y, theta: _mask_bilinear(x, y, theta, rounded=True),
        ),
        Mistake(
            "mask not moved",
            "the image was moved and its mask stayed where it was.",
            "hint 1: make the positions once and use them twice.",
            lambda x, y, theta: (_warped(x, y, theta)[0], y),
        ),
        Mistake(
            "image sampled with nearest",
            "the image was sampled with nearest, too, which makes its edges jagged.",
            'hint 2: mode="bilinear" for the image.',
            lambda x, y, theta: (_read(x, _grid(x, theta), "nearest"), _warped(x, y, theta)[1]),
        ),
        Mistake(
            "black beyond the edge",
            "beyond the edge there is black, and in the mask a background that nobody drew.",
            'hint 2: padding_mode="reflection", for both.',
            _black,
        ),
        Mistake(
            "corners aligned",
            "the coordinates run from the middle of the first pixel to that of the last one.",
            "hint 1: align_corners=False, everywhere.",
            _aligned,
        ),
        Mistake(
            "mask left as float",
            "the mask is right but still of a floating-point type, which no loss takes as labels.",
            "hint 3: .long() makes class indices of it.",
            _mask_left_float,
        ),
        Mistake(
            "edge pixels repeated",
            "beyond the edge the last pixels are repeated; the image should go on as its mirror image.",
            'hint 2: padding_mode="reflection".',
            _padded("border"),
        ),
        Mistake(
            "mask ends at the edge",
            "the image goes on as its mirror image, but its mask is background there.",
            'hint 3: the mask needs padding_mode="reflection", too.',
            _padded("zeros", image_too=False),
        ),
        Mistake(
            "unknown became background",
            "the label -1, unknown, was lost: those pixels are background now.",
            "the text: -1 has to survive; no clamp, no bytes.",
            lambda x, y, theta: _warped(x, y.clamp(min=0), theta),
        ),
        Mistake(
            "an axis too many",
            "the mask still has the axis that grid_sample wanted: (N, 1, H, W).",
            "hint 3: [:, 0] takes the axis away.",
            _axis_kept,
        ),
        Mistake(
            "one move for all",
            "every image makes the move of the first one.",
            "the text: theta holds one matrix for each image.",
            _first_move,
        ),
        Mistake(
            "corners aligned in the grid",
            "the grid aligns the corners and the sampling does not: both move a little.",
            "hint 1: align_corners=False in the grid, too.",
            lambda x, y, theta: _moved(x, y, theta, align=True),
        ),
        Mistake(
            "the matrix with a minus",
            "theta was given a minus: the image is turned round.",
            "hint 1: theta as it is.",
            lambda x, y, theta: _moved(x, y, -theta),
        ),
    ),
    _warped,
)
