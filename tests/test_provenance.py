"""A run is compared with the settings and data at hand: every difference is named, none is passed over."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.data_folders import change_row, make_folder, picture, square
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.data import SegmentationFolder, Synthetic
from knowsam_lite.data.check import check_for_training
from knowsam_lite.data.fingerprint import Fingerprint, differences, look_again
from knowsam_lite.errors import UserError
from knowsam_lite.runs.provenance import read_config, read_stored, setting_differences, store
from knowsam_lite.runs.run import load_run
from knowsam_lite.training import Trainer

SIZES = {"image_size": 16, "labeled": "4", "batch_labeled": 2, "steps": 2, "val_every": 1, "log_every": 1}
SETTING = Config(method="supervised", device="cpu", **SIZES)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """A run of one step on tmp_path/d, its address typed relative to tmp_path."""
    make_folder(tmp_path / "d")
    monkeypatch.chdir(tmp_path)
    trainer = Trainer(SegmentationFolder("d"), replace(SETTING, data="d", out=tmp_path / "run"))
    trainer.start()
    trainer.fit(progress=False)
    return tmp_path


def run(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def another_mask(root):
    Image.fromarray(np.roll(square(), 5, 0)).save(root / "masks/i11.png")


def another_image(root):
    Image.fromarray(picture(99, (25, 32))).save(root / "images/i02.png")
    Image.fromarray(square(size=(25, 32))).save(root / "masks/i02.png")


def another_split(root):
    change_row(root, 9, split="train")


def one_less(root):
    rows = (root / "index.csv").read_text().splitlines()
    (root / "index.csv").write_text("\n".join(rows[:-1]))


def other_classes(root):
    about = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**about, "classes": ["background", "liver"]}))


CHANGES = {
    another_mask: "1 image (i11) with another mask",
    another_image: "1 image (i02) in another split or of another size",
    another_split: "1 image (i09) in another split or of another size",
    one_less: "1 image (i11) gone",
    other_classes: "background 0, square 255 then, background 0, liver 255 now",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_resuming_on_changed_data_names_the_change(begun, capsys, change):
    change(begun / "d")
    before = (begun / "run/log.jsonl").read_bytes()
    code, _, err = run(capsys, "train", "--resume", begun / "run")
    assert code == 2 and CHANGES[change] in err and err.splitlines()[-1].count("error: ") == 1
    assert (begun / "run/log.jsonl").read_bytes() == before


@pytest.mark.parametrize("change", [another_mask, one_less])
def test_evaluating_on_changed_data_names_the_change_and_scores(begun, capsys, change):
    change(begun / "d")
    code, out, err = run(capsys, "evaluate", begun / "run")
    assert code == 0 and f"warning: the data changed since {begun / 'run'} began: {CHANGES[change]}" in err
    assert "images, last checkpoint" in out


def test_unchanged_data_are_not_spoken_of_even_from_another_folder_or_touched(begun, capsys, monkeypatch):
    for path in (begun / "d/masks").iterdir():
        os.utime(path)
    (begun / "elsewhere").mkdir()
    monkeypatch.chdir(begun / "elsewhere")
    assert run(capsys, "evaluate", begun / "run")[::2] == (0, "")
    code, out, err = run(capsys, "train", "--resume", begun / "run")
    assert code == 0 and "resumed after step 2" in out and "error" not in err and "warning" not in err


def test_another_folder_at_the_same_relative_path_is_not_taken_for_the_own(begun, capsys, monkeypatch):
    other = make_folder(begun / "elsewhere/d", train=9)
    another_mask(other)
    monkeypatch.chdir(begun / "elsewhere")
    assert load_run(begun / "run").dataset.root == begun / "d"  # the address is stored absolute
    shutil.rmtree(begun / "d")
    code, _, err = run(capsys, "train", "--resume", begun / "run")
    assert code == 2 and "1 image (i12) new" in err


def test_a_checkpoint_is_the_same_file_from_every_folder(tmp_path, monkeypatch):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/sam.pth").write_bytes(b"weights")
    config = replace(SETTING, checkpoint=Path("w/sam.pth"), out=tmp_path / "run")
    config.out.mkdir()
    (config.out / "config.json").write_text(config.to_json())
    monkeypatch.chdir(tmp_path)
    store(config.out, SegmentationFolder(make_folder(tmp_path / "d")), config, Fingerprint())
    monkeypatch.chdir(tmp_path / "w")
    assert read_config(config.out).checkpoint == tmp_path / "w/sam.pth"
    assert setting_differences(read_config(config.out), config) == []


def test_data_that_moved_are_found_with_data_and_remembered(begun, capsys):
    os.rename(begun / "d", begun / "moved")
    for words in (("evaluate", begun / "run"), ("train", "--resume", begun / "run")):
        code, _, err = run(capsys, *words)
        assert code == 2 and str(begun / "d") in err and "say with --data where they are" in err
        code, _, err = run(capsys, *words, "--data", begun / "moved")  # the hint, followed
        assert code == 0 and "warning" not in err
    assert read_stored(begun / "run").address == str(begun / "moved")
    assert run(capsys, "evaluate", begun / "run")[0] == 0


def test_a_run_of_an_older_version_is_resumed_with_one_line(begun, capsys):
    path = begun / "run/dataset.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({name: about[name] for name in ("name", "classes", "mask_values")}))
    code, _, err = run(capsys, "evaluate", begun / "run")
    assert code == 0 and err.count("older version and keeps no fingerprint") == err.count("\n") == 1
    path.unlink()
    assert run(capsys, "evaluate", begun / "run")[0] == 0
    code, out, _ = run(capsys, "train", "--resume", begun / "run")
    assert code == 0 and "resumed after step 2" in out
    assert read_stored(begun / "run") is not None  # from now on it keeps one


def test_a_damaged_fingerprint_is_one_line(begun, capsys):
    path = begun / "run/dataset.json"
    about = json.loads(path.read_text())
    for damage in ({"fingerprint": {"images": 3}}, {"fingerprint": []}):
        path.write_text(json.dumps({**about, **damage}))
        code, _, err = run(capsys, "evaluate", begun / "run")
        assert code == 2 and "damaged fingerprint" in err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("config.json", b'{"data": "\xe4"', "invalid JSON in a configuration"),
        ("dataset.json", b"[1]", "found no valid JSON"),
        ("dataset.json", b'{"fingerprint": {}}', "without its 'classes'"),
        ("log.jsonl", b"[1]\n{}\n", "found line 1"),
        ("log.jsonl", b"\xff\xfe\n{}\n", "found line 1"),
    ],
)
def test_a_file_of_a_run_that_somebody_spoiled_is_one_line(begun, capsys, name, content, says):
    (begun / "run" / name).write_bytes(content)
    assert main(["train", "--resume", str(begun / "run")]) == 2
    [line] = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("error: ") and says in line


@pytest.mark.parametrize("change", [{"steps": 9}, {"seed": 1}, {"learning_rate": 0.5}])
def test_resuming_with_other_settings_names_them(begun, change):
    config = replace(SETTING, data="d", out=begun / "run", **change)
    [(name, value)] = change.items()
    with pytest.raises(UserError, match=f"{name} {getattr(SETTING, name)} then, {value} now"):
        Trainer(SegmentationFolder("d"), config).resume()


def two_classes(root, classes, values, kind=np.uint8):
    """The same pictures and truth, a square of class "a" and one of "b", coded as declared."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    code = dict(zip(classes, values, strict=True))
    for i in range(10):
        mask = np.full((24, 32), code["background"], kind)
        mask[2:9, 3 + i : 9 + i], mask[12:20, 20 - i : 28 - i] = code["a"], code["b"]
        image = np.zeros((24, 32, 3), np.uint8)
        image[2:9, 3 + i : 9 + i, 0] = image[12:20, 20 - i : 28 - i, 1] = 255
        Image.fromarray(image).save(root / f"images/p{i}.png")
        Image.fromarray(mask).save(root / f"masks/p{i}.png")
    about = {"name": root.name, "classes": list(classes), "mask_values": list(values)}
    (root / "dataset.json").write_text(json.dumps(about))


