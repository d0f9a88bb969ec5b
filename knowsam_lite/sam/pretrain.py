"""Make `sam_mini`: pretrain the small SAM on `shapes` to answer points, boxes and masks.

    python -m knowsam_lite.sam.pretrain --out runs/sam_mini

A killed run resumes from its last saved step when it is started again. At the end the run writes the weights
as fp16 safetensors; copy them to knowsam_lite/weights to ship them.
"""

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import default_rng
from safetensors.torch import save
from torch import Tensor
from tqdm import tqdm

from knowsam_lite.data.shapes import scene
from knowsam_lite.files import write_aside
from knowsam_lite.sam.backbones import BACKBONES
from knowsam_lite.sam.degrade import spoil, wobble
from knowsam_lite.sam.teacher import PromptedSam
from knowsam_lite.sam.weights import pretrained_names


@dataclass(frozen=True)
class Stage:
    """A stage of the pretraining with its own mix of prompts; the remaining share is clicks."""

    steps: int
    learning_rate: float  # linear warm-up, then cosine decay to zero
    masks: float  # share of the steps that prompt with a mask alone
    masks_and_clicks: float
    boxes: float
    jitter: float  # largest error of a box's sides, as a fraction of its longer side
    warmup: int = 200  # steps


MASKS_FIRST = Stage(4000, 1e-3, masks=0.5, masks_and_clicks=0.15, boxes=0.2, jitter=0.1)
BOXES_THEN = Stage(2000, 6e-4, masks=0.3, masks_and_clicks=0.05, boxes=0.5, jitter=0.05)


@dataclass(frozen=True)
class Recipe:
    """How sam_mini is made: everything that determines its weights."""

    out: Path = Path("runs/sam_mini")
    stages: tuple[Stage, ...] = (MASKS_FIRST, BOXES_THEN)
    weight_decay: float = 0.02  # of AdamW
    prompts: int = 4  # prompts on each image of a batch
    sizes: tuple[int, ...] = (64, 96, 128)  # pixels a side
    shares: tuple[float, ...] = (0.6, 0.25, 0.15)  # probability of each size
    pool: tuple[int, ...] = (
        20_000,
        6_000,
        3_000,
    )  # pictures drawn of each size; they are flipped, rotated and recolored
    batch: tuple[int, ...] = (32, 14, 8)  # pictures per step of each size, so that all cost the same
    seed: int = 20250
    save_every: int = 100  # steps

    @property
    def steps(self) -> int:
        """Steps of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def at(self, step: int) -> tuple[Stage, int]:
        """The stage of a step, and the step's number in it."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        raise IndexError(step)


