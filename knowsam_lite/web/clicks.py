"""A SAM that answers clicks and boxes on pictures of any size; each picture is embedded once."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.data.transforms import to_tensor
from knowsam_lite.errors import UserError
from knowsam_lite.runs.checkpoints import load_best, load_last
from knowsam_lite.runs.classes import read_classes
from knowsam_lite.runs.provenance import read_config
from knowsam_lite.runs.run import build_method
from knowsam_lite.sam import PromptedSam, load_pretrained
from knowsam_lite.sam.backbones import backbone_named

KEPT = 64  # embeddings; one of mobile_sam at 1,024 px is 4 MB


@dataclass
class Clicks:
    """Answers prompts with `sam`, which is on `device` and in evaluation mode."""

    sam: PromptedSam
    device: torch.device
    _embeddings: "OrderedDict[str, Tensor]" = field(default_factory=OrderedDict)

    @torch.inference_mode()
    def embed(self, key: str, image: np.ndarray) -> Tensor:
        """The embedding (1, D, g, g) of a picture uint8 (H, W, 3), computed at the first call for its key."""
        if key not in self._embeddings:
            height, width = self.inside(image.shape[:2])
            shrinks = image.shape[0] * image.shape[1] > height * width
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            fitted = to_tensor(cv2.resize(image, (width, height), interpolation=how))
            self._embeddings[key] = self.sam.encode(fitted[None].to(self.device))
            if len(self._embeddings) > KEPT:
                self._embeddings.popitem(last=False)
        self._embeddings.move_to_end(key)
        return self._embeddings[key]

    def inside(self, size: Sequence[int]) -> tuple[int, int]:
        """Height and width, in SAM's input, of a picture of `size` (height, width)."""
        return self.sam.preprocessing.inside(size[0], size[1], self.sam.image_size)

    @torch.inference_mode()
    def answer(
        self,
        key: str,
        image: np.ndarray,
        points: Sequence[tuple[float, float, bool]] = (),
        box: Sequence[float] | None = None,
    ) -> np.ndarray:
        """SAM's mask bool (H, W) for points (x, y, inside) and a box (x0, y0, x1, y1) in the picture's pixels.

        0 is the left or upper edge of the first pixel. Raises UserError without any prompt.
        """
        size = (image.shape[0], image.shape[1])
        embedding = self.embed(key, image)
        height, width = self.inside(size)
        scale = torch.tensor([width / size[1], height / size[0]])
        prompts: dict[str, Any] = {}
        if points:
            at = torch.tensor([point[:2] for point in points]) * scale - 0.5  # SAM adds half a pixel
            inside = torch.tensor([float(point[2]) for point in points])
            prompts["points"] = at[None, None].to(self.device), inside[None, None].to(self.device)
        if box is not None:
            corners = torch.tensor(box).view(2, 2) * scale - 0.5
            prompts["boxes"] = corners.view(1, 1, 4).to(self.device)
        z = self.sam.segment(embedding, **prompts)  # (1, 1, 4g, 4g)
        rows, columns = self.sam.preprocessing.inside(*size, z.shape[-1])
        z = F.interpolate(z[..., :rows, :columns], size, mode="bilinear", align_corners=False)
        answer: np.ndarray = (z[0, 0] > 0).cpu().numpy()
        return answer


def plain_sam(teacher: str, size: int | None, checkpoint: Path | None) -> PromptedSam:
    """A SAM with its published weights, or those of `checkpoint`, at `size` px a side; by default at that of
    its pretraining. Raises UserError if the weights are not on this machine.
    """
    backbone = backbone_named(teacher)
    sam = PromptedSam(backbone, size or backbone.pretrained_size)
    load_pretrained(sam, checkpoint)
    return sam


def adapted_sam(run: Path, which: str, size: int | None, checkpoint: Path | None) -> PromptedSam:
    """The SAM of a run, with the adapters that it learned, at `size` px a side; by default at the run's.

    Raises UserError if the run has none, or if its pretrained weights are not on this machine.
    """
    config = read_config(run)
    config = replace(config, encoder_weights="none", checkpoint=checkpoint or config.checkpoint)
    method = build_method(config, len(read_classes(run, config).names))
    sam = getattr(method, "teacher", None)
    if not isinstance(sam, PromptedSam):
        raise UserError(
            f"found no SAM in {run}, a run of {config.method}, expected one for --adapted: leave it out, then "
            "--teacher answers"
        )
    if which == "best":
        load_best(run / "best.safetensors", method)
    else:
        load_last(run / "last.pt", method)
    sam.set_image_size(size or sam.image_size)
    return sam
