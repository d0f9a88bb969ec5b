"""What chapters 11, 13 and 14 read: small, whole, and what its commands make."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from knowsam_lite.compare import Cell, markdown, read_blocks
from knowsam_lite.config import Config
from knowsam_lite.course import recorded
from knowsam_lite.course.builder import ROOT
from knowsam_lite.data import open_dataset
from knowsam_lite.errors import UserError
from knowsam_lite.metrics import crossed, paired_bootstrap

COMPARISON = ROOT / "docs" / "comparison" / "real" / "isic2018_15"


@pytest.mark.parametrize("name", ["isic2018", "ladder"])
def test_a_grid_holds_finite_dice_for_every_seed_and_image(name):
    grid = recorded.load_grid(name)
    shapes = {dices.shape for which in (grid.last, grid.best) for dices in which.values()}
    assert len(shapes) == 1 and next(iter(shapes))[1] == len(grid.ids) == len(set(grid.ids))
    assert list(grid.last) == list(grid.best)
    assert all(((d >= 0) & (d <= 1)).all() for which in (grid.last, grid.best) for d in which.values())


def test_the_grid_of_isic_is_the_one_beside_the_comparison(tmp_path, monkeypatch):
    committed = (recorded.FOLDER / "isic2018.json").read_text("utf8")
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    made = recorded.record_grid("isic2018", COMPARISON, list(json.loads(committed)["last"]))
    assert made.read_text("utf8") == committed


def test_recorded_runs_hold_finite_dice_for_every_seed_and_image():
    runs = recorded.load_runs("starts")
    assert {"scratch", "frozen", "rate_0.1", "rate_0.25", "rate_1.0"} == set(runs.last) == set(runs.curves)
    for name, found in runs.last.items():
        assert found.shape == (len(runs.curves[name]), 88) and runs.curves[name].shape[1] == len(runs.steps)
        assert ((found >= 0) & (found <= 1)).all()
        assert np.allclose(found.mean(axis=1), runs.curves[name][:, -1], atol=2e-4)
    with pytest.raises(UserError, match="found no runs 'ends', expected one of starts"):
        recorded.load_runs("ends")


def test_runs_are_recorded_from_val_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path / "kept")
    (tmp_path / "kept" / "runs").mkdir(parents=True)
    run = tmp_path / "frozen" / "0"
    run.mkdir(parents=True)
    scores = {"split": "val", "data": "drawn", "prediction": "net", "cases": {"net": [{"dice": [0.5]}]}}
    (run / "log.jsonl").write_text(json.dumps({"kind": "val", "step": 10, "dice": {"net": 0.5}}) + "\n")
    (run / "metrics.json").write_text(json.dumps(scores))
    recorded.record_runs("mine", tmp_path, ["frozen"])
    runs = recorded.load_runs("mine")
    assert (runs.title, runs.steps, runs.last["frozen"].tolist()) == ("drawn", (10,), [[0.5]])
    (run / "metrics.json").write_text(json.dumps({**scores, "split": "test"}))
    with pytest.raises(UserError, match="scored on test, expected val"):
        recorded.record_runs("mine", tmp_path, ["frozen"])


def test_the_curves_that_chapter_14_shows_are_those_of_the_trials():
    told = (ROOT / "docs" / "starts_trials.md").read_text("utf8")
    source = (ROOT / "solutions" / "14_teachers_that_wait.py").read_text("utf8")
    for row in ("`supervised_pair`", "`knowsam_plus`", "its SAM"):
        line = next(x for x in told.splitlines() if x.startswith(f"| {row} |") and x.count("|") == 12)
        assert ", ".join(re.findall(r"0\.\d{3}", line)) in source
    for number in ("0.743", "0.669"):
        assert number in told and number in source


def test_the_differences_that_chapter_14_shows_are_those_of_the_committed_scores():
    source = (ROOT / "solutions" / "14_teachers_that_wait.py").read_text("utf8")
    blocks = {"polyps": "polyp_15", "ISIC 2018": "isic2018_15", "ACDC": "acdc_3groups"}
    row = r'^ {4}\("([\w ]+)", (\d), ([\d.]+), ([\d.]+), \((-?[\d.]+), ([\d.]+)\)\),$'
    rows = re.findall(row, source, re.M)
    assert len(rows) == 9
    for name, seed, *shown in rows:
        dice = {}
        for method in ("knowsam_plus", "supervised_pair"):
            path = ROOT / "docs" / "comparison" / "real" / blocks[name] / method / seed / "scores.json"
            last = json.loads(path.read_text("utf8"))["last"]
            dice[method] = np.array([np.mean(case["dice"]) for case in last["cases"][last["prediction"]]])
        found = paired_bootstrap(dice["knowsam_plus"], dice["supervised_pair"], groups=last.get("groups"))
        numbers = (*(values.mean() for values in dice.values()), found["low"], found["high"])
        assert [f"{number:.3f}" for number in numbers] == shown


PILOTED = ["supervised_pair", "knowsam_plus"]
COMPARED = ["supervised", "supervised_pair", "mean_teacher", "ua_mt", "dtc", "mcf", "caussl", "bcp", "cps"]
COMPARED += ["fixmatch", "unimatch", "mc", "knowsam", "sam_only", "knowsam_mutual", "knowsam_plus"]


@pytest.mark.parametrize(
    ("blocks", "methods", "baselines", "seeds"),
    [
        (["isic2018_15"], COMPARED, ["supervised", *PILOTED], range(3)),
        (["acdc_3groups", "polyp_15"], PILOTED, ["supervised_pair"], range(3)),
        (["isic2018_15", "acdc_3groups"], PILOTED, ["supervised_pair"], range(3, 8)),
        (["isic2018_15"], ["sam_only", "knowsam_plus"], ["knowsam_plus"], range(3, 8)),
    ],
    ids=["all", "piloted", "fresh", "sam alone"],
)
def test_the_tables_of_the_comparison_are_those_of_the_committed_scores(blocks, methods, baselines, seeds):
    folder = ROOT / "docs" / "comparison"
    paths = [
        folder / "real" / block / method / str(seed) / "scores.json"
        for block in blocks
        for method in methods
        for seed in seeds
    ]
    configs = [Config.from_json(json.dumps(json.loads(path.read_text("utf8"))["config"])) for path in paths]
    cells = [Cell(c.method, replace(c, out=path.parent)) for c, path in zip(configs, paths, strict=True)]
    table = markdown(read_blocks(cells), baselines).strip()
    assert "Dice by trait" in table and table in (folder / "README.md").read_text("utf8")


def test_the_runs_with_more_labels_are_those_of_the_committed_scores():
    told = (ROOT / "docs" / "starts.md").read_text("utf8")
    paths = sorted((ROOT / "docs" / "comparison" / "more").glob("*/*/*/scores.json"))
    paths = [path for path in paths if "knowsam_plus" in path.parts]
    assert len(paths) == 12
    for path in paths:
        last = json.loads(path.read_text("utf8"))["last"]
        views = {view: classes["mean"]["dice"] for view, classes in last["summary"].items()}
        fused = views.pop(last["prediction"])
        others = " ".join(f"{dice['mean']:.3f}" for dice in views.values())
        assert f"| {others} | {fused['mean']:.3f} [{fused['low']:.3f}, {fused['high']:.3f}]" in told


def test_the_pair_with_as_many_steps_is_behind_by_what_is_told():
    folder, dice = ROOT / "docs" / "comparison" / "more" / "polyp_15", {}
    for method in PILOTED:
        lasts = [
            json.loads((folder / method / f"{s}/scores.json").read_text("utf8"))["last"] for s in range(3)
        ]
        dice[method] = np.stack([[np.mean(c["dice"]) for c in x["cases"][x["prediction"]]] for x in lasts])
    found = crossed(dice["knowsam_plus"] - dice["supervised_pair"], groups=lasts[0]["groups"])
    told = (ROOT / "docs" / "starts.md").read_text("utf8")
    means = " ".join(f"{mean:.3f}" for mean in dice["supervised_pair"].mean(axis=1))
    assert f"has {means}: " in told and f"+{found.mean:.3f} [+{found.low:.3f}, +{found.high:.3f}]" in told


def test_what_overnight_reached_is_what_it_scored():
    folder = ROOT / "docs" / "comparison" / "more" / "polyp_145_overnight"
    scores = json.loads((folder / "metrics.json").read_text("utf8"))
    dice = scores["summary"]["fused"]["mean"]["dice"]
    each = dict(zip(scores["ids"], scores["cases"]["fused"], strict=True))
    parts = [
        np.mean([case["dice"][0] for i, case in each.items() if i.startswith(k)]) for k in ("kvas", "clin")
    ]
    told = (ROOT / "docs" / "starts.md").read_text("utf8")
    assert f"{dice['mean']:.3f} [{dice['low']:.3f}, {dice['high']:.3f}]; Kvasir-SEG {parts[0]:.3f}" in told
    assert f"CVC-ClinicDB {parts[1]:.3f}, where" in told and scores["step"] == 560


def test_an_unknown_grid_is_named():
    with pytest.raises(UserError, match="found no grid 'stairs', expected one of isic2018, ladder"):
        recorded.load_grid("stairs")


@pytest.mark.parametrize("method", recorded.MAPS)
def test_the_maps_belong_to_the_images(method):
    dataset = open_dataset("synthetic:dermoscopy:160:1", 64)
    for split in ("val", "test"):
        margins = recorded.load_margins(method, split)
        truth = np.stack([dataset.mask(record) == 1 for record in dataset.split(split)])
        assert margins.shape == truth.shape and margins.dtype == np.float32
        assert ((margins > 0) == truth).mean() > 0.8


def test_what_is_shipped_is_small():
    assert sum(path.stat().st_size for path in recorded.FOLDER.rglob("*.*")) < 600_000
