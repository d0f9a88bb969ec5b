"""What the processes of one training exchange; with one process every function here changes nothing.

Each process, a rank, computes the losses of its share of the batch. Most are means over pixels, whose mean
over the ranks is that of the whole batch; for the others there is `whole_batch`. The mean of all gradients
over the ranks is then the gradient of the whole batch's loss.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from knowsam_lite.errors import UserError

Item = TypeVar("Item")
P = ParamSpec("P")
_WHOLE: list[Any] = []  # the loss of `whole_batch` that is being computed, if one is


def size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if size() > 1 else 0


def own_seed(seed: int) -> int:
    """A seed for noise that differs from rank to rank; rank 0 has `seed` itself, from 0 to 2^32 - 1.

    On CPUs PyTorch uses the lower 32 bits alone, so these differ.
    """
    return int(np.random.SeedSequence([seed, rank()]).generate_state(1)[0]) if rank() else seed


@contextmanager
def together() -> Iterator[None]:
    """Around an exchange: UserError if another process is gone."""
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL raise their own kinds of it
        reason = str(error).splitlines()[0][:80]
        raise UserError(
            f"found no answer of another process ({reason}), expected all {size()} of them: see why it "
            "ended, then go on with --resume"
        ) from None


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = len(x)
        shares = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(size())]
        with together():
            dist.all_gather(shares, x.contiguous())
        return torch.cat(shares)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        own = grad[rank() * ctx.count : (rank() + 1) * ctx.count]
        return size() * own  # every rank has the whole loss, and `average_gradients` divides by their number


def whole_batch(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a loss that is no mean over images, such as a ratio of sums, see the images of all ranks.

    Every tensor among its arguments, or in a list among them, has one entry an image, equally many on each
    rank. With one process, and inside another such loss, it is called as it is.
    """

    @wraps(loss)
    def over_all(*args: P.args, **options: P.kwargs) -> Tensor:
        if size() == 1 or _WHOLE:
            return loss(*args, **options)
        _WHOLE.append(loss)
        try:
            return loss(*[_all(one) for one in args], **{k: _all(v) for k, v in options.items()})
        finally:
            _WHOLE.pop()

    return over_all


def _all(argument: Any) -> Any:
    if isinstance(argument, Tensor):
        return _Gathered.apply(argument)
    return [_all(one) for one in argument] if isinstance(argument, list | tuple) else argument


def _reduced(x: Tensor) -> Tensor:
    with together():
        dist.all_reduce(x)
    return x


def _means(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of each tensor over the ranks, in one exchange for all of them."""
    flat = _reduced(torch.cat([tensor.flatten() for tensor in tensors])).div_(size())
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def average_gradients(parameters: Sequence[Tensor]) -> None:
    """Replace each gradient by its mean over the ranks, in one exchange for all of them.

    A missing gradient counts as zero; one that is missing on all ranks stays None. `parameters`: the same on
    every rank, in one order. Which are there is told on the CPU, so that no GPU is waited for.
    """
    if size() == 1 or not parameters:
        return
    there = _reduced(torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)).tolist()
    learned = [p for p, n in zip(parameters, there, strict=True) if n]
    means = _means([torch.zeros_like(p) if p.grad is None else p.grad for p in learned])
    for p, mean in zip(learned, means, strict=True):
        p.grad = mean


def average_buffers(tensors: Iterable[Tensor]) -> None:
    """Replace every floating-point tensor, such as BatchNorm's statistics, by its mean over the ranks."""
    found = [tensor for tensor in tensors if tensor.is_floating_point()]
    if size() == 1 or not found:
        return
    for tensor, mean in zip(found, _means(found), strict=True):
        tensor.copy_(mean)


def as_first(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by that of rank 0, in place: networks that were made apart begin alike.

    A rank that ended before is missed here, on the CPU, and not in the middle of a step on a GPU.
    """
    if size() == 1:
        return
    any_of(False)
    with together():
        for tensor in tensors:
            dist.broadcast(tensor, src=0)


def any_of(flag: bool) -> bool:
    """Whether `flag` is set on some rank; the same answer on all of them."""
    return flag if size() == 1 else bool(_reduced(torch.tensor([int(flag)])).item())


def gathered(item: Item) -> list[Item]:
    """The ranks' items, in their order, on every rank. Small ones: they are pickled."""
    if size() == 1:
        return [item]
    found: list[Any] = [None] * size()
    with together():
        dist.all_gather_object(found, item)
    return found


def interleaved(shares: Sequence[Sequence[Item]]) -> list[Item]:
    """One list from the ranks' shares `items[rank::size]`."""
    whole: list[Any] = [None] * sum(len(share) for share in shares)
    for number, share in enumerate(shares):
        whole[number :: len(shares)] = share
    return whole
