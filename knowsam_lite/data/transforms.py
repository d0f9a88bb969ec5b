"""Resizing and augmentation, deterministic in a seed; the only module that uses albumentations."""

import os

os.environ.setdefault(
    "NO_ALBUMENTATIONS_UPDATE", "1"
)  # otherwise it looks for updates on the network when imported

import albumentations as A
import cv2
import numpy as np
import torch

from knowsam_lite.errors import UserError

KINDS = ("none", "weak", "strong", "color")


def resize(image: np.ndarray, size: int) -> np.ndarray:
    """An image uint8 (H, W, 3) as uint8 (size, size, 3): area average to shrink, bilinear to grow."""
    height, width = image.shape[:2]
    if (height, width) == (size, size):
        return image
    if (height - size) * (width - size) < 0:  # OpenCV does not average if one side grows: first the other one
        short = (width, size) if height > size else (size, height)
        image = cv2.resize(image, short, interpolation=cv2.INTER_AREA)
    shrinks = image.shape[0] * image.shape[1] > size * size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask uint8 (H, W) of class indices as uint8 (size, size), nearest neighbour."""
    if mask.shape == (size, size):
        return mask
    return cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST_EXACT)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """An image uint8 (H, W, 3) as float32 (3, H, W) in [0, 1]."""
    scaled = image.transpose(2, 0, 1).astype(np.float32) / np.float32(255)  # (H, W, 3) -> (3, H, W)
    return torch.from_numpy(np.ascontiguousarray(scaled))


class Augment:
    """Resize to size x size and augment at random, the same way for the same seed.

    "none" only resizes. "weak" flips, rotates by multiples of 90 degrees, and shifts, scales and rotates a
    little (reflected borders). "strong" adds "color": colour jitter, gamma, blur and noise, which leave
    the mask unchanged. Called with an image uint8 (H, W, 3), a mask uint8 (H, W) or None and a seed, it
    returns float32 (3, size, size) in [0, 1] and int64 (size, size), or None. UserError for an unknown kind.
    """

    def __init__(self, kind: str, size: int) -> None:
        if kind not in KINDS:
            raise UserError(
                f"found augmentation {kind!r}, expected one of {', '.join(KINDS)}; correct the name"
            )
        self.size = size
        steps = {"none": [], "weak": _weak(), "strong": _weak() + _color(), "color": _color()}[kind]
        self.steps = A.Compose(steps, strict=True) if steps else None

    def __call__(
        self, image: np.ndarray, mask: np.ndarray | None, seed: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        image, mask = self.changed(image, mask, seed)
        return to_tensor(image), None if mask is None else torch.from_numpy(mask.astype(np.int64))

    def changed(
        self, image: np.ndarray, mask: np.ndarray | None, seed: int
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The same before it becomes tensors: uint8 (size, size, 3) and uint8 (size, size), or None."""
        image = resize(image, self.size)
        mask = None if mask is None else resize_mask(mask, self.size)
        if self.steps:
            self.steps.set_random_seed(seed % 2**32)  # albumentations ignores the global seeds
            changed = self.steps(image=image) if mask is None else self.steps(image=image, mask=mask)
            image, mask = changed["image"], changed.get("mask")
        return image, mask


def _weak() -> list[A.BasicTransform]:
    return [
        A.HorizontalFlip(p=0.5),
        A.RandomRotate90(p=0.75),
        A.Affine(
            scale=(0.85, 1.2),
            translate_percent=(-0.08, 0.08),
            rotate=(-15, 15),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_REFLECT_101,  # a black border, the default, would look like an object
            p=0.7,
        ),
    ]


def _color() -> list[A.BasicTransform]:
    return [
        A.ColorJitter(
            brightness=(0.7, 1.3), contrast=(0.7, 1.3), saturation=(0.7, 1.3), hue=(-0.05, 0.05), p=0.8
        ),
        A.RandomGamma(gamma_limit=(70, 140), p=0.3),
        A.GaussianBlur(blur_limit=(3, 5), sigma_limit=(0.3, 1.2), p=0.3),
        A.GaussNoise(std_range=(0.01, 0.06), p=0.3),
    ]
