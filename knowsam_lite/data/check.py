"""Finds what is wrong with a data set before training starts."""

import json
import sys
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from knowsam_lite.data.description import Layout
from knowsam_lite.data.findings import Finding
from knowsam_lite.data.fingerprint import Fingerprint, image_entry, mask_entry
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.layout import ENDINGS, read_layout, straddling
from knowsam_lite.data.masks import UNKNOWN
from knowsam_lite.data.records import SPLITS, Record, SegmentationData
from knowsam_lite.data.statistics import Tally
from knowsam_lite.data.walk import walk
from knowsam_lite.errors import UserError


def check_dataset(
    root: str | Path, only: Collection[str] | None = None, find_duplicates: bool = False
) -> list[Finding]:
    """Reads all pictures of the folder `root`; returns every fault, then a summary (severity "info").

    `only` names the splits whose pictures are read (None: all). `find_duplicates` also lists the pictures
    that look alike within a split. Nothing is raised: an unreadable file is a finding.
    """
    root = Path(root)
    layout = read_layout(root, val=0.2, test=0.2, seed=0)
    findings = [*layout.findings, *layout.left_out, *_unlisted(root, layout.records)]
    folder = SegmentationFolder.from_layout(root, layout)
    tally = Tally(folder)
    for record in layout.records:
        if only is None or record.split in only:
            findings += tally.read(record)
    leaks = tally.copied() + tally.alike()
    findings += leaks + tally.doubts()
    proofs = _proofs(layout, tally, leaks) + (_listed(tally) if find_duplicates else [])
    found = list(dict.fromkeys(findings))  # all slices of a bad volume give the same finding
    summary = tally.summary() if layout.records else []
    return [_relative(root, finding) for finding in found] + summary + proofs


def _proofs(layout: Layout, tally: Tally, leaks: list[Finding]) -> list[Finding]:
    """What was checked and found in order."""
    splits = {record.split for record in tally.read_records}
    if len(splits) < 2:
        return []
    lines = []
    if not straddling(layout.records):
        lines.append("no group is in two splits")
    slices = sum(bool(record.volume) for record, _ in tally.looks)
    if not leaks and len(tally.looks) > slices:
        lines.append(f"no two of {len(tally.looks) - slices} pictures in different splits look alike")
    if not leaks and slices:
        lines.append(f"no two of {slices} slices in different splits are the same")
    return [Finding("info", tally.folder.name, line) for line in lines]


def _listed(tally: Tally) -> list[Finding]:
    """The near-duplicates, one line per group."""
    groups = tally.groups()
    count = f"{len(groups)} groups of pictures look alike but do not share a group"
    lines = [count, *(f"alike: {', '.join(record.id for record in group)}" for group in groups)]
    return [Finding("info", tally.folder.name, line) for line in lines]


def _unlisted(root: Path, records: list[Record]) -> list[Finding]:
    """Files in images/ and masks/ that index.csv does not name; they would be silently ignored."""
    if not (root / "index.csv").exists():
        return []  # without an index, unpaired files are already faults of the layout
    listed = {record.image for record in records} | {record.mask for record in records}
    fix = "add a row for it or delete the file"
    findings = []
    for found in (walk(root / name, ENDINGS) for name in ("images", "masks") if (root / name).is_dir()):
        findings += [
            Finding(
                "warning", str(path), "found a file that no valid row of index.csv names, expected one", fix
            )
            for path in found.files
            if path not in listed
        ]
        findings += [finding for finding in [found.left_out()] if finding]
    return findings


def _relative(root: Path, finding: Finding) -> Finding:
    file = Path(finding.file)
    inside = root != file and root in file.parents
    return replace(finding, file=str(file.relative_to(root))) if inside else finding


def check_for_training(dataset: SegmentationData, labeled_ids: Collection[str]) -> Fingerprint:
    """Raises UserError if an image, or a mask needed for training or evaluation, is bad; returns what it saw.

    Reads the labelled, val and test masks and every image's size (for a folder from the header alone), and
    never opens the mask of an unlabelled image. Doubts are printed as warnings; that the labelled masks hold
    nothing but background is an error.
    """
    if not labeled_ids:
        raise UserError(
            "found an empty labelled set, expected at least one image; ask for more with the labelled amount"
        )
    seen = Fingerprint()
    labeled: set[int] = set()
    for split in SPLITS:
        for record in dataset.split(split):
            seen.images[record.id] = image_entry(record)
            if hasattr(dataset, "image_size"):
                size = dataset.image_size(record)
            else:
                size = dataset.image(record).shape[:2]
            if split != "train" or record.id in labeled_ids:
                mask = _checked_mask(dataset, record, size)
                seen.masks[record.id] = mask_entry(record, mask)
                labeled |= set(np.unique(mask).tolist()) if split == "train" else set()
    for warning in (*_doubts(dataset), *_absent(dataset, labeled, len(labeled_ids))):
        print(f"warning: {warning}", file=sys.stderr)
    return seen


def _absent(dataset: SegmentationData, labeled: set[int], count: int) -> list[str]:
    """The classes that no labelled mask holds; UserError if there is no object in any."""
    if not labeled - {0, UNKNOWN}:
        raise UserError(
            f"found nothing but background in the {count} labelled masks, expected objects; label more "
            "images (--labeled), draw others (--seed), or see with check-data whether any mask holds one"
        )
    absent = [name for index, name in enumerate(dataset.classes) if index and index not in labeled]
    if not absent:
        return []
    fix = "label more images (--labeled) or draw others (--seed)"
    return [f"none of the {count} labelled masks holds {', '.join(absent)}, which will not be learned; {fix}"]


def _doubts(dataset: SegmentationData) -> list[str]:
    """What was left out of a folder or changed as it was read."""
    doubts = [str(finding) for finding in getattr(dataset, "left_out", [])]
    inverted = list(getattr(dataset, "inverted", []))
    if inverted:
        doubts.append(
            f"{len(inverted)} masks in which viewers show 0 as the brightest value, such as "
            f"{inverted[0].name}: the stored numbers count, look at some"
        )
    changed = [count for count in getattr(dataset, "thresholded", {}).values() if count]
    if changed:
        doubts.append(
            f"{len(changed)} JPEG masks hold values between those declared, as JPEG leaves them: "
            f"{sum(changed)} pixels were given the nearer value"
        )
    return doubts


def _checked_mask(dataset: SegmentationData, record: Record, size: tuple[int, ...]) -> np.ndarray:
    """A mask (H, W) of classes; UserError if its size or a class is wrong."""
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
    return mask


def report(findings: list[Finding]) -> int:
    """Prints the findings, one per line; returns 2 if there is an error."""
    for finding in findings:
        print(f"{finding.severity}: {finding}")
    counts = Counter(finding.severity for finding in findings)
    print(f"{counts['error']} errors, {counts['warning']} warnings")
    return 2 if counts["error"] else 0


def as_json(findings: list[Finding]) -> str:
    """The findings and the number of errors as one JSON object."""
    errors = sum(finding.severity == "error" for finding in findings)
    return json.dumps({"errors": errors, "findings": [asdict(finding) for finding in findings]})
