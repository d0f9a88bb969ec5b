"""Maps over images: uncertainty, receptive fields, SAM's answers, and the regions that UGDA chooses."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from knowsam_lite.data import Synthetic
from knowsam_lite.data.transforms import to_tensor
from knowsam_lite.figures.panels import panels
from knowsam_lite.mixing import choose_regions, mix, uncertainty_map
from knowsam_lite.sam.backbones import backbone_named
from knowsam_lite.sam.degrade import spoil_to, wobble
from knowsam_lite.sam.teacher import PromptedSam
from knowsam_lite.sam.weights import load_pretrained
from knowsam_lite.subnets import UNet, VNet
from knowsam_lite.uncertainty import disagreement_map, entropy_map

SIZE = 128  # pixels a side


def cases(kind: str, count: int) -> tuple[list[np.ndarray], Tensor]:
    """The `count` synthetic images with the largest objects, uint8 (H, W, 3), and masks bool (N, H, W)."""
    data = Synthetic(kind, seed=2, n=12, size=SIZE)
    best = sorted(data.records, key=lambda r: -np.count_nonzero(data.mask(r)))[:count]
    masks = torch.stack([torch.from_numpy(data.mask(record) > 0) for record in best])
    return [data.image(record) for record in best], masks


def guesses(masks: Tensor, seed: int) -> Tensor:
    """Logits (N, 2, H, W) as a half-trained network would give them for these masks: blurred, with noise."""
    z = wobble(masks.float(), torch.Generator().manual_seed(seed))
    return torch.stack([-z / 2, z / 2], dim=1)


def uncertainty(path: Path) -> dict[str, list[float]]:
    """Where one net is unsure (entropy) and where two disagree: at borders and mistakes."""
    images, masks = cases("dermoscopy", 2)
    z_a, z_b = guesses(masks, 1), guesses(masks, 5)
    p_a, p_b = z_a.softmax(dim=1), z_b.softmax(dim=1)
    h_a, h_b, d = entropy_map(z_a), entropy_map(z_b), disagreement_map(p_a, p_b)[:, 1]
    rows: list[dict[str, ArrayLike]] = [
        {
            "image": images[i],
            "U-Net": p_a[i, 1],
            "V-Net": p_b[i, 1],
            "entropy of U-Net": h_a[i],
            "entropy of V-Net": h_b[i],
            "disagreement": d[i],
        }
        for i in range(2)
    ]
    return panels(rows, path)


def receptive_field(path: Path) -> dict[str, list[float]]:
    """Which pixels influence the output at the center: its gradient, mean of 16 random nets and images."""
    row = {}
    for name, kind in (("U-Net", UNet), ("V-Net", VNet)):
        total = torch.zeros(SIZE, SIZE)
        for seed in range(16):
            torch.manual_seed(seed)
            net, x = kind(2).eval(), torch.rand(1, 3, SIZE, SIZE, requires_grad=True)
            [g] = torch.autograd.grad(net(x)[0, 1, SIZE // 2, SIZE // 2], x)
            size = g[0].abs().sum(dim=0)
            total += size / size.max()
        shown = total.clamp(min=1e-12).log10()
        row[name] = ((shown - shown.max()) / 6 + 1).clamp(0, 1)
    return panels([row], path, ("a millionth", "largest"))


@torch.inference_mode()
def prompts(path: Path) -> dict[str, list[float]]:
    """One SAM, four prompts: its answer to a point, a box and a rough mask, and the rough mask itself."""
    sam = PromptedSam(backbone_named("sam_mini"), SIZE)
    load_pretrained(sam)
    sam.eval()
    rows: list[dict[str, ArrayLike]] = []
    for kind in ("dermoscopy", "colonoscopy", "ultrasound"):
        images, masks = cases(kind, 1)
        mask = masks[0].numpy()
        embedding = sam.encode(to_tensor(images[0])[None])
        ys, xs = np.nonzero(mask)
        center = np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2)
        point = torch.tensor([[[[float(xs[center]), float(ys[center])]]]]), torch.ones(1, 1, 1)
        box = torch.tensor([[[xs.min(), ys.min(), xs.max(), ys.max()]]], dtype=torch.float32)
        rough = spoil_to(mask, np.random.default_rng(0), 0.7)
        logits = torch.from_numpy(np.where(rough, 6.0, -6.0)).float()[None, None]
        side = 4 * sam.grid[0]
        logits = torch.nn.functional.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        answers = {
            "point": sam.segment(embedding, points=point),
            "box": sam.segment(embedding, boxes=box),
            "rough mask": sam.segment(embedding, masks=logits),
        }
        row: dict[str, ArrayLike] = {"image": images[0], "truth": mask.astype(float)}
        row |= {f"asked by {name}": z[0, 0].sigmoid() for name, z in answers.items()}
        rows.append({**row, "that rough mask": rough.astype(float)})
    return panels(rows, path)


def regions(path: Path) -> dict[str, list[float]]:
    """UGDA: the five most uncertain cells of each image come from its partner; below, the most certain."""
    images, masks = cases("dermoscopy", 2)
    z = guesses(masks, 4)
    x, y = torch.stack([to_tensor(image) for image in images]), masks.long()
    u = uncertainty_map(z)
    rows: list[dict[str, ArrayLike]] = []
    for most in ("uncertain", "certain"):
        chosen = choose_regions(u, 5, most)
        mixed = mix(x[:1], y[:1], x[1:], y[1:], chosen[:1], chosen[1:])
        big = chosen[0].float().repeat_interleave(SIZE // 4, 0).repeat_interleave(SIZE // 4, 1)
        rows.append(
            {
                "labelled": images[0],
                "unlabelled": images[1],
                "uncertainty": u[0].repeat_interleave(SIZE // 4, 0).repeat_interleave(SIZE // 4, 1),
                "cells from the partner": big,
                "mixed image": (255 * mixed.x[0].numpy().transpose(1, 2, 0)).astype(np.uint8),
                "its label": mixed.y[0].float(),
            }
        )
    return panels(rows, path)
