"""Mean Teacher: the student is trained to agree with its own moving average, which sees a noisy image."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import supervised_loss
from knowsam_lite.methods.base import Method, ramp, students_optimizer
from knowsam_lite.methods.ema import update_ema

__getattr__ = old_names(__name__)

SUPERVISED_WEIGHT = 0.5  # of CE + Dice
RAMPED_WEIGHT = 0.1  # final weight of the consistency
SILENT = 1 / 30  # fraction of the run before the teacher is used (published: 1,000 of 30,000 steps)
DECAY = 0.99  # of the moving average
NOISE, NOISE_LIMIT = 0.1, 0.2  # standard deviation and clipping limit of the teacher's input noise


def noisy(x: Tensor) -> Tensor:
    """Images (N, 3, H, W) + clip(0.1 N(0, 1), +-0.2), drawn from torch's global generator."""
    return x + (NOISE * torch.randn_like(x)).clamp(-NOISE_LIMIT, NOISE_LIMIT)


class MeanTeacher(Method):
    """Mean Teacher (Tarvainen and Valpola, NeurIPS 2017, "Mean teachers are better role models").

    In its usual form for segmentation, on this library's U-Net: 0.5 (CE + Dice) on labels and 0.1 w x mean
    squared error between the softmax outputs of student and teacher on unlabelled images, from 1/30 of the
    run on. The teacher sees noise on top of the image and stays in training mode (batch statistics,
    dropout); only its parameters follow the student's. The student is tested. Published for classification.
    `net`: your own module for the student.
    """

    name = "mean_teacher"
    published_aug = "weak"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        self.net = self.make_net() if net is None else net
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, progress = batch.n_labeled, self.progress(step)
        z = self.net(batch.x)
        terms = {"supervised": SUPERVISED_WEIGHT * supervised_loss(z[:n], batch.y[:n])}
        if progress >= SILENT:
            p = z[n:].float().softmax(dim=1)
            consistency = self.consistency(p, batch.x[n:], ramp(progress))
            terms["consistency"] = RAMPED_WEIGHT * ramp(progress) * consistency
        yield terms

    def consistency(self, p: Tensor, x: Tensor, rise: float) -> Tensor:
        """How far the student's probabilities `p` (N, C, H, W) on images `x` are from the teacher's.

        `rise` = r in (0, 1].
        """
        return F.mse_loss(p, self.teach(x))

    @torch.no_grad()
    def teach(self, x: Tensor) -> Tensor:
        """The teacher's probabilities on a noisy copy of `x` (N, 3, H, W): (N, C, H, W), no gradient."""
        return self.teacher(noisy(x)).float().softmax(dim=1)

    def after_step(self, step: int) -> None:
        """teacher <- alpha teacher + (1 - alpha) student, alpha = min(1 - 1/(t + 1), 0.99); no buffers."""
        update_ema(self.teacher, self.net, min(1 - 1 / (step + 1), DECAY), buffers=False)

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [students_optimizer(self.net, self.config)]
