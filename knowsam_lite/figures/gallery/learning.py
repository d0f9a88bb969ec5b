"""How the networks learn: ramps, temperature, and which loss term teaches which part."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from knowsam_lite.colors import INK
from knowsam_lite.config import Config
from knowsam_lite.data.sampler import Batch
from knowsam_lite.figures.look import COLORS, QUIET, RC, save
from knowsam_lite.figures.trends import trends
from knowsam_lite.methods import KnowSAM
from knowsam_lite.methods.base import ramp

PARTS = {"U-Net": "students.net_a", "V-Net": "students.net_b", "HAM": "students.ham", "SAM": "teacher"}


def ramps(path: Path) -> dict[str, list[float]]:
    """Schedules over a run: the weight of consistency and entropy, the learning rate, and UGDA."""
    progress = np.linspace(0, 1, 201)
    start = Config().mix_start
    return trends(
        {
            "w(t)": (progress, [ramp(p) for p in progress]),
            "learning rate": (progress, 1 - progress),
            "UGDA": (progress, (progress >= start).astype(float)),
        },
        path,
        "A run of KnowSAM, each as a share of its largest value",
        "t / t_max",
    )


def temperature(path: Path) -> dict[str, list[float]]:
    """Temperature softens SAM's logits 4, 2, 0 for three classes: near T = 10 their order still shows."""
    t = np.geomspace(0.5, 50, 121)
    p = torch.tensor([[4.0, 2.0, 0.0]]).div(torch.from_numpy(t)[:, None]).softmax(dim=1)
    curves = {f"logit {z}": (t, p[:, i].numpy()) for i, z in enumerate((4, 2, 0))}
    return trends(curves, path, "Softmax of the logits 4, 2 and 0, divided by T", "temperature T", log="x")


def reach() -> dict[str, dict[str, bool]]:
    """Loss term of `knowsam` -> part -> whether the term's gradient reaches it, measured on random images."""
    torch.manual_seed(0)
    method = KnowSAM(replace(Config(), image_size=32, steps=10), num_classes=2).train()
    y = torch.zeros(4, 32, 32, dtype=torch.int64)
    y[:, 8:20, 8:20] = 1
    y[2:] = -1
    batch = Batch(torch.rand(4, 3, 32, 32), y, 2, ["a", "b", "c", "d"])
    terms = method.losses(batch, step=5)
    parts = {
        part: [p for name, p in method.named_parameters() if name.startswith(prefix) and p.requires_grad]
        for part, prefix in PARTS.items()
    }
    found: dict[str, dict[str, bool]] = {}
    for name, term in terms.items():
        found[name] = {}
        for part, weights in parts.items():
            grads = torch.autograd.grad(term, weights, retain_graph=True, allow_unused=True)
            found[name][part] = any(g is not None and bool(g.any()) for g in grads)
    return found


def who_learns(path: Path) -> dict[str, dict[str, bool]]:
    """Which loss term teaches which part: measured by its gradient. SAM learns from the labels alone."""
    found = reach()
    with matplotlib.rc_context({**RC, "axes.grid": False}):
        figure = Figure(figsize=(3.9, 0.19 * len(found) + 0.5))
        axes = figure.add_axes((0.36, 0.02, 0.62, 0.9))
        for row, taught in enumerate(found.values()):
            axes.axhline(row, color="#EEEEEE", linewidth=0.6, zorder=0)
            for column, part in enumerate(PARTS):
                paint = COLORS.get(part, COLORS["fused"])
                face, edge = (paint, paint) if taught[part] else ("none", "#CCCCCC")
                axes.scatter(column, row, s=34, linewidth=0.7, facecolor=face, edgecolor=edge, zorder=2)
        axes.set(xlim=(-0.5, len(PARTS) - 0.5), ylim=(len(found) - 0.5, -0.5))
        axes.set_xticks(range(len(PARTS)), list(PARTS), color=INK)
        axes.set_yticks(range(len(found)), list(found), color=QUIET)
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False)
        axes.spines[:].set_visible(False)
        save(figure, path)
    return found
