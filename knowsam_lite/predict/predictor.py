"""Prediction with a trained method for pictures and volumes of any size."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data.transforms import resize, to_tensor
from knowsam_lite.fast.allocator import freed_memory_kept
from knowsam_lite.fast.folding import for_inference
from knowsam_lite.methods import Method
from knowsam_lite.predict.tiles import Views, blended
from knowsam_lite.runs.classes import Classes
from knowsam_lite.runs.run import choose_device, load_for_prediction, use_bf16

# As is, mirrored left-right, upside down, both.
FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))
# Pixels predicted at once, so that memory does not grow with the image size; on a CPU fewer, so that
# activations stay in large caches (measured in docs/speed.md).
PIXELS = {"cpu": 8 * 128 * 128, "other": 16 * 128 * 128}
Item = TypeVar("Item")


def batch_size(size: int, device: torch.device) -> int:
    """How many images of `size` x `size` pixels are predicted at once: 1 to 16."""
    return min(max(PIXELS.get(device.type, PIXELS["other"]) // size**2, 1), 16)


def over_flips(predict: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The logarithm of the mean probability over four mirrored views of `x`: (N, 3, H, W) -> (N, C, H, W)."""
    total = torch.stack([predict(x.flip(d)).float().softmax(dim=1).flip(d) for d in FLIPS]).mean(dim=0)
    return total.clamp(min=1e-12).log()


@dataclass(frozen=True)
class Predictor:
    """Predicts with a trained method; for KnowSAM with the two subnets and HAM alone, without SAM.

    `image_size`: pixels a side of the method's input; every picture is resized to it, and its logits back,
    exactly as in `evaluate`. `flips`: the mean over four mirrored views, at four times the cost. `tile`:
    pixels a side of the overlapping squares in which pictures are predicted; 0: each as a whole.
    """

    method: Method
    image_size: int
    classes: Classes
    device: torch.device
    bf16: bool = False
    flips: bool = False
    tile: int = 0
    step: int | None = None  # optimizer steps behind the weights, if they are those of a run

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        which: str = "last",
        device: str = "auto",
        flips: bool = False,
        with_sam: bool = False,
    ) -> "Predictor":
        """Open a run folder with its "last" weights or the "best" on val; no training data is needed.

        `with_sam`: also the SAM of a method that has one, for `views`; its pretrained weights must be here.

        Raises UserError if the folder is not a run or its files are damaged or do not fit.
        """
        at = choose_device(device)
        method, config, classes, step = load_for_prediction(Path(run), which, with_sam)
        bf16 = use_bf16(config.precision, at)
        return cls(method.to(at).eval(), config.image_size, classes, at, bf16, flips, config.tile, step)

    @cached_property
    def ready(self) -> Method:
        """The method in its fastest form for prediction: a snapshot made at the first prediction."""
        return for_inference(self.method, self.device)

    def logits(self, x: Tensor) -> Tensor:
        """Images (N, 3, S, S) in [0, 1] at the method's size -> logits (N, C, S, S), float32."""
        x = x.to(self.device, non_blocking=True)
        return self._compute(self._prediction, x)["prediction"].float().contiguous()

    def native_logits(self, images: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """Pictures uint8 (H, W, 3) of any sizes -> logits (C, H, W) of each at its own size, in batches."""
        if self.tile:
            yield from (self._whole(self._prediction, image)["prediction"] for image in images)
            return
        sized = (((i.shape[0], i.shape[1]), to_tensor(resize(i, self.image_size))) for i in images)
        for size, _, views in self._each(self._prediction, sized):
            z = views["prediction"].float().contiguous()
            yield F.interpolate(z[None], size, mode="bilinear", align_corners=False)[0]

    def views(self, items: Iterable[tuple[Item, Tensor]]) -> Iterator[tuple[Item, Tensor, Views]]:
        """Every view of the method on images (3, S, S), in batches: (any key, image) -> (the key, the image
        on the device, its logits (C, S, S) by view).
        """
        return self._each(self.ready.views, items)

    def native_views(self, image: np.ndarray) -> Views:
        """A picture uint8 (H, W, 3), predicted in squares -> log-probabilities (C, H, W) of every view."""
        return self._whole(self.ready.views, image)

    def bands(self, rows: Callable[[int, int], np.ndarray], size: tuple[int, int]) -> Iterator[Tensor]:
        """The log-probabilities (C, rows, W) of a picture of `size` (H, W), from the top; `rows(first, end)`
        reads it, uint8 (rows, W, 3).
        """
        squares = partial(self._squares, self._prediction)
        return (views["prediction"] for views in blended(squares, rows, size, self.tile))

    def _whole(self, compute: Callable[[Tensor], Views], image: np.ndarray) -> Views:
        size = (image.shape[0], image.shape[1])
        squares = partial(self._squares, compute)
        bands = list(blended(squares, lambda first, end: image[first:end], size, self.tile))
        return {name: torch.cat([band[name] for band in bands], dim=1) for name in bands[0]}

    def _squares(self, compute: Callable[[Tensor], Views], pictures: Iterable[np.ndarray]) -> Iterator[Views]:
        """Pictures uint8 (tile, tile, 3) -> logits (C, tile, tile) of each view, in batches."""
        size = (self.tile, self.tile)
        sized = ((None, to_tensor(resize(picture, self.image_size))) for picture in pictures)
        for _, _, views in self._each(compute, sized):
            yield {
                name: F.interpolate(z[None].float(), size, mode="bilinear", align_corners=False)[0]
                for name, z in views.items()
            }

    def _prediction(self, x: Tensor) -> Views:
        return {"prediction": over_flips(self.ready.predict, x) if self.flips else self.ready.predict(x)}

    def _each(
        self, compute: Callable[[Tensor], Views], items: Iterable[tuple[Item, Tensor]]
    ) -> Iterator[tuple[Item, Tensor, Views]]:
        with freed_memory_kept():
            for batch in batches(items, batch_size(self.image_size, self.device)):
                x = torch.stack([image for _, image in batch]).to(self.device, non_blocking=True)
                views = self._compute(compute, x)
                for i, (item, _) in enumerate(batch):
                    yield item, x[i], {name: z[i] for name, z in views.items()}

    @torch.inference_mode()
    def _compute(self, compute: Callable[[Tensor], Views], x: Tensor) -> Views:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            return compute(x)

    def __call__(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Pictures uint8 (H, W, 3) -> class indices uint8 (H, W) of each, at its own size."""
        return [as_labels(z) for z in self.native_logits(images)]


def as_labels(z: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> the most likely class of each pixel, the first of equals, uint8 (H, W)."""
    # `argmax` returns the same in over ten times the time on a CPU (pytorch/pytorch#140000)
    return z.max(dim=0).indices.to(torch.uint8).cpu().numpy()


def as_probabilities(z: Tensor) -> np.ndarray:
    """Logits (C, H, W) -> probabilities float16 (C, H, W)."""
    return z.softmax(dim=0).to(torch.float16).cpu().numpy()


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of up to `size` items, in their order."""
    walk = iter(items)
    while batch := list(islice(walk, size)):
        yield batch
