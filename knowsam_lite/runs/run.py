"""A run folder and what is in it: the method with its weights, the data and the device."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.data.description import Layout, read_description
from knowsam_lite.data.masks import as_rgb
from knowsam_lite.errors import UserError
from knowsam_lite.methods import Method, method_named
from knowsam_lite.runs.checkpoints import load_best, load_last


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


@dataclass(frozen=True)
class Classes:
    """The classes of a data set and the value of each in a mask file, so that predictions look like masks.

    With `painted` masks a value is 65536 red + 256 green + blue.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    painted: bool = False

    @classmethod
    def of(cls, dataset: SegmentationData) -> "Classes":
        """Those of a data set; without declared values 0 and 255, or 0, 1, 2, ... for more classes."""
        n = dataset.num_classes
        plain = (0, 255) if n == 2 else tuple(range(n))
        values = tuple(getattr(dataset, "mask_values", plain))
        return cls(tuple(dataset.classes), values, bool(getattr(dataset, "painted", False)))

    def to_json(self, name: str) -> str:
        """The text of a dataset.json."""
        values = [as_rgb(value) for value in self.values] if self.painted else list(self.values)
        return json.dumps({"name": name, "classes": list(self.names), "mask_values": values}, indent=1)


def read_classes(run: Path, config: Config) -> Classes:
    """The classes that a run learned, from its dataset.json; where it has none, from its data set.

    Raises UserError if the file is damaged.
    """
    if not (run / "dataset.json").is_file():
        return Classes.of(open_dataset(config.data, config.image_size, config.val, config.test))
    layout = Layout(run.name)
    read_description(run, layout)
    if layout.findings:
        raise UserError(f"{run}: {layout.findings[0]}")
    return Classes(layout.classes, layout.mask_values, layout.painted)


def read_config(run: Path) -> Config:
    """The configuration of a run. Raises UserError if the folder is not a run."""
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"found no {path}, expected a run folder: check the path")
    return Config.from_json(path.read_text(encoding="utf-8"))


def load_for_prediction(run: Path, which: str = "last") -> tuple[Method, Config, Classes]:
    """The part of a run that predicts, on the CPU, with its "last" weights or the "best" on val.

    For KnowSAM that is the two subnets and HAM: SAM is neither built nor loaded. Raises UserError if the
    folder is not a run or its files are damaged or do not fit each other.
    """
    config = read_config(run)
    classes = read_classes(run, config)
    method = method_named(config.method).for_prediction(config, len(classes.names))
    if which == "best":
        load_best(run / "best.safetensors", method)
    else:
        load_last(run / "last.pt", method)
    return method, config, classes


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
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def build_method(config: Config, num_classes: int) -> Method:
    """The method that `config` names, with initial weights determined by the seed."""
    kind = method_named(config.method)
    torch.manual_seed(config.seed)
    return kind(config, num_classes)


def load_run(path: Path, data: str | None = None, which: str = "last", device: str = "auto") -> Run:
    """Open a run folder with its "last" weights or the "best" on val; `data` is another data set's address.

    Raises UserError if it is not a run, its files are damaged or the data has another number of classes.
    """
    config = replace(read_config(path), out=path, device=device)
    dataset = open_dataset(data or config.data, config.image_size, config.val, config.test)
    at = choose_device(device)
    method = build_method(replace(config, encoder_weights="none"), dataset.num_classes).to(at)
    saved = load_last(path / "last.pt", method)
    step = load_best(path / "best.safetensors", method) if which == "best" else saved.step
    return Run(path, config, dataset, method, at, use_bf16(config.precision, at), step, saved.labeled)