def test_classes_in_another_order_are_scored_as_the_run_learned_them(tmp_path, capsys):
    two_classes(tmp_path / "one", ("background", "a", "b"), (0, 1, 2))
    two_classes(tmp_path / "two", ("background", "b", "a"), (10, 20, 7))
    two_classes(tmp_path / "three", ("b", "background", "a"), (0, 1, 2))
    config = replace(SETTING, data=str(tmp_path / "one"), out=tmp_path / "run", steps=8, val_every=8)
    trainer = Trainer(SegmentationFolder(tmp_path / "one"), config)
    trainer.start()
    trainer.fit(progress=False)
    own = SegmentationFolder(tmp_path / "one")
    for name in ("two", "three"):
        other = load_run(tmp_path / "run", str(tmp_path / name)).dataset
        assert other.classes == ("background", "a", "b") and "put into the order" in capsys.readouterr().err
        for record, same in zip(own.records, other.records, strict=True):
            np.testing.assert_array_equal(other.mask(same), own.mask(record))
    two_classes(tmp_path / "four", ("background", "a", "b"), (0, 1, 2))
    path = tmp_path / "four/dataset.json"
    path.write_text(path.read_text().replace('"b"', '"c"'))
    with pytest.raises(UserError, match=r"found the classes background, a, c .* learned, background, a, b"):
        load_run(tmp_path / "run", str(path.parent))


