"""A trained method's own prediction for pictures and volumes of any size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data.transforms import resize, to_tensor
from knowsam_lite.evaluation import batch_size
from knowsam_lite.inference import for_inference
from knowsam_lite.memory import freed_memory_kept
from knowsam_lite.methods import Method
from knowsam_lite.runs import Classes, choose_device, load_for_prediction, use_bf16

FLIPS: tuple[tuple[int, ...], ...] = (
    (),
    (-1,),
    (-2,),
    (-2, -1),
)  # as is, mirrored left-right, upside down, both
Item = TypeVar("Item")


def over_flips(predict: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The logarithm of the mean probability over four mirrored views of `x`: (N, 3, H, W) -> (N, C, H, W)."""
    total = torch.stack([predict(x.flip(d)).float().softmax(dim=1).flip(d) for d in FLIPS]).mean(dim=0)
    return total.clamp(min=1e-12).log()


@dataclass(frozen=True)
class Predictor:
    """Predicts with what a run has trained; for KnowSAM with the two subnets and HAM alone, without SAM.

    `image_size`: pixels a side at which the method looks; every picture is resized to it, and its logits
    back, exactly as in `evaluate`. `flips`: the mean over four mirrored views, at four times the cost.
    """

    method: Method
    image_size: int
    classes: Classes
    device: torch.device
    bf16: bool = False
    flips: bool = False

    @classmethod
    def from_run(
        cls, run: str | Path, which: str = "last", device: str = "auto", flips: bool = False
    ) -> "Predictor":
        """Open a run folder with its "last" weights or the "best" on val; no training data is needed.

        Raises UserError if the folder is no run or its files are damaged or do not fit.
        """
        at = choose_device(device)
        method, config, classes = load_for_prediction(Path(run), which)
        bf16 = use_bf16(config.precision, at)
        return cls(method.to(at).eval(), config.image_size, classes, at, bf16, flips)

    @cached_property
    def ready(self) -> Method:
        """The method as it predicts fastest: a snapshot made at the first prediction."""
        return for_inference(self.method, self.device)

    @torch.inference_mode()
    def logits(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) in [0, 1] at the method's size -> logits (N, C, S, S), float32."""
        x = x.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            z = over_flips(self.ready.predict, x) if self.flips else self.ready.predict(x)
        return z.float().contiguous()

    def native_logits(self, images: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Pictures uint8 (H, W, 3) of any sizes -> logits (C, H, W) of each at its own size, in batches."""
        with freed_memory_kept():
            for batch in batches(images, batch_size(self.image_size, self.device)):
                x = torch.stack([to_tensor(resize(image, self.image_size)) for image in batch])
                for image, z in zip(batch, self.logits(x), strict=True):
                    size = (image.shape[0], image.shape[1])
                    yield F.interpolate(z[None], size, mode="bilinear", align_corners=False)[0]

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pictures uint8 (H, W, 3) -> class indices uint8 (H, W) of each, at its own size."""
        return [as_labels(z) for z in self.native_logits(images)]


def as_labels(z: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> the most likely class of each pixel, uint8 (H, W)."""
    return z.argmax(dim=0).to(torch.uint8).cpu().numpy()


def as_probabilities(z: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> probabilities float16 (C, H, W)."""
    return z.softmax(dim=0).to(torch.float16).cpu().numpy()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items, in their order."""
    walk = iter(items)
    while batch := list(islice(walk, size)):
        yield batch
