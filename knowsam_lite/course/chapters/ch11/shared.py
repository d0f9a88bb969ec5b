"""Shared by several exercises of chapter 11."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from knowsam_lite.course.probes import same

Array = NDArray[Any]


def as_tensors(made: Any) -> list[Tensor]:
    """What an answer returned, one array or several, as tensors of one type."""
    return [
        torch.as_tensor(np.asarray(part, dtype=float))
        for part in (made if isinstance(made, tuple) else (made,))
    ]


def nearly(a: Any, b: Any) -> bool:
    return same(as_tensors(a), as_tensors(b))
