"""Methods x data sets x seeds: a resumable grid of runs, and its results."""

from knowsam_lite.compare.changed import changed_cells
from knowsam_lite.compare.grid import Cell, grid, run_grid
from knowsam_lite.compare.leaderboard import markdown, write_leaderboard
from knowsam_lite.compare.results import Block, Entry, read_blocks

__all__ = [
    "Block",
    "Cell",
    "Entry",
    "changed_cells",
    "grid",
    "markdown",
    "read_blocks",
    "run_grid",
    "write_leaderboard",
]
