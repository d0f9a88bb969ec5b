"""The command line: `knowsam-lite COMMAND ...` or `python -m knowsam_lite COMMAND ...`."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from knowsam_lite.errors import UserError


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
            f"{'|'.join(RECIPES)} chooses the defaults below; --resume RUN goes on with an interrupted run.",
        )
        return _train(config, resume=False)
    if rest:
        raise UserError(
            f"found {' '.join(rest)} beside --resume, expected nothing: a resumed run keeps its configuration"
        )
    path = chosen.resume / "config.json"
    if not path.is_file():
        raise UserError(f"found no {path}, expected a run folder: check the path given to --resume")
    from dataclasses import replace

    return _train(replace(Config.from_json(path.read_text(encoding="utf-8")), out=chosen.resume), resume=True)


def _train(config, resume: bool) -> int:  # type: ignore[no-untyped-def]
    from knowsam_lite.data import open_dataset
    from knowsam_lite.data.check import check_for_training
    from knowsam_lite.report import table, write_report
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


@dataclass(frozen=True)
class EvaluateOptions:
    """Score a run on a split and write its metrics and pictures."""

    run: Annotated[Path, tyro.conf.Positional]  # folder that `train` wrote
    data: str | None = None  # another data set than the run's own
    split: Literal["train", "val", "test"] = "test"
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    device: str = "auto"
    json: bool = False  # print the scores as one JSON object, last


def evaluate(arguments: Sequence[str]) -> int:
    """score a run on a split"""
    options = tyro.cli(EvaluateOptions, args=arguments, prog="knowsam-lite evaluate")
    from knowsam_lite.report import table, write_report
    from knowsam_lite.runs import load_run

    run = load_run(options.run, options.data, options.which, options.device)
    result, paths = write_report(run, options.split)
    count = f"{len(result['ids'])} {result['case']}s"
    print(f"{options.split}, {count}, {options.which} checkpoint:\n{table(result)}")
    print("wrote " + ", ".join(str(path) for path in paths))
    if options.json:
        print(json.dumps(result["summary"]))
    return 0


def compare(arguments: Sequence[str]) -> int:
    """train methods x data sets x seeds and print one table"""
    from knowsam_lite.commands.compare import compare as run

    return run(arguments)


def ablate(arguments: Sequence[str]) -> int:
    """add one part of KnowSAM at a time and print one table"""
    from knowsam_lite.commands.ablate import ablate as run

    return run(arguments)


def check_data(arguments: Sequence[str]) -> int:
    """list every fault of a data folder"""
    from knowsam_lite.commands.check import check_data as run

    return run(arguments)


@dataclass(frozen=True)
class ParityOptions:
    """Compare this library's `official` variant with the authors' behaviour, case by case."""

    cases: Annotated[Path, tyro.conf.Positional]  # folder of case files


def parity(arguments: Sequence[str]) -> int:
    """compare the official variant with recorded cases of the authors' code"""
    options = tyro.cli(ParityOptions, args=arguments, prog="knowsam-lite parity")
    from knowsam_lite.parity import run_parity

    return run_parity(options.cases)


@dataclass(frozen=True)
class WeightsOptions:
    """Download the pretrained weights of a teacher, so that `train --teacher NAME` finds them."""

    teacher: Annotated[str, tyro.conf.Positional]  # sam_mini, lite_medsam, sam_vit_b, sam_vit_l, sam_vit_h


def weights(arguments: Sequence[str]) -> int:
    """download a teacher's pretrained weights"""
    options = tyro.cli(WeightsOptions, args=arguments, prog="knowsam-lite weights")
    from knowsam_lite.sam.backbones import backbone_named

    backbone = backbone_named(options.teacher)
    assert backbone.weights is not None  # every backbone with a name has published weights
    path = backbone.weights.get(options.teacher)
    print(f"{options.teacher}: {path}, {path.stat().st_size / 1e6:.1f} MB")
    if backbone.note:
        print(f"Note: {backbone.note}.")
    return 0


def data(arguments: Sequence[str]) -> int:
    """bring a published data set, or your own images, into one folder"""
    from knowsam_lite.commands.data import data as run

    return run(arguments)


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "ablate": ablate,
    "check-data": check_data,
    "data": data,
    "parity": parity,
    "weights": weights,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; a UserError becomes one line on standard error and exit code 2."""
    listing = "\n".join(f"  {name:12} {command.__doc__}" for name, command in COMMANDS.items())
    parser = argparse.ArgumentParser(
        "knowsam-lite",
        description=f"KnowSAM: learn to segment medical images from few labels.\n\ncommands:\n{listing}",
        epilog="knowsam-lite COMMAND --help lists a command's options",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("options", nargs=argparse.REMAINDER, metavar="...")
    given = parser.parse_args(arguments)
    try:
        return COMMANDS[given.command](given.options)
    except UserError as error:
        # A loader process hands its error over with a traceback in front; the last line is the message.
        line = str(error).strip().splitlines()[-1].removeprefix("knowsam_lite.errors.UserError: ")
        print(f"error: {line}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
