"""The authors' students: the taught subnets, and a HAM whose entropies are not divided by log C."""

from torch import Tensor

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.official.losses import entropy
from knowsam_lite.students import Students


class OfficialHybridAggregation(HybridAggregation):
    """HAM with certainty 1 - H in natural units: below 0 where H exceeds 1, which needs three classes."""

    @staticmethod
    def entropy(z: Tensor) -> Tensor:
        """Natural entropy (N, C, H, W) -> (N, H, W), in [0, log C]."""
        return entropy(z)


class OfficialStudents(Students):
    """Image (N, 1 or 3, H, W) in [0, 1] -> StudentOutput, as the authors' network "SGDL" computes it."""

    def __init__(self, num_classes: int = 2):
        super().__init__(num_classes)
        self.ham = OfficialHybridAggregation(num_classes)
