"""Puts a mask onto its image where EXIF turns one of the two, or says that it cannot know how."""

import json
from pathlib import Path

import numpy as np

from knowsam_lite.data.findings import Fault, Finding, fault
from knowsam_lite.data.masks import Coding, as_rgb
from knowsam_lite.data.pixels import TURNS, Frame, turned
from knowsam_lite.data.stored import read_frame

INVERSE = {6: 8, 8: 6}  # EXIF orientations that another one undoes; each other undoes itself


def as_drawn(picture: np.ndarray, image: Path, coding: Coding) -> np.ndarray:
    """A mask as its image is shown -> on the pixels on which the data set's masks are drawn: what `placed`
    turns, turned back.
    """
    turn = read_frame(image).turn
    return turned(picture, INVERSE.get(turn, turn)) if coding.drawn_on == "stored" else picture


def placed(path: Path, classes: np.ndarray, mask: Frame, image: Frame, coding: Coding) -> np.ndarray:
    """The classes of a mask, as stored, on the image as shown: (H, W).

    Where EXIF turns one of the two files, the mask belongs to the picture as shown or as stored. Sizes may
    tell; `coding.drawn_on` says it. UserError if neither fits, if both do and nothing was said, or if the
    mask was drawn on the stored picture and nothing was said.
    """
    fits = {"shown": mask.shown == image.shown, "stored": mask.stored == image.stored}
    if not fits.get(coding.drawn_on, any(fits.values())):
        raise _unequal(path, mask, image)
    if coding.drawn_on == "stored" or mask.turn == image.turn:
        return turned(classes, image.turn)
    if coding.drawn_on == "shown" or not fits["stored"]:
        return turned(classes, mask.turn)
    raise TurnFault(path, mask, image, fits["shown"], coding)


class TurnFault(Fault):
    """EXIF turns the image or the mask alone; `decided` if sizes fit the stored image only."""

    def __init__(self, path: Path, mask: Frame, image: Frame, both: bool, coding: Coding) -> None:
        frame, who, other = (image, "image", "mask") if image.turn != 1 else (mask, "mask", "image")
        fit = "sizes fit both ways" if both else "sizes fit as stored only"
        message = (
            f"found the {who} {TURNS[frame.turn]} by viewers (EXIF {frame.turn}), not so the {other}; {fit}"
        )
        super().__init__(
            Finding("error", str(path), f"{message}, expected both alike", _turn_fix(both, coding))
        )
        self.decided = not both


def _turn_fix(both: bool, coding: Coding) -> str:
    """How to say on which picture the masks were drawn, in words that can be followed as they stand."""
    stored = "masks drawn on the pixels as stored (OpenCV, MATLAB, ImageJ)"
    shown = f' for {stored}, "shown" for those drawn on the picture as viewers show it' if both else ""
    if coding.source == "options":
        return f"say --drawn-on stored{shown}"
    if coding.source:
        add = 'add "masks_drawn_on": "stored" to dataset.json'
    else:
        values = [as_rgb(value) for value in coding.values] if coding.painted else coding.values
        whole = {"classes": coding.classes, "mask_values": values, "masks_drawn_on": "stored"}
        add = f"write dataset.json with {json.dumps(whole)}"
    return f"{add}{shown}" if both else f"{add}, or let --fix OUT write a copy with the mask turned"


def _unequal(path: Path, mask: Frame, image: Frame) -> Fault:
    sizes = [f"{columns}x{rows} px" for rows, columns in (mask.shown, image.shown)]
    message = f"found a mask of {sizes[0]} for an image of {sizes[1]}, expected equal sizes"
    return fault(path, message, "resize the mask (nearest neighbour) or replace it")
