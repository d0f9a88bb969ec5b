"""How well a SAM answers a careful person: Dice after a box or a click, and after each correcting click.

    python tests/extra/clicks.py DATA --n 20 --teacher mobile_sam
    python tests/extra/clicks.py DATA --split test --n 50 --to 0.9 --run RUN     # what a draft saves
    python tests/extra/clicks.py DATA --split test --n 30 --run RUN --adapted    # can its own SAM answer?

The person is simulated: the box is that of the truth, the first click its innermost pixel, and each later
click the innermost pixel of the largest mistake. Seconds are those that one thread computed (CPU time).
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from knowsam_lite.errors import UserError
from knowsam_lite.metrics import dice
from knowsam_lite.runs.checkpoints import load_best, load_last
from knowsam_lite.runs.classes import read_classes
from knowsam_lite.runs.provenance import read_config
from knowsam_lite.runs.run import build_method
from knowsam_lite.sam import PromptedSam
from knowsam_lite.web.annotator import Annotator, Wanted, open_annotator
from knowsam_lite.web.clicks import Clicks
from knowsam_lite.web.person import first_prompt, next_click


def annotated(annotator: Annotator, name: str, truth: np.ndarray, start: str, corrections: int):
    """Dice after each prompt, the seconds of each, and those of the embedding."""
    began = time.thread_time()
    annotator.prepare(name)
    embedding = time.thread_time() - began
    prompts, scores, seconds = [first_prompt(start, truth)], [], []
    while True:
        began = time.thread_time()
        answer = annotator.answer(name, prompts)
        seconds.append(time.thread_time() - began)
        scores.append(dice(answer, truth))
        if len(scores) > corrections:
            return scores, seconds, embedding
        prompts += filter(None, [next_click(answer, truth)])  # none if the answer is right


@dataclass(frozen=True)
class Options(Wanted):
    """Ask a SAM about every picture of a data set of one class."""

    data: Annotated[Path, tyro.conf.Positional] = Path()
    n: int = 20  # pictures, the first by their names
    split: str = ""  # of the data set; all without
    corrections: int = 4
    adapted: bool = False  # the run's own SAM answers instead of `teacher`, at its own size
    to: float = 0.9  # Dice at which the person is content: how many prompts that takes


def adapted_sam(wanted: Wanted) -> PromptedSam:
    """The SAM of a run, with its adapters. Raises UserError without a run, or if it has none."""
    if wanted.run is None:
        raise UserError("found --adapted without --run, expected the run whose SAM answers: give --run RUN")
    config = read_config(wanted.run)
    config = replace(config, encoder_weights="none", checkpoint=wanted.checkpoint or config.checkpoint)
    method = build_method(config, len(read_classes(wanted.run, config).names))
    if not isinstance(sam := getattr(method, "teacher", None), PromptedSam):
        raise UserError(f"found no SAM in {wanted.run}, expected one: leave --adapted out")
    if wanted.which == "best":
        load_best(wanted.run / "best.safetensors", method)
    else:
        load_last(wanted.run / "last.pt", method)
    sam.set_image_size(wanted.teacher_size or sam.image_size)
    return sam


def prompts_to(scores: np.ndarray, wanted: float) -> np.ndarray:
    """Prompts until the Dice `wanted`, from the scores (N, K) after each: (N,), inf where never reached."""
    content = scores >= wanted
    return np.where(content.any(axis=1), content.argmax(axis=1) + 1.0, np.inf)


def told(prompts: np.ndarray, most: int) -> str:
    """Mean prompts, those that did not suffice counted as `most`, and how many sufficed."""
    return f"{np.minimum(prompts, most).mean():.1f} prompts ({np.isfinite(prompts).mean():.0%} get there)"


def main() -> None:
    options = tyro.cli(Options)
    torch.set_num_threads(1)
    annotator = open_annotator(options.data, options)
    if options.adapted:
        annotator.teacher = f"the SAM of {options.run}"
        device = annotator.clicks.device
        annotator.clicks = Clicks(adapted_sam(options).to(device).eval(), device)
    folder = annotator.folder
    records = sorted(folder.records.values(), key=lambda record: record.image.name)
    names = [record.id for record in records if options.split in ("", record.split)][: options.n]
    for start in ("box", "click"):
        found = [annotated(annotator, n, folder.labels(n) == 1, start, options.corrections) for n in names]
        each_scores = np.array([scores for scores, _, _ in found])
        scores = each_scores.mean(axis=0)
        seconds = np.median([each for _, times, _ in found for each in times])
        embedding = np.median([each for *_, each in found])
        print(
            f"{annotator.teacher}, {start} first, {len(names)} pictures: Dice {np.round(scores, 3)}"
            f"; {seconds:.2f} s a click, {embedding:.2f} s an embedding",
            flush=True,
        )
        prompts, most = prompts_to(each_scores, options.to), options.corrections + 1
        print(f"  to Dice {options.to:g}: {told(prompts, most)}", flush=True)
        if annotator.drafts is not None:
            drafts = [dice(annotator.draft(n) == 1, folder.labels(n) == 1) for n in names]
            right = np.array(drafts) >= options.to
            print(
                f"  with drafts (Dice {np.mean(drafts):.3f}, {right.mean():.0%} good as they are): "
                f"{told(np.where(right, 0, prompts), most)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
