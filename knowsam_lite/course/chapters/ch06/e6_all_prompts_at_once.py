"""Exercise 06.6, all prompts at once."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from knowsam_lite.course.chapters.ch06.shared import Kind, stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same
from knowsam_lite.sam.decoder import PromptDecoder


def _decoder(kind: Kind, seed: int = 0) -> Any:
    made = kind(16, 24, num_heads=2)
    made.load_state_dict(stirred(PromptDecoder(16, 24, num_heads=2), seed).state_dict())
    return made


def _asked(n: int = 2, k: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Embedding, positions, sparse and dense embeddings for k prompts on each of n images."""
    sizes = ((n, 16, 4, 4), (1, 16, 4, 4), (n, k, 2, 16), (n, k, 16, 4, 4))
    e, pe, sparse, dense = (noise(*size, seed=seed + i, scale=1.0) for i, size in enumerate(sizes))
    return e, pe, sparse, dense


def _decoder_probe(kind: Kind) -> list[Tensor]:
    return [_decoder(kind)(*_asked()), *gradients(_decoder(kind), *_asked(3, 2, 5))]


def _one_by_one(kind: Kind) -> bool:
    """All at once gives the same as one prompt on one image at a time."""
    made, (e, pe, sparse, dense) = _decoder(kind), _asked()
    alone = [
        [
            made(e[i : i + 1], pe, sparse[i : i + 1, j : j + 1], dense[i : i + 1, j : j + 1])[0, 0]
            for j in range(3)
        ]
        for i in range(2)
    ]
    return same(made(e, pe, sparse, dense), torch.stack([torch.stack(row) for row in alone]))


def _decode(
    self: Any,
    embedding: Tensor,
    pe: Tensor,
    sparse: Tensor,
    dense: Tensor,
    image: Callable[[Tensor, Tensor], Tensor] = lambda e, d: (e[:, None] + d).flatten(0, 1),
    back: Callable[[Tensor, Tensor], Tensor] = lambda p, i: p.transpose(1, 2).reshape(i.shape),
    which: int = 1,
    own_first: bool = True,
    own_tokens: Callable[[Any], Tensor] = lambda s: torch.cat([s.iou_token.weight, s.mask_tokens.weight]),
    mlp: int = 0,
    end: Callable[[Tensor, int, int], Tensor] = lambda z, n, k: z.unflatten(0, (n, k)),
) -> Tensor:
    """The right answer, with one piece replaced."""
    n, k = sparse.shape[:2]
    own = own_tokens(self).expand(n * k, -1, -1)
    asked = [own, sparse.flatten(0, 1)]
    tokens = torch.cat(asked if own_first else asked[::-1], dim=1)
    src = image(embedding, dense)
    tokens, pixels = self.transformer(src, pe, tokens)
    upscaled = self.output_upscaling(back(pixels, src))
    weights = self.output_hypernetworks_mlps[mlp](tokens[:, which])
    return end(torch.einsum("md,mdhw->mhw", weights, upscaled), n, k)


def _decoding(**changed: Any) -> Kind:
    return type("Other", (PromptDecoder,), {"forward": lambda self, *given: _decode(self, *given, **changed)})


