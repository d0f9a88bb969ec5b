"""Sheets of outlined pairs, on which a misplaced mask is seen, and which pictures count as copies."""

import csv

import numpy as np
import pytest
from helpers.data_folders import make_folder
from PIL import Image, ImageColor

from knowsam_lite.cli import main
from knowsam_lite.colors import CLASSES
from knowsam_lite.data import SegmentationFolder
from knowsam_lite.data.check import check_dataset
from knowsam_lite.data.mend import mend
from knowsam_lite.data.sheet import CELL, GAP, random_sheet


def dark(root):
    """The folder with black pictures, on which only the outlines are colored."""
    for path in (root / "images").iterdir():
        Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(path)
    return root


def test_the_outline_lies_where_the_mask_lies(tmp_path):
    data = SegmentationFolder(dark(make_folder(tmp_path / "d")))
    shown = random_sheet(data, data.records, tmp_path / "a.png", seed=3)
    assert len(shown) == len(set(shown)) == 10
    assert random_sheet(data, data.records, tmp_path / "b.png", seed=3) == shown
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert random_sheet(data, data.records, tmp_path / "b.png", seed=4) != shown
    sheet = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    cell = sheet[GAP : GAP + CELL, GAP : GAP + CELL]
    rows, columns = np.nonzero((cell == ImageColor.getrgb(CLASSES[0])).all(axis=2))
    scale, top = CELL / 32, (CELL - CELL * 24 / 32) / 2  # a picture 24 x 32 fills the cell from side to side
    assert (columns.min(), columns.max() + 1) == (8 * scale, 16 * scale)
    assert (rows.min(), rows.max() + 1) == (top + 6 * scale, top + 14 * scale)


def test_check_data_draws_what_can_be_read_beside_faults(tmp_path, capsys):
    root = make_folder(tmp_path / "d")
    (root / "images/i05.png").write_text("not a picture")
    assert main(["check-data", str(root), "--sheet", str(tmp_path / "s.png")]) == 2
    assert f"wrote {tmp_path / 's.png'}: 10 of 12 images" in capsys.readouterr().out
    assert main(["check-data", str(root), "--sheet", str(tmp_path / "s.jpg")]) == 2
    assert "ending in .png" in capsys.readouterr().err
    for path in (root / "images").iterdir():
        path.write_text("not a picture")
    assert main(["check-data", str(root), "--sheet", str(tmp_path / "t.png")]) == 2
    assert "no readable pair" in capsys.readouterr().err and not (tmp_path / "t.png").exists()


def test_train_draws_its_labelled_images_before_the_first_step(tmp_path, capsys, monkeypatch):
    root = dark(make_folder(tmp_path / "d"))
    seen = []
    monkeypatch.setattr(
        "knowsam_lite.training.Trainer.fit", lambda t: seen.extend(t.run.iterdir()) or not t.save()
    )
    words = ["--method", "supervised", "--students", "paper", "--image-size", "16", "--labeled", "3"]
    words += ["--batch-labeled", "2", "--steps", "2", "--out", str(tmp_path / "run")]
    main(["train", "--data", str(root), *words])
    assert tmp_path / "run/labelled.png" in seen and "labelled.png" in capsys.readouterr().out
    sheet = np.asarray(Image.open(tmp_path / "run/labelled.png").convert("RGB"))
    row = sheet[GAP : GAP + CELL]
    outlined = (row == ImageColor.getrgb(CLASSES[0])).all(axis=2).any(axis=0)
    cells = [outlined[GAP + i * (CELL + GAP) :][:CELL].any() for i in range(6)]
    assert cells == [True] * 3 + [False] * 3


# ---------------------------------------------------------------- copies


def head(seed: int) -> np.ndarray:
    """Slices (6, 64, 64) of one anatomy with a lesion and noise of each patient's own."""
    z, y, x = np.mgrid[:6, :64, :64]
    rng = np.random.default_rng(seed)
    skull = 100.0 * (((y - 32) / 26) ** 2 + ((x - 32) / 22) ** 2 + ((z - 3) / 8) ** 2 < 1)
    ventricles = 80.0 * (((y - 30) / 8) ** 2 + ((abs(x - 32) - 6) / 5) ** 2 + ((z - 3) / 4) ** 2 < 1)
    row, column = rng.integers(20, 44, 2)
    lesion = (y - row) ** 2 + (x - column) ** 2 < 20
    noise = 6 * rng.standard_normal(skull.shape) * (skull > 0)
    return np.clip(skull + ventricles + 60 * lesion + noise, 0, 255).astype(np.uint8)


def registered(root, kind, patients=8, copied=False):
    """Volumes of patients registered to each other, as NIfTI files or as PNG slices with their `volume`."""
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    rows = []
    for i in range(patients):
        volume = head(0 if copied and i == patients - 1 else i)
        split = "test" if i == patients - 1 else "val" if i == 1 else "train"
        mask = (volume > 90).astype(np.uint8) * 255
        if kind == "nifti":
            nibabel = pytest.importorskip("nibabel")
            for name, values in (("images", volume), ("masks", mask)):
                image = nibabel.Nifti1Image(values.T, np.diag([1, 1, 4, 1]))
                image.header.set_xyzt_units("mm")
                nibabel.save(image, root / name / f"s{i}.nii.gz")
            rows.append([f"s{i}", f"images/s{i}.nii.gz", f"masks/s{i}.nii.gz", f"s{i}", split, ""])
            continue
        for z in range(6):
            name = f"s{i}_{z}"
            Image.fromarray(volume[z]).save(root / f"images/{name}.png")
            Image.fromarray(mask[z]).save(root / f"masks/{name}.png")
            rows.append([name, f"images/{name}.png", f"masks/{name}.png", f"s{i}", split, f"s{i}"])
    with open(root / "index.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "image", "mask", "group", "split", "volume"], *rows])
    return root


@pytest.mark.parametrize("kind", ["nifti", "png"])
def test_slices_of_registered_patients_are_no_copies_and_equal_ones_are(tmp_path, kind):
    findings = check_dataset(registered(tmp_path / "a", kind), find_duplicates=True)
    assert not [finding for finding in findings if finding.severity != "info"]
    said = "\n".join(finding.message for finding in findings)
    assert "no two of 48 slices in different splits are the same" in said and "0 groups" in said
    found = check_dataset(registered(tmp_path / "b", kind, copied=True))
    leaks = [finding for finding in found if finding.severity == "warning"]
    assert leaks and all("the same picture as s0 and s7 in test and train" in leak.message for leak in leaks)
    assert all("in index.csv" in leak.fix and "--fix" not in leak.fix for leak in leaks)


def test_mending_leaves_registered_patients_in_their_groups_and_splits(tmp_path):
    root = registered(tmp_path / "d", "png")
    mend(root, tmp_path / "mended")
    before, after = SegmentationFolder(root), SegmentationFolder(tmp_path / "mended")
    assert [(r.id, r.group, r.split) for r in after.records] == [
        (r.id, r.group, r.split) for r in before.records
    ]
