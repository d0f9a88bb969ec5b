"""Committed cells trained again from their configurations: does every test image have the same scores?

    python tests/extra/again.py docs/comparison/real/isic2018_15/bcp/2 ... --out runs/again

Run it where the data sets and SAM's weights are that the configurations name; a cell that is done is only
compared. Means and intervals follow from the images' scores and are not compared: an interval's draws may
have changed since. The exit code is 1 if a cell differs or failed.
"""

import argparse
import json
import sys
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

from knowsam_lite.compare.grid import Cell, run_cell
from knowsam_lite.config import Config


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cells", type=Path, nargs="+", help="folders with a scores.json")
    parser.add_argument("--out", type=Path, default=Path("runs/again"))
    options = parser.parse_args()
    verdicts = []
    for folder in options.cells:
        recorded = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        config = Config.from_json(json.dumps(recorded["config"]))
        cell = Cell(config.method, replace(config, out=options.out.joinpath(*folder.resolve().parts[-3:])))
        failure = run_cell(cell)
        if not failure:
            cases = json.loads(cell.scores.read_text(encoding="utf-8"))["last"]["cases"]
            failure = compare(cases, recorded["last"]["cases"])
        print(folder, failure or "equal to the digit", flush=True)
        verdicts.append(failure)
    return int(any(verdicts))


def compare(cases: dict[str, list], recorded: dict[str, list]) -> str:
    """How two sets of scores, prediction -> one entry a case, differ; "" if they do not."""
    if cases.keys() != recorded.keys():
        return f"DIFFERS: predictions {sorted(cases)}, recorded {sorted(recorded)}"
    differing = {
        name: sum(here != there for here, there in zip_longest(cases[name], recorded[name])) for name in cases
    }
    return f"DIFFERS: cases {differing}" if any(differing.values()) else ""


if __name__ == "__main__":
    sys.exit(main())