# ---------------------------------------------------------------- the fingerprint


def test_only_masks_whose_files_changed_are_read_again(tmp_path, monkeypatch):
    data = SegmentationFolder(make_folder(tmp_path / "d"))
    before = check_for_training(data, {"i00", "i01"})
    assert set(before.masks) == {"i00", "i01", "i08", "i09", "i10", "i11"}  # labelled, val and test
    read = []
    monkeypatch.setattr(data, "mask", lambda r: read.append(r.id) or SegmentationFolder(data.root).mask(r))
    assert differences(before, look_again(data, before)) == [] and read == []
    os.utime(tmp_path / "d/masks/i09.png", (1, 1))
    assert differences(before, look_again(data, before)) == [] and read == ["i09"]
    another_mask(tmp_path / "d")
    (tmp_path / "d/masks/i10.png").unlink()
    found = differences(before, look_again(data, before))
    assert found == ["2 images (i10, i11) with another mask"]


def test_the_same_classes_in_another_coding_are_the_same_masks(tmp_path):
    two_classes(tmp_path / "one", ("background", "a", "b"), (0, 1, 2))
    two_classes(tmp_path / "two", ("background", "a", "b"), (3, 2000, 7), np.uint16)
    prints = []
    for name in ("one", "two"):
        data = SegmentationFolder(tmp_path / name)
        prints.append(check_for_training(data, {record.id for record in data.records}))
    assert [f.masks["p3"].split()[0] for f in prints] == [prints[0].masks["p3"].split()[0]] * 2
    assert prints[0].masks["p3"].split()[0] != prints[0].masks["p4"].split()[0]


def test_drawn_images_have_a_fingerprint_without_files():
    data = Synthetic("dermoscopy", n=20, size=16)
    seen = check_for_training(data, [data.split("train")[0].id])
    assert differences(seen, look_again(data, seen)) == []
    assert differences(seen, look_again(Synthetic("dermoscopy", n=28, size=16), seen))
    assert Fingerprint.from_json(json.loads(json.dumps({"images": seen.images, "masks": seen.masks}))) == seen


# ---------------------------------------------------------------- the grid


def compare(capsys, data, out, *more):
    words = ["--methods", "supervised", "--baselines", "supervised", "--seeds", "1", "--budget", "ci"]
    words += ["--labeled", *["2"] * len(data), "--steps", "2", "--workers", "1", "--out", out]
    return run(capsys, "compare", "--data", *data, *words, *more)


def test_a_grid_never_shows_old_scores_for_new_settings_or_masks(tmp_path, capsys):
    data = make_folder(tmp_path / "d")
    assert compare(capsys, [data], tmp_path / "out")[0] == 0
    code, out, err = compare(capsys, [data], tmp_path / "out")
    assert code == 0 and "| supervised |" in out and "then" not in err
    code, out, err = compare(capsys, [data], tmp_path / "out", "--steps", "3", "--report")
    cell = tmp_path / "out/d_2/supervised/0"
    assert code == 2 and f"error: {cell}: found scores of something else (steps 2 then, 3 now)" in err
    assert "| supervised |" not in out and "nothing to report" in out
    another_mask(data)
    code, out, err = compare(capsys, [data], tmp_path / "out")
    assert code == 2 and "1 image (i11) with another mask" in err and "| supervised |" not in out
    shutil.rmtree(cell)  # the hint, followed
    code, out, err = compare(capsys, [data], tmp_path / "out")
    assert code == 0 and "| supervised |" in out


def test_scores_without_their_data_or_of_an_older_version_are_shown_with_a_line(tmp_path, capsys):
    data = make_folder(tmp_path / "d")
    assert compare(capsys, [data], tmp_path / "out")[0] == 0
    for path in tmp_path.rglob("last.pt"):
        path.unlink()
    os.rename(data, tmp_path / "away")
    code, out, err = compare(capsys, [data], tmp_path / "out", "--report")
    assert code == 0 and "| supervised |" in out and f"Note: {data} was not compared" in err
    os.rename(tmp_path / "away", data)
    (tmp_path / "out/d_2/supervised/0/dataset.json").unlink()
    code, out, err = compare(capsys, [data], tmp_path / "out", "--report")
    assert code == 0 and "| supervised |" in out and "1 finished cells keep no fingerprint" in err
