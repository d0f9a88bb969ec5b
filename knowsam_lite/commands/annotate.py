"""`knowsam-lite annotate FOLDER`: draw masks in the browser, helped by SAM and by a trained run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Open a page on which masks are drawn: clicks and boxes that SAM answers, a run's draft, brush, eraser.

    Only this machine can open it. A data set gets the masks in its own values and in index.csv; beside a
    plain folder of pictures they go to masks/.
    """

    folder: Annotated[
        Path, tyro.conf.Positional, tyro.conf.arg(help="data set, or folder with images/ or with pictures")
    ]
    teacher: str | None = None  # the SAM that answers; default: mobile_sam, or sam_mini where it is not here
    teacher_size: int | None = None  # pixels a side at which it looks; default: as it was pretrained
    checkpoint: Path | None = None  # a file with its weights instead of the published ones
    run: Path | None = None  # a run whose prediction lies beneath as a draft
    which: Literal["last", "best"] = "last"  # its last checkpoint, or the best on val
    port: int = 0  # 0: a free one
    browser: bool = True  # open the page in the default browser
    device: str = "auto"


def annotate(arguments: Sequence[str]) -> int:
    """draw masks in the browser, helped by SAM and a trained run"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite annotate")
    import webbrowser

    from knowsam_lite.web.annotator import Wanted, open_annotator
    from knowsam_lite.web.start import require_tornado, serve

    require_tornado()
    wanted = Wanted(
        teacher=options.teacher,
        teacher_size=options.teacher_size,
        checkpoint=options.checkpoint,
        run=options.run,
        which=options.which,
        device=options.device,
    )
    annotator = open_annotator(options.folder, wanted)
    masks = annotator.folder.root / "masks"
    print(f"{len(annotator.folder.records)} pictures; {annotator.teacher} answers; new masks go to {masks}")

    def told(address: str) -> None:
        print(f"{address}\nopen this address in a browser on this machine; Ctrl-C ends", flush=True)
        if options.browser:
            webbrowser.open(address)

    serve(annotator, options.port, told)
    return 0
