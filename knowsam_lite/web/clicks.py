"""A SAM that answers clicks and boxes on pictures of any size; each picture is embedded once."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data.transforms import to_tensor
from knowsam_lite.errors import UserError
from knowsam_lite.sam import PromptedSam, load_pretrained
from knowsam_lite.sam.backbones import backbone_named

KEPT = 64  # embeddings, and answers; of mobile_sam at 1,024 px one is 4 MB, and 0.3 MB
SURE = 32.0  # beyond this a logit of the earlier answer says no more, as in SAM's training
Value = TypeVar("Value")


class Prompt(NamedTuple):
    """A click (x, y), inside the object or outside, or a box (x0, y0, x1, y1), in the picture's pixels.

    0 is the left or upper edge of the first pixel.
    """

    at: tuple[float, ...]
    inside: bool = True

    @property
    def is_box(self) -> bool:
        return len(self.at) == 4


class Recent:
    """The last `kept` values that were computed, by their keys; several threads may ask."""

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.values: OrderedDict[Any, Any] = OrderedDict()
        self.lock = Lock()

    def get_or(self, key: Any, compute: Callable[[], Value]) -> Value:
        """The value of a key, computed if it is not there."""
        with self.lock:
            if key in self.values:
                self.values.move_to_end(key)
                known: Value = self.values[key]
                return known
        value = compute()
        with self.lock:
            self.values[key] = value
            while len(self.values) > self.kept:
                self.values.popitem(last=False)
        return value


@dataclass
class Clicks:
    """Answers prompts with `sam`, which is on `device` and in evaluation mode."""

    sam: PromptedSam
    device: torch.device
    _embeddings: Recent = field(default_factory=lambda: Recent(KEPT))
    _answers: Recent = field(default_factory=lambda: Recent(KEPT))

    def knows(self, key: str) -> bool:
        """Whether the picture of that key has its embedding."""
        return key in self._embeddings.values

    def embed(self, key: str, image: np.ndarray) -> Tensor:
        """The embedding (1, D, g, g) of a picture uint8 (H, W, 3), computed at the first call for its key."""
        return self._embeddings.get_or(key, lambda: self._embedded(image))

    def answer(self, key: str, image: np.ndarray, prompts: Sequence[Prompt]) -> np.ndarray:
        """SAM's mask bool (H, W) for prompts in the order in which they were given.

        Of several boxes the last one counts. Without a box each answer also prompts the next one, as in
        SAM's training; with one that was worse (docs/annotate.md). Raises UserError without any prompt.
        """
        if not prompts:
            raise UserError("found no prompt, expected clicks or a box: give at least one")
        size = (image.shape[0], image.shape[1])
        z = self._low_res(key, image, tuple(prompts))
        rows, columns = self.sam.preprocessing.inside(*size, z.shape[-1])
        z = F.interpolate(z[..., :rows, :columns], size, mode="bilinear", align_corners=False)
        answer: np.ndarray = (z[0, 0] > 0).cpu().numpy()
        return answer

    @torch.inference_mode()
    def _embedded(self, image: np.ndarray) -> Tensor:
        height, width = self._inside(image)
        shrinks = image.shape[0] * image.shape[1] > height * width
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        fitted = to_tensor(cv2.resize(image, (width, height), interpolation=how))
        return self.sam.encode(fitted[None].to(self.device))

    def _inside(self, image: np.ndarray) -> tuple[int, int]:
        """Height and width of a picture in SAM's input."""
        return self.sam.preprocessing.inside(image.shape[0], image.shape[1], self.sam.image_size)

    def _low_res(self, key: str, image: np.ndarray, prompts: tuple[Prompt, ...]) -> Tensor:
        """SAM's logits (1, 1, 4g, 4g)."""
        return self._answers.get_or((key, prompts), lambda: self._segmented(key, image, prompts))

    def _segmented(self, key: str, image: np.ndarray, prompts: tuple[Prompt, ...]) -> Tensor:
        height, width = self._inside(image)
        scale = torch.tensor([width / image.shape[1], height / image.shape[0]])

        def located(prompt: Prompt) -> Tensor:
            """Corners or the click (..., 2) as SAM counts, which adds half a pixel."""
            return torch.tensor(prompt.at).view(-1, 2) * scale - 0.5

        clicks = [prompt for prompt in prompts if not prompt.is_box]
        boxes = [prompt for prompt in prompts if prompt.is_box]
        given: dict[str, Any] = {}
        if not boxes and len(clicks) > 1:
            given["masks"] = self._low_res(key, image, prompts[:-1]).clamp(-SURE, SURE)
        if clicks:
            inside = torch.tensor([float(click.inside) for click in clicks])
            places = torch.cat([located(click) for click in clicks])
            given["points"] = places[None, None].to(self.device), inside[None, None].to(self.device)
        if boxes:
            given["boxes"] = located(boxes[-1]).view(1, 1, 4).to(self.device)
        with torch.inference_mode():
            return self.sam.segment(self.embed(key, image), **given)


def plain_sam(teacher: str, size: int | None, checkpoint: Path | None) -> PromptedSam:
    """A SAM with its published weights, or those of `checkpoint`, at `size` px a side; by default at that of
    its pretraining. Raises UserError if the weights are not on this machine.
    """
    backbone = backbone_named(teacher)
    sam = PromptedSam(backbone, size or backbone.pretrained_size)
    load_pretrained(sam, checkpoint)
    return sam
