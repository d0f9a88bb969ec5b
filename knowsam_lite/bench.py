"""Benchmarks of a training step, prediction and data loading on this machine, one JSON line each."""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.utils.data import DataLoader

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.config import Config
from knowsam_lite.data import Record, SegmentationData, Synthetic, open_dataset
from knowsam_lite.data.sampler import Batch, StepBatches
from knowsam_lite.errors import UserError
from knowsam_lite.fast.allocator import SMALL_CACHE, freed_memory_kept, small_cache_is_off
from knowsam_lite.machine import describe, peak_memory
from knowsam_lite.methods import Method, method_named
from knowsam_lite.predict import Predictor
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.run import choose_device
from knowsam_lite.training import Trainer

WARM_UP = 2  # rounds that are not counted
LONG = 1000  # steps of the run whose step is timed
TIE = 1e-6  # largest difference between two ways to compute a probability


@dataclass(frozen=True)
class Shape:
    """What is timed. `ugda`: a step after UGDA has started, with a second forward pass of the students."""

    variant: str = "knowsam"  # a method, as in Config; knowsam is the taught variant
    teacher: str = "sam_mini"  # a name in BACKBONES, with random weights, which take the same time
    classes: int = 2  # including background
    batch: int = 4  # images, half of them labelled
    image_size: int = 64  # pixels a side
    ugda: bool = False
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    students: Literal["paper", "pretrained"] = "paper"
    teacher_size: int | None = None  # pixels a side at which the teacher looks; default: image_size

    def config(self, device: str) -> Config:
        """The configuration of a run of this shape."""
        if self.batch < 2 or self.classes < 2:
            raise UserError(
                f"found batch {self.batch} and {self.classes} classes, expected two or more of both"
            )
        return Config(
            method=self.variant,
            teacher=self.teacher,
            image_size=self.image_size,
            batch_labeled=self.batch - self.batch // 2,
            batch_unlabeled=self.batch // 2,
            labeled=str(self.batch),
            steps=LONG,
            device=device,
            precision=self.precision,
            students=self.students,
            teacher_size=self.teacher_size,
        )


class Noise:
    """Random images and masks with any number of classes, for timing only."""

    name, spacing_mm = "noise", None

    def __init__(self, classes: int, size: int, n: int):
        self.num_classes, self.size = classes, size
        self.classes = tuple(f"class {c}" for c in range(classes))
        self.records = [Record(str(i), Path(), Path(), str(i), "train") for i in range(n)]

    def split(self, name: str) -> list[Record]:
        return [r for r in self.records if r.split == name]

    def image(self, record: Record) -> np.ndarray:
        rng = np.random.default_rng(int(record.id))
        return rng.integers(0, 256, (self.size, self.size, 3), np.uint8)

    def mask(self, record: Record) -> np.ndarray:
        return self.image(record)[..., 0] % np.uint8(self.num_classes)


def notes() -> list[str]:
    """Settings of this process that make its figures differ from docs/speed.md."""
    if small_cache_is_off():
        return []
    return [f"GLIBC_TUNABLES={SMALL_CACHE}=0 is not set; with it a step at 256 px takes less memory"]


