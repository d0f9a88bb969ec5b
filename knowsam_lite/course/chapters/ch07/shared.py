"""Shared by several exercises of chapter 07."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.sam.teacher import PromptedSam


def stirred(module: nn.Module, seed: int = 0, scale: float = 0.3) -> nn.Module:
    """The module with every weight random: zero-initialised weights hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(scale * torch.randn(weight.shape, generator=generator))
    return module.eval()


def counted(sam: PromptedSam, run: Callable[[], object]) -> dict[str, int]:
    """What `run()` costs a SAM: images through the encoder, decoder passes, and rows in those passes."""
    counts = {"images": 0, "passes": 0, "rows": 0}

    def encoded(_module: nn.Module, given: tuple[Tensor, ...], _made: object) -> None:
        counts["images"] += len(given[0])

    def decoded(_module: nn.Module, given: tuple[Tensor, ...], _made: object) -> None:
        counts["passes"] += 1
        counts["rows"] += len(given[0])

    hooks = [
        sam.image_encoder.register_forward_hook(encoded),
        sam.mask_decoder.transformer.register_forward_hook(decoded),
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return counts


def resized_to(z: Tensor, size: tuple[int, int], mode: str = "bilinear", **options: Any) -> Tensor:
    options = options or ({"align_corners": False} if mode == "bilinear" else {})
    return F.interpolate(z, size, mode=mode, **options)