def draw_scene(size: int, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture `index` of the pool: image uint8 (size, size, 3) and object numbers uint8 (size, size)."""
    image, which = scene(default_rng((seed, size, index)), size)
    return image, which.astype(np.uint8)


def draw_pool(recipe: Recipe) -> list[tuple[np.ndarray, np.ndarray]]:
    """All pictures of all sizes, stacked by size: [(images uint8 (n, S, S, 3), objects uint8 (n, S, S)),
    ...].
    """
    pools = []
    with ProcessPoolExecutor() as workers:
        for size, count in zip(recipe.sizes, recipe.pool, strict=True):
            draw = partial(draw_scene, size, recipe.seed)
            drawn = list(tqdm(workers.map(draw, range(count), chunksize=200), f"drawing {size} px", count))
            pools.append((np.stack([image for image, _ in drawn]), np.stack([which for _, which in drawn])))
    return pools


def targets(which: np.ndarray, count: int, rng: np.random.Generator, whole: bool) -> np.ndarray:
    """Choose `count` targets to segment in one picture: (S, S) object numbers -> bool (count, S, S).

    One object each; with `whole`, a third of the time all objects together or the background, as in semantic
    masks.
    """
    present = [i for i in range(1, which.max() + 1) if (which == i).sum() > 12] or [0]
    chosen = np.ascontiguousarray([which == present[rng.integers(len(present))] for _ in range(count)])
    for i in range(count if whole else 0):
        draw = rng.random()
        if draw < 0.33:
            chosen[i] = (which > 0) if draw < 0.2 else (which == 0)
    return chosen


def boxes_of(masks: np.ndarray, rng: np.random.Generator, jitter: float) -> np.ndarray:
    """A box around each mask, each side shifted by up to `jitter` times the longer one.

    bool (M, S, S) -> float32 (M, 4) as x0, y0, x1, y1.
    """
    boxes = np.zeros((len(masks), 4), np.float32)
    for i, mask in enumerate(masks):
        x, y = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
        box = np.array([x[0], y[0], x[-1], y[-1]] if len(x) else [0, 0, 1, 1], np.float32)
        off = jitter * max(box[2] - box[0], box[3] - box[1])
        boxes[i] = np.clip(box + rng.uniform(-off, off, 4), 0, mask.shape[0] - 1)
    return boxes


def points_of(masks: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` clicks on each mask, the first inside: bool (M, S, S) -> x, y float32 (M, count, 2), labels (M,
    count).
    """
    points, labels = np.zeros((len(masks), count, 2), np.float32), np.zeros((len(masks), count), np.int64)
    for i, mask in enumerate(masks):
        for j in range(count):
            inside = j == 0 or rng.random() < 0.5
            where = np.argwhere(mask == inside)
            if len(where):
                points[i, j], labels[i, j] = where[rng.integers(len(where))][::-1], int(inside)
            else:
                labels[i, j] = -1  # SAM's "not a point"
    return points, labels


def recolor(images: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flip, rotate, permute color channels or invert the whole batch, so that the pool can be reused."""
    images = images[..., rng.permutation(3)]
    images = 255 - images if rng.random() < 0.5 else images
    turns, flip = int(rng.integers(4)), rng.random() < 0.5
    images, which = np.rot90(images, turns, (1, 2)), np.rot90(which, turns, (1, 2))
    images, which = (images[:, ::-1], which[:, ::-1]) if flip else (images, which)
    return np.ascontiguousarray(images), np.ascontiguousarray(which)


def batches(recipe: Recipe, start: int) -> Iterator[tuple[int, int, Tensor, Tensor, dict]]:
    """Yield step, size, x (N, 3, S, S), truth (N, K, S, S) and prompts for `segment`, step by step."""
    pools = draw_pool(recipe)
    k = recipe.prompts
    for step in range(start, recipe.steps):
        rng = default_rng((recipe.seed, step))
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        at = rng.choice(len(recipe.sizes), p=recipe.shares)
        size, n = recipe.sizes[at], recipe.batch[at]
        chosen = rng.integers(len(pools[at][0]), size=n)
        images, which = recolor(pools[at][0][chosen], pools[at][1][chosen], rng)
        stage, _ = recipe.at(step)
        kind = rng.random()
        both = stage.masks + stage.masks_and_clicks  # below: a mask is among the prompts
        masks = np.concatenate([targets(w, k, rng, whole=kind < stage.masks) for w in which])  # (NK, S, S)
        prompts: dict = {}
        if kind < both:
            rough = torch.from_numpy(np.stack([spoil(m, rng, rng.uniform(0, 4)) for m in masks]))
            hard = rng.uniform(3, 12) * (2 * rough.float() - 1)
            soft = wobble(torch.from_numpy(masks), generator)
            logits = torch.where(torch.rand(n * k, 1, 1, generator=generator) < 0.5, hard, soft)
            logits = F.interpolate(
                logits.unsqueeze(1), (size // 2,) * 2, mode="bilinear", align_corners=False
            )
            prompts["masks"] = logits.unflatten(0, (n, k)).squeeze(2)
        if both <= kind < both + stage.boxes:
            prompts["boxes"] = torch.from_numpy(boxes_of(masks, rng, stage.jitter)).unflatten(0, (n, k))
        if stage.masks <= kind < both or kind >= both + stage.boxes:
            points, labels = points_of(masks, int(rng.integers(1, 4)), rng)
            prompts["points"] = (
                torch.from_numpy(points).unflatten(0, (n, k)),
                torch.from_numpy(labels).unflatten(0, (n, k)),
            )
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        yield step, size, x, torch.from_numpy(masks).float().unflatten(0, (n, k)), prompts


def mask_loss(z: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy + soft Dice per mask: logits and truth (N, K, S, S) -> scalar."""
    p = z.sigmoid()
    overlap = 2 * (p * truth).sum((2, 3)) + 1
    dice = overlap / (p.square().sum((2, 3)) + truth.sum((2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(z, truth) + 1 - dice.mean()


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then cosine decay to zero, in each stage."""
    stage, step = recipe.at(step)
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(stage.steps - stage.warmup, 1)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def pretrain(recipe: Recipe) -> Path:
    """Train sam_mini as `recipe` says; returns the path of its fp16 weights."""
    recipe.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    backbone = BACKBONES["sam_mini"]
    sam = PromptedSam(backbone, backbone.pretrained_size)
    torch.nn.init.normal_(sam.get_parameter("image_encoder.pos_embed"), std=0.02)
    names = pretrained_names(sam)
    for name, parameter in sam.named_parameters():
        parameter.requires_grad_(name in names)  # the adapters stay the identity
    optimizer = torch.optim.AdamW(
        [p for p in sam.parameters() if p.requires_grad],
        weight_decay=recipe.weight_decay,
    )
    last = recipe.out / "last.pt"
    start = 0
    if last.exists():
        saved = torch.load(last, weights_only=True)
        sam.load_state_dict(saved["sam"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    bar = tqdm(batches(recipe, start), "sam_mini", recipe.steps, initial=start)
    mean = math.nan
    for step, size, x, truth, prompts in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        sam.set_image_size(size)
        z = sam.segment(sam.encode(x), **prompts)
        loss = mask_loss(F.interpolate(z, (size, size), mode="bilinear", align_corners=False), truth)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sam.parameters(), 1.0)
        optimizer.step()
        value = loss.item()
        mean = value if math.isnan(mean) else 0.98 * mean + 0.02 * value
        bar.set_postfix(loss=f"{mean:.4f}")
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            state = {"sam": sam.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            write_aside(last, partial(torch.save, state))
            with (recipe.out / "log.txt").open("a") as log:
                log.write(f"{step + 1} {mean:.4f}\n")
    weights = {name: tensor.half().contiguous() for name, tensor in sam.state_dict().items() if name in names}
    path = recipe.out / "sam_mini.safetensors"
    data = save(weights, metadata={key: str(value) for key, value in asdict(recipe).items() if key != "out"})
    write_aside(path, lambda file: file.write(data))
    return path


if __name__ == "__main__":
    import tyro

    print(pretrain(tyro.cli(Recipe)))
