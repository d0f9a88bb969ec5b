"""BCP, bidirectional copy-paste: exchanges one large rectangle between labelled and unlabelled images."""

import copy
from collections.abc import Iterator

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.losses import UNKNOWN, supervised_loss
from knowsam_lite.methods.base import Method, students_optimizer
from knowsam_lite.methods.ema import update_ema

__getattr__ = old_names(__name__)

PRETRAINED = 0.25  # fraction of the run that pastes between labelled images (published: 10,000 of 40,000)
SIDE = 2 / 3  # side of the rectangle, as a fraction of the image's
UNLABELED_WEIGHT = 0.5  # of the pixels that carry pseudo-labels
DECAY = 0.99  # of the moving average


def rectangle(height: int, width: int) -> Tensor:
    """True inside one rectangle of 2/3 x 2/3 at a random place: bool (H, W) on the CPU."""
    h, w = int(height * SIDE), int(width * SIDE)
    top = int(torch.randint(0, height - h + 1, ()))
    left = int(torch.randint(0, width - w + 1, ()))
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top : top + h, left : left + w] = True
    return inside


def paste(
    x_l: Tensor, y_l: Tensor, x_u: Tensor, y_u: Tensor, inside: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Exchange a rectangle, and split the targets into true labels and pseudo-labels.

    `x` (N, 3, H, W), `y` (N, H, W), `inside` bool (H, W). Labelled image i pairs with unlabelled image
    i mod N_u, and the other way round. Returns the images (labelled ones with an unlabelled inside first),
    the true labels and the pseudo-labels of every pixel, each -1 where the other is known.
    """
    to_u = torch.arange(len(x_l), device=x_l.device) % len(x_u)
    to_l = torch.arange(len(x_u), device=x_l.device) % len(x_l)
    x = torch.cat([torch.where(inside, x_u[to_u], x_l), torch.where(inside, x_l[to_l], x_u)])
    nothing = torch.full((), UNKNOWN, device=x.device)
    true = torch.cat([torch.where(inside, nothing, y_l), torch.where(inside, y_l[to_l], nothing)])
    pseudo = torch.cat([torch.where(inside, y_u[to_u], nothing), torch.where(inside, nothing, y_u)])
    return x, true, pseudo


def largest_components(labels: Tensor, num_classes: int) -> Tensor:
    """Keep the largest connected component of each foreground class: labels (N, H, W) -> (N, H, W).

    Computed on the CPU, the only place where this method waits for the device.
    """
    kept = np.zeros(labels.shape, dtype=np.int64)
    for image, out in zip(labels.cpu().numpy(), kept, strict=True):
        for c in range(1, num_classes):
            components, count = ndimage.label(image == c)
            if count:
                largest = np.bincount(components.ravel())[1:].argmax() + 1
                out[components == largest] = c
    return torch.from_numpy(kept).to(labels.device)


class BCP(Method):
    """BCP (Bai et al., CVPR 2023, "Bidirectional copy-paste") on this library's U-Net.

    For the first quarter of the run rectangles are pasted between labelled images, then both ways between
    labelled and unlabelled ones. Pseudo-labels come from a moving average of the net (0.99, buffers too, in
    evaluation mode), reduced to the largest component of each class (`Config.largest_component`). CE + Dice
    on pixels with true labels, and half of it on those with pseudo-labels. The student is tested. Published:
    the average in training mode, and both nets from the pretraining checkpoint that is best on val.
    """

    name = "bcp"
    published_aug = "weak"
    prediction_view = "U-Net"
    partners = True

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        self.net = self.make_net()
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def train(self, mode: bool = True) -> "BCP":
        super().train(mode)
        self.average.eval()
        return self

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n = batch.n_labeled
        inside = rectangle(*batch.x.shape[-2:]).to(batch.x.device, non_blocking=True)
        if self.progress(step) < PRETRAINED:
            x, y = batch.x[:n], batch.y[:n]
            mixed = torch.where(inside, x.roll(1, dims=0), x)
            yield {"pretraining": supervised_loss(self.net(mixed), torch.where(inside, y.roll(1, 0), y))}
        else:
            yield self.paste_both_ways(batch.x[:n], batch.y[:n], batch.x[n:], inside)

    def paste_both_ways(self, x_l: Tensor, y_l: Tensor, x_u: Tensor, inside: Tensor) -> dict[str, Tensor]:
        """The loss of both mixed halves; labelled image i pairs with unlabelled image i mod N_u."""
        with torch.no_grad():
            y_u = self.average(x_u).argmax(dim=1)
            if self.config.largest_component:
                y_u = largest_components(y_u, self.num_classes)
        x, true, pseudo = paste(x_l, y_l, x_u, y_u, inside)
        z = self.net(x)
        return {
            "supervised": supervised_loss(z, true),
            "pseudo": UNLABELED_WEIGHT * supervised_loss(z, pseudo),
        }

    def after_step(self, step: int) -> None:
        decay = DECAY if self.progress(step) >= PRETRAINED else 0.0
        update_ema(self.average, self.net, decay, buffers=True)

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [students_optimizer(self.net, self.config)]
