"""What a picture file holds: its numbers as stored, what they are, and how a viewer turns them."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

# EXIF orientations, by what a viewer does to the stored picture.
TURNS = {
    2: "mirrored left to right",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored at its diagonal",
    6: "turned by 90 degrees clockwise",
    7: "mirrored at its other diagonal",
    8: "turned by 90 degrees counterclockwise",
}


@dataclass(frozen=True)
class Frame:
    """Rows and columns as stored, and the EXIF orientation: 1 (as stored) or a key of TURNS."""

    stored: tuple[int, int]
    turn: int = 1

    @property
    def shown(self) -> tuple[int, int]:
        """Rows and columns as a viewer shows them."""
        rows, columns = self.stored
        return (columns, rows) if self.turn >= 5 else (rows, columns)


@dataclass(frozen=True)
class Stored:
    """The numbers of a picture file, (H, W) or for colors (H, W, 3), before any turn, scaling or look-up.

    `kind` says what they are: "gray", "color", or indices of `palette` (N, 3) uint8. `bits` is that of a
    number. `alpha` (H, W) is the transparency, if the file has one. `lossy`: the format changes values.
    `white_is_zero`: viewers show 0 as white.
    """

    numbers: np.ndarray
    kind: Literal["gray", "color", "palette"]
    bits: int
    turn: int = 1
    palette: np.ndarray | None = None
    alpha: np.ndarray | None = None
    lossy: bool = False
    white_is_zero: bool = False

    @property
    def frame(self) -> Frame:
        """Size and orientation."""
        return Frame((self.numbers.shape[0], self.numbers.shape[1]), self.turn)

    @property
    def shows_zero_bright(self) -> bool:
        """True if viewers show the smallest number brighter than the largest."""
        if self.palette is None:
            return self.white_is_zero
        used = sorted(self.used_colors().items())
        return len(used) > 1 and sum(used[0][1]) > sum(used[-1][1])

    def used_colors(self) -> dict[int, tuple[int, ...]]:
        """The color of each palette index that the picture holds."""
        if self.palette is None:
            return {}
        return {int(i): tuple(self.palette[i].tolist()) for i in np.unique(self.numbers)}

    @property
    def step(self) -> int:
        """The gray that viewers show for 1, if the picture is gray and has 1, 2 or 4 bits; else 1."""
        return 255 // self.full if self.kind == "gray" and self.bits in (1, 2, 4) else 1

    @property
    def full(self) -> int:
        """The largest number of this many bits."""
        return int(2**self.bits) - 1


def valid_turn(orientation: object) -> int:
    """An EXIF orientation; 1 for one that does not exist."""
    return orientation if isinstance(orientation, int) and orientation in TURNS else 1


def turned(array: np.ndarray, turn: int) -> np.ndarray:
    """An array (H, W, ...) as a viewer shows it for an EXIF orientation."""
    if turn in (5, 7):
        array = array.swapaxes(0, 1)
    if turn in (2, 4):
        array = np.flip(array, 1 if turn == 2 else 0)
    quarters = {3: 2, 6: -1, 7: 2, 8: 1}.get(turn, 0)
    return np.ascontiguousarray(np.rot90(array, quarters))
