"""The students: both subnets and their aggregation in one module, all that is needed after training."""

from typing import NamedTuple

from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.subnets import UNet, VNet, as_image


class StudentOutput(NamedTuple):
    """Logits (N, C, H, W) of the U-Net, the V-Net and the fused map."""

    logits_a: Tensor
    logits_b: Tensor
    logits_f: Tensor


class Students(nn.Module):
    """F_a, F_b and HAM: image (N, 1 or 3, H, W) in [0, 1] -> StudentOutput.

    `net_a`, `net_b`: any modules that map (N, 3, H, W) to logits (N, num_classes, H, W); by default the
    paper's U-Net and V-Net.
    """

    def __init__(self, num_classes: int = 2, net_a: nn.Module | None = None, net_b: nn.Module | None = None):
        super().__init__()
        self.num_classes = num_classes
        self.net_a = UNet(num_classes) if net_a is None else net_a
        self.net_b = VNet(num_classes) if net_b is None else net_b
        self.ham: nn.Module = HybridAggregation(num_classes)

    def forward(self, x: Tensor) -> StudentOutput:
        x = as_image(x)
        z_a, z_b = self.net_a(x), self.net_b(x)
        return StudentOutput(z_a, z_b, self.ham(z_a, z_b))
