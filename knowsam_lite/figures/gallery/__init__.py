"""Twelve figures for a lecture: each is a function of a path and computes what it shows with the library."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from knowsam_lite.figures.gallery.data import augmentation, tasks
from knowsam_lite.figures.gallery.learning import ramps, temperature, who_learns
from knowsam_lite.figures.gallery.maps import prompts, receptive_field, regions, uncertainty
from knowsam_lite.figures.gallery.scores import outliers, small_objects
from knowsam_lite.figures.pipeline import BLOCKS
from knowsam_lite.figures.pipeline import pipeline as draw_pipeline


def pipeline(path: Path) -> dict[str, list[str]]:
    """The whole method: two subnets, their fused map as SAM's prompt, SAM's answer distilled into both."""
    return draw_pipeline(", ".join(BLOCKS), path)


GALLERY: dict[str, Callable[[Path], Any]] = {
    figure.__name__: figure
    for figure in (
        pipeline,
        tasks,
        augmentation,
        uncertainty,
        receptive_field,
        prompts,
        regions,
        temperature,
        ramps,
        who_learns,
        small_objects,
        outliers,
    )
}
