"""The adapter: a small bottleneck that bends a frozen transformer, and starts as if it were not there."""

import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """Linear(d, d/4), GELU, Linear(d/4, d), with or without a skip: (..., d) -> (..., d).

    The last layer starts at zero, so at step 0 an adapter with a skip is the identity and one without adds
    nothing: the pretrained SAM is undisturbed. Houlsby et al. (2019); the zero start is ours, the authors'
    adapters start at random.
    """

    def __init__(self, dim: int, skip: bool):
        super().__init__()
        self.skip = skip
        self.down = nn.Linear(dim, dim // 4)
        self.up = nn.Linear(dim // 4, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        change = self.up(F.gelu(self.down(x)))
        return x + change if self.skip else change
