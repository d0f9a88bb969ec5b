"""A run folder and what is in it: the method with its weights, the data and the device."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from knowsam_lite.checkpoints import load_best, load_last
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.methods import METHODS, Method


@dataclass(frozen=True)
class Run:
    """A trained method with all that scoring it needs."""

    path: Path  # run folder
    config: Config
    dataset: SegmentationData
    method: Method
    device: torch.device
    bf16: bool  # whether to compute in bfloat16
    step: int  # optimizer steps done
    labeled_ids: list[str]  # training images whose masks were used


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one, else the CPU; any other name is PyTorch's. Raises UserError if it
    is not there.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return accelerator if accelerator is not None else torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:80]
        raise UserError(
            f"found no device {name!r} ({reason}), expected one of this machine: use --device auto"
        ) from None
    return device


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16: if asked for, or by "auto" on a CUDA device that has it in hardware."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def build_method(config: Config, num_classes: int) -> Method:
    """The method that `config` names, its start weights a function of the seed."""
    if config.method not in METHODS:
        raise UserError(f"found method {config.method!r}, expected one of {', '.join(METHODS)}")
    torch.manual_seed(config.seed)
    return METHODS[config.method](config, num_classes)


def load_run(path: Path, data: str | None = None, which: str = "last", device: str = "auto") -> Run:
    """Open a run folder with its "last" weights or the "best" on val; `data` is another data set's address.

    Raises UserError if the folder is no run, its files are damaged or the data has another number of classes.
    """
    config_file = path / "config.json"
    if not config_file.is_file():
        raise UserError(f"found no {config_file}, expected a run folder: check the path")
    config = replace(Config.from_json(config_file.read_text(encoding="utf-8")), out=path, device=device)
    dataset = open_dataset(data or config.data, config.image_size, config.val, config.test)
    at = choose_device(device)
    method = build_method(config, dataset.num_classes).to(at)
    saved = load_last(path / "last.pt", method)
    if which == "best":
        load_best(path / "best.safetensors", method)
    return Run(path, config, dataset, method, at, use_bf16(config.precision, at), saved.step, saved.labeled)
