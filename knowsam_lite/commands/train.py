"""`knowsam-lite train`: train a method, and score it on the test images."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from knowsam_lite.errors import UserError
from knowsam_lite.files import in_shell

if TYPE_CHECKING:
    from knowsam_lite.config import Config
    from knowsam_lite.training import Trainer


def train(arguments: Sequence[str]) -> int:
    """train a method and score it on the test images"""
    from knowsam_lite.config import RECIPES, Config

    choice = argparse.ArgumentParser(add_help=False)
    choice.add_argument("--recipe", choices=list(RECIPES))
    choice.add_argument("--resume", type=Path)
    choice.add_argument("--minutes", type=float)
    chosen, rest = choice.parse_known_args(arguments)
    if chosen.resume is None:
        config = tyro.cli(
            Config,
            args=rest,
            default=_defaults(chosen.recipe, rest),
            prog="knowsam-lite train",
            description="Train a method and score it on the test images. Before all others: --recipe "
            f"{'|'.join(RECIPES)} chooses the defaults below (lesson for synthetic images, else laptop); "
            "--minutes M fits the number of steps to a step's time on this machine; --resume RUN resumes an "
            "interrupted run, with --data DATA if its data moved, and this machine's --device and --workers.",
        )
        return _train(config, resume=False, minutes=chosen.minutes)
    moved = argparse.ArgumentParser(add_help=False)
    moved.add_argument("--data")
    moved.add_argument("--device")
    moved.add_argument("--workers", type=int)
    given, rest = moved.parse_known_args(rest)
    beside = [*(f"--{name}" for name in ("minutes", "recipe") if getattr(chosen, name) is not None), *rest]
    if beside:
        raise UserError(
            f"found {' '.join(beside)} beside --resume, expected at most --data, where the data are now, "
            "--device and --workers: a resumed run keeps its configuration"
        )
    config = _resumed(chosen.resume, given.data)
    here = {name: value for name in ("device", "workers") if (value := getattr(given, name)) is not None}
    return _train(replace(config, **here), resume=True)


def _resumed(run: Path, data: str | None) -> "Config":
    """The configuration of a run, with the address where its data are now."""
    from knowsam_lite.runs.provenance import address_of
    from knowsam_lite.runs.run import read_config

    config = read_config(run)
    return replace(config, out=run, data=address_of(run, config, data))


def _defaults(recipe: str | None, arguments: Sequence[str]) -> "Config":
    """The recipe asked for; without one `lesson` for synthetic images and `laptop` for others, with what is
    here: a line says what is missing.
    """
    from knowsam_lite.config import RECIPES, Config
    from knowsam_lite.data import is_synthetic

    if recipe is not None:
        return RECIPES[recipe]
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", default=Config.data)
    if is_synthetic(data.parse_known_args(arguments)[0].data):
        return RECIPES["lesson"]
    config = RECIPES["laptop"]
    for changes, missing in _missing(config, arguments):
        print(f"Note: {missing}.")
        config = replace(config, **changes)
    return config


def _missing(config: "Config", arguments: Sequence[str]) -> Iterator[tuple[dict[str, Any], str]]:
    """What of a recipe is not on this machine: what is taken instead, and a line that says so."""
    from knowsam_lite.encoders import ENCODERS
    from knowsam_lite.encoders.weights import timm_name
    from knowsam_lite.methods import method_named
    from knowsam_lite.methods.official import Official
    from knowsam_lite.methods.with_sam import WithSam
    from knowsam_lite.sam.backbones import backbone_named

    chosen = {argument.partition("=")[0] for argument in arguments}
    try:
        for encoder in () if "--students" in chosen else (config.encoder_a, config.encoder_b):
            timm_name(encoder)
            ENCODERS[encoder].weights.find(encoder)
    except UserError as error:
        yield {"students": "paper"}, f"without pretrained students, for {_why(error)}"
    method = argparse.ArgumentParser(add_help=False)
    method.add_argument("--method", default=config.method)
    if not issubclass(method_named(method.parse_known_args(arguments)[0].method), WithSam | Official):
        return  # it asks no SAM
    source = backbone_named(config.teacher).weights
    if source is None or {"--checkpoint", "--teacher"} & chosen:
        return
    try:
        source.find(config.teacher)
    except UserError as error:
        yield {"teacher": "sam_mini", "teacher_size": None}, f"sam_mini stands in, for {_why(error)}"


def _why(error: UserError) -> str:
    return str(error).removeprefix("found ")


def _fitted(config: "Config", minutes: float) -> "Config":
    """The configuration with as many steps as fit, by three steps from the middle of such a run."""
    from statistics import median

    if not 0 < minutes < 60 * 24 * 365:
        raise UserError(f"found --minutes {minutes:g}, expected minutes above 0: change it")
    from knowsam_lite.bench import LONG, Noise, timed_steps
    from knowsam_lite.data import open_dataset
    from knowsam_lite.methods import method_named
    from knowsam_lite.parallel import ranks
    from knowsam_lite.training import Trainer

    timed = replace(config, steps=LONG, labeled=str(config.batch_labeled))
    classes = open_dataset(config.data, config.image_size, config.val, config.test).num_classes
    method = method_named(config.method).with_random_weights(timed, classes)
    images = Noise(classes, config.image_size, 3 * (config.batch_labeled + config.batch_unlabeled))
    trainer = Trainer(images, timed, method)
    trainer.method.train()
    trainer.step = LONG // 2
    seconds = max(ranks.gathered(median(timed_steps(trainer, trainer.batches[trainer.step], 4)[1:])))
    steps = max(round(60 * minutes / seconds), 1)
    if ranks.rank() == 0:
        print(f"{seconds:.2f} s a step: {steps} steps in {minutes:g} minutes, validation aside")
    return replace(config, steps=steps)


def _train(config: "Config", resume: bool, minutes: float | None = None) -> int:
    """Train alone, or as one of the processes that torchrun started, which all take the same steps."""
    from knowsam_lite.parallel.start import joined

    with joined(config.device):
        return _trained(config if minutes is None else _fitted(config, minutes), resume)


def _trained(config: "Config", resume: bool) -> int:
    from knowsam_lite.data import open_dataset
    from knowsam_lite.files import alone
    from knowsam_lite.parallel import ranks
    from knowsam_lite.training import Trainer

    dataset = open_dataset(config.data, config.image_size, config.val, config.test)
    trainer = Trainer(dataset, config)
    if ranks.rank() > 0:  # the first process looks at the data, talks, writes and scores
        (trainer.resume if resume else trainer.start)()
        return 0 if trainer.fit() else 130
    _ = trainer.seen  # what is wrong with the data is said first
    counts = {split: len(dataset.split(split)) for split in ("train", "val", "test")}
    trained = sum(p.numel() for p in trainer.method.parameters() if p.requires_grad)
    print(
        f"{dataset.name}: {len(trainer.labeled_ids)} of {counts['train']} training images labelled, "
        f"{counts['val']} val, {counts['test']} test; {dataset.num_classes} classes"
    )
    many = f" in {ranks.size()} processes" if ranks.size() > 1 else ""
    print(
        f"{config.method}: {trained / 1e6:.1f} M trained parameters on {trainer.device}{many}, "
        f"{config.steps} steps -> {trainer.run}"
    )
    if trainer.method.note:
        print(f"Note: {trainer.method.note}.")
    with alone(trainer.run):
        return _fit_and_score(trainer, resume)


def _fit_and_score(trainer: "Trainer", resume: bool) -> int:
    from knowsam_lite.data import is_synthetic
    from knowsam_lite.report.write import table, write_report

    if resume:
        trainer.resume()
        print(f"resumed after step {trainer.step}")
    else:
        trainer.start()
        if not is_synthetic(trainer.config.data):
            _draw_labeled(trainer)
    if not trainer.fit():
        print(f"stopped after step {trainer.step} and saved;", end=" ")
        print(f"go on with: knowsam-lite train --resume {in_shell(trainer.run)}")
        return 130
    if trainer.dataset.split("test"):
        result, paths = write_report(trainer.result())
        print(f"test, {len(result['ids'])} {result['case']}s, last checkpoint:\n{table(result)}")
        print("wrote " + ", ".join(str(path) for path in paths))
    else:
        print(f"no test images: nothing was scored; the trained weights are in {trainer.run}")
    print(f"use it: knowsam-lite predict {in_shell(trainer.run)} PICTURES NEW_FOLDER --overlay")
    return 0


def _draw_labeled(trainer: "Trainer") -> None:
    """A sheet of labelled images before step 1: whoever looks at it sees a misplaced mask."""
    from knowsam_lite.data.sheet import random_sheet

    labeled = [record for record in trainer.dataset.split("train") if record.id in trainer.labeled_ids]
    path = trainer.run / "labelled.png"
    random_sheet(trainer.dataset, labeled, path, trainer.config.seed)
    print(f"wrote {path}: labelled images with their masks outlined")
