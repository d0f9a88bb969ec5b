"""Saving and loading checkpoints, with every tensor checked."""

import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor
from torch.optim import Optimizer

from knowsam_lite.errors import UserError, is_out_of_memory
from knowsam_lite.files import write_aside
from knowsam_lite.methods.base import Method
from knowsam_lite.parallel import ranks
from knowsam_lite.sam.weights import misfits, read_tensors


def require_finite(tensors: dict[str, Tensor]) -> None:
    """Raise UserError naming the first tensor that is not finite: such a state is never saved."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"found non-finite numbers in {name}, expected none: lower the learning rate; not saved"
            )


@dataclass(frozen=True)
class Progress:
    """The progress of a training."""

    step: int  # optimizer steps done
    best: float  # best val Dice so far, -1 before the first validation
    labeled: list[str]  # ids of the labelled training images


def random_state() -> dict[str, Any]:
    """The state of this process's random numbers, on the CPU and on its GPUs (of several processes: one)."""
    cuda = torch.cuda.is_available()
    every = ranks.size() == 1
    on_gpus = (torch.cuda.get_rng_state_all() if every else [torch.cuda.get_rng_state()]) if cuda else []
    return {"random": torch.get_rng_state(), "random_cuda": on_gpus}


def set_random_state(content: dict[str, Any]) -> dict[str, Any]:
    """Restore what `random_state` saved of this process, and return it with all else that is its own."""
    others = content.get("others", [])
    if len(others) + 1 != ranks.size():
        raise UserError(
            f"found a run of {len(others) + 1} processes, expected one of {ranks.size()}, as now: go on with "
            f"{len(others) + 1} (torchrun --nproc-per-node), or start again"
        )
    state = [content, *others][ranks.rank()]
    torch.set_rng_state(state["random"])
    if not torch.cuda.is_available():
        return state
    if ranks.size() == 1:
        torch.cuda.set_rng_state_all(state["random_cuda"][: torch.cuda.device_count()])
    elif state["random_cuda"]:  # none in a run that began on CPUs
        torch.cuda.set_rng_state(state["random_cuda"][0])
    return state


def save_last(
    path: Path,
    method: Method,
    optimizers: Sequence[Optimizer],
    progress: Progress,
    states: Sequence[dict[str, Any]] = (),
) -> None:
    """Save everything needed to resume exactly: networks, optimizers, progress, random states.

    `states`: `random_state` of each process that trains, with its "statistics" if they are not yet the mean
    of all; by default of this one.
    """
    own, *others = states or [random_state()]
    state = method.trained_state()
    require_finite(state)
    content: dict[str, Any] = {
        "method": state,
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "progress": json.dumps(asdict(progress)),
        **own,
        "others": others,
    }
    write_aside(path, lambda file: torch.save(content, file))


def load_last(path: Path, method: Method, optimizers: Sequence[Optimizer] | None = None) -> Progress:
    """Restore what `save_last` saved; the optimizers and the random state only if `optimizers` are given.

    Of the random states of GPUs those of the GPUs on this machine are restored. Raises UserError if the file
    is missing, damaged or of another method.
    """
    if not path.is_file():
        raise UserError(
            f"found no {path}, expected the last checkpoint of a run: train first, or check the folder"
        )
    try:
        _require_stored(path)
        content = torch.load(path, "cpu", weights_only=True)
        progress = Progress(**json.loads(content["progress"]))
        load_trained(method, content["method"], path)
        if optimizers is not None:
            for optimizer, state in zip(optimizers, content["optimizers"], strict=True):
                optimizer.load_state_dict(state)
            own = set_random_state(content)
            method.load_state_dict(own.get("statistics", {}), strict=False)
    except Exception as error:  # torch, zipfile, pickle and JSON each raise their own errors
        if isinstance(error, UserError) or is_out_of_memory(error):  # then the file is good
            raise
        raise UserError(
            f"found an unreadable checkpoint {path}, expected one of this library: start again"
        ) from error
    return progress


def _require_stored(path: Path) -> None:
    """Raises if an entry is compressed: PyTorch stores them, and a small file could unpack to any size."""
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("compressed entries")


def save_best(path: Path, method: Method, step: int) -> None:
    """Save only the trained tensors, as safetensors, with the number of optimizer steps done."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in method.trained_state().items()}
    require_finite(state)
    data = save(state, metadata={"method": method.name, "step": str(step)})
    write_aside(path, lambda file: file.write(data))


def load_best(path: Path, method: Method) -> int:
    """Load what `save_best` saved into `method`, every tensor checked; return its step."""
    if not path.is_file():
        raise UserError(
            f"found no {path}, expected the best weights on val, which only a run with val images keeps: use "
            "the last ones (--which last)"
        )
    load_trained(method, read_tensors(path), path)
    with safe_open(path, "pt") as file:
        about = file.metadata() or {}
    if not about.get("step", "").isdecimal():
        raise UserError(f"found no step in {path}, expected the one that training saves: train again")
    return int(about["step"])


def load_trained(method: Method, tensors: dict[str, Tensor], source: Path) -> None:
    """Put the trained tensors into `method`. Raises UserError naming what is missing, unexpected or of
    another shape.
    """
    unused = method.left_out()
    tensors = {name: t for name, t in tensors.items() if not (unused and name.startswith(unused))}
    faults = misfits(tensors, method.trained_state())
    if faults:
        raise UserError(
            f"found {source} that does not fit method {method.name!r} ({faults}), "
            "expected exactly its tensors: use the configuration with which it was trained"
        )
    method.load_state_dict({**method.state_dict(), **tensors}, strict=True)
