"""Equal minutes: how many steps of each method cost as much time as another one's."""

import json
from collections.abc import Sequence
from pathlib import Path

from knowsam_lite.compare.grid import load_grid
from knowsam_lite.errors import UserError


def steps_of_equal_time(finished: Path, names: Sequence[str], reference: str) -> dict[str, int]:
    """Steps of each method that take as long as the steps of `reference` in the grid `finished`.

    A method's seconds a step are the least of its cells there, over data sets and seeds: what other programs
    do beside a run only adds to them. Raises UserError for methods of which no cell is done.
    """
    cells, _ = load_grid(finished)
    seconds = {}
    for name in dict.fromkeys([reference, *names]):
        mine = [cell for cell in cells if cell.variant == name and cell.scores.exists()]
        if not mine:
            raise UserError(
                f"found no finished cell of {name} in {finished}, expected one: train it there first"
            )
        found = (json.loads(cell.scores.read_text(encoding="utf-8")) for cell in mine)
        seconds[name] = min(scores["cost"]["seconds_per_step"] for scores in found)
    steps = max(cell.config.steps for cell in cells if cell.variant == reference)
    return {name: max(1, round(steps * seconds[reference] / seconds[name])) for name in names}
