"""The two baselines that see labels only: one U-Net, and the pair with its aggregation."""

from collections.abc import Iterator

from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import Method
from knowsam_lite.students import StudentOutput, Students
from knowsam_lite.subnets import UNet, VNet


class Supervised(Method):
    """A U-Net, CE + Dice on the labelled images. With all images labelled it is the upper bound."""

    name = "supervised"
    uses_unlabeled = False
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        self.net = self.make_net() if net is None else net

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        yield {"supervised": supervised_loss(self.net(batch.x), batch.y)}

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)


class SupervisedPair(Method):
    """Both subnets and HAM on the labelled images: an ensemble, not semi-supervision; what KnowSAM must beat.

    Loss: mean of the subnets' (CE + Dice), plus CE + Dice of the fused map. `net_a`, `net_b`: your own
    modules for F_a and F_b.
    """

    name = "supervised_pair"
    uses_unlabeled = False

    def __init__(
        self, config: Config, num_classes: int, net_a: nn.Module | None = None, net_b: nn.Module | None = None
    ):
        super().__init__(config, num_classes)
        net_a = self.make_net("a", UNet) if net_a is None else net_a
        net_b = self.make_net("b", VNet) if net_b is None else net_b
        self.students = Students(num_classes, net_a, net_b)

    def pair_losses(self, z: StudentOutput, y: Tensor, progress: float) -> dict[str, Tensor]:
        """The students' terms on one batch: logits and labels (N, H, W), -1 where unknown. `progress` = t /
        t_max.
        """
        return {
            "a/supervised": 0.5 * supervised_loss(z.logits_a, y),
            "b/supervised": 0.5 * supervised_loss(z.logits_b, y),
            "fused/supervised": supervised_loss(z.logits_f, y),
        }

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        yield self.pair_losses(self.students(batch.x), batch.y, self.progress(step))

    def predict(self, x: Tensor) -> Tensor:
        return self.students(x).logits_f

    def views(self, x: Tensor) -> dict[str, Tensor]:
        z = self.students(x)
        a, b = self.net_names()
        return {a: z.logits_a, b: z.logits_b, "fused": z.logits_f}
