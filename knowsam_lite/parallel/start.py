"""Joins the processes that torchrun started, and leaves them again."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from knowsam_lite.errors import UserError


@contextmanager
def joined() -> Iterator[None]:
    """Within it this process is a rank, if torchrun started several; else nothing changes.

    Gradients go through NCCL on CUDA, one device a rank, and through gloo on a CPU. Raises UserError if the
    others cannot be reached or there are fewer devices than ranks here.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    cuda = torch.cuda.is_available()
    if cuda:
        place, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= devices:
            raise UserError(
                f"found {devices} CUDA devices, expected one for each process: lower --nproc-per-node to it"
            )
        torch.cuda.set_device(place)
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"found the other processes not reachable ({str(error).splitlines()[0][:100]}), expected those of "
            "one torchrun: check its --rdzv-endpoint or --master-addr"
        ) from None
    try:
        yield
    finally:
        dist.destroy_process_group()


def is_first() -> bool:
    """Whether this is the first process of torchrun's, or the only one: the one that prints."""
    return os.environ.get("RANK", "0") == "0"
