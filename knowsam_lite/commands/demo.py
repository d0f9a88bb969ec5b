"""`knowsam-lite demo RUN DIR`: a page that runs a trained model in the browser, without a server."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import tyro

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Options:
    """Write a folder with a page: an image is dropped on it, mask and uncertainty appear. It needs no server
    and sends nothing; the browser's part, onnxruntime-web, is downloaded once (33 MB).
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder that `train` wrote")]
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="new folder for the page", metavar="DIR")]
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    int8: bool = False  # a model of a third of the size; needs the training images
    data: str | None = None  # the run's data set, if it is not where it was; with --int8
    title: str = ""  # heading of the page; default: what the run learned


def demo(arguments: Sequence[str]) -> int:
    """write a page that runs a trained model in the browser"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite demo")
    from knowsam_lite.commands.export import pictures
    from knowsam_lite.files import in_shell
    from knowsam_lite.predict import Predictor
    from knowsam_lite.predict import export as onnx
    from knowsam_lite.predict.model_card import GRAPH, model_card
    from knowsam_lite.runs.run import load_run
    from knowsam_lite.web.demo import write_demo

    onnx.require_onnx()
    predictor = Predictor.from_run(options.run, options.which, "cpu")
    if predictor.tile:
        raise UserError(
            f"found a run on squares of {predictor.tile} px in {options.run}, expected one on whole "
            "pictures, which are what the page shows: use `predict`, or train without --tile"
        )
    with TemporaryDirectory() as folder:
        model = Path(folder, "model.onnx")
        onnx.export(predictor, model)
        if options.int8:
            data = load_run(options.run, options.data, options.which, "cpu").dataset
            onnx.quantize(model, model, islice(pictures(data, 0), onnx.CALIBRATION))
        title = options.title or f"Find {', '.join(predictor.classes.names[1:])}"
        card = model_card(options.run, predictor, f"`model.js`: {GRAPH}", {})
        write_demo(model, predictor.classes, title, card, options.out)
    size = sum(file.stat().st_size for file in options.out.iterdir()) / 1e6
    print(f"wrote {options.out}, {size:.0f} MB: open {in_shell(options.out / 'index.html')} in a browser")
    return 0
