"""Measures how well a small SAM answers boxes, clicks and masks on unseen images, against simple baselines.

python -m knowsam_lite.sam.card --data synthetic:dermoscopy path/to/kvasir_seg
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import default_rng
from scipy.ndimage import distance_transform_edt

from knowsam_lite.data import open_dataset
from knowsam_lite.data.shapes import scene
from knowsam_lite.data.transforms import resize, resize_mask, to_tensor
from knowsam_lite.metrics import dice
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.degrade import spoil_to
from knowsam_lite.sam.teacher import PromptedSam
from knowsam_lite.sam.weights import load_pretrained

UNSEEN = 999  # seed of pictures of `shapes` that pretraining never draws
SMALLEST = 20  # pixels of the smallest object that is prompted


@dataclass(frozen=True)
class Options:
    """Print how a small SAM answers prompts."""

    data: tuple[str, ...] = ()  # data sets besides the unseen shapes: folders or synthetic:KIND
    images: int = 200  # maximum number of images of each
    size: int = 64  # pixels a side
    spoiled: float = 0.70  # Dice of the mask prompts
    teacher: str = "sam_mini"  # a name in BACKBONES
    weights: Path | None = None  # a file; by default the teacher's published weights
    seed: int = field(default=0)  # of the spoiled masks


def shapes_cases(count: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Unseen pictures of `shapes` with one object each: image uint8 (S, S, 3), mask bool (S, S)."""
    for index in range(count):
        rng = default_rng((UNSEEN, size, index))
        image, which = scene(rng, size)
        present = [i for i in range(1, which.max() + 1) if (which == i).sum() >= SMALLEST]
        if present:
            yield image, which == present[rng.integers(len(present))]


def dataset_cases(address: str, count: int, size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Test images with their first foreground class."""
    dataset = open_dataset(address, size)
    for record in dataset.split("test")[:count]:
        mask = resize_mask(dataset.mask(record), size) == 1
        if mask.sum() >= SMALLEST:
            yield resize(dataset.image(record), size), mask


def ellipse_in(box: np.ndarray, size: int) -> np.ndarray:
    """The ellipse inscribed in a box x0, y0, x1, y1: bool (S, S)."""
    y, x = np.mgrid[:size, :size]
    center, radius = (box[:2] + box[2:]) / 2, (box[2:] - box[:2] + 1) / 2
    return ((x - center[0]) / radius[0]) ** 2 + ((y - center[1]) / radius[1]) ** 2 <= 1


@torch.inference_mode()
def score(
    sam: PromptedSam, cases: Iterator[tuple[np.ndarray, np.ndarray]], spoiled: float, seed: int
) -> dict:
    """Mean Dice over cases of: filled box, inscribed ellipse, box prompt, a click on the object's innermost
    pixel, spoiled mask, mask prompt.
    """
    size, rng = sam.image_size, default_rng(seed)
    rows = []
    for image, mask in cases:
        ys, xs = np.nonzero(mask)
        box = np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32)
        filled = np.zeros_like(mask)
        filled[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
        depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        click = torch.tensor([x, y], dtype=torch.float32).view(1, 1, 1, 2), torch.ones(1, 1, 1)
        rough = spoil_to(mask, rng, spoiled)
        embedding = sam.encode(to_tensor(image).unsqueeze(0))
        prompt = torch.from_numpy(np.where(rough, 6.0, -6.0).astype(np.float32)).view(1, 1, size, size)
        grid = (4 * sam.grid[0], 4 * sam.grid[1])
        prompt = F.interpolate(prompt, grid, mode="bilinear", align_corners=False)
        z = torch.cat(
            [
                sam.segment(embedding, boxes=torch.from_numpy(box).view(1, 1, 4)),
                sam.segment(embedding, points=click),
                sam.segment(embedding, masks=prompt),
            ],
            1,
        )
        answers = F.interpolate(z, (size, size), mode="bilinear", align_corners=False)[0].numpy() > 0
        maps = (filled, ellipse_in(box, size), answers[0], answers[1], rough, answers[2])
        rows.append([dice(m, mask) for m in maps])
    names = ("filled box", "ellipse", "box prompt", "point prompt", "spoiled mask", "mask prompt")
    return {"images": len(rows), **dict(zip(names, np.mean(rows, axis=0).round(3).tolist(), strict=True))}


def main(options: Options) -> None:
    backbone = backbone_named(options.teacher)
    sam = PromptedSam(backbone, options.size).eval()
    load_pretrained(sam, options.weights)
    print("| images | n | filled box | ellipse | box | gain | click | spoiled mask | mask prompt | gain |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    named = {"shapes, unseen": shapes_cases(options.images, options.size)}
    named |= {Path(a).name: dataset_cases(a, options.images, options.size) for a in options.data}
    for name, cases in named.items():
        s = score(sam, cases, options.spoiled, options.seed)
        by_box = s["box prompt"] - max(s["filled box"], s["ellipse"])
        by_mask = s["mask prompt"] - s["spoiled mask"]
        print(
            f"| {name} | {s['images']} | {s['filled box']:.3f} | {s['ellipse']:.3f} | "
            f"{s['box prompt']:.3f} | {by_box:+.3f} | {s['point prompt']:.3f} | "
            f"{s['spoiled mask']:.3f} | {s['mask prompt']:.3f} | {by_mask:+.3f} |"
        )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