def wait(device: torch.device) -> None:
    """Wait until the device has finished its queued work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def step_trainer(shape: Shape, device: str) -> tuple[Trainer, Any]:
    """A trainer set to the right step of a run, and a batch for it."""
    config = shape.config(device)
    data = Noise(shape.classes, shape.image_size, 3 * shape.batch)
    torch.manual_seed(0)
    method = method_named(shape.variant).with_random_weights(config, shape.classes)
    trainer = Trainer(data, config, method)
    trainer.method.train()
    trainer.step = LONG // 2 if shape.ugda else 1
    return trainer, trainer.batches[0]


def timed_steps(trainer: Trainer, batch: Batch, rounds: int) -> list[float]:
    """The seconds of each of several steps on one batch."""
    seconds = []
    for _ in range(rounds):
        wait(trainer.device)
        began = time.perf_counter()
        trainer.train_step(batch)
        wait(trainer.device)
        seconds.append(time.perf_counter() - began)
    return seconds


@freed_memory_kept()
def bench_step(shape: Shape, rounds: int = 5, device: str = "auto") -> dict[str, Any]:
    """Time `rounds` training steps, without reading data: the median seconds, and the peak memory."""
    trainer, batch = step_trainer(shape, device)
    seconds = timed_steps(trainer, batch, WARM_UP + rounds)
    return {
        "seconds_per_step": statistics.median(seconds[WARM_UP:]),
        "peak_memory_bytes": peak_memory(trainer.device),
        **about(shape, trainer.device),
    }


def about(shape: Shape, device: torch.device) -> dict[str, Any]:
    """What was timed, and on which machine."""
    machine = describe(device)
    return {"threads": machine["threads"], **shape.__dict__, "device": machine["model"]}


@contextmanager
def parts_named(method: Method) -> Iterator[None]:
    """Label the large parts of a method for the profiler: every child of its children, by name."""
    handles = []
    open_parts: list[Any] = []

    def enter(name: str) -> Any:
        def hook(*_: Any) -> None:
            part = torch.profiler.record_function(f"part: {name}")
            part.__enter__()
            open_parts.append(part)

        return hook

    def leave(*_: Any) -> None:
        open_parts.pop().__exit__(None, None, None)

    for name, module in method.named_modules():
        if name.count(".") == 1 and not isinstance(module, nn.ModuleList):
            handles.append(module.register_forward_pre_hook(enter(name)))
            handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@freed_memory_kept()
def profile_step(shape: Shape, device: str = "auto", top: int = 12) -> str:
    """Where the time of one step goes: forward passes by part, then all operators by self time."""
    from torch.profiler import ProfilerActivity, profile

    trainer, batch = step_trainer(shape, device)
    trainer.train_step(batch)
    cuda = trainer.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with parts_named(trainer.method), profile(activities=activities) as seen:
        trainer.train_step(batch)
        wait(trainer.device)
    # an operator's row has the time of its kernels; a GPU's own rows would count them once more
    rows = [row for row in seen.key_averages() if row.device_type == DeviceType.CPU]
    own = {r.key: (r.self_device_time_total if cuda else r.self_cpu_time_total) / 1e6 for r in rows}
    parts = {
        r.key.removeprefix("part: "): (r.device_time_total if cuda else r.cpu_time_total) / 1e6
        for r in rows
        if r.key.startswith("part: ")
    }
    total = sum(own.values())
    lines = [f"one step: {total:.3f} s", "forward, by part:"]
    for name, s in sorted(parts.items(), key=lambda item: -item[1])[:top]:
        lines.append(f"  {name:34} {s:8.3f} s {100 * s / total:5.1f} %")
    lines.append("forward, backward and update, by operator:")
    for name, s in sorted(own.items(), key=lambda item: -item[1])[:top]:
        lines.append(f"  {name[:34]:34} {s:8.3f} s {100 * s / total:5.1f} %")
    return "\n".join(lines)


def bench_predict(shape: Shape, rounds: int = 3, device: str = "auto", images: int = 32) -> dict[str, Any]:
    """Images per second of `Predictor` and of a loop over single images that builds graphs, and their ratio.

    `ratio_of_processor_time` counts CPU seconds, which other work on the machine disturbs less; with several
    threads they include waiting. The loop runs first, because `Predictor` changes how the C library treats
    freed memory. Raises UserError if the logits differ by more than 1e-5 at pixels where rounding cannot
    cross HAM's threshold; `undecided` is the fraction of pixels where it can.
    """
    config = shape.config(device)
    at = choose_device(device)
    torch.backends.cudnn.allow_tf32 = False  # it rounds more than the limit below
    torch.manual_seed(0)
    method = method_named(shape.variant).for_prediction(config, shape.classes).to(at).eval()
    data = Noise(shape.classes, shape.image_size, images)
    pictures = [data.image(record) for record in data.records]
    predictor = Predictor(method, shape.image_size, Classes.of(data), at)
    seconds: dict[str, list[float]] = {"batched": [], "single": []}
    worked: dict[str, list[float]] = {"batched": [], "single": []}
    logits: dict[str, list[Tensor]] = {}
    for name, run in (
        ("single", lambda p: one_by_one(method, p, at)),
        ("batched", predictor.native_logits),
    ):
        for _ in range(1 + rounds):
            wait(at)
            began, began_work = time.perf_counter(), time.process_time()
            found = list(run(pictures))
            wait(at)
            seconds[name].append(time.perf_counter() - began)
            worked[name].append(time.process_time() - began_work)
            logits[name] = found
    tied = torch.stack(list(undecided(method, pictures, at)))  # (images, H, W)
    difference = torch.stack([a - b for a, b in zip(*logits.values(), strict=True)]).abs().amax(dim=1)
    worst = difference.masked_fill(tied, 0).max().item()
    if worst > 1e-5:
        raise UserError(
            f"found logits that differ by {worst:.1e}, expected at most 1e-5: report this machine"
        )
    fast, slow = (images / statistics.median(seconds[name][1:]) for name in ("batched", "single"))
    return {
        "images_per_second": fast,
        "images_per_second_one_by_one": slow,
        "ratio": fast / slow,
        "ratio_of_processor_time": statistics.median(worked["single"][1:])
        / statistics.median(worked["batched"][1:]),
        "largest_difference": worst,
        "undecided": tied.float().mean().item(),
        "peak_memory_bytes": peak_memory(at),
        **about(shape, at),
    }


def one_by_one(method: Method, pictures: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """The common naive loop: one image at a time, with an autograd graph that is not needed."""
    for picture in pictures:
        x = torch.from_numpy(picture.transpose(2, 0, 1) / np.float32(255)).to(device)
        yield method.predict(x[None])[0].detach()


def undecided(method: Method, pictures: list[np.ndarray], device: torch.device) -> Iterator[Tensor]:
    """For each picture (H, W): where HAM gets a probability within `TIE` of its threshold, one half.

    There a difference in rounding changes HAM's logits as much as a disagreement of the subnets does. HAM's
    three 3x3 convolutions spread it by three pixels.
    """
    ties: list[Tensor] = []

    def look(_: nn.Module, opinions: tuple[Tensor, ...]) -> None:
        ties.extend(((z.softmax(dim=1) - 0.5).abs() < TIE).any(dim=1).float() for z in opinions)

    hams = [part for part in method.modules() if isinstance(part, HybridAggregation)]
    handles = [ham.register_forward_pre_hook(look) for ham in hams]
    try:
        for picture, z in zip(pictures, one_by_one(method, pictures, device), strict=True):
            here = torch.stack([z.new_zeros(1, *picture.shape[:2]), *ties]).amax(dim=0)
            ties.clear()
            yield F.max_pool2d(here, 7, stride=1, padding=3)[0] > 0
    finally:
        for handle in handles:
            handle.remove()


def bench_data(shape: Shape, data: str | None, workers: int, rounds: int = 10) -> dict[str, Any]:
    """Images per second of decoding, resizing and augmentation; `data` is an address, else synthetic PNGs."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = open_dataset(data) if data else drawn(Path(folder), shape.image_size)
        labeled = [r.id for r in dataset.split("train") if r.mask is not None][: shape.batch]
        half = shape.batch // 2
        batches = StepBatches(
            dataset,
            labeled,
            seed=0,
            batch_labeled=shape.batch - half,
            batch_unlabeled=half,
            size=shape.image_size,
            labeled_aug="weak",
            unlabeled_aug="strong",
        )
        steps = range(WARM_UP + max(workers, 1) + rounds)
        seconds = []
        began = time.perf_counter()
        for _ in DataLoader(batches, batch_size=None, sampler=steps, num_workers=workers):
            seconds.append(time.perf_counter() - began)
    first = len(steps) - rounds - 1
    images = shape.batch * rounds
    return {
        "images_per_second": images / (seconds[-1] - seconds[first]),
        "workers": workers,
        "data": data or "drawn PNGs",
        "peak_memory_bytes": peak_memory(torch.device("cpu")),
        **about(shape, torch.device("cpu")),
    }


def drawn(folder: Path, size: int) -> SegmentationData:
    """A data set of 60 synthetic PNGs, written to `folder`."""
    source = Synthetic("dermoscopy", n=60, size=size)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for record in source.records:
        Image.fromarray(source.image(record)).save(folder / "images" / f"{record.id}.png")
        Image.fromarray(source.mask(record) * np.uint8(255)).save(folder / "masks" / f"{record.id}.png")
    return open_dataset(str(folder))
