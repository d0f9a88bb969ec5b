"""UniMatch: two strong views and a weak one with broken features all learn what the weak view says."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.data.sampler import Batch
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.losses import dice_loss, supervised_loss
from knowsam_lite.methods.fixmatch import FixMatch
from knowsam_lite.subnets import UNet, decode, encode

DROPPED = 0.5  # share of the channels of every feature map that are set to zero


def drop_channels(f: Tensor) -> Tensor:
    """Set half of the channels of (N, D, H, W) to zero and double the others."""
    return F.dropout2d(f, DROPPED)


def with_changed_features(net: nn.Module, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A net's logits with its encoder's features changed. Raises UserError for a net of another kind."""
    if isinstance(net, PretrainedNet):
        return net(x, change)
    if isinstance(net, UNet):
        features = [change(f) for f in encode(net.encoder, x)]
        return net.head(decode(net.up, net.decoder, features)[-1])
    raise UserError(
        f"found a {type(net).__name__}, expected a UNet or a PretrainedNet, whose features can be changed: "
        "use fixmatch"
    )


class UniMatch(FixMatch):
    """UniMatch (Yang et al., CVPR 2023, "Revisiting weak-to-strong consistency") on F_a.

    As its authors have it for medical images: 0.25 (CE + Dice) on labels; Dice of two strong views, each with
    a CutMix of its own, 0.125 each, and of the weak view with half of the encoder's channels dropped, 0.25,
    all against the confident labels of the weak view. Here these come from a moving average in evaluation
    mode, as in `FixMatch`; published: the net.
    """

    name = "unimatch"
    extra_views = 2

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        assert batch.weak is not None and batch.strong is not None
        n, y_u = batch.n_labeled, self.pseudo_labels(batch)
        (x_1, y_1), (x_2, y_2) = (self.cut_mixed(view, y_u) for view in (batch.x[n:], batch.strong))
        z = self.net(torch.cat([batch.x[:n], x_1, x_2]))
        z_l, z_1, z_2 = z.split([n, len(y_u), len(y_u)])
        yield {
            "supervised": 0.25 * supervised_loss(z_l, batch.y[:n]),
            "pseudo": 0.125 * (dice_loss(z_1, y_1) + dice_loss(z_2, y_2)),
        }
        z_f = with_changed_features(self.net, batch.weak, drop_channels)
        yield {"features": 0.25 * dice_loss(z_f, y_u)}
