"""Finished cells whose settings or data are no longer those asked for: they are named, not shown again."""

import json
import sys
from collections.abc import Sequence

from knowsam_lite.compare.grid import Cell
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.runs.provenance import data_differences, keeps_fingerprint, read_stored, setting_differences


def changed_cells(cells: Sequence[Cell]) -> dict[Cell, str]:
    """The finished cells that other settings or other data made, each with a line that names the differences.

    Data that cannot be opened, or of which a cell keeps no fingerprint (scores alone, as they are published),
    is not compared, which a line on standard error says.
    """
    opened: dict[tuple[str, int], SegmentationData | None] = {}
    found, unkept = {}, 0
    for cell in cells:
        if not cell.scores.exists():
            continue
        config = cell.config
        key = (config.data, config.image_size)
        if key not in opened:
            opened[key] = _opened(config)
        changed = _settings(cell)
        if not keeps_fingerprint(config.out):
            unkept += 1
        elif (dataset := opened[key]) is not None and (stored := read_stored(config.out)):
            changed += data_differences(stored, dataset)
        if changed:
            found[cell] = (
                f"{config.out}: found scores of something else ({'; '.join(changed)}), expected the settings "
                "and data asked for: choose another --out, or delete this folder to train it again"
            )
    if unkept:
        print(
            f"Note: {unkept} finished cells keep no fingerprint of their data: not compared.",
            file=sys.stderr,
        )
    return found


def _opened(config: Config) -> SegmentationData | None:
    try:
        return open_dataset(config.data, config.image_size, config.val, config.test)
    except UserError as error:
        print(f"Note: {config.data} was not compared with what was trained on: {error}", file=sys.stderr)
        return None


def _settings(cell: Cell) -> list[str]:
    """How the settings of a cell's scores differ; nothing where they were not kept."""
    kept = json.loads(cell.scores.read_text(encoding="utf-8")).get("config")
    return setting_differences(Config.from_json(json.dumps(kept)), cell.config) if kept else []