DECODER = Exercise(
    "06.6",
    "all prompts at once",
    _decoder_probe,
    (
        Property(
            "interface",
            "forward(embedding, image_pe, sparse, dense) returns one tensor",
            lambda k: isinstance(_decoder(k)(*_asked()), Tensor),
        ),
        Property(
            "shape",
            "K masks for each of N images: (N, K, 4g, 4g)",
            lambda k: all(
                _decoder(k)(*_asked(n, m)).shape == (n, m, 16, 16) for n, m in ((2, 3), (3, 2), (1, 1))
            ),
        ),
        Property(
            "value",
            "token 1, through the first MLP, times the upscaled pixels",
            lambda k: same(_decoder(k, 1)(*_asked(seed=7)), _decoder(PromptDecoder, 1)(*_asked(seed=7))),
        ),
        Property("pairing", "the same as one prompt on one image after another", _one_by_one),
        Property(
            "gradient",
            "and so is its gradient: to embedding, positions and both kinds of prompts",
            lambda k: same(gradients(_decoder(k), *_asked()), gradients(_decoder(PromptDecoder), *_asked())),
        ),
    ),
    (
        Mistake(
            "images tiled",
            "images and prompts are paired crosswise: prompts of one image are answered on another.",
            "hint 2: row i K + j needs image i, so each image stands K times in a row.",
            _decoding(image=lambda e, d: e.repeat(d.shape[1], 1, 1, 1) + d.flatten(0, 1)),
        ),
        Mistake(
            "every image with every prompt",
            "the images were repeated once for each of all N K prompts: N N K rows do not fit N K prompts.",
            "hint 2: each image meets only its own K prompts.",
            _decoding(image=lambda e, d: e.repeat_interleave(len(d) * d.shape[1], dim=0) + d.flatten(0, 1)),
        ),
        Mistake(
            "dense prompts left out",
            "the dense prompts are not added: a mask prompt would never be heard.",
            "hint 2: embedding + dense.",
            _decoding(image=lambda e, d: (e[:, None] + 0 * d).flatten(0, 1)),
        ),
        Mistake(
            "pixels not transposed",
            "positions and channels are mixed: (M, HW, D) was reshaped without a transpose.",
            "hint 3: transpose(1, 2) comes before reshape.",
            _decoding(back=lambda p, i: p.reshape(i.shape)),
        ),
        Mistake(
            "the IoU token",
            "the mask was made from token 0, which is there to judge masks.",
            "the table: the first mask token is number 1.",
            _decoding(which=0),
        ),
        Mistake(
            "prompts before SAM's own tokens",
            "the mask comes from a prompt's token: the prompts stand in front, or you took the last token.",
            "the table: SAM's own five come first, and number 1 makes the mask.",
            _decoding(own_first=False),
        ),
        Mistake(
            "answers in the wrong order",
            "the rows were unfolded as K times N: masks land at other prompts' places.",
            "hint 4: unflatten(0, (n, k)).",
            _decoding(end=lambda z, n, k: z.reshape(k, n, *z.shape[1:]).transpose(0, 1)),
        ),
        Mistake(
            "mask tokens before the IoU token",
            "the mask tokens come before the one that judges masks, so token 1 is the second mask.",
            "the table: iou_token first, then mask_tokens.",
            _decoding(own_tokens=lambda s: torch.cat([s.mask_tokens.weight, s.iou_token.weight])),
        ),
        Mistake(
            "the IoU token left out",
            "the token that judges masks is missing; SAM's weights know five tokens.",
            "the table: iou_token and mask_tokens.",
            _decoding(own_tokens=lambda s: s.mask_tokens.weight),
        ),
        Mistake(
            "the second mask",
            "this is SAM's second mask: token 2 with its own MLP.",
            "the table: token 1 and output_hypernetworks_mlps[0].",
            _decoding(which=2, mlp=1),
        ),
        Mistake(
            "another mask's MLP",
            "token 1 went through the MLP of the second mask.",
            "the table: output_hypernetworks_mlps[0].",
            _decoding(mlp=1),
        ),
        Mistake(
            "probabilities",
            "these are probabilities; logits are wanted.",
            "the text: it returns logits, so no sigmoid.",
            _decoding(end=lambda z, n, k: z.unflatten(0, (n, k)).sigmoid()),
        ),
        Mistake(
            "rows left as rows",
            "the masks are right, but in one list of N K rows.",
            "hint 4: unflatten(0, (n, k)).",
            _decoding(end=lambda z, n, k: z),
        ),
    ),
    PromptDecoder,
)


def saved_bytes(net: nn.Module, run: Callable[[], object]) -> int:
    """Bytes of activations that autograd keeps for the backward pass of `run()`; weights are not counted."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        made = run()  # while this is alive, no memory is reused
    del made
    return sum(kept.values())
