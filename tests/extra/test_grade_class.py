"""A class of thirty and seven files that are no notebooks are graded: the gradebook is what was put in.

    python -m pytest tests/extra/test_grade_class.py -s

It shows the wall time. KNOWSAM_LITE_GRADED=DIR keeps gradebook and pages, to look at.
"""

import csv
import os
import shutil
import time
from pathlib import Path

from helpers.chapters import ROOT
from helpers.handed_in import broken, hand_in, thirty

from knowsam_lite.course.grading.grade import grade
from knowsam_lite.course.grading.limits import Limits
from knowsam_lite.course.grading.pages import write


def test_the_gradebook_equals_what_was_put_in(tmp_path):
    folder, bait = tmp_path / "class", tmp_path / "bait"
    bait.mkdir()
    (bait / "kept").write_text("kept")
    bait.chmod(0o777)
    handed = thirty([str(folder), str(bait), str(ROOT / "knowsam_lite"), str(Path.home())])
    assert len(handed) == 30
    hand_in(folder, handed)
    said = broken(folder)
    before = {path: path.read_bytes() for path in sorted(folder.rglob("*.ipynb")) if not path.is_symlink()}

    begun = time.monotonic()
    graded = grade(folder, ROOT, Limits(seconds=60))
    print(f"{len(graded)} submissions in {time.monotonic() - begun:.0f} s")

    out = tmp_path / "graded"
    write(graded, folder, out)
    if "KNOWSAM_LITE_GRADED" in os.environ:
        shutil.copytree(out, os.environ["KNOWSAM_LITE_GRADED"], dirs_exist_ok=True)
    with (out / "gradebook.csv").open(encoding="utf-8", newline="") as file:
        book = {row["student"]: row for row in csv.DictReader(file)}
    assert len(book) == len(handed) + len(said)
    for each in handed:
        row, deserved = book[each.student], each.points()
        assert {number: int(row[number]) for number in deserved} == deserved, each.student
        assert int(row["points"]) == sum(deserved.values()) and each.note in row["note"], each.student
    for student, words in said.items():
        assert book[student]["points"] == "0" and words in book[student]["note"], student
    named = {
        g.submission.student: {m.task.number: m.mistake.name for m in g.marks if m.mistake} for g in graded
    }
    for each in handed:
        if each.mistakes:
            assert named[each.student] == each.mistakes
    assert len(list((out / "feedback").iterdir())) == len(book)
    assert {path: path.read_bytes() for path in before} == before, "a submission changed another"
    assert [path.read_text() for path in bait.iterdir()] == ["kept"]
