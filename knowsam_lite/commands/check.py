"""`knowsam-lite check-data ROOT`: every fault of a data folder, and a mended copy."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Options:
    """Check a whole data folder and list every fault; the folder is not changed."""

    root: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(help="folder with index.csv, with images/ and masks/, or with h5 lists"),
    ]
    find_duplicates: bool = False  # also list pictures that look alike within a split
    fix: Path | None = None  # new folder for a copy with mendable faults mended
    sheet: Path | None = None  # PNG to write: ten random pairs with outlined masks
    json: bool = False  # print the findings as one JSON object, last


def check_data(arguments: Sequence[str]) -> int:
    """list every fault of a data folder"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite check-data")
    from knowsam_lite.data.check import as_json, check_dataset, report

    found = check_dataset(options.root, find_duplicates=options.find_duplicates)
    code = report(found)
    if options.sheet is not None:
        print(_drawn(options.root, options.sheet))
    if options.fix is not None:
        from knowsam_lite.data.mend import mend

        for line in mend(options.root, options.fix):
            print(f"mended: {line}")
        print(f"wrote {options.fix}, which holds:")
        found = check_dataset(options.fix)
        code = report(found)
    if options.json:
        print(as_json(found))
    return code


def _drawn(root: Path, sheet: Path) -> str:
    """Draws pairs that can be read, even where others have faults; returns a line that says so."""
    from knowsam_lite.data.folder import SegmentationFolder
    from knowsam_lite.data.layout import read_layout
    from knowsam_lite.data.sheet import random_sheet

    folder = SegmentationFolder.from_layout(root, read_layout(root, val=0.2, test=0.2, seed=0))
    shown = random_sheet(folder, folder.records, sheet)
    return f"wrote {sheet}: {len(shown)} of {len(folder.records)} images; do the outlines fit?"
