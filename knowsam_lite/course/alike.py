"""When two results count as the same: shapes, types, and values within rounding."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def alike(a: "list[Tensor] | str", b: "list[Tensor] | str") -> bool:
    """True if two fingerprints are the same: shapes, types, and values within rounding."""
    if isinstance(a, str) or isinstance(b, str):
        return a == b
    return len(a) == len(b) and all(
        s.shape == t.shape and s.dtype == t.dtype and close(s, t) for s, t in zip(a, b, strict=True)
    )


def close(s: "Tensor", t: "Tensor") -> bool:
    """True if the values of two tensors of one shape agree within rounding, whatever their types."""
    import torch

    return torch.allclose(s.double(), t.double(), rtol=1e-4, atol=1e-5, equal_nan=True)
