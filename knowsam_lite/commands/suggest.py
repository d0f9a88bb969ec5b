"""`knowsam-lite suggest RUN FOLDER -n 10`: which images to label next, with drafts to correct."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Choose unlabelled images by a score, and draft their masks for an annotation tool."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder that `train` wrote")]
    images: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="data set, or folder of images")]
    number: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 10  # images to choose
    by: Literal["random", "combined", "disagreement", "entropy", "sam", "diversity"] = "random"
    out: Path | None = None  # new folder for sheet, drafts and table; default: RUN/suggested
    which: Literal["last", "best"] = "last"  # last checkpoint, or the best on val
    seed: int = 0  # of --by random
    device: str = "auto"


def suggest(arguments: Sequence[str]) -> int:
    """choose the images to label next, and draft their masks"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite suggest")
    from knowsam_lite.data.layout import image_folder
    from knowsam_lite.errors import UserError
    from knowsam_lite.files import in_shell
    from knowsam_lite.predict.files import refuse_inside
    from knowsam_lite.suggest.drafts import write_drafts
    from knowsam_lite.suggest.run import open_predictor, suggestions
    from knowsam_lite.suggest.take import open_partly_labeled

    out = options.out or options.run / "suggested"
    if options.number < 1:
        raise UserError(f"found -n {options.number}, expected at least 1 image: change it")
    if out.exists() and any(out.iterdir()):
        raise UserError(f"found files in {out}, expected a new or empty folder: give another --out")
    if not (options.images / "index.csv").exists():
        refuse_inside(out, image_folder(options.images))
    data = open_partly_labeled(options.images)
    predictor = open_predictor(options.run, options.which, options.device)
    chosen, data = suggestions(predictor, data, options.run, options.by, options.number, options.seed)
    write_drafts(predictor, data, chosen, out)
    print(f"{len(chosen)} of {data.name}, {options.by}: " + ", ".join(each.record.id for each in chosen))
    print(f"wrote {out}: sheet.png, suggestions.csv, masks/, images/ with LabelMe's JSON, coco.json")
    print("correct one kind of the drafts, then: ", end="")
    print(f"knowsam-lite import-labels {in_shell(options.images)} {in_shell(out / 'masks')}")
    return 0
