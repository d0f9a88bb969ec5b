"""What a data set held when it was read, and how that differs from what it holds now."""

import hashlib
import os
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from knowsam_lite.data.records import Record, SegmentationData
from knowsam_lite.errors import UserError

SHOWN = 3  # ids named for each kind of difference


@dataclass
class Fingerprint:
    """The images ("train, 8123 bytes", by id) and the masks that were read (by id: a hash of the classes in
    it, then size and time of change of the file: where those are the same it need not be read again).
    """

    images: dict[str, str] = field(default_factory=dict)
    masks: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, found: Any) -> "Fingerprint":
        """Of what `asdict` gave and JSON kept. Raises UserError if it is something else."""
        try:
            return cls(dict(found["images"]), dict(found["masks"]))
        except (LookupError, TypeError, ValueError):
            raise UserError(
                "found a damaged fingerprint in dataset.json, expected the run's: restore it"
            ) from None


def absolute(address: str) -> str:
    """A data set's address that means the same in every working folder; links are kept."""
    return address if address.startswith("synthetic:") else os.path.abspath(address)


def image_entry(record: Record) -> str:
    """How an image is remembered: its split and, if it is a file, its size."""
    size = _stat(record.image)
    return record.split if size is None else f"{record.split}, {size.st_size} bytes"


def mask_entry(record: Record, mask: np.ndarray) -> str:
    """How a mask (H, W) of classes that was read is remembered."""
    content = hashlib.blake2b(np.ascontiguousarray(mask).tobytes(), digest_size=8)
    content.update(repr(mask.shape).encode())
    return f"{content.hexdigest()} {_stamp(record)}".strip()


def look_again(dataset: SegmentationData, before: Fingerprint) -> Fingerprint:
    """The fingerprint of `dataset` now, with the same masks as `before`; those whose files have the same size
    and time of change, and those that are no files, are not read again.
    """
    now = Fingerprint()
    for record in dataset.records:
        now.images[record.id] = image_entry(record)
        entry = before.masks.get(record.id)
        if entry is None or record.mask is None:
            continue
        same = _stamp(record) == entry.partition(" ")[2]
        now.masks[record.id] = entry if same else _reread(dataset, record)
    return now


def _reread(dataset: SegmentationData, record: Record) -> str:
    try:
        return mask_entry(record, dataset.mask(record))
    except UserError:
        return "unreadable"


def differences(before: Fingerprint, now: Fingerprint) -> list[str]:
    """Every kind of difference between two fingerprints of one data set, in words; none if they agree."""
    both = before.images.keys() & now.images.keys()
    held = before.masks.keys() & now.masks.keys()
    changes = {
        "gone": before.images.keys() - both,
        "new": now.images.keys() - both,
        "in another split or of another size": {i for i in both if before.images[i] != now.images[i]},
        "without a mask now": (before.masks.keys() & both) - held,
        "with another mask": {i for i in held if _content(before.masks[i]) != _content(now.masks[i])},
    }
    return [f"{_count(ids)} {what}" for what, ids in changes.items() if ids]


def _content(entry: str) -> str:
    return entry.partition(" ")[0]


def _count(ids: Set[str]) -> str:
    """ "2 images (a, b)"."""
    named = ", ".join(sorted(ids)[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")
    return f"{len(ids)} image{'s' * (len(ids) > 1)} ({named})"


def _stamp(record: Record) -> str:
    found = None if record.mask is None else _stat(record.mask)
    return "" if found is None else f"{found.st_size} {found.st_mtime_ns}"


def _stat(path: Path) -> os.stat_result | None:
    """None where there is no such file, as in a data set that makes its images."""
    try:
        return os.stat(path)
    except (OSError, TypeError, ValueError):
        return None
