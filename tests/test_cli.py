"""The command line as its user meets it: one clear line and exit code 2 for what can be mended."""

import csv
import json
import os
import subprocess
import sys

import pytest
from helpers.data_folders import change_row, make_folder, read_index, square, write_index
from PIL import Image

from knowsam_lite.cli import COMMANDS, main

QUICK = {
    "method": "supervised",
    "image-size": 16,
    "steps": 4,
    "labeled": 2,
    "batch-labeled": 2,
    "batch-unlabeled": 2,
    "val-every": 2,
    "log-every": 2,
}


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def train(capsys, folder, out, **changes):
    options = {**QUICK, "data": folder, "out": out} | {k.replace("_", "-"): v for k, v in changes.items()}
    return run(capsys, "train", *(t for name, value in options.items() for t in (f"--{name}", value)))


def test_train_then_evaluate_a_folder(capsys, tmp_path):
    folder = make_folder(tmp_path / "data")
    code, out, _ = train(capsys, folder, tmp_path / "run")
    assert code == 0
    assert "squares: 2 of 8 training images labelled, 2 val, 2 test; 2 classes" in out
    for name in ("metrics.json", "curves.png", "predictions.png", "report.html"):
        assert str(tmp_path / "run" / name) in out and (tmp_path / "run" / name).stat().st_size > 500
    kept = (tmp_path / "run/metrics.json").read_bytes()
    code, out, _ = run(capsys, "evaluate", tmp_path / "run", "--split", "val", "--which", "best", "--json")
    assert code == 0 and "val, 2 images, best checkpoint" in out
    page = tmp_path / "run/val_best/report.html"
    assert str(page) in out and "2 val images, best checkpoint" in page.read_text(encoding="utf-8")
    assert (tmp_path / "run/metrics.json").read_bytes() == kept  # the run's own results
    summary = json.loads(out.splitlines()[-1])
    assert set(summary["U-Net"]["square"]) == {"dice", "iou", "hd95", "asd"}


def test_evaluating_again_gives_the_same_scores(capsys, tmp_path):
    folder = make_folder(tmp_path / "data")
    train(capsys, folder, tmp_path / "run")
    before = json.loads((tmp_path / "run/metrics.json").read_text())
    run(capsys, "evaluate", tmp_path / "run")
    assert json.loads((tmp_path / "run/metrics.json").read_text()) == before
    run(capsys, "evaluate", tmp_path / "run", "--data", folder)
    [place] = (tmp_path / "run").glob("data_*_test_last")
    assert json.loads((place / "metrics.json").read_text()) == before
    elsewhere = make_folder(tmp_path / "another/data")
    run(capsys, "evaluate", tmp_path / "run", "--data", elsewhere)
    assert len(list((tmp_path / "run").glob("data_*_test_last"))) == 2


def missing_mask(root):
    (root / "masks/i00.png").unlink()


def missing_test_mask(root):
    (root / "masks/i11.png").unlink()


def wrong_size(root):
    Image.fromarray(square(size=(20, 20))).save(root / "masks/i11.png")


def undeclared_value(root):
    Image.fromarray(square(value=7)).save(root / "masks/i11.png")


def no_image(root):
    (root / "images/i11.png").write_text("not a picture")


def straddling_group(root):
    change_row(root, 11, group="g00")


def empty_index(root):
    write_index(root, [])


def no_labels(root):
    write_index(root, [[*r[:2], "" if r[4] == "train" else r[2], *r[3:]] for r in read_index(root)])


