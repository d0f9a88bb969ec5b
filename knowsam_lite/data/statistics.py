"""Statistics collected while the pictures of a data set are read one by one."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from knowsam_lite.data.duplicates import both_slices, fingerprint, groups_of, near_pairs
from knowsam_lite.data.findings import Fault, Finding
from knowsam_lite.data.folder import SegmentationFolder
from knowsam_lite.data.records import SPLITS, Record

SPECK = 3  # pixels: an object this small is probably a mistake


class Tally:
    """Sizes, classes and perceptual hashes of the records read so far."""

    def __init__(self, folder: SegmentationFolder) -> None:
        self.folder = folder
        self.read_records: list[Record] = []
        self.masked: Counter[str] = Counter()
        self.sizes: Counter[tuple[int, ...]] = Counter()
        self.pixels = np.zeros(folder.num_classes, np.int64)
        self.holders = np.zeros(folder.num_classes, np.int64)  # masks that contain the class
        self.empty = 0
        self.copies: dict[str, list[Record]] = defaultdict(list)
        self.looks: list[tuple[Record, np.ndarray]] = []

    def read(self, record: Record) -> list[Finding]:
        """Reads the image and the mask; returns their faults."""
        findings = []
        self.read_records.append(record)
        try:
            self._image(record)
        except Fault as error:
            findings.append(error.finding)
        if record.mask is None:
            return findings
        try:
            findings += self._mask(record)
        except Fault as error:
            if error.finding not in findings:  # an unreadable image is found again when its size is compared
                findings.append(error.finding)
        return findings

    def _image(self, record: Record) -> None:
        image = self.folder.image(record)
        self.sizes[image.shape[:2]] += 1
        look = fingerprint(image)
        if look is not None:
            self.looks.append((record, look))
            self.copies[hashlib.sha256(image.tobytes()).hexdigest()].append(record)

    def _mask(self, record: Record) -> list[Finding]:
        counts = np.bincount(self.folder.mask(record).ravel(), minlength=len(self.pixels))
        self.pixels += counts
        self.holders += counts > 0
        self.masked[record.split] += 1
        objects = int(counts[1:].sum())
        self.empty += objects == 0
        if not 0 < objects <= SPECK or record.index is not None:  # a volume's last slice may hold a speck
            return []
        message = f"found {objects} foreground pixels, expected an object or none"
        return [Finding("warning", str(record.mask), message, "look at the mask: is it a stray mark?")]

    def copied(self) -> list[Finding]:
        """Pictures that are identical, pixel for pixel, and in different splits."""
        findings = []
        for records in self.copies.values():
            splits = sorted({record.split for record in records})
            if len(splits) > 1:
                names = " and ".join(dict.fromkeys(record.case for record in records))
                message = (
                    f"found the same picture as {names} in {' and '.join(splits)}, expected it in one split"
                )
                findings.append(_leak(records[0], message))
        return findings

    def alike(self) -> list[Finding]:
        """Pairs of pictures that look alike and are in different splits."""
        twins = {record: key for key, records in self.copies.items() for record in records}
        findings = []
        for i, j, bits in self._pairs():
            first, second = self.looks[i][0], self.looks[j][0]
            if first.split != second.split and twins[first] != twins[second]:
                both = f"{first.id} ({first.split}) and {second.id} ({second.split})"
                message = (
                    f"found near-duplicates {both}, {bits} of 256 bits differ, expected them in one split"
                )
                findings.append(_leak(first, message))
        return findings

    def groups(self) -> list[list[Record]]:
        """Groups of near-duplicates that are not yet one group in the data set."""
        found = [[self.looks[i][0] for i in group] for group in groups_of(self._pairs(), len(self.looks))]
        return [group for group in found if len({record.group for record in group}) > 1]

    def _pairs(self) -> list[tuple[int, int, int]]:
        """Pictures that look alike. Two slices do not count: see `both_slices`; `copied` finds equal ones."""
        pairs = near_pairs(np.array([look for _, look in self.looks])) if self.looks else []
        return [(i, j, bits) for i, j, bits in pairs if not both_slices(self.looks[i][0], self.looks[j][0])]

    def doubts(self) -> list[Finding]:
        """Warnings about the whole set: thresholded masks, and classes that no mask contains."""
        changed = {path: count for path, count in self.folder.thresholded.items() if count}
        findings = []
        if changed:
            pixels, first = sum(changed.values()), next(iter(changed))
            message = (
                f"found {len(changed)} JPEG masks (this is the first) in which {pixels} pixels are none of "
                "the declared values, expected PNG; the nearer value was taken"
            )
            fix = "look at some; --fix OUT writes a copy with PNG masks"
            findings.append(Finding("warning", str(first), message, fix))
        for name, count in zip(self.folder.classes[1:], self.pixels[1:], strict=True):
            if not count and self.masked:
                message = (
                    f"found no pixel of class {name!r} in {sum(self.masked.values())} masks, expected some"
                )
                findings.append(
                    Finding("warning", self.folder.name, message, "correct classes or mask_values")
                )
        return findings

    def summary(self) -> list[Finding]:
        """Counts per split, groups, sizes, values, class frequencies, as findings of severity "info"."""
        lines = [self._split_line(split) for split in SPLITS]
        if self.sizes:
            (height, width), (high, wide) = min(self.sizes), max(self.sizes)
            lines.append(
                f"{len(self.sizes)} sizes of image, height x width from {height}x{width} to {high}x{wide} px"
            )
        if self.pixels.any():
            shares = 100 * self.pixels / self.pixels.sum()
            values = [v for v, count in zip(self.folder.mask_values, self.pixels, strict=True) if count]
            named = [f"{name} {share:.2f} %" for name, share in zip(self.folder.classes, shares, strict=True)]
            held = [
                f"{name} in {n}" for name, n in zip(self.folder.classes[1:], self.holders[1:], strict=True)
            ]
            lines += [
                f"mask values: {self.folder.shown(values)}",
                f"pixels: {', '.join(named)}",
                f"of {sum(self.masked.values())} masks: {', '.join(held)}",
                f"{self.empty} masks hold background only",
            ]
        return [Finding("info", self.folder.name, line) for line in lines]

    def _split_line(self, split: str) -> str:
        records = [record for record in self.read_records if record.split == split]
        volumes = len({record.volume for record in records if record.volume})
        count = f"{len(records)} images" + (f" in {volumes} volumes" if volumes else "")
        groups = len({record.group for record in records})
        return f"{split}: {count}, {self.masked[split]} readable masks, {groups} groups"


def _leak(record: Record, message: str) -> Finding:
    fix = "keep one, or give all the same group and split"
    fix += " in index.csv" if record.volume else " (--fix OUT does so in a copy)"
    return Finding("warning", str(Path(record.image)), message, fix)
