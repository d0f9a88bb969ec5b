"""Sizes, fonts and colours of all figures; a network has the same colour everywhere.

The colours follow Okabe and Ito (2008) and Tol's muted set, distinguishable with any colour vision.
"""

from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from knowsam_lite import colors
from knowsam_lite.colors import CLASSES, QUIET
from knowsam_lite.deprecated import old_names
from knowsam_lite.encoders.nets import DECODERS
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_aside

__all__ = ["CLASSES", "COLORS", "OTHERS", "QUIET", "RC", "color", "save", "style"]

__getattr__ = old_names(__name__)

COLORS = {**colors.NETWORKS, "truth": colors.INK}
# What else may be F_b has F_b's color.
COLORS |= {name: COLORS["V-Net"] for _, name in DECODERS.values() if name != "U-Net"}
# Loss terms, and all that is no network; those that come near a network's color are last.
OTHERS = ("#332288", "#999933", "#CC6677", "#88CCEE", "#DDCC77", "#44AA99", "#117733", "#661100", "#AA4499")

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
    "font.size": 8,
    "text.color": colors.INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelcolor": colors.INK,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.5,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "savefig.dpi": 220,
    "savefig.facecolor": "white",
    "svg.fonttype": "none",
}


def style() -> dict[str, Any]:
    """Make the library's sizes, fonts and colours matplotlib's defaults for your own plots; returns them."""
    matplotlib.rcParams.update(RC)
    return dict(RC)


def color(name: str, position: int = 0) -> str:
    """The colour #RRGGBB of a network ("U-Net", "V-Net", "fused", "SAM", "EMA") or of "truth".

    Any other name gets one by its `position` in a list of similar ones.
    """
    return COLORS.get(name, OTHERS[position % len(OTHERS)])


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a temporary file and rename it, so that no reader sees an incomplete picture.

    The ending of `path` gives the format (none: PNG). Raises `UserError` if the file cannot be written.
    """
    target = Path(path)
    ending = target.suffix.lstrip(".") or "png"
    known = figure.canvas.get_supported_filetypes()
    if ending not in known:
        raise UserError(f"found ending .{ending} in {target}, expected one of {', '.join(sorted(known))}")
    write_aside(target, partial(figure.savefig, format=ending))
