"""All that is wrong with a data set, before a training finds out."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import numpy as np

from knowsam_lite.data.findings import Fault, Finding
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.images import SUFFIXES
from knowsam_lite.data.layout import read_layout
from knowsam_lite.data.records import SPLITS, Record, SegmentationData
from knowsam_lite.errors import UserError


def check_dataset(root: str | Path, only: Collection[str] | None = None) -> list[Finding]:
    """Every fault of the folder `root`, all pictures read; then, as findings of severity "info", a summary.

    `only` names the splits whose pictures are read (None: all). Nothing is raised: what cannot be read is a
    finding.
    """
    root = Path(root)
    layout = read_layout(root, val=0.2, test=0.2, seed=0)
    findings = [*layout.findings, *_unlisted(root, layout.records)]
    folder = SegmentationFolder.from_layout(root, layout)
    tally = _Tally(folder)
    for record in layout.records:
        if only is None or record.split in only:
            findings += tally.read(record)
    findings += tally.leaks()
    return [_relative(root, finding) for finding in findings] + tally.summary()


class _Tally:
    """What is counted while the pictures are read one after another."""

    def __init__(self, folder: SegmentationFolder) -> None:
        self.folder = folder
        self.splits: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, ...]] = Counter()
        self.pixels = np.zeros(folder.num_classes, np.int64)
        self.empty = 0
        self.copies: dict[str, list[Record]] = defaultdict(list)

    def read(self, record: Record) -> list[Finding]:
        """Reads the image and the mask; what is wrong with them."""
        findings = []
        self.splits[record.split] += 1
        try:
            image = self.folder.image(record)
            self.sizes[image.shape[:2]] += 1
            self.copies[hashlib.sha256(image.tobytes()).hexdigest()].append(record)
        except Fault as error:
            findings.append(error.finding)
        if record.mask is None:
            return findings
        try:
            counts = np.bincount(self.folder.mask(record).ravel(), minlength=len(self.pixels))
            self.pixels += counts
            self.masked[record.split] += 1
            self.empty += not counts[1:].any()
        except Fault as error:
            if error.finding not in findings:  # an unreadable image is found again when its size is compared
                findings.append(error.finding)
        return findings

    def leaks(self) -> list[Finding]:
        """Pictures that are the same, pixel for pixel, in two splits."""
        findings = []
        for records in self.copies.values():
            splits = sorted({record.split for record in records})
            if len(splits) > 1:
                names = " and ".join(record.id for record in records)
                message = f"found the same picture as {names} in {' and '.join(splits)}"
                fix = "keep one, or give all the same group and split"
                findings.append(
                    Finding("warning", str(records[0].image), f"{message}, expected it in one split", fix)
                )
        return findings

    def summary(self) -> list[Finding]:
        """Counts per split, sizes, class frequencies and empty masks, as findings of severity "info"."""
        lines = [
            f"{split}: {self.splits[split]} images, {self.masked[split]} readable masks" for split in SPLITS
        ]
        if self.sizes:
            sides = sorted(self.sizes)
            (height, width), (high, wide) = sides[0], sides[-1]
            lines.append(
                f"{len(sides)} sizes of image, height x width from {height}x{width} to {high}x{wide} px"
            )
        if self.pixels.any():
            shares = 100 * self.pixels / self.pixels.sum()
            named = [f"{name} {share:.2f} %" for name, share in zip(self.folder.classes, shares, strict=True)]
            lines += [f"pixels: {', '.join(named)}", f"{self.empty} masks hold background only"]
        return [Finding("info", self.folder.name, line) for line in lines]


def _unlisted(root: Path, records: list[Record]) -> list[Finding]:
    """Pictures in images/ and masks/ that index.csv does not name; they would be passed over in silence."""
    if not (root / "index.csv").exists():
        return []  # without an index each unpaired file is a fault of the layout already
    listed = {record.image for record in records} | {record.mask for record in records}
    found = [path for name in ("images", "masks") for path in sorted((root / name).rglob("*"))]
    extra = [path for path in found if path.suffix.lower() in SUFFIXES and path not in listed]
    fix = "add a row for it or delete the file"
    return [
        Finding("warning", str(path), "found a file that no valid row of index.csv names", fix)
        for path in extra
    ]


def _relative(root: Path, finding: Finding) -> Finding:
    file = Path(finding.file)
    inside = root != file and root in file.parents
    return (
        Finding(finding.severity, str(file.relative_to(root)), finding.message, finding.fix)
        if inside
        else finding
    )


def check_for_training(dataset: SegmentationData, labeled_ids: Collection[str]) -> None:
    """Stops with a UserError if an image, or a mask that training or evaluation needs, is bad.

    Reads the labelled, val and test masks and every image's size (for a folder from its header alone), and
    never opens the mask of an unlabelled image.
    """
    if not labeled_ids:
        raise UserError(
            "found an empty labelled set, expected at least one image; ask for more with the labelled amount"
        )
    for split in SPLITS:
        for record in dataset.split(split):
            if hasattr(dataset, "image_size"):
                size = dataset.image_size(record)
            else:
                size = dataset.image(record).shape[:2]
            if split != "train" or record.id in labeled_ids:
                _check_mask(dataset, record, size)


def _check_mask(dataset: SegmentationData, record: Record, size: tuple[int, ...]) -> None:
    mask = dataset.mask(record)
    if mask.shape != tuple(size):
        raise UserError(
            f"{record.id}: found a mask of shape {mask.shape} for an image of {tuple(size)}, "
            "expected equal sizes; resize the mask (nearest neighbour)"
        )
    top = int(mask.max(initial=0))
    if top >= dataset.num_classes:
        raise UserError(
            f"{record.id}: found class {top} in the mask, expected 0 to {dataset.num_classes - 1} for the "
            f"{dataset.num_classes} declared classes; declare more classes or correct the mask"
        )


def report(findings: list[Finding], as_json: bool) -> int:
    """Prints the findings, one a line, then, if asked, one JSON object; returns exit code 2 on an error."""
    for finding in findings:
        print(f"{finding.severity}: {finding}")
    counts = Counter(finding.severity for finding in findings)
    print(f"{counts['error']} errors, {counts['warning']} warnings")
    if as_json:
        print(json.dumps({"errors": counts["error"], "findings": [asdict(finding) for finding in findings]}))
    return 2 if counts["error"] else 0
