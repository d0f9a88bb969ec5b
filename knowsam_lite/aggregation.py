"""HAM, the hybrid aggregation module: fuses two predictions, given their agreement and uncertainty."""

import torch
from torch import Tensor, nn

from knowsam_lite.uncertainty import disagreement_map, entropy_map


def branch(in_channels: int, hidden: int, out_channels: int) -> nn.Sequential:
    """conv3x3 then conv1x1, each with BatchNorm and LeakyReLU(0.2): (N, C_in, H, W) -> (N, C_out, H, W)."""
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, 3, padding=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(hidden, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.LeakyReLU(0.2, inplace=True),
    )


class HybridAggregation(nn.Module):
    """HAM: fuse the logits of both subnets, given where they agree and how certain each is.

    z_a, z_b logits (N, C, H, W) -> fused logits z_f (N, C, H, W). Three branches: agreement 1 - XOR per class
    (no gradient), certainty 1 - h of each subnet with h = entropy / log C, and the logits; gradients reach
    both subnets through the last two. Source: KnowSAM, section "hybrid aggregation"; dividing by log C is
    ours, so that certainty lies in [0, 1] for every C.
    """

    def __init__(self, num_classes: int = 2):
        super().__init__()
        self.agreement = branch(num_classes, 16, 16)
        self.certainty = branch(2, 16, 16)
        self.logits = branch(2 * num_classes, 16, 32)
        self.fuse = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(64, num_classes, 3, padding=1),
        )

    @staticmethod
    def entropy(z: Tensor) -> Tensor:
        """The uncertainty of one subnet, (N, C, H, W) -> (N, H, W) in [0, 1]."""
        return entropy_map(z)

    def forward(self, z_a: Tensor, z_b: Tensor) -> Tensor:
        agreement = 1 - disagreement_map(z_a.softmax(dim=1), z_b.softmax(dim=1))  # (N, C, H, W)
        certainty = 1 - torch.stack([self.entropy(z_a), self.entropy(z_b)], dim=1)  # (N, 2, H, W)
        features = [
            self.agreement(agreement),
            self.certainty(certainty),
            self.logits(torch.cat([z_a, z_b], dim=1)),
        ]
        return self.fuse(torch.cat(features, dim=1))
