"""Thyroid ultrasound: TN3K and DDTI (nodules), TG3K (the gland)."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from knowsam_lite.data.prepare.read import binary_pair
from knowsam_lite.data.prepare.recipe import Item, Recipe, Rule, Source, pairs, relative_files
from knowsam_lite.errors import UserError

SOURCE = Source(
    "Thyroid Dataset.zip",
    drive="1reHyY5eTZ5uePXMVMzFOq5j3eFOSp50F",
    sha256="0ba1770076dab01b1f8fd661a227d80982168bc433de61c80fd266427b20cf60",
)
LICENCE = "No terms come with the archive: ask its publishers before any use beyond research, and cite them."
CITATION = """TN3K, TG3K: Gong et al., Multi-task learning for thyroid nodule segmentation with thyroid region
prior, ISBI 2021.
DDTI: Pedraza et al., An open access thyroid ultrasound image database, SIPAIM 2015."""
FILE = r"(?P<key>[^/]+)\.(?:jpe?g|png)"


def _rule(folder: str, images: str, masks: str, prefix: str, split: str = "") -> Rule:
    where = rf"(?:.*/)?{folder}/"
    return Rule(rf"{where}{images}/{FILE}", rf"{where}{masks}/{FILE}", id=f"{prefix}_{{key}}", split=split)


TN3K = (
    _rule("tn3k", "trainval-image", "trainval-mask", "tn3k"),
    _rule("tn3k", "test-image", "test-mask", "tn3k_test", "test"),
)
TG3K = (_rule("tg3k", "thyroid-image", "thyroid-mask", "tg3k"),)
DDTI = (_rule("DDTI dataset/DDTI/1_or_data", "image", "mask", "ddti", "test"),)  # the whole pictures


def gland(roots: tuple[Path, ...]) -> list[Item]:
    """TG3K with its official lists; UserError where they are missing or do not name an image."""
    listed: dict[int, str] = {}
    for path in (p for root in roots for _, p in relative_files(root) if p.name == "tg3k-trainval.json"):
        lists = json.loads(path.read_text(encoding="utf-8"))
        listed |= {int(number): split for split in ("train", "val") for number in lists[split]}
    items = []
    for item in pairs(roots, TG3K):
        number = re.search(r"\d+$", item.id)
        split = listed.get(int(number[0])) if number else None
        if split is None:
            raise UserError(
                f"found {item.image.name} not in tg3k-trainval.json, expected it there: get the archive again"
            )
        items.append(replace(item, split=split))
    return items


def everything(roots: tuple[Path, ...], rules: Sequence[Rule]) -> list[Item]:
    """The items that the rules find, and TG3K."""
    return [*pairs(roots, rules), *gland(roots)]


def _recipe(name: str, title: str, **more: object) -> Recipe:
    start = Recipe(
        name=f"thyroid/{name}",
        title=title,
        classes=("background", "nodule"),
        find=partial(pairs, rules=TN3K),
        read=binary_pair,
        licence=LICENCE,
        citation=CITATION,
        sources=(SOURCE,),
    )
    return replace(start, **more)  # type: ignore[arg-type]


VARIANTS = {
    "tn3k": _recipe(
        "tn3k",
        "TN3K, thyroid nodules",
        expected={"train and val": 2879, "test": 614},
        labeled={"10%": "10%", "30%": "30%"},
    ),
    "tg3k": _recipe(
        "tg3k",
        "TG3K, thyroid gland",
        classes=("background", "thyroid gland"),
        find=gland,
        notes=("frames of videos that the archive does not tell apart: neighbors look alike",),
    ),
    "ddti": _recipe(
        "ddti",
        "DDTI, thyroid nodules (test set)",
        find=partial(pairs, rules=DDTI),
        notes=("a test set only: score a run on it with knowsam-lite evaluate RUN --data OUT",),
    ),
    "paper": _recipe(
        "paper",
        "Thyroid ultrasound: TN3K and TG3K to train on, TN3K and DDTI to test on",
        classes=("background", "thyroid target"),
        find=partial(everything, rules=(*TN3K, *DDTI)),
        val=0.05,
        labeled={"10%": "613", "30%": "1841"},
        notes=("TG3K outlines the gland, TN3K and DDTI outline nodules: one class has two meanings",),
    ),
}
