"""FixMatch: what a net says of a weak view with confidence is what it has to say of the strong view."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.losses import UNKNOWN, dice_loss, supervised_loss
from knowsam_lite.methods.base import Method, students_optimizer
from knowsam_lite.methods.ema import update_ema

SPAN = 0.04  # fraction of the run over which the moving average reaches back
CUT = (0.02, 0.4)  # smallest and largest area of a CutMix rectangle, as fractions of the image
RATIO = 0.3  # its sides are in a ratio of RATIO to 1 / RATIO


def boxes(n: int, height: int, width: int) -> Tensor:
    """A random rectangle for each of n images, in half of them none: bool (N, H, W) on the CPU.

    CutMix (Yun et al., ICCV 2019) as UniMatch uses it. Drawn from torch's global generator.
    """
    inside = torch.zeros(n, height, width, dtype=torch.bool)
    draw = torch.rand(n, 5).tolist()
    for one, (use, area, ratio, top, left) in zip(inside, draw, strict=True):
        if use < 0.5:
            continue
        a = (CUT[0] + (CUT[1] - CUT[0]) * area) * height * width
        r = RATIO * RATIO ** (-2 * ratio)  # from RATIO to 1 / RATIO, evenly in its logarithm
        h, w = min(round((a * r) ** 0.5), height), min(round((a / r) ** 0.5), width)
        y, x = int(top * (height - h + 1)), int(left * (width - w + 1))
        one[y : y + h, x : x + w] = True
    return inside


def pasted(inside: Tensor, maps: Tensor) -> Tensor:
    """Each map (N, ..., H, W) with what lies inside replaced by that of the image before it in the batch."""
    mask = inside.view(len(inside), *(1,) * (maps.ndim - 3), *inside.shape[1:])
    return torch.where(mask, maps.roll(1, dims=0), maps)


def masked_cross_entropy(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of logits (N, C, H, W) over the pixels of `y` that are known, divided by all pixels."""
    return F.cross_entropy(z.float(), y, ignore_index=UNKNOWN, reduction="none").mean()


def confident(z: Tensor, threshold: float) -> Tensor:
    """The most likely class of each pixel, -1 where its probability is below: (N, C, H, W) -> (N, H, W)."""
    p, y = z.float().softmax(dim=1).max(dim=1)
    return y.masked_fill(p < threshold, UNKNOWN)


class FixMatch(Method):
    """FixMatch (Sohn et al., NeurIPS 2020) with CutMix and the losses of UniMatch's code for medical images.

    0.25 (CE + Dice) on labels and 0.5 Dice on the strong view of unlabelled images with the labels that a
    moving average of the net gives their weak view, where it is at least `threshold` sure. (Cross-entropy,
    as for natural images, would be one of background: nearly all sure pixels are.) The average, over 4 % of
    the run, predicts. Those authors have no FixMatch there: it is ours, their UniMatch with one strong view.
    `net`: your own module for the student.
    """

    name = "fixmatch"
    prediction_view = "U-Net"
    extra_views = 1

    def __init__(self, config: Config, num_classes: int, net: nn.Module | None = None):
        super().__init__(config, num_classes)
        self.partners = config.cutmix
        self.prediction_view = self.net_names()[0]
        self.net = self.make_net() if net is None else net
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def train(self, mode: bool = True) -> "FixMatch":
        super().train(mode)
        self.average.eval()
        return self

    def pseudo_labels(self, batch: Batch) -> Tensor:
        """Of the weak view: (N_u, H, W), -1 where the average is not sure."""
        assert batch.weak is not None
        with torch.no_grad():
            return confident(self.average(batch.weak), self.config.threshold)

    def cut_mixed(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """CutMix among images (N, 3, H, W) and their labels (N, H, W); unchanged without `config.cutmix`."""
        if not self.config.cutmix:
            return x, y
        inside = boxes(len(x), *x.shape[-2:]).to(x.device, non_blocking=True)
        return pasted(inside, x), pasted(inside, y)

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y_u = batch.n_labeled, self.pseudo_labels(batch)
        x_u, y_u = self.cut_mixed(batch.x[n:], y_u)
        z = self.net(torch.cat([batch.x[:n], x_u]))
        yield {
            "supervised": 0.25 * supervised_loss(z[:n], batch.y[:n]),
            "pseudo": 0.5 * dice_loss(z[n:], y_u),
        }

    def after_step(self, step: int) -> None:
        decay = min(1 - 1 / (step + 1), 1 - 1 / max(SPAN * self.config.steps, 1))
        update_ema(self.average, self.net, decay, buffers=True)

    def predict(self, x: Tensor) -> Tensor:
        return self.average(x)

    def learner(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [students_optimizer(self.net, self.config)]
