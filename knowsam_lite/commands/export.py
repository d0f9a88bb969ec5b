"""`knowsam-lite export RUN MODEL.onnx`: a trained model for use without Python or this library."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import numpy as np

    from knowsam_lite.data import SegmentationData
    from knowsam_lite.predict.export import OnnxPredictor


@dataclass(frozen=True)
class Options:
    """Write the networks of a run, preprocessing included, as one ONNX file, and a model card beside it."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder that `train` wrote")]
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="the file to write, MODEL.onnx")]
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    int8: bool = False  # also MODEL.int8.onnx, a third of the size; needs the training images
    data: str | None = None  # the run's data set, if it is not where it was
    split: Literal["val", "test"] = "val"  # on which both files are scored, with --int8


def export(arguments: Sequence[str]) -> int:
    """write a trained model as ONNX"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite export")
    from knowsam_lite.errors import UserError
    from knowsam_lite.files import write_text, writing
    from knowsam_lite.predict import Predictor
    from knowsam_lite.predict import export as onnx
    from knowsam_lite.predict.model_card import GRAPH, model_card
    from knowsam_lite.runs.run import load_run

    path = options.model
    if path.suffix != ".onnx":
        raise UserError(f"found {path}, expected a name ending in .onnx: write {path / 'model.onnx'}, say")
    onnx.require_onnx()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    predictor = Predictor.from_run(options.run, options.which, "cpu")
    onnx.export(predictor, path)
    wrote = [path]
    measured = {}
    if options.int8:
        small = path.with_suffix(".int8.onnx")
        data = load_run(options.run, options.data, options.which, "cpu").dataset
        if not data.split(options.split):
            raise UserError(
                f"found no {options.split} images in {data.name}, expected some to score both files on: give "
                "--split val or test, whichever it has, or leave out --int8"
            )
        onnx.quantize(path, small, islice(pictures(data, predictor.tile), onnx.CALIBRATION))
        wrote.append(small)
        for file in wrote:
            score = dice_of(onnx.OnnxPredictor(file), data, options.split)
            measured[file.name] = f"{file.stat().st_size / 1e6:.1f} MB, Dice {score:.3f} on {options.split}"
            print(f"{file.name}: {measured[file.name]}")
    card = path.with_suffix(".md")
    write_text(card, model_card(options.run, predictor, f"`{path.name}`: {GRAPH}", measured))
    print("wrote " + ", ".join(str(file) for file in [*wrote, card]))
    return 0


def pictures(data: "SegmentationData", tile: int) -> Iterator["np.ndarray"]:
    """The training images of a data set, as a network takes them: whole, or squares of `tile` px if not 0."""
    from knowsam_lite.data.tiles import Tiles

    if not tile:
        return (data.image(record) for record in data.split("train"))
    cut = Tiles(data, tile)
    return (image for of in data.split("train") for _, image, _ in cut.squares(of, labeled=False))


def dice_of(model: "OnnxPredictor", data: "SegmentationData", split: str) -> float:
    """Mean Dice over the images of a split and the foreground classes, image by image, where the class is
    known.
    """
    import numpy as np

    from knowsam_lite.metrics import dice

    scores = []
    for record in data.split(split):
        [found], truth = model([data.image(record)]), data.mask(record)
        known = truth >= 0
        scores.append(np.mean([dice((found == c) & known, truth == c) for c in range(1, data.num_classes)]))
    return float(np.mean(scores))
