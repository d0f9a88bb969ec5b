"""`knowsam-lite train`: train a method, and score it on the test images."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from knowsam_lite.errors import UserError

if TYPE_CHECKING:
    from knowsam_lite.config import Config


def train(arguments: Sequence[str]) -> int:
    """train a method and score it on the test images"""
    from knowsam_lite.config import RECIPES, Config

    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--recipe", choices=list(RECIPES), default="laptop")
    choice.add_argument("--resume", type=Path)
    chosen, rest = choice.parse_known_args(arguments)
    if chosen.resume is None:
        config = tyro.cli(
            Config,
            args=rest,
            default=RECIPES[chosen.recipe],
            prog="knowsam-lite train",
            description="Train a method and score it on the test images. Before all others: --recipe "
            f"{'|'.join(RECIPES)} chooses the defaults below; --resume RUN resumes an interrupted run.",
        )
        return _train(config, resume=False)
    if rest:
        raise UserError(
            f"found {' '.join(rest)} beside --resume, expected nothing: a resumed run keeps its configuration"
        )
    path = chosen.resume / "config.json"
    if not path.is_file():
        raise UserError(f"found no {path}, expected a run folder: check the path given to --resume")
    return _train(replace(Config.from_json(path.read_text(encoding="utf-8")), out=chosen.resume), resume=True)


def _train(config: "Config", resume: bool) -> int:
    from knowsam_lite.data import open_dataset
    from knowsam_lite.data.check import check_for_training
    from knowsam_lite.report.write import table, write_report
    from knowsam_lite.training import Trainer

    dataset = open_dataset(config.data, config.image_size, config.val, config.test)
    trainer = Trainer(dataset, config)
    check_for_training(dataset, trainer.labeled_ids)
    counts = {split: len(dataset.split(split)) for split in ("train", "val", "test")}
    trained = sum(p.numel() for p in trainer.method.parameters() if p.requires_grad)
    print(
        f"{dataset.name}: {len(trainer.labeled_ids)} of {counts['train']} training images labelled, "
        f"{counts['val']} val, {counts['test']} test; {dataset.num_classes} classes"
    )
    print(
        f"{config.method}: {trained / 1e6:.1f} M trained parameters on {trainer.device}, "
        f"{config.steps} steps -> {trainer.run}"
    )
    if trainer.method.note:
        print(f"Note: {trainer.method.note}.")
    if resume:
        trainer.resume()
        print(f"resumed after step {trainer.step}")
    else:
        trainer.start()
    if not trainer.fit():
        print(f"stopped after step {trainer.step} and saved;", end=" ")
        print(f"go on with: knowsam-lite train --resume {trainer.run}")
        return 130
    if counts["test"]:
        result, paths = write_report(trainer.result())
        print(f"test, {len(result['ids'])} {result['case']}s, last checkpoint:\n{table(result)}")
        print("wrote " + ", ".join(str(path) for path in paths))
    return 0
