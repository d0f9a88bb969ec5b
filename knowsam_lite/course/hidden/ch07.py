"""What the answers of chapter 07 do."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from knowsam_lite.course.hidden.shared import random, with_gradients
from knowsam_lite.sam import SamTeacher, VitBackbone

TINY_SAM = VitBackbone(
    embed_dim=16,
    depth=2,
    num_heads=2,
    global_blocks=(0, 1),
    window_size=0,
    patch_size=8,
    prompt_dim=16,
    mlp_dim=32,
    pretrained_size=32,
)


def tiny_teacher(classes: int, size: int = 32) -> SamTeacher:
    """A SAM with random weights that runs in milliseconds."""
    torch.manual_seed(5)
    return SamTeacher(TINY_SAM, classes, size)


def mask_prompts(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, size in ((2, (4, 4)), (3, (5, 9)), (6, (12, 7))):
        yield from with_gradients(lambda z, s=size: f(z, s), random(2, classes, 8, 10, seed=classes))
        yield f(random(2, classes, 8, 10, seed=classes, scale=90.0), size)
    yield f(random(1, 3, 6, 6, seed=1).bfloat16(), (3, 3))


def learnable_prompts(kind: Any) -> Iterator[Tensor]:
    for classes, dim, tokens in ((2, 8, 2), (4, 4, 3), (1, 8, 1)):
        torch.manual_seed(classes)
        made, embedding = kind(classes, dim, tokens), random(2, dim, 8, 8, seed=dim)
        yield torch.tensor([p.numel() for p in made.parameters()])
        yield torch.tensor([float(p.abs().sum() > 0) for p in made.parameters()])
        yield from with_gradients(made.eval(), embedding)
        for i, p in enumerate(made.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.3)
        yield from with_gradients(made, embedding)


def sam_answer(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for classes, size, n in ((2, 32, 3), (4, 48, 1)):
        sam = tiny_teacher(classes).eval()
        for i, p in enumerate(sam.parameters()):
            p.data = random(*p.shape, seed=i, scale=0.25)
        passes: list[int] = []
        for module in (sam.image_encoder, sam.mask_decoder.transformer):
            module.register_forward_hook(lambda _, given, made, p=passes: p.append(len(given[0])))
        x, z_f = random(n, 3, size, size, seed=n).sigmoid(), random(n, classes, size, size, seed=size)
        yield from with_gradients(lambda x, z_f, sam=sam: f(sam, x, z_f), x, z_f)
        yield torch.tensor(passes)


def mended_and_broken(f: Callable[..., tuple[float, float]]) -> Iterator[Tensor]:
    for classes in (2, 3, 5):
        y = random(2, classes, 6, 7, seed=classes).argmax(dim=1)
        asked, answer = (
            torch.where(random(2, 6, 7, seed=s) > 1, (y + s) % classes, y) for s in (1, classes + 1)
        )
        for given in ((asked, answer, y), (y, asked, y), ((y + 1) % classes, answer, y), (asked, asked, y)):
            yield torch.tensor([float(value) for value in f(*given)])


def add_noise(f: Callable[..., Tensor]) -> Iterator[Tensor]:
    for n, classes, sizes in ((2, 2, (3,)), (3, 4, (9, 2, 5)), (1, 3, (6, 6))):
        z, strength = random(n, classes, 12, 10, seed=n), random(n, 1, 1, 1, seed=classes).abs()
        grids = [random(n, classes, k, k, seed=k) for k in sizes]
        yield from with_gradients(lambda z, g=grids, s=strength: f(z, g, s), z)
        yield z
        yield from grids


BEHAVIOR: dict[str, Callable[[Any], Iterator[Tensor]]] = {
    "07.1": mask_prompts,
    "07.2": learnable_prompts,
    "07.3": sam_answer,
    "07.4": mended_and_broken,
    "07.5": add_noise,
}
