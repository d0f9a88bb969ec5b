"""Joins the processes that torchrun started, and leaves them again."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
import torch.distributed as dist

from knowsam_lite.errors import UserError


def share() -> tuple[int, int]:
    """The number of this process among those of torchrun, and how many they are: (0, 1) without torchrun.

    For work that needs no exchange: process r of n takes every n-th item from the r-th on.
    """
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def own_device(name: str) -> str:
    """The device of this process among those of torchrun: for "auto" on CUDA, one for each process here."""
    if name == "auto" and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        return f"cuda:{int(os.environ['LOCAL_RANK']) % torch.cuda.device_count()}"
    return name


@contextmanager
def joined(device: str = "auto") -> Iterator[None]:
    """Within it this process is a rank, if torchrun started several; else nothing changes.

    `device`: as in `Config`. Gradients go through NCCL on CUDA, one device a rank, and through gloo on a CPU.
    Raises UserError if the others cannot be reached or there are fewer devices than ranks here. Of all ranks
    that end with one, the first raises it; the others exit with code 2 and say nothing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        place, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if place >= devices:
            raise UserError(
                f"found {devices} CUDA devices, expected one for each process: lower --nproc-per-node to it"
            )
        torch.cuda.set_device(place)
    try:
        store, rank, size = next(dist.rendezvous("env://"))
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"found the other processes not reachable ({str(error).splitlines()[0][:100]}), expected those "
            "of one torchrun: check its --rdzv-endpoint or --master-addr"
        ) from None
    try:
        yield
    except UserError:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun's, for those that are left: say it first
        with suppress(RuntimeError):  # the store may be gone with the process that kept it
            if store.add("said", 1) > 1:
                sys.exit(2)
        raise
    dist.destroy_process_group()
