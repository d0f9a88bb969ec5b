"""Exercise 00.5, the finished method in use."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch00.shared import attempt
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import noise, same, takes
from knowsam_lite.students import Students

Segment = Callable[..., Tensor]


def small_students(classes: int = 3) -> Students:
    """Students of one convolution each, with non-trivial weights and BatchNorm statistics."""
    torch.manual_seed(classes)
    nets = [nn.Sequential(nn.Conv2d(3, classes, 5, padding=2), nn.BatchNorm2d(classes)) for _ in range(2)]
    students = Students(classes, *nets)
    for module in students.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = 0.3 * noise(module.num_features, seed=1)
            module.running_var = noise(module.num_features, seed=2).abs() + 0.5
    return students


def _photo(height: int = 40, width: int = 28, seed: int = 0) -> np.ndarray:
    """A smooth colour picture, uint8 (H, W, 3), using the full range."""
    coarse = noise(1, 3, 5, 4, seed=seed, scale=1.0).sigmoid()
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)
    return (255 * fine[0].movedim(0, -1)).round().byte().numpy()


def right_logits(students: Students, image: np.ndarray, size: int, scale: float = 255) -> Tensor:
    """The fused logits (1, C, size, size) of an image, in evaluation mode."""
    x = torch.tensor(image).movedim(-1, 0).unsqueeze(0) / scale
    students.eval()
    with torch.no_grad():
        return students(F.interpolate(x, (size, size), mode="bilinear", align_corners=False)).logits_f


def _grown(z: Tensor, image: np.ndarray) -> Tensor:
    return F.interpolate(z, image.shape[:2], mode="bilinear", align_corners=False).argmax(dim=1)[0]


def right_segment(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    """The class of every pixel of an image, (H, W): the answer to exercise 00.5."""
    return _grown(right_logits(students, image, size), image)


def _segment_probe(f: Segment) -> list[Tensor]:
    made = []
    for classes, image, size in (
        (3, _photo(seed=3), 32),
        (4, _photo(30, 50, seed=4), 16),
        (3, _photo(16, 16), 16),
    ):
        students = small_students(classes).train()
        graphs: list[float] = []
        students.ham.register_forward_hook(lambda *_, g=graphs: g.append(float(torch.is_grad_enabled())))
        made += [attempt(f, students, image, size), torch.tensor([float(students.training), *graphs])]
    return made


def _segment_value(f: Segment) -> bool:
    return all(
        same(f(small_students(c), _photo(seed=c), 32), right_segment(small_students(c), _photo(seed=c), 32))
        for c in (2, 3, 4)
    )


def _native_size(f: Segment) -> bool:
    students = small_students()
    return all(f(students, _photo(h, w), 32).shape == (h, w) for h, w in ((40, 28), (64, 64), (33, 90)))


def _trained_mode(f: Segment) -> bool:
    students = small_students().train()
    before = [tensor.clone() for tensor in students.buffers()]
    made = f(students, _photo(), 32)
    return same(made, right_segment(small_students(), _photo(), 32)) and same(
        before, list(students.buffers())
    )


def _no_graph(f: Segment) -> bool:
    students, seen = small_students(), []
    students.ham.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    f(students, _photo(), 32)
    return seen == [False]


def _as_batch(image: np.ndarray, size: int) -> Tensor:
    """The networks' input: (1, 3, size, size) in [0, 1]."""
    x = torch.tensor(image).movedim(-1, 0).unsqueeze(0) / 255
    return F.interpolate(x, (size, size), mode="bilinear", align_corners=False)


@torch.no_grad()
def _unet_alone(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students.eval()(_as_batch(image, size)).logits_a, image)


@torch.no_grad()
def _in_training_mode(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students(_as_batch(image, size)).logits_f, image)


def _with_a_graph(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(students.eval()(_as_batch(image, size)).logits_f, image)


def _labels_grown(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    labels = right_logits(students, image, size).argmax(dim=1, keepdim=True).float()
    return F.interpolate(labels, image.shape[:2], mode="nearest")[0, 0].long()


def _sideways(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    return _grown(right_logits(students, image.swapaxes(0, 1), size), image)


@torch.no_grad()
def _reshaped(students: Students, image: np.ndarray, size: int = 64) -> Tensor:
    x = torch.tensor(image).reshape(1, 3, *image.shape[:2]) / 255
    return _grown(students.eval()(F.interpolate(x, (size, size), mode="bilinear")).logits_f, image)


SEGMENT = Exercise(
    "00.5",
    "from image to mask",
    _segment_probe,
    (
        Property(
            "interface",
            "segment(students, image, size=64) returns one tensor",
            lambda f: takes(f, 2) and takes(f, 3) and isinstance(f(small_students(), _photo()), Tensor),
        ),
        Property("shape", "uint8 (H, W, 3) -> (H, W), whatever size the networks want", _native_size),
        Property(
            "dtype",
            "int64, one class per pixel",
            lambda f: f(small_students(), _photo(), 32).dtype == torch.int64,
        ),
        Property("value", "the winner of the fused logits, for 2, 3 and 4 classes", _segment_value),
        Property(
            "default",
            "without a third argument the networks look at 64 x 64 pixels",
            lambda f: same(f(small_students(), _photo()), right_segment(small_students(), _photo())),
        ),
        Property(
            "mode",
            "students that come from training are put into evaluation mode, and stay unchanged",
            _trained_mode,
        ),
        Property("graph", "no graph is kept", _no_graph),
    ),
    (
        Mistake(
            "bytes",
            "the networks saw numbers up to 255; they were trained on [0, 1].",
            "hint 1: divide by 255.",
            lambda students, image, size=64: _grown(right_logits(students, image, size, 1.0), image),
        ),
        Mistake(
            "the U-Net alone",
            "you returned the first of the three answers, the U-Net's.",
            "hint 3: students(x).logits_f.",
            _unet_alone,
        ),
        Mistake(
            "training mode",
            "BatchNorm used the statistics of this one image, and counted it in.",
            "hint 2: students.eval() first.",
            _in_training_mode,
        ),
        Mistake(
            "a graph is kept",
            "the mask is right, but PyTorch kept what a backward pass would need, and nobody asks for one.",
            "hint 2: with torch.no_grad().",
            _with_a_graph,
        ),
        Mistake(
            "winner first, size second",
            "you took the winner on the small grid and enlarged that: the outline has steps.",
            "hint 3: enlarge the logits, then take the winner.",
            _labels_grown,
        ),
        Mistake(
            "not brought back",
            "the mask has the networks' size, not the image's.",
            "hint 3: F.interpolate to image.shape[:2].",
            lambda students, image, size=64: right_logits(students, image, size).argmax(dim=1)[0],
        ),
        Mistake(
            "sideways",
            "the networks saw the image with rows and columns exchanged.",
            "hint 1: (H, W, 3) becomes (3, H, W), height before width.",
            _sideways,
        ),
        Mistake(
            "reshaped",
            "reshape leaves the numbers in their order and mixes colours with places.",
            "hint 1: .movedim(-1, 0) moves the axis.",
            _reshaped,
        ),
    ),
    right_segment,
)
