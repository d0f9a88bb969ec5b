"""`knowsam-lite predict RUN IMAGES OUT`: masks for pictures and volumes, each at its image's size."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from knowsam_lite.predict.files import Wanted


@dataclass(frozen=True)
class Options:
    """Predict masks; KnowSAM needs only its two subnets and HAM for this, SAM is not loaded."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder that `train` wrote")]
    images: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(help="picture, volume, folder of them, or data set")
    ]
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder for masks/ and other outputs")]
    split: Literal["train", "val", "test"] | None = None  # of a data set: only these images
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    flips: bool = False  # mean over four mirrored views; four times the cost
    overlay: bool = False  # also overlays/: the picture with the classes in color
    probabilities: bool = False  # also probabilities/: NAME.npz, float16 (C, H, W) or (C, D, H, W)
    watch: bool = False  # go on: predict what arrives in the folder, until Ctrl-C
    device: str = "auto"
    json: bool = False  # print the result as one JSON object, last


def predict(arguments: Sequence[str]) -> int:
    """write masks for pictures and volumes"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite predict")
    from tqdm.auto import tqdm

    from knowsam_lite.parallel.start import own_device, share
    from knowsam_lite.predict import Predictor
    from knowsam_lite.predict.files import Wanted, find_images, write_predictions

    wanted = Wanted(options.overlay, options.probabilities)
    if options.watch:
        return _watch(options, wanted)
    number, of = share()
    found = find_images(options.images, options.out, options.split)[number::of]
    device = own_device(options.device)
    predictor = Predictor.from_run(options.run, options.which, device, options.flips)
    with tqdm(total=len(found), desc="predict", dynamic_ncols=True) as bar:
        for _ in write_predictions(predictor, found, options.out, wanted):
            bar.update()
    folders = ["masks", *(["overlays"] if options.overlay else [])]
    folders += ["probabilities"] if options.probabilities else []
    wrote = [str(options.out / name) for name in folders]
    print(f"{len(found)} masks of {', '.join(predictor.classes.names)}; wrote {', '.join(wrote)}")
    if predictor.method.note:
        print(f"Note: {predictor.method.note}.")
    if options.json:
        print(json.dumps({"images": len(found), "wrote": wrote}))
    return 0


def _watch(options: Options, wanted: "Wanted") -> int:
    """Predict what arrives; only Ctrl-C or an error ends it."""
    from knowsam_lite.errors import UserError
    from knowsam_lite.predict import Predictor
    from knowsam_lite.predict.watch import pause, watch

    if options.split is not None:
        raise UserError(
            f"found --split {options.split} beside --watch, expected a plain folder: leave one out"
        )
    predictor = Predictor.from_run(options.run, options.which, options.device, options.flips)
    print(
        f"watching {options.images} for images, masks go to {options.out / 'masks'}; Ctrl-C ends it",
        flush=True,
    )
    watch(predictor, options.images, options.out, wanted, pause)
    return 0
