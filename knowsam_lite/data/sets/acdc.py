"""ACDC: short-axis cardiac MR, as published (NIfTI), or as semi-supervised repositories share it (h5)."""

import re
from functools import partial
from pathlib import Path

from knowsam_lite.data.masks import Coding
from knowsam_lite.data.prepare.read import slices
from knowsam_lite.data.prepare.recipe import Item, Recipe, Rule, Source, pairs, relative_files
from knowsam_lite.errors import UserError

CLASSES = ("background", "right ventricle", "myocardium", "left ventricle")
VALUES = (0, 1, 2, 3)
LICENCE = "CC BY-NC-SA 4.0, as listed on a public mirror; citing Bernard et al. is required."
CITATION = (
    "Bernard et al., Deep learning techniques for automatic MRI cardiac multi-structures segmentation and "
    "diagnosis: is the problem solved?, IEEE TMI 2018."
)
PRESETS = {"3patients": "3groups", "7patients": "7groups", "14patients": "14groups"}
SOURCE = Source(
    "ACDC.zip",
    url=(
        "https://humanheart-project.creatis.insa-lyon.fr/database/api/v1/collection/"
        "637218c173e9f0047faa00fb/download"
    ),
    sha256="2787e08b0d3525cbac710fc3bdf69ee7c5fd7446472e49db8bc78548802f6b5e",
)
LISTS = {"train": "train_slices.list", "val": "val.list", "test": "test.list"}


def _rule(part: str, split: str) -> Rule:
    start = rf"(?:.*/)?{part}/(?P<patient>patient\d+)/(?P<key>patient\d+_frame\d+)"
    return Rule(rf"{start}\.nii(?:\.gz)?", rf"{start}_gt\.nii(?:\.gz)?", group="{patient}", split=split)


def listed(roots: tuple[Path, ...]) -> list[Item]:
    """The items in the three lists of the h5 layout: single slices to train on, whole volumes to score."""
    files = {name: path for root in roots for name, path in relative_files(root)}
    lists = {split: path for split, end in LISTS.items() for name, path in files.items() if path.name == end}
    if len(lists) < len(LISTS):
        raise UserError(
            f"found {len(lists)} of the lists {', '.join(LISTS.values())}, expected all: "
            "give the whole folder"
        )
    items = []
    for split, path in lists.items():
        folder = path.parent / ("data/slices" if split == "train" else "data")
        for name in path.read_text(encoding="utf-8").split():
            file, patient = folder / f"{name}.h5", re.match(r"patient\d+", name)
            if not file.is_file() or not patient:
                raise UserError(
                    f"found no {file}, expected it because {path.name} names it: add it to the folder"
                )
            items.append(Item(name, patient[0], split, file, (file,)))
    return items


def _nifti(name: str, title: str, rules: tuple[Rule, ...], val: float, test: float) -> Recipe:
    return Recipe(
        name=f"acdc/{name}",
        title=title,
        classes=CLASSES,
        find=partial(pairs, rules=rules),
        read=partial(slices, coding=Coding(CLASSES, VALUES)),
        licence=LICENCE,
        citation=CITATION,
        sources=(SOURCE,),
        val=val,
        test=test,
        expected={"groups": 150 if len(rules) > 1 else 100},
        labeled=PRESETS,
        mask_values=VALUES,
        keep_volumes=True,
        notes=("all slices of both labeled frames; the group is the patient",),
    )


VARIANTS = {
    "official": _nifti("official", "ACDC", (_rule("training", ""), _rule("testing", "test")), 0.1, 0.0),
    "paper": _nifti(
        "paper", "ACDC, 100 training patients as 70, 10 and 20", (_rule("training", ""),), 0.1, 0.2
    ),
    "h5": Recipe(
        name="acdc/h5",
        title="ACDC, h5 layout",
        classes=CLASSES,
        find=listed,
        read=partial(
            slices, coding=Coding(CLASSES, VALUES), first=1, word="_slice_"
        ),  # numbered like the slice files
        licence=LICENCE,
        citation=CITATION,
        sources=(
            Source(
                "ACDC",
                by_hand=(
                    "get the folder with data/, train_slices.list, val.list and test.list that "
                    "semi-supervised repositories share"
                ),
            ),
        ),
        labeled=PRESETS,
        mask_values=VALUES,
        notes=(
            "the lists' own split: the published figures are 68, 136 and 256 of 1312 slices for the presets",
        ),
    ),
}
