"""The size of the prepared pictures, and what happens to their shape."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Size:
    """`side` in pixels, or None for the published size; `fit` says what happens to the shape."""

    side: int | None = None
    fit: Literal["keep", "pad", "squash"] = "keep"

    def __post_init__(self) -> None:
        if self.side is not None and not 8 <= self.side <= 8192:
            raise UserError(f"found size {self.side}, expected 8 to 8192 px: change --size")

    def __str__(self) -> str:
        if self.side is None:
            return "published size, nothing is resized"
        return {
            "keep": f"the longer side becomes {self.side} px, the shape is kept",
            "pad": f"{self.side} x {self.side} px: the shape is kept and black (background) fills the rest",
            "squash": f"{self.side} x {self.side} px: the shape is not kept",
        }[self.fit]

    def apply(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An image uint8 (H, W[, 3]) and a mask uint8 (H, W) in this size; the mask by nearest neighbor."""
        if self.side is None:
            return image, mask
        height, width = mask.shape
        scale = self.side / max(height, width)
        wanted = (max(1, round(width * scale)), max(1, round(height * scale)))  # cv2 takes width first
        if self.fit == "squash":
            wanted = (self.side, self.side)
        if wanted != (width, height):
            shrinks = wanted[0] * wanted[1] < height * width
            image = cv2.resize(image, wanted, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
            mask = cv2.resize(mask, wanted, interpolation=cv2.INTER_NEAREST_EXACT)
        if self.fit == "pad":
            image, mask = self._padded(image), self._padded(mask)
        return image, mask

    def _padded(self, picture: np.ndarray) -> np.ndarray:
        """The picture in the middle of a black square."""
        assert self.side is not None
        rows, columns = self.side - picture.shape[0], self.side - picture.shape[1]
        around = [(rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)]
        return np.pad(picture, around + [(0, 0)] * (picture.ndim - 2))
