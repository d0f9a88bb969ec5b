"""The adapter: a small bottleneck that adapts a frozen transformer and initially changes nothing."""

import torch.nn.functional as F
from torch import Tensor, nn


class Adapter(nn.Module):
    """Linear(d, d/4), GELU, Linear(d/4, d), with or without a skip: (..., d) -> (..., d).

    The last layer is zero-initialized, so at step 0 an adapter with a skip is the identity and one without
    adds nothing: the pretrained SAM is unchanged. Houlsby et al. (2019); the zero initialization is ours, the
    authors' adapters start at random.
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
