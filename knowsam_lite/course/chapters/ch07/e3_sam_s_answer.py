"""Exercise 07.3, SAM's answer."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.course.chapters.ch07.shared import counted, resized_to, stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same, takes
from knowsam_lite.sam.backbones import VitBackbone
from knowsam_lite.sam.teacher import SamTeacher

Asked = Callable[[Any, Tensor, Tensor], Tensor]
TINY = VitBackbone(
    embed_dim=16,
    depth=1,
    num_heads=2,
    global_blocks=(0,),
    window_size=0,
    patch_size=8,
    prompt_dim=16,
    mlp_dim=16,
    pretrained_size=32,
)


@cache
def _sam(classes: int = 3) -> SamTeacher:
    """A tiny SAM with random weights, the same every time."""
    made = SamTeacher(TINY, classes, 32)
    stirred(made, seed=classes)
    return made


def _given(classes: int = 3, size: int = 32, n: int = 2) -> tuple[Tensor, Tensor]:
    return noise(n, 3, size, size, seed=size).sigmoid(), noise(n, classes, size, size, seed=classes)


def _answer_probe(f: Asked) -> list[Tensor]:
    sam = _sam()
    x, z_f = _given()
    made = [f(sam, x, z_f), f(sam, *_given(size=48, n=3)), f(_sam(2), *_given(2))]
    counts = counted(sam, lambda: f(sam, x, z_f))
    made += [torch.tensor(list(counts.values())), torch.tensor(_reached(f))]
    return [*made, *gradients(lambda x, z: f(sam, x, z), x, z_f)]


def _answer_once(f: Asked) -> bool:
    def once(classes: int) -> bool:
        sam, given = _sam(classes), _given(classes)
        return counted(sam, lambda: f(sam, *given)) == {"images": 2, "passes": 1, "rows": 2 * classes}

    return once(2) and once(3)


def _reached(f: Asked) -> list[bool]:
    """Whether a gradient reaches the students' map and each trainable weight."""
    sam, (x, z_f) = _sam(), _given()
    leaf = z_f.clone().requires_grad_()
    leaves = [leaf, *(p for p in sam.parameters() if p.requires_grad)]
    made = f(sam, x, leaf)
    if not made.requires_grad:
        return [False] * len(leaves)
    return [g is not None for g in torch.autograd.grad(made.square().sum(), leaves, allow_unused=True)]


def _answer_learns(f: Asked) -> bool:
    """SAM's loss reaches adapters and prompts but not the students' map."""
    students, *own = _reached(f)
    return all(own) and not students


def _answered(
    sam: Any,
    x: Tensor,
    z_f: Tensor,
    tokens: Callable[[Any, Tensor], Tensor] = lambda sam, e: sam.learnable_prompts(e),
    masks: Callable[[Any, Tensor], Tensor] = lambda sam, z: sam.mask_prompts(z),
    decode: Callable[[Any, Tensor, Tensor, Tensor], Tensor] = lambda sam, e, t, d: sam.decode(e, t, d),
    end: Callable[[Tensor, Tensor], Tensor] = lambda low, x: resized_to(low, (x.shape[-2], x.shape[-1])),
) -> Tensor:
    """The right answer, with one piece replaced."""
    embedding = sam.encode(x)
    dense = sam.embed_masks(masks(sam, z_f))
    return end(decode(sam, embedding, tokens(sam, embedding), dense), x)


def _answering(**changed: Any) -> Asked:
    return lambda sam, x, z_f: _answered(sam, x, z_f, **changed)


def _class_by_class(sam: Any, e: Tensor, t: Tensor, d: Tensor) -> Tensor:
    return torch.cat([sam.decode(e, t[:, c : c + 1], d[:, c : c + 1]) for c in range(t.shape[1])], dim=1)


