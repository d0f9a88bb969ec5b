"""The authors' students: the taught subnets, and a HAM with a different entropy and last layer."""

from torch import Tensor, nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.official.losses import entropy
from knowsam_lite.students import Students


class OfficialHybridAggregation(HybridAggregation):
    """HAM with certainty 1 - H in natural units (below 0 where H exceeds 1, which needs three classes).

    Its fused logits pass through a last BatchNorm and LeakyReLU, which keep them near unit scale.
    """

    def __init__(self, num_classes: int = 2):
        super().__init__(num_classes)
        last = nn.Conv2d(64, num_classes, 3, padding=1, bias=False)
        self.fuse = nn.Sequential(*self.fuse[:-1], last, nn.BatchNorm2d(num_classes), nn.LeakyReLU(0.2))

    @staticmethod
    def entropy(z: Tensor) -> Tensor:
        """Natural entropy (N, C, H, W) -> (N, H, W), in [0, log C]."""
        return entropy(z)


class OfficialStudents(Students):
    """Image (N, 1 or 3, H, W) in [0, 1] -> StudentOutput, as the authors' network "SGDL" computes it."""

    def __init__(self, num_classes: int = 2):
        super().__init__(num_classes)
        self.ham = OfficialHybridAggregation(num_classes)
