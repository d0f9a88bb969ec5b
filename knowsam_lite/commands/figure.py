"""`knowsam-lite figure NAME`: a figure for a lecture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from knowsam_lite.errors import UserError


@dataclass(frozen=True)
class Options:
    """Compute and draw a figure for a lecture. Without a name, lists them."""

    name: Annotated[str, tyro.conf.Positional] = ""
    out: Path | None = None  # file ending in .png, .svg or .pdf; default: NAME.png in this folder


def figure(arguments: Sequence[str]) -> int:
    """draw a figure for a lecture"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite figure")
    from knowsam_lite.figures.gallery import GALLERY

    if not options.name:
        for name, draw in GALLERY.items():
            print(f"{name:16} {draw.__doc__}")
        return 0
    if options.name not in GALLERY:
        raise UserError(f"found figure {options.name!r}, expected one of {', '.join(GALLERY)}")
    path = options.out or Path(f"{options.name}.png")
    GALLERY[options.name](path)
    print(f"wrote {path}: {GALLERY[options.name].__doc__}")
    return 0
