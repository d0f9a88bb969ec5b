"""Shared by several exercises of chapter 10."""

from torch import Tensor, nn
from torch.optim import Optimizer

from knowsam_lite.course.probes import noise

Terms = dict[str, Tensor]


def walk(net: nn.Module, optimizer: Optimizer, first: int, last: int) -> None:
    """Train for steps `first` to `last` - 1; each batch is a function of the step."""
    net.train()
    for step in range(first, last):
        x = noise(6, 4, seed=step)
        loss = (net(x) - x[:, :2]).square().mean() * (1 - step / 20)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
