"""Finished cells whose settings or data are no longer those asked for: they are named, not shown again."""

import json
import sys
from collections.abc import Sequence

from knowsam_lite.compare.grid import Cell
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, open_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.runs.provenance import data_differences, read_stored, setting_differences


def changed_cells(cells: Sequence[Cell]) -> dict[Cell, str]:
    """The finished cells that other settings or other data made, each with a line that names the differences.

    Data that cannot be opened is not compared, which a line on standard error says.
    """
    opened: dict[tuple[str, int], SegmentationData | None] = {}
    found = {}
    for cell in cells:
        if not cell.scores.exists():
            continue
        config = cell.config
        key = (config.data, config.image_size)
        if key not in opened:
            opened[key] = _opened(config)
        changed = _settings(cell)
        dataset, stored = opened[key], read_stored(config.out)
        if stored and dataset is not None:
            changed += data_differences(stored, dataset)
        if changed:
            found[cell] = (
                f"{config.out}: found scores of something else ({'; '.join(changed)}), expected the settings "
                "and data asked for: choose another --out, or delete this folder to train it again"
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
