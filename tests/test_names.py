"""Names in all scripts: letters stay, and two different names never become one."""

import csv
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import picture, square
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.compare import grid
from knowsam_lite.config import Config
from knowsam_lite.data.names import STEM_BYTES, distinct, file_stem, folded, readable

NAMES = st.text(st.characters(blacklist_characters="\0"), min_size=1, max_size=200)
FORBIDDEN = set('<>:"/\\|?*') | {chr(i) for i in range(32)}


@settings(max_examples=300, deadline=None)
@given(st.lists(NAMES, max_size=8))
def test_every_name_gets_a_file_name_of_its_own_that_all_systems_allow(names):
    stems = distinct(names)
    assert stems.keys() == set(names)
    assert len({folded(stem) for stem in stems.values()}) == len(stems)
    for stem in stems.values():
        assert stem and not FORBIDDEN & set(stem) and stem[-1] not in ". " and not stem.startswith(".")
        assert len(stem.encode()) <= STEM_BYTES + 9
        assert stem == unicodedata.normalize("NFC", stem)


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, max_size=8), st.randoms())
def test_the_order_of_the_names_changes_nothing(names, random):
    shuffled = random.sample(names, len(names))
    assert distinct(names) == distinct(shuffled)


@pytest.mark.parametrize("name", ["张伟", "Müller_1", "Αθήνα", "नमस्ते-2", "สวัสดี", "שלום", "ISIC_0012.v2"])
def test_letters_and_marks_of_all_scripts_stay(name):
    assert file_stem(name) == name == distinct([name])[name]


def test_names_that_would_be_one_stay_two():
    assert len(set(distinct(["scan 1", "scan_1", "scan/1"]).values())) == 3
    assert distinct(["scan 1", "scan_1"])["scan_1"] == "scan_1"  # the one that needs no change keeps its name
    assert len({folded(stem) for stem in distinct(["a", "A"]).values()}) == 2
    assert len(set(distinct(["x" * 300 + "1", "x" * 300 + "2"]).values())) == 2
    assert file_stem("con") == "_con" and file_stem("COM1.png") == "_COM1.png" and file_stem("console") != "_"
    assert readable("M\udcfcller") == r"M\udcfcller" and readable("u\u0308") == "ü"


def pairs(root: Path, names: list[str]) -> Path:
    for folder in ("x", "y"):
        (root / folder).mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(root / f"x/{name}.png")
        Image.fromarray(square()).save(root / f"y/{name}.png")
    return root


def prepared(root: Path, out: Path, *more: str) -> list[dict[str, str]]:
    words = ["--images", root / "x", "--masks", root / "y", "--out", out, "--workers", "1", *more]
    assert main(["data", "own", *map(str, words)]) == 0
    with open(out / "index.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_patients_with_names_in_other_scripts_are_groups_of_their_own(tmp_path):
    patients = ["张伟", "王芳", "李娜", "Müller", "Möller", "A1"]
    root = pairs(tmp_path, [f"{patient}_{i}" for patient in patients for i in range(2)])
    rows = prepared(root, tmp_path / "out", "--group", "^[^_]+")
    assert sorted({row["group"] for row in rows}) == sorted(patients)
    assert all(len({row["split"] for row in rows if row["group"] == patient}) == 1 for patient in patients)
    assert {row["id"] for row in rows} == {path.stem for path in (root / "x").iterdir()}


def test_names_that_differ_in_little_are_prepared_without_losing_one(tmp_path):
    names = ["scan 1", "scan_1", "scan(1)", "b", "c", "y" * 240]
    rows = prepared(pairs(tmp_path, names), tmp_path / "out")
    assert len({row["id"] for row in rows}) == len({row["image"] for row in rows}) == len(names)
    for row in rows:
        assert np.asarray(Image.open(tmp_path / "out" / row["image"])).shape == (24, 32, 3)


def test_two_folders_of_one_name_and_two_methods_of_one_slug_share_no_cell():
    variants = {"a b": {"method": "mc"}, "a-b": {"method": "supervised"}}
    cells = grid(Config(), ["one/d", "two/d"], ["2", "2"], variants, [0, 1])
    assert len({cell.config.out for cell in cells}) == 8
    swapped = grid(Config(), ["two/d", "one/d"], ["2", "2"], variants, [0, 1])
    assert {c.config.out: c.config.data for c in cells} == {c.config.out: c.config.data for c in swapped}
    [single] = grid(Config(), ["one/d"], ["10%"], {"mc": {"method": "mc"}}, [0])
    assert single.config.out == Path("runs/knowsam/d_10pct/mc/0")  # as ever where nothing collides
