"""Exercise 12.4, the largest component."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.methods.bcp import largest_components

Keep = Callable[[Tensor, int], Tensor]


def _islands(classes: int, seed: int = 0) -> Tensor:
    """Class maps (3, 14, 18) of many pieces; the last map lacks its highest class and a middle one."""
    smooth = F.interpolate(noise(3, classes, 6, 7, seed=seed), (14, 18), mode="bilinear")
    labels = smooth.argmax(dim=1)
    labels[2][labels[2] == classes - 1] = 0
    return labels


def _keep_probe(f: Keep) -> list[Tensor]:
    maps = [f(_islands(c, seed), c) for c in (2, 3, 5) for seed in (1, 2)]
    return [*maps, f(_corner(), 3), torch.tensor([_keep_quiet(f)])]


def _keep_quiet(f: Keep) -> bool:
    given = _islands(3, 6)
    f(given, 3)
    return same(given, _islands(3, 6))


def _keep_value(f: Keep) -> bool:
    return all(
        same(f(_islands(c, seed), c), largest_components(_islands(c, seed), c))
        for c in (2, 3, 5)
        for seed in (3, 4)
    )


def _corner() -> Tensor:
    """Pieces that touch only at a corner, and two images whose pieces would touch across the batch."""
    labels = torch.zeros(2, 6, 8, dtype=torch.int64)
    labels[0, :2, :2], labels[0, 2:5, 2:4] = 1, 1
    labels[0, 0, 4:7], labels[0, 5, 7] = 2, 2
    labels[1, 0, 0], labels[1, 4, 4:7] = 1, 1
    labels[1, 1, 7], labels[1, 5, :2] = 2, 2
    return labels


def _keep_corner(f: Keep) -> bool:
    return same(f(_corner(), 3), largest_components(_corner(), 3))


def _keep_nothing(f: Keep) -> bool:
    empty, full = torch.zeros(2, 5, 6, dtype=torch.int64), torch.ones(1, 5, 6, dtype=torch.int64)
    return same(f(empty, 3), empty) and same(f(full, 2), full)


def _kept(
    labels: Tensor,
    num_classes: int,
    which: Callable[[np.ndarray], int] = lambda sizes: int(sizes[1:].argmax()) + 1,
    structure: Any = None,
    value: Callable[[int], int] = lambda c: c,
) -> Tensor:
    """The filter, built from parts; each mistake replaces one."""
    kept = np.zeros(labels.shape, dtype=np.int64)
    for image, out in zip(labels.numpy(), kept, strict=True):
        for c in range(1, num_classes):
            components, count = ndimage.label(image == c, structure)
            if count:
                out[components == which(np.bincount(components.ravel()))] = value(c)
    return torch.from_numpy(kept)


def _classes_together(labels: Tensor, num_classes: int) -> Tensor:
    return labels * largest_components((labels > 0).long(), 2)


def _batch_together(labels: Tensor, num_classes: int) -> Tensor:
    kept = torch.zeros_like(labels)
    for c in range(1, num_classes):
        components, count = ndimage.label(labels.numpy() == c)
        if count:
            kept[torch.from_numpy(components == np.bincount(components.ravel())[1:].argmax() + 1)] = c
    return kept


def _any_class(labels: Tensor, num_classes: int) -> Tensor:
    kept = np.zeros(labels.shape, dtype=np.int64)
    for image, out in zip(labels.numpy(), kept, strict=True):
        for c in range(1, num_classes):
            components, count = ndimage.label(image > 0)
            if count:
                out[components == np.bincount(components.ravel())[1:].argmax() + 1] = c
    return torch.from_numpy(kept)


KEEP = Exercise(
    "12.4",
    "the largest component",
    _keep_probe,
    (
        Property(
            "interface",
            "largest_components(labels, num_classes)",
            lambda f: takes(f, 2) and isinstance(f(_islands(2), 2), Tensor),
        ),
        Property("shape", "(N, H, W) -> (N, H, W)", lambda f: f(_islands(3), 3).shape == (3, 14, 18)),
        Property("dtype", "int64", lambda f: f(_islands(3), 3).dtype == torch.int64),
        Property(
            "value",
            "of each image and foreground class the largest piece, and 0 elsewhere; 2, 3 and 5 classes",
            _keep_value,
        ),
        Property(
            "corners",
            "pieces that touch at a corner are two, images of a batch have no contact",
            _keep_corner,
        ),
        Property("empty", "an empty map stays empty, a full one full", _keep_nothing),
        Property(
            "invariance",
            "a second time changes nothing",
            lambda f: same(f(f(_islands(3, 5), 3), 3), f(_islands(3, 5), 3)),
        ),
        Property("quiet", "the labels that were handed in are left as they were", _keep_quiet),
    ),
    (
        Mistake(
            "the rest of the image counts",
            "number 0, which is all that is not of this class, was taken for a component.",
            "hint 3: drop the first count before argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes.argmax())),
        ),
        Mistake(
            "one off",
            "the first count was dropped, but the number was not moved back by one.",
            "hint 3: add 1 after argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes[1:].argmax())),
        ),
        Mistake(
            "the first one",
            "the component that comes first was kept, not the largest.",
            "hint 3: count the pixels of each number.",
            lambda labels, n: _kept(labels, n, lambda sizes: 1),
        ),
        Mistake(
            "the smallest one",
            "the smallest component was kept.",
            "hint 3: argmax.",
            lambda labels, n: _kept(labels, n, lambda sizes: int(sizes[1:].argmin()) + 1),
        ),
        Mistake(
            "ones",
            "what is kept got the value 1, whatever its class.",
            "hint 4: write the class.",
            lambda labels, n: _kept(labels, n, value=lambda c: 1),
        ),
        Mistake(
            "classes together",
            "all foreground classes were taken for one object; each class keeps its own component.",
            "hint 1: a loop over the classes inside the loop over the images.",
            _classes_together,
        ),
        Mistake(
            "the batch as a volume",
            "the images were stacked like slices of a scan, so one image keeps something and others nothing.",
            "hint 1: each image for itself.",
            _batch_together,
        ),
        Mistake(
            "corners connect",
            "pieces that touch at a corner were taken for one.",
            "the text: connected by an edge, which is ndimage.label's default.",
            lambda labels, n: _kept(labels, n, structure=np.ones((3, 3))),
        ),
        Mistake(
            "filtered in place",
            "the maps are right, but they were written into the labels that were handed in.",
            "hint 1: write into `kept`; the array of a tensor is the tensor's own memory.",
            lambda labels, n: labels.copy_(largest_components(labels, n)),
        ),
        Mistake(
            "every class in one piece",
            "the components are those of the whole foreground, so each class overwrites the one before it.",
            "hint 2: ndimage.label(image == c).",
            _any_class,
        ),
    ),
    largest_components,
)
