"""CauSSL: two nets teach each other, and their weights are kept from becoming similar."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.deprecated import old_names
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.losses import cross_entropy, supervised_loss
from knowsam_lite.methods.base import Method, ramp

__getattr__ = old_names(__name__)

SUPERVISED_WEIGHT = 0.5  # of CE + Dice
PSEUDO_WEIGHT = 0.03  # final weight of the pseudo-labels
INDEPENDENCE_WEIGHT = 3.0
START = 0.1  # fraction of the run before the nets are kept apart (the authors' code: 500 of 5,000 steps)
ROUNDS = 83  # how often in a run the maps are fitted (the authors' code: every 60 of 5,000 steps)
INNER_STEPS, INNER_RATE = 60, 2e-2  # Adam steps of each fitting


def squared_cosines(w: Tensor, other: Tensor, linear: Tensor) -> Tensor:
    """Squared cosine between each row of `w` and the same row of `linear` @ `other`, mean over rows.

    `w`, `other` (out, d), `linear` (out, out). Computed from the rows' inner products, so that the cost of
    fitting `linear` does not depend on d.
    """
    return cosines_from_products(linear, other @ w.T, other @ other.T, w.square().sum(dim=1))


def cosines_from_products(linear: Tensor, cross: Tensor, own: Tensor, norms: Tensor) -> Tensor:
    """The same from `cross` = other w^T, `own` = other other^T (out, out) and |w|^2 of each row (out,)."""
    inner = (linear * cross.T).sum(dim=1)
    lengths = ((linear @ own) * linear).sum(dim=1)
    return (inner.square() / (lengths * norms).clamp(min=1e-12)).mean()


class CauSSL(Method):
    """CauSSL in its CPS form (Miao et al., ICCV 2023, "Causality-inspired semi-supervised learning").

    Two U-Nets with different initial weights. 0.5 (CE + Dice) on labels; 0.03 w x cross-entropy with the
    other's pseudo-labels on unlabelled images; and from 1/10 of the run on 3 x how well each net's
    convolution kernels are explained as linear combinations of the other's (detached). The nets minimize it,
    the linear maps maximize it, by 60 steps of Adam(2e-2) at every (steps // 83)-th step, as published at
    every 60th of 5,000. Conv2d weights count, as (out, in k k); transposed and depthwise ones do not, nor
    pretrained encoders, which both nets share.
    """

    name = "caussl"
    published_aug = "weak"
    prediction_view = "U-Net"

    def __init__(self, config: Config, num_classes: int):
        super().__init__(config, num_classes)
        self.prediction_view = self.net_names()[0]
        self.net_a, self.net_b = self.make_net(), self.make_net()
        sizes = [len(weight) for weight in self.kernels(self.net_a)]
        for side in ("a", "b"):  # buffers: not in an optimizer, but saved with the run
            for i, size in enumerate(sizes):
                self.register_buffer(f"map_{side}_{i}", torch.eye(size))

    @staticmethod
    def kernels(net: nn.Module) -> list[Tensor]:
        """The weights (out, in k k) of a net's convolutions, with gradient."""
        given = set(net.encoder.modules()) if isinstance(net, PretrainedNet) else set()
        found = [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.groups == 1 and m not in given]
        return [m.weight.flatten(1) for m in found]

    def maps(self, side: str) -> list[Tensor]:
        """The linear maps of "a" or "b", one per convolution."""
        count = len(self.kernels(self.net_a))
        return [self.get_buffer(f"map_{side}_{i}") for i in range(count)]

    def dependence(self, side: str) -> Tensor:
        """How well the kernels of one side are explained by those of the other, in [0, 1], on average."""
        own, other = (self.net_a, self.net_b) if side == "a" else (self.net_b, self.net_a)
        maps = self.maps(side)
        triples = zip(self.kernels(own), self.kernels(other), maps, strict=True)
        with torch.autocast(maps[0].device.type, enabled=False):
            return torch.stack([squared_cosines(w, v.detach(), linear) for w, v, linear in triples]).mean()

    def parts(self, batch: Batch, step: int) -> Iterator[dict[str, Tensor]]:
        n, y = batch.n_labeled, batch.y[: batch.n_labeled]
        z = {"a": self.net_a(batch.x), "b": self.net_b(batch.x)}
        w, apart = PSEUDO_WEIGHT * ramp(self.progress(step)), self.progress(step) >= START
        terms = {}
        for k, j in (("a", "b"), ("b", "a")):
            terms[f"{k}/supervised"] = SUPERVISED_WEIGHT * supervised_loss(z[k][:n], y)
            terms[f"{k}/pseudo"] = w * cross_entropy(z[k][n:], z[j][n:].argmax(dim=1))
            if apart:
                terms[f"{k}/independence"] = INDEPENDENCE_WEIGHT * self.dependence(k)
        yield terms

    def after_step(self, step: int) -> None:
        if self.progress(step + 1) >= START and step % max(1, self.config.steps // ROUNDS) == 0:
            for side, own, other in (("a", self.net_a, self.net_b), ("b", self.net_b, self.net_a)):
                self.fit_maps(self.maps(side), self.kernels(own), self.kernels(other))

    @staticmethod
    def fit_maps(maps: list[Tensor], kernels: list[Tensor], others: list[Tensor]) -> None:
        """Fit the maps to explain as much as possible, in place."""
        pairs = [(w.detach().float(), v.detach().float()) for w, v in zip(kernels, others, strict=True)]
        products = [(v @ w.T, v @ v.T, w.square().sum(dim=1)) for w, v in pairs]
        free = [linear.clone().requires_grad_() for linear in maps]
        optimizer = torch.optim.Adam(free, INNER_RATE)
        for _ in range(INNER_STEPS):
            optimizer.zero_grad(set_to_none=True)
            found = [cosines_from_products(m, *p) for m, p in zip(free, products, strict=True)]
            (-torch.stack(found).mean()).backward()
            optimizer.step()
        for linear, fitted in zip(maps, free, strict=True):
            linear.copy_(fitted.detach())

    def predict(self, x: Tensor) -> Tensor:
        return self.net_a(x)
