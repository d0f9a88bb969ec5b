"""What a run stored about its settings and data, compared with those at hand: no difference stays unsaid."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationData, SegmentationFolder, is_synthetic
from knowsam_lite.data.fingerprint import Fingerprint, absolute, differences, look_again
from knowsam_lite.errors import UserError
from knowsam_lite.files import write_text
from knowsam_lite.runs.classes import Classes

# Where and on what a run is made, not what it is; data are compared by their content.
NOT_COMPARED = {"data", "out", "device", "workers", "log_every"}


@dataclass(frozen=True)
class Stored:
    """What dataset.json of a run says of its data."""

    address: str  # absolute
    typed: str
    classes: str  # names and mask values, as `Classes` shows them
    fingerprint: Fingerprint


def store(run: Path, dataset: SegmentationData, config: Config, seen: Fingerprint) -> None:
    """Write dataset.json: name, classes and mask values, what `read_stored` reads, and where SAM's weights
    are, if they were given as a file.
    """
    about: dict[str, Any] = {
        "address": absolute(config.data),
        "typed": config.data,
        "fingerprint": asdict(seen),
    }
    if config.checkpoint is not None:
        about["checkpoint"] = os.path.abspath(config.checkpoint)
    description = {**Classes.of(dataset).description(dataset.name), **about}
    write_text(run / "dataset.json", json.dumps(description, indent=1))


def keeps_fingerprint(run: Path) -> bool:
    """Whether the run says which data it has seen; older ones did not, nor do scores without a run."""
    return "fingerprint" in _description(run)


def read_stored(run: Path) -> Stored | None:
    """What `store` wrote; None, with a line on standard error, for a run of an older version."""
    found = _description(run)
    if "fingerprint" not in found:
        print(
            f"Note: {run} is of an older version and keeps no fingerprint of its data: not compared.",
            file=sys.stderr,
        )
        return None
    try:
        classes = ", ".join(map("{} {}".format, found["classes"], found["mask_values"]))
        return Stored(found["address"], found["typed"], classes, Fingerprint.from_json(found["fingerprint"]))
    except (KeyError, TypeError) as error:
        raise UserError(
            f"found {run / 'dataset.json'} without its {error}, expected a description: restore it"
        ) from None


def _description(run: Path) -> dict[str, Any]:
    """What dataset.json holds; nothing if there is none. Raises UserError if it is damaged."""
    path = run / "dataset.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError) as error:
        raise UserError(
            f"found no valid JSON in {path} ({error}), expected a description: restore it"
        ) from None


def read_config(run: Path) -> Config:
    """The configuration of a run. Raises UserError if the folder is not a run."""
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"found no {path}, expected a run folder: check the path")
    config = Config.from_json(path.read_text(encoding="utf-8", errors="replace"))
    kept = _description(run).get("checkpoint")  # the same file from every folder
    return replace(config, checkpoint=Path(kept)) if kept and os.path.isfile(kept) else config


def address_of(run: Path, config: Config, given: str | None = None) -> str:
    """Where the data of a run are: as `given`, else where they were, else as it was typed from this folder.

    Raises UserError if the folder is in none of these places.
    """
    if given is not None or is_synthetic(config.data):
        return given or config.data
    places = [_description(run).get("address", config.data), config.data]
    for place in places:
        if Path(place).is_dir():
            return place
    raise UserError(
        f"found no folder {places[0]}, expected the data of {run}: say with --data where they are"
    )


def setting_differences(before: Config, now: Config) -> list[str]:
    """The settings that make another run, in words; of a checkpoint only the file's name counts."""
    return [
        f"{f.name} {getattr(before, f.name)} then, {getattr(now, f.name)} now"
        for f in fields(Config)
        if f.name not in NOT_COMPARED and _named(getattr(before, f.name)) != _named(getattr(now, f.name))
    ]


def _named(value: Any) -> Any:
    return value.name if isinstance(value, Path) else value


def data_differences(stored: Stored, dataset: SegmentationData, seen: Fingerprint | None = None) -> list[str]:
    """How a data set differs from the one with which a run began, in words; only changed files are read, none
    if all was `seen` already.
    """
    now = str(Classes.of(dataset))
    found = [] if stored.classes == now else [f"classes {stored.classes} then, {now} now"]
    seen = seen or look_again(dataset, stored.fingerprint)
    return found + differences(stored.fingerprint, seen)


def require_same(run: Path, dataset: SegmentationData, config: Config, seen: Fingerprint) -> None:
    """Raises UserError naming every difference between a run and what is about to continue it; writes down
    where its data are now if they moved.
    """
    changed, stored = setting_differences(read_config(run), config), read_stored(run)
    if stored:
        changed += data_differences(stored, dataset, seen)
    if changed:
        raise UserError(
            f"found changes since {run} began ({'; '.join(changed)}), expected the same settings and data: "
            "restore them, or start again with another --out"
        )
    if stored is None or stored.address != absolute(config.data):
        store(run, dataset, config, seen)


def in_order_of(dataset: SegmentationData, names: Sequence[str], run: Path) -> SegmentationData:
    """The data set with its classes in the order that a run learned; a folder without any gets its names.

    Raises UserError if they are other classes.
    """
    own = tuple(dataset.classes)
    if own == tuple(names):
        return dataset
    if isinstance(dataset, SegmentationFolder):
        if not dataset.coding.source and len(own) == len(names):
            return dataset.with_classes(names, dataset.mask_values)
        if sorted(own) == sorted(names):
            print(
                f"Note: {dataset.name} lists the classes as {', '.join(own)}; they were put into the order "
                f"of {run}: {', '.join(names)}.",
                file=sys.stderr,
            )
            values = dict(zip(own, dataset.mask_values, strict=True))
            return dataset.with_classes(names, tuple(values[name] for name in names))
    raise UserError(
        f"found the classes {', '.join(own)} in {dataset.name}, expected those that {run} learned, "
        f"{', '.join(names)}: give them these names in dataset.json, or choose another data set"
    )
