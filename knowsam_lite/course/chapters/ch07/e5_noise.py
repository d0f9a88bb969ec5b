"""Exercise 07.5, noise."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.chapters.ch07.shared import resized_to
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.sam.prompts import add_noise

Noise = Callable[[Tensor, Sequence[Tensor], Tensor], Tensor]


def _grids(n: int = 3, c: int = 2, sizes: Sequence[int] = (5, 2, 3)) -> list[Tensor]:
    return [noise(n, c, k, k, seed=k, scale=1.0) for k in sizes]


def _strength(n: int = 3) -> Tensor:
    return torch.linspace(0.5, 2.0, n).view(n, 1, 1, 1)


def _noise_given(n: int = 3, c: int = 2) -> tuple[Tensor, list[Tensor], Tensor]:
    images = torch.linspace(0.2, 2.0, n).view(n, 1, 1, 1)  # some images are more certain than others
    return images * noise(n, c, 9, 12, seed=c), _grids(n, c), _strength(n)


def _noisy(
    z_f: Tensor,
    grids: Sequence[Tensor],
    strength: Tensor,
    start: Callable[[Tensor], Tensor] = lambda z: z.detach(),
    stretch: Callable[[Tensor, tuple[int, int]], Tensor] = resized_to,
    join: Callable[[list[Tensor]], Tensor] = lambda parts: torch.stack(parts).sum(dim=0),
    spread: Callable[[Tensor], Any] = lambda z: z.std(),
) -> Tensor:
    """The right answer, with one piece replaced."""
    z = start(z_f)
    parts = [stretch(grid, (z.shape[-2], z.shape[-1])) for grid in grids]
    return z + strength * spread(z) * join(parts)


def _noising(**changed: Any) -> Noise:
    return lambda z_f, grids, strength: _noisy(z_f, grids, strength, **changed)


def _noise_probe(f: Noise) -> list[Tensor]:
    z, grids, strength = _noise_given()
    leaf = z.clone().requires_grad_()
    made = f(leaf, grids, strength)
    given = z.clone()
    f(given, grids, strength)
    return [
        made.detach(),
        torch.tensor(made.requires_grad),
        f(*_noise_given(2, 3)),
        f(z, grids[:1], strength),
        given,
        z,
    ]


def _noise_unharmed(f: Noise) -> bool:
    z, grids, strength = _noise_given()
    f(z, grids, strength)
    return same([z, *grids, strength], [_noise_given()[0], *_grids(), _strength()])


NOISE = Exercise(
    "07.5",
    "a rougher map",
    _noise_probe,
    (
        Property(
            "interface",
            "add_noise(z_f, grids, strength) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(*_noise_given()), Tensor),
        ),
        Property(
            "shape", "(N, C, H, W) -> (N, C, H, W)", lambda f: f(*_noise_given()).shape == (3, 2, 9, 12)
        ),
        Property(
            "zero",
            "strength 0 changes nothing",
            lambda f: same(f(*_noise_given()[:2], 0 * _strength()), _noise_given()[0]),
        ),
        Property(
            "value",
            "the logits plus strength times spread times the sum of the grids, one or several",
            lambda f: (
                same(f(*_noise_given()), add_noise(*_noise_given()))
                and same(
                    f(_noise_given()[0], _grids()[:1], _strength()),
                    add_noise(_noise_given()[0], _grids()[:1], _strength()),
                )
                and same(f(*_noise_given(2, 3)), add_noise(*_noise_given(2, 3)))
            ),
        ),
        Property(
            "scale",
            "logits ten times as large get ten times the noise",
            lambda f: same(f(10 * _noise_given()[0], _grids(), _strength()), 10 * f(*_noise_given())),
        ),
        Property(
            "detached",
            "no gradient reaches the students",
            lambda f: not f(_noise_given()[0].requires_grad_(), *_noise_given()[1:]).requires_grad,
        ),
        Property("unharmed", "what was given stays as it is", _noise_unharmed),
    ),
    (
        Mistake(
            "not scaled",
            "the noise does not know how large the logits are: the factor of their spread is missing.",
            "hint 3: strength times z.std() times the noise.",
            _noising(spread=lambda z: 1.0),
        ),
        Mistake(
            "strength left out",
            "every image gets the same amount of noise: the strength has no say.",
            "hint 3: strength times z.std() times the noise.",
            lambda z_f, grids, strength: _noisy(z_f, grids, torch.ones_like(strength)),
        ),
        Mistake(
            "scaled image by image",
            "each image has its own spread; one number of the whole batch is wanted.",
            "hint 3: z.std() without an axis.",
            _noising(spread=lambda z: z.std(dim=(1, 2, 3), keepdim=True)),
        ),
        Mistake(
            "scaled map by map",
            "each channel of each image has its own spread; one number of the whole batch is wanted.",
            "hint 3: z.std() without an axis.",
            _noising(spread=lambda z: z.std(dim=(2, 3), keepdim=True)),
        ),
        Mistake(
            "the noise alone",
            "you return the noise without the logits to which it is added.",
            "hint 3: z + strength * z.std() * noise.",
            lambda z_f, grids, strength: _noisy(z_f, grids, strength) - z_f.detach(),
        ),
        Mistake(
            "the logits times the noise",
            "the noise was multiplied by the logits; it is added, so that even a logit of 0 feels it.",
            "hint 3: z + strength * z.std() * noise.",
            _noising(spread=lambda z: z),
        ),
        Mistake(
            "the noise brought to size",
            "the noise was divided by its own spread; only that of the logits counts.",
            "hint 3: z + strength * z.std() * noise.",
            _noising(join=lambda parts: torch.stack(parts).sum(dim=0) / torch.stack(parts).sum(dim=0).std()),
        ),
        Mistake(
            "the variance",
            "the noise is scaled with the variance; the standard deviation is its root.",
            "hint 3: z.std().",
            _noising(spread=lambda z: z.var()),
        ),
        Mistake(
            "the last grid alone",
            "every grid overwrites the one before; they are added up.",
            "hint 2: begin with zeros and add each stretched grid.",
            _noising(join=lambda parts: parts[-1]),
        ),
        Mistake(
            "the mean of the grids",
            "the grids were averaged; they are summed.",
            "hint 2: a sum, not a mean.",
            _noising(join=lambda parts: torch.stack(parts).mean(dim=0)),
        ),
        Mistake(
            "nearest pixel",
            "the grids were stretched in blocks, the default of F.interpolate.",
            'hint 1: mode="bilinear".',
            _noising(stretch=lambda grid, size: F.interpolate(grid, size)),
        ),
        Mistake(
            "bicubic",
            "the stretch is bicubic; it overshoots the grid's numbers.",
            'hint 1: mode="bilinear".',
            _noising(stretch=lambda grid, size: resized_to(grid, size, mode="bicubic", align_corners=False)),
        ),
        Mistake(
            "corners aligned",
            "the stretch aligns corners.",
            "hint 1: align_corners=False.",
            _noising(stretch=lambda grid, size: resized_to(grid, size, align_corners=True)),
        ),
        Mistake(
            "not detached",
            "the value is right, but the students' map keeps its graph.",
            "hint 1: z = z_f.detach().",
            _noising(start=lambda z: z),
        ),
        Mistake(
            "added in place",
            "the students' own logits were changed: += writes into what was given.",
            "hint 3: return z + ..., which makes a new tensor.",
            lambda z_f, grids, strength: z_f.data.copy_(_noisy(z_f, grids, strength)),
        ),
    ),
    add_noise,
)
