"""`knowsam-lite import-labels DATASET FOLDER`: corrected masks become labels of the data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class Options:
    """Take masks, LabelMe's files or a COCO file into a data set; nothing there is overwritten."""

    dataset: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="data set, or folder of images")]
    labels: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="folder or file of what was corrected")]
    split: Literal["train", "val", "test"] = "train"  # what the newly labelled images are for


def import_labels(arguments: Sequence[str]) -> int:
    """take corrected masks into a data set"""
    options = tyro.cli(Options, args=arguments, prog="knowsam-lite import-labels")
    from collections import Counter

    from knowsam_lite.data.walk import few
    from knowsam_lite.files import in_shell
    from knowsam_lite.suggest.take import take_labels

    taken = take_labels(options.dataset, options.labels, options.split)
    print(f"{len(taken.new)} new labels in {options.split}, {len(taken.same)} that were there already")
    if taken.untouched:
        print(f"Note: drafts that nobody changed: {few(taken.untouched)}; look at them before you train.")
    masked = Counter(record.split for record in taken.records if record.mask is not None)
    counts = ", ".join(f"{masked[split]} {split}" for split in ("train", "val", "test"))
    without = sum(record.mask is None for record in taken.records)
    print(f"{options.dataset} holds labels for {counts} images, and {without} unlabelled training images")
    if masked["train"]:
        print(
            f"train with: knowsam-lite train --data {in_shell(options.dataset)} --labeled {masked['train']}"
        )
    return 0