def _encoded_again(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    made = []
    for c in range(z_f.shape[1]):
        e = sam.encode(x)
        t, d = sam.learnable_prompts(e), sam.embed_masks(sam.mask_prompts(z_f))
        made.append(sam.decode(e, t[:, c : c + 1], d[:, c : c + 1]))
    return resized_to(torch.cat(made, dim=1), (x.shape[-2], x.shape[-1]))


def _image_by_image(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    return torch.cat([_answered(sam, x[i : i + 1], z_f[i : i + 1]) for i in range(len(x))])


def _unembedded(sam: Any, x: Tensor, z_f: Tensor) -> Tensor:
    embedding = sam.encode(x)
    low = sam.decode(embedding, sam.learnable_prompts(embedding), sam.mask_prompts(z_f))
    return resized_to(low, (x.shape[-2], x.shape[-1]))


ANSWER = Exercise(
    "07.3",
    "all classes in one pass",
    _answer_probe,
    (
        Property(
            "interface",
            "sam_answer(sam, x, z_f) returns one tensor",
            lambda f: takes(f, 3) and isinstance(f(_sam(), *_given()), Tensor),
        ),
        Property(
            "shape",
            "(N, C, H, W), whatever the image's size",
            lambda f: all(f(_sam(), *_given(size=s)).shape == (2, 3, s, s) for s in (32, 48)),
        ),
        Property(
            "value",
            "decoded from embedding, tokens and embedded mask prompts; 2 and 3 classes, two sizes",
            lambda f: all(
                same(f(_sam(c), *_given(c, s)), _sam(c)(*_given(c, s)).logits)
                for c, s in ((2, 32), (3, 32), (3, 48))
            ),
        ),
        Property("once", "each image passes the encoder once, the decoder runs once", _answer_once),
        Property(
            "learners", "adapters and prompts get a gradient, the students' map gets none", _answer_learns
        ),
        Property(
            "invariance",
            "an image's answer does not depend on its neighbours in the batch",
            lambda f: same(f(_sam(), *_given()), _image_by_image(_sam(), *_given())),
        ),
    ),
    (
        Mistake(
            "not resized",
            "SAM's low-resolution masks came back; the students' logits have the image's size.",
            "hint 3: F.interpolate to x.shape[-2:].",
            _answering(end=lambda low, x: low),
        ),
        Mistake(
            "one pass per class, not resized",
            "the decoder ran once for each class, and its low-resolution masks came back as they are.",
            "hints 2 and 3: one call of sam.decode, then F.interpolate.",
            _answering(decode=_class_by_class, end=lambda low, x: low),
        ),
        Mistake(
            "one pass per class",
            "the values are right, but the decoder ran once for each class.",
            "hint 2: sam.decode takes all classes at once.",
            _answering(decode=_class_by_class),
        ),
        Mistake(
            "encoded for each class",
            "the values are right, but the encoder, the expensive part, ran once for each class.",
            "hint 1: one embedding serves all questions.",
            _encoded_again,
        ),
        Mistake(
            "image by image",
            "the values are right, but the batch was taken apart: one pass for each image.",
            "hint 2: no loop is needed.",
            _image_by_image,
        ),
        Mistake(
            "the raw map as mask",
            "the students' logits went in as they are, without sam.mask_prompts.",
            "hint 1: sam.mask_prompts makes yes-or-no questions of them.",
            _answering(masks=lambda sam, z: resized_to(z.detach(), (4 * sam.grid[0], 4 * sam.grid[1]))),
        ),
        Mistake(
            "the raw map embedded",
            "sam.embed_masks was given the students' map as it is, without sam.mask_prompts.",
            "hint 1: sam.embed_masks(sam.mask_prompts(z_f)).",
            _answering(masks=lambda sam, z: z),
        ),
        Mistake(
            "the mask not embedded",
            "the mask prompts went into the decoder as they are; sam.embed_masks comes between.",
            "hint 1: sam.embed_masks(sam.mask_prompts(z_f)).",
            _unembedded,
        ),
        Mistake(
            "probabilities as the question",
            "sam.mask_prompts was given probabilities; it wants the students' logits.",
            "the text: sam.mask_prompts(z_f), z_f as it comes.",
            _answering(masks=lambda sam, z: sam.mask_prompts(z.softmax(dim=1))),
        ),
        Mistake(
            "tokens left out",
            "the learned tokens have no say: SAM was asked with zeros.",
            "hint 1: the tokens are sam.learnable_prompts(embedding).",
            _answering(tokens=lambda sam, e: 0 * sam.learnable_prompts(e)),
        ),
        Mistake(
            "masks left out",
            "the students' map has no say.",
            "hint 1: sam.embed_masks(sam.mask_prompts(z_f)).",
            _answering(masks=lambda sam, z: 0 * sam.mask_prompts(z)),
        ),
        Mistake(
            "probabilities",
            "the answer was put through a softmax; z_s are logits.",
            "hint 3: nothing comes after the resize.",
            _answering(end=lambda low, x: resized_to(low, (x.shape[-2], x.shape[-1])).softmax(dim=1)),
        ),
        Mistake(
            "nearest pixel",
            "the resize takes the nearest pixel, the default of F.interpolate.",
            'hint 3: mode="bilinear".',
            _answering(end=lambda low, x: F.interpolate(low, x.shape[-2:])),
        ),
        Mistake(
            "corners aligned",
            "the resize aligns corners, which stretches SAM's grid against the image.",
            "hint 3: align_corners=False.",
            _answering(
                end=lambda low, x: resized_to(
                    low, (x.shape[-2], x.shape[-1]), mode="bilinear", align_corners=True
                )
            ),
        ),
        Mistake(
            "a class map",
            "you return the winning class of each pixel; z_s are the logits of all classes.",
            "hint 3: nothing comes after the resize.",
            _answering(end=lambda low, x: resized_to(low, (x.shape[-2], x.shape[-1])).argmax(dim=1)),
        ),
        Mistake(
            "without a graph",
            "no gradient is left: SAM's adapters and prompts could not learn.",
            "the text: only the students' map is cut off, and sam.mask_prompts does that.",
            lambda sam, x, z_f: _answered(sam, x, z_f).detach(),
        ),
        Mistake(
            "the encoder cut off",
            "the embedding was detached: the encoder's adapters could not learn.",
            "the text: only the students' map is cut off, and sam.mask_prompts does that.",
            _answering(
                tokens=lambda sam, e: sam.learnable_prompts(e.detach()),
                decode=lambda sam, e, t, d: sam.decode(e.detach(), t, d),
            ),
        ),
    ),
    _answering(),
)
