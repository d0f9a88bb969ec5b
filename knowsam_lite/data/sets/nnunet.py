"""nnU-Net's folders: imagesTr, labelsTr and dataset.json of both its versions, and the Decathlon's."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

from knowsam_lite.data.images import SUFFIXES
from knowsam_lite.data.names import distinct
from knowsam_lite.data.prepare.recipe import Item, Recipe, relative_files
from knowsam_lite.data.sets.own import VOLUMES, digest, group_in, read
from knowsam_lite.errors import UserError


def recipe(root: Path, title: str, group: str) -> Recipe:
    """The recipe for the folder `root`; UserError if it is not nnU-Net's, or has what is not supported."""
    about = _description(root)
    labels = _labels(about.get("labels"))
    names, values = zip(*labels, strict=True)
    channels = list((about.get("channel_names") or about.get("modality") or {}).values())
    notes = [f"of the channels {', '.join(channels)} the first is used"] if len(channels) > 1 else []
    return Recipe(
        name=f"own/{digest(('nnunet', group), [root])}",
        title=title if title else str(about.get("name") or root.name),
        classes=names,
        find=partial(find, group=group),
        read=partial(read, values=values, painted=False),
        licence=str(about.get("licence") or about.get("license") or "Your own."),
        citation=str(about.get("reference") or "Your own."),
        val=0.2,
        test=0.2,
        mask_values=values,
        keep_volumes=True,
        notes=tuple(notes),
    )


def _description(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"found no readable {path} ({error}), expected nnU-Net's description of labels: give --nnunet "
            "the folder that holds imagesTr, labelsTr and dataset.json"
        ) from None
    return found if isinstance(found, dict) else {}


def _labels(found: Any) -> list[tuple[str, int]]:
    """Class names with their values, the background first. UserError for regions and ignored labels."""
    pairs = list(found.items()) if isinstance(found, dict) else []
    if all(str(name).isdecimal() for name, _ in pairs):  # the first version: {"0": "background"}
        pairs = [(str(name), int(value)) for value, name in pairs]
    odd = [name for name, value in pairs if type(value) is not int or not 0 <= value < 256]
    if odd or len(pairs) < 2 or "ignore" in dict(pairs):
        raise UserError(
            f"found the labels {found!r} in dataset.json, expected a whole number from 0 to 255 for each of "
            "two or more classes: make regions of several labels, and ignored pixels, such classes first"
        )
    return sorted(pairs, key=lambda pair: pair[1])


def find(roots: tuple[Path, ...], group: str) -> list[Item]:
    """A case for each label, with its first channel; UserError names a file whose counterpart is missing."""
    [root] = roots
    train = _cases(root, "Tr")
    tests = _cases(root, "Ts") if (root / "labelsTs").is_dir() else {}
    if not train:
        raise UserError(
            f"found no label in {root / 'labelsTr'}, expected {' '.join(VOLUMES + SUFFIXES)} files"
        )
    both = {**{f"test/{name}" if name in train else name: files for name, files in tests.items()}, **train}
    names = distinct(both)
    items = []
    for name, (image, label) in both.items():
        patient = group_in(name, group, image) or names[name]
        split = "test" if name not in train else ""
        items.append(Item(names[name], patient, split, image, (label,)))
    return items


def _cases(root: Path, part: str) -> dict[str, tuple[Path, Path]]:
    """Image and label of each case in imagesTr and labelsTr, or imagesTs and labelsTs."""
    images, labels = _by_case(root / f"images{part}", True), _by_case(root / f"labels{part}", False)
    lonely = sorted(images.keys() ^ labels.keys())
    if lonely:
        name = lonely[0]
        missing = f"label for {images[name]}" if name in images else f"image for {labels[name]}"
        raise UserError(f"found no {missing}, expected one of its name: add it, or take the other away")
    return {name: (images[name], labels[name]) for name in sorted(labels)}


def _by_case(folder: Path, images: bool) -> dict[str, Path]:
    """The files of a folder by case: of images the first channel, NAME_0000 or plain NAME."""
    endings = VOLUMES + SUFFIXES
    found: dict[str, Path] = {}
    for name, path in relative_files(folder):
        ending = next((end for end in endings if name.lower().endswith(end)), "")
        stem = name[: len(name) - len(ending)]
        channel = re.fullmatch(r"(.+)_(\d{4})", stem) if images else None
        if not ending:
            raise UserError(f"found {path}, expected one of {' '.join(endings)}: convert it to .nii.gz")
        if channel and int(channel[2]) > 0:
            continue
        found[channel[1] if channel else stem] = path
    return found