FAULTS = {
    missing_test_mask: "i11.png",
    wrong_size: "i11.png",
    undeclared_value: "mask values 7",
    no_image: "i11.png",
    straddling_group: "g00",
    empty_index: "index.csv",
    no_labels: "no training image with a mask",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_training_on_a_broken_folder_is_one_line_and_exit_code_2(capsys, tmp_path, fault):
    folder = make_folder(tmp_path / "data")
    fault(folder)
    code, _, err = train(capsys, folder, tmp_path / "run")
    assert code == 2 and FAULTS[fault] in err
    assert err.startswith("error: ") and err.count("\n") == 1 and "expected" in err


def test_check_data_lists_all_faults_in_one_run(capsys, tmp_path):
    folder = make_folder(tmp_path / "data")
    missing_mask(folder)
    wrong_size(folder)
    change_row(folder, 3, group="g10")  # g10 is a test image's group
    (folder / "images/i05.png").write_text("not a picture")
    code, out, _ = run(capsys, "check-data", folder)
    assert code == 2
    assert all(word in out for word in ("i00.png", "i11.png", "i05.png", "g10"))
    assert run(capsys, "check-data", make_folder(tmp_path / "good"))[0] == 0


BAD_OPTIONS = {
    "no such folder": ({"data": "nowhere"}, "nowhere"),
    "more labels than images": ({"labeled": 50}, "50 images"),
    "no labels": ({"labeled": 0}, "empty labelled set"),
    "malformed labels": ({"labeled": "many"}, "'many'"),
    "fewer images than a batch": ({"batch_unlabeled": 100, "method": "mc"}, "8 training images"),
    "unknown method": ({"method": "magic"}, "'magic'"),
    "unknown teacher": ({"method": "knowsam", "teacher": "sam_huge"}, "'sam_huge'"),
    "teacher without weights": (
        {"method": "knowsam", "teacher": "sam_vit_b", "image_size": 64},
        "--checkpoint",
    ),
    "size": ({"image_size": 40}, "48 x 48"),
    "device": ({"device": "cuda:77"}, "cuda:77"),
    "unknown kind": ({"data": "synthetic:toes"}, "'toes'"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_one_line_and_exit_code_2(capsys, tmp_path, name):
    changes, words = BAD_OPTIONS[name]
    folder = make_folder(tmp_path / "data")
    code, _, err = train(capsys, changes.pop("data", folder), tmp_path / "run", **changes)
    assert code == 2 and words in err and err.count("\n") == 1, err


def test_an_output_that_cannot_be_written(capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, _, err = train(capsys, make_folder(tmp_path / "data"), tmp_path / "file/run")
    assert code == 2 and "not writable" in err


def test_evaluating_what_is_no_run_or_has_other_classes(capsys, tmp_path):
    assert run(capsys, "evaluate", tmp_path)[0] == 2
    folder = make_folder(tmp_path / "data")
    train(capsys, folder, tmp_path / "run")
    code, _, err = run(capsys, "evaluate", tmp_path / "run", "--data", "synthetic:cardiac:32")
    assert code == 2 and "found the classes background, right ventricle, myocardium, left" in err


def test_resume_takes_no_other_option_and_needs_a_run(capsys, tmp_path):
    assert "config.json" in run(capsys, "train", "--resume", tmp_path)[2]
    assert "keeps its" in run(capsys, "train", "--resume", tmp_path, "--steps", 9)[2]


def test_a_run_goes_on_where_its_device_is_not(capsys, tmp_path):
    folder = make_folder(tmp_path / "data")
    train(capsys, folder, tmp_path / "run")
    path, log = tmp_path / "run/config.json", tmp_path / "run/log.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"device": "cuda:77"}))
    log.write_text(log.read_text().replace('"precision": "fp32"', '"precision": "bf16"'))
    code, _, err = run(capsys, "train", "--resume", tmp_path / "run")
    assert code == 2 and "found no device 'cuda:77'" in err and "--device auto" in err
    code, out, _ = run(capsys, "train", "--resume", tmp_path / "run", "--device", "cpu", "--workers", 0)
    assert code == 0 and "was in bf16 before, and goes on in fp32" in out


def test_help_and_unknown_commands_need_no_torch(tmp_path):
    help_ = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "knowsam_lite", "--help"], capture_output=True, text=True
    )
    assert help_.returncode == 0 and all(command in help_.stdout for command in COMMANDS)
    assert "torch" not in {line.split("|")[-1].strip() for line in help_.stderr.splitlines()}
    assert subprocess.run([sys.executable, "-m", "knowsam_lite", "fly"], capture_output=True).returncode == 2


@pytest.mark.parametrize("name", ["kvasir_seg", "busi", "glas", "acdc"])
def test_real_folders_train(capsys, tmp_path, real_data, name):
    if not (real_data / name).is_dir():
        pytest.skip(f"no {real_data / name}")
    code, out, err = train(
        capsys, real_data / name, tmp_path / "run", method="mc", labeled="8", image_size=32
    )
    assert code == 0, err
    with open(real_data / name / "index.csv", newline="") as file:
        tests = sum(row["split"] == "test" for row in csv.DictReader(file))
    assert f"{tests} test" in out and os.path.getsize(tmp_path / "run/predictions.png") > 10_000
