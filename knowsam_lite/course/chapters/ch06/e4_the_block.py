"""Exercise 06.4, the block."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from knowsam_lite.course.chapters.ch06.shared import Kind, all_adapters, stirred
from knowsam_lite.course.checks import Exercise, Mistake, Property
from knowsam_lite.course.probes import gradients, noise, same
from knowsam_lite.sam.encoder import AdapterBlock
from knowsam_lite.sam.modeling import Block


def _block(kind: Kind, seed: int = 0, window: int = 0) -> Any:
    made = kind(16, 2, window, (5, 5), True)
    made.load_state_dict(stirred(AdapterBlock(16, 2, window, (5, 5), True), seed).state_dict())
    return made


TOKENS = (2, 5, 5, 16)


def _block_probe(kind: Kind) -> list[Tensor]:
    fresh = kind(16, 2, 0, (5, 5), True)
    return [
        fresh(noise(*TOKENS)).sum() * 0,
        _block(kind)(noise(*TOKENS)),
        *gradients(_block(kind), noise(*TOKENS)),
    ]


def _block_start(kind: Kind) -> bool:
    plain = Block(16, 2, norm_layer=lambda d: nn.LayerNorm(d, eps=1e-6), use_rel_pos=True, input_size=(5, 5))
    stirred(plain)
    made = kind(16, 2, 0, (5, 5), True)
    made.load_state_dict(plain.state_dict(), strict=False)
    return same(made(noise(*TOKENS)), plain(noise(*TOKENS)))


def _block_adapters(kind: Kind) -> bool:
    """Both adapters of the block learn from its output."""
    made = _block(kind)
    made(noise(*TOKENS)).square().sum().backward()
    return all(bool(p.grad is not None and p.grad.any()) for p in all_adapters(made))


def _otherwise(forward: Callable[[Any, Tensor], Tensor]) -> Kind:
    return type("Other", (AdapterBlock,), {"forward": forward})


def _mlp(b: Any, x: Tensor, share: float = 0.5) -> Tensor:
    normed = b.norm2(x)
    return x + b.mlp(normed) + share * b.mlp_adapter(normed)


def _unnormed(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return x + b.mlp(b.norm2(x)) + 0.5 * b.mlp_adapter(x)


def _behind_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    inner = b.mlp(b.norm2(x))
    return x + inner + 0.5 * b.mlp_adapter(inner)


def _old_tokens(b: Any, x: Tensor) -> Tensor:
    y = x + b.space_adapter(b.attend(x))
    normed = b.norm2(x)
    return y + b.mlp(normed) + 0.5 * b.mlp_adapter(normed)


def _half_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    normed = b.norm2(x)
    return x + 0.5 * (b.mlp(normed) + b.mlp_adapter(normed))


def _no_residual(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return _mlp(b, x) - x


def _plain_mlp(b: Any, x: Tensor) -> Tensor:
    x = x + b.space_adapter(b.attend(x))
    return x + b.mlp(x) + 0.5 * b.mlp_adapter(x)


def _exchanged(b: Any, x: Tensor) -> Tensor:
    x = x + b.mlp_adapter(b.attend(x))
    normed = b.norm2(x)
    return x + b.mlp(normed) + 0.5 * b.space_adapter(normed)


BLOCK = Exercise(
    "06.4",
    "a block with adapters",
    _block_probe,
    (
        Property(
            "interface",
            "AdapterBlock(16, 2, 0, (5, 5), True) takes tokens and returns tokens",
            lambda k: isinstance(_block(k)(noise(*TOKENS)), Tensor),
        ),
        Property(
            "shape", "(N, g, g, D) -> (N, g, g, D)", lambda k: _block(k)(noise(*TOKENS)).shape == TOKENS
        ),
        Property("start", "with fresh adapters it is segment_anything's block", _block_start),
        Property(
            "value",
            "both lines of the equation, with adapters that have learned, with and without windows",
            lambda k: all(
                same(_block(k, 1, w)(noise(*TOKENS)), _block(AdapterBlock, 1, w)(noise(*TOKENS)))
                for w in (0, 3)
            ),
        ),
        Property(
            "gradient",
            "and so is its gradient: every branch carries it",
            lambda k: same(
                gradients(_block(k), noise(*TOKENS)), gradients(_block(AdapterBlock), noise(*TOKENS))
            ),
        ),
        Property("learning", "both adapters learn from its answer", _block_adapters),
    ),
    (
        Mistake(
            "the MLP adapter at full strength",
            "the factor one half before the MLP adapter is missing.",
            "the equation above: one half of A'.",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(x)), 1.0)),
        ),
        Mistake(
            "space adapter behind the residual",
            "the space adapter was given the sum; it belongs to the attention's answer alone.",
            "hint 1: first attend, then adapt, then add to x.",
            _otherwise(lambda b, x: _mlp(b, b.space_adapter(x + b.attend(x)))),
        ),
        Mistake(
            "no residual around the attention",
            "the tokens themselves are lost: x is not added to the attention's answer.",
            "hint 1: x + ...",
            _otherwise(lambda b, x: _mlp(b, b.space_adapter(b.attend(x)))),
        ),
        Mistake(
            "space adapter left out",
            "the attention's answer goes past the space adapter, which can never learn.",
            "hint 1: self.space_adapter takes what self.attend gives.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x))),
        ),
        Mistake(
            "MLP adapter on unnormalized tokens",
            "the MLP adapter reads x itself, not norm2 of it.",
            "hint 2: MLP and MLP adapter read the same normed tokens.",
            _otherwise(_unnormed),
        ),
        Mistake(
            "MLP adapter behind the MLP",
            "the MLP adapter reads the MLP's answer; it stands beside it, not behind it.",
            "hint 2: MLP and MLP adapter read the same normed tokens.",
            _otherwise(_behind_mlp),
        ),
        Mistake(
            "norm2 of the old tokens",
            "norm2 was given the tokens from before the attention.",
            "hint 2: the second line uses the x that the first one made.",
            _otherwise(_old_tokens),
        ),
        Mistake(
            "the attention's answer twice",
            "the attention's answer is added once by itself and once more in its adapter's skip.",
            "hint 1: only what the space adapter returns is added to x.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x) + b.space_adapter(b.attend(x)))),
        ),
        Mistake(
            "the space adapter beside the attention",
            "the space adapter reads x; it stands behind the attention and reads its answer.",
            "hint 1: self.space_adapter takes what self.attend gives.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x) + b.space_adapter(x))),
        ),
        Mistake(
            "the space adapter before the attention",
            "the tokens go through the space adapter before they attend.",
            "hint 1: first attend, then adapt.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(b.space_adapter(x)))),
        ),
        Mistake(
            "normalized twice",
            "norm1 was applied before `attend`, which applies it itself.",
            "hint 1: self.attend(x).",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(b.norm1(x))))),
        ),
        Mistake(
            "half of the MLP",
            "the factor one half stands before the MLP's answer, too.",
            "the equation above: one half of A' alone.",
            _otherwise(_half_mlp),
        ),
        Mistake(
            "no residual around the MLP",
            "the tokens are lost in the second half: x is not added.",
            "hint 2: both answers are added to x.",
            _otherwise(_no_residual),
        ),
        Mistake(
            "the MLP on unnormalized tokens",
            "the MLP and its adapter read x itself, not norm2 of it.",
            "hint 2: normalize the new x once.",
            _otherwise(_plain_mlp),
        ),
        Mistake(
            "the adapters exchanged",
            "the MLP's adapter stands behind the attention and the space adapter beside the MLP.",
            "the text above: which one stands where.",
            _otherwise(_exchanged),
        ),
        Mistake(
            "the MLP adapter left out",
            "the MLP adapter takes no part, so it can never learn.",
            "hint 2: both answers are added.",
            _otherwise(lambda b, x: _mlp(b, x + b.space_adapter(b.attend(x)), 0.0)),
        ),
        Mistake(
            "no adapters at all",
            "this is the plain block: neither adapter takes part.",
            "the equation above.",
            _otherwise(lambda b, x: _mlp(b, x + b.attend(x), 0.0)),
        ),
    ),
    AdapterBlock,
)
