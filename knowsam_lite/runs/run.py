"""A run folder and what is in it: the method with its weights, the data and the device."""

import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.data.fingerprint import absolute
from knowsam_lite.data.names import file_stem
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Method, method_named
from knowsam_lite.runs.checkpoints import load_best, load_last
from knowsam_lite.runs.classes import Classes, read_classes
from knowsam_lite.runs.provenance import address_of, data_differences, in_order_of, read_config, read_stored


@dataclass(frozen=True)
class Run:
    """A trained method with everything needed to score it."""

    path: Path  # run folder
    config: Config
    dataset: SegmentationData
    method: Method
    device: torch.device
    bf16: bool  # whether to compute in bfloat16
    step: int  # optimizer steps behind these weights
    labeled_ids: list[str]  # training images whose masks were used


def scores_folder(run: Path, split: str = "test", which: str = "last", data: str | None = None) -> Path:
    """Where the scores of a run are kept: in its folder those of its test images by its last weights, any
    others, of `data` at another address too, in a folder there, so that none replaces them.
    """
    if data is None and (split, which) == ("test", "last"):
        return run
    names = [] if data is None else [file_stem(Path(absolute(data)).name), _address_hash(data)]
    return run / "_".join([*names, split, which])


def _address_hash(data: str) -> str:
    """Tells folders of one name at two addresses apart."""
    return hashlib.sha256(os.fsencode(absolute(data))).hexdigest()[:6]


def load_for_prediction(
    run: Path, which: str = "last", with_sam: bool = False
) -> tuple[Method, Config, Classes, int]:
    """The part of a run that predicts, on the CPU, with its "last" weights or the "best" on val, and the
    optimizer steps behind them.

    For KnowSAM that is the two subnets and HAM: SAM is neither built nor loaded unless `with_sam`. Raises
    UserError if the folder is not a run or its files are damaged or do not fit each other.
    """
    config = read_config(run)
    classes = read_classes(run, config)
    kind, n = method_named(config.method), len(classes.names)
    if with_sam:
        method = kind(replace(config, encoder_weights="none"), n)
    else:
        method = kind.for_prediction(config, n)
    if which == "best":
        step = load_best(run / "best.safetensors", method)
    else:
        step = load_last(run / "last.pt", method).step
    return method, config, classes, step


def choose_device(name: str) -> torch.device:
    """ "auto" is the GPU if there is one, else the CPU; any other name is PyTorch's. Raises UserError if it
    is not available.
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
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def build_method(config: Config, num_classes: int) -> Method:
    """The method that `config` names, with initial weights determined by the seed."""
    kind = method_named(config.method)
    torch.manual_seed(config.seed)
    return kind(config, num_classes)


def load_run(path: Path, data: str | None = None, which: str = "last", device: str = "auto") -> Run:
    """Open a run folder with its "last" weights or the "best" on val; `data` is another data set's address,
    or that of its own after a move.

    The classes come in the order that the run learned. How its own data changed since is said on standard
    error. Raises UserError if it is not a run, its files are damaged or the data has other classes.
    """
    config = replace(read_config(path), out=path, device=device)
    classes = read_classes(path, config)
    address = address_of(path, config, data)
    dataset = in_order_of(
        open_dataset(address, config.image_size, config.val, config.test), classes.names, path
    )
    at = choose_device(device)
    method = build_method(replace(config, encoder_weights="none"), dataset.num_classes).to(at)
    saved = load_last(path / "last.pt", method)
    step = load_best(path / "best.safetensors", method) if which == "best" else saved.step
    if data is None:
        _tell_changes(path, dataset)
    return Run(path, config, dataset, method, at, use_bf16(config.precision, at), step, saved.labeled)


def _tell_changes(run: Path, dataset: SegmentationData) -> None:
    """One line on standard error for how the data of a run changed since it began."""
    stored = read_stored(run)
    changed = data_differences(stored, dataset) if stored else []
    if changed:
        print(f"warning: the data changed since {run} began: {'; '.join(changed)}", file=sys.stderr)
