"""DTC: one net predicts each pixel's class and its distance to the border; both must agree."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.encoders.nets import STRIDE, PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.losses import UNKNOWN, dice_loss
from knowsam_lite.methods.base import Method, ramp
from knowsam_lite.parallel.ranks import whole_batch

__getattr__ = old_names(__name__)

DISTANCE_WEIGHT = 0.3  # of the regression to the signed distance
STEEPNESS = 1500  # of the sigmoid that turns a distance into a probability


def signed_distance(inside: np.ndarray) -> np.ndarray:
    """Signed distance to the border of a mask: bool (H, W) -> float32 (H, W) in [-1, 1], negative inside.

    Each side is divided by its own maximum; 0 on the inner boundary, the mask's pixels with one of their four
    neighbors outside. Without a border 1 for an empty mask and -1 for a full one: 0 would say that every
    pixel lies on a border, and pull the class's probability to 0.5 wherever it is absent.
    """
    if not inside.any() or inside.all():
        return np.full(inside.shape, -1 if inside.any() else 1, dtype=np.float32)
    within, beyond = ndimage.distance_transform_edt(inside), ndimage.distance_transform_edt(~inside)
    distance = beyond / beyond.max() - within / within.max()
    distance[within == 1] = 0  # one pixel away from the outside: the inner boundary
    return distance.astype(np.float32)


def signed_distances(y: Tensor, num_classes: int) -> Tensor:
    """`signed_distance` of each class, background included: labels (N, H, W) -> (N, C, H, W).

    Computed on the CPU, the only place where this method waits for the device.
    """
    maps = [[signed_distance(image == c) for c in range(num_classes)] for image in y.cpu().numpy()]
    return torch.from_numpy(np.array(maps)).to(y.device)


def distance_loss(d: Tensor, y: Tensor) -> Tensor:
    """Mean squared error of predicted distances `d` (N, C, H, W) over the known pixels of `y`."""
    return _over_known(d, signed_distances(y, d.shape[1]), (y != UNKNOWN).unsqueeze(1))


@whole_batch
def _over_known(d: Tensor, distances: Tensor, known: Tensor) -> Tensor:
    error = (d - distances).square() * known
    return error.sum() / (known.sum() * d.shape[1]).clamp(min=1)


class DTC(Method):
    """DTC (Luo et al., AAAI 2021, "Dual-task consistency") on this library's U-Net with a second head.

    Dice of the first head and 0.3 x squared error between the second, tanh, and the signed distance to each
    class's border, on labels; on all images w x squared error between sigmoid(-1500 distance) and the first
    head's probability, with gradients to both. The first head is tested. Published in 3-D, for one foreground
    class and a sigmoid; here in 2-D with a softmax and one distance per class, background included. Pixels
    of unknown class count as outside of every class when distances are measured, and learn nothing.
    """

    name = "dtc"
    published_aug = "weak"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        net: Any = self.make_net()
        # `features` neither enlarges its answer nor pads its input, as the whole net does
        if isinstance(net, PretrainedNet) and not (net.whole and config.image_size % STRIDE == 0):
            raise UserError(
                f"found decoder {config.decoder_a} at {config.image_size} px, expected features as large as "
                f"the image for dtc: take --decoder-a unet and a multiple of {STRIDE} as --image-size"
            )
        self.net = net
        self.distance_head = nn.Conv2d(net.head.in_channels, num_classes, 3, padding=1)

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Image (N, 3, H, W) -> logits and signed distances in [-1, 1], both (N, C, H, W) and float32."""
        features = self.net.features(x)[-1]
        return self.net.head(features).float(), self.distance_head(features).float().tanh()

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y = batch.n_labeled, batch.y[: batch.n_labeled]
        z, d = self.both(batch.x)
        agreement = F.mse_loss((-STEEPNESS * d).sigmoid(), z.softmax(dim=1))
        yield {
            "supervised": dice_loss(z[:n], y),
            "distance": DISTANCE_WEIGHT * distance_loss(d[:n], y),
            "consistency": ramp(self.progress(step)) * agreement,
        }

    def predict(self, x: Tensor) -> Tensor:
        return self.net(x)
