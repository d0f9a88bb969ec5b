"""The grid of runs: it goes on where it stopped, one failure stops no other, and the table is arithmetic."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from helpers.base import small_net, tiny_teacher, two_stream_batch
from helpers.data_folders import make_folder

from knowsam_lite.cli import main
from knowsam_lite.commands.ablate import LADDER
from knowsam_lite.commands.compare import CompareOptions, _budget
from knowsam_lite.compare import Cell, grid, markdown, read_blocks, run_grid, write_leaderboard
from knowsam_lite.compare.grid import load_grid, save_grid
from knowsam_lite.compare.leaderboard import csv_text, heading, html, rows
from knowsam_lite.compare.minutes import steps_of_equal_time
from knowsam_lite.compare.results import read_entry
from knowsam_lite.compare.verdicts import differences
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.errors import UserError
from knowsam_lite.methods import METHODS, KnowSAM, MultiViewMean
from knowsam_lite.metrics import crossed
from knowsam_lite.runs.log import read_log
from knowsam_lite.runs.run import load_run
from knowsam_lite.training import Trainer

DATA = "synthetic:dermoscopy:32"


@pytest.fixture
def base(tmp_path):
    few = {"image_size": 32, "steps": 2, "batch_labeled": 2, "batch_unlabeled": 2}
    return replace(Config(), out=tmp_path, log_every=1, val_every=1, **few)


def named(*methods: str) -> dict:
    return {name: {"method": name} for name in methods}


def test_a_grid_has_every_cell_in_a_folder_of_its_own(base):
    cells = grid(base, [DATA, "folder/b"], ["4", "10%"], named("supervised", "bcp+skd"), [0, 1, 2])
    assert len(cells) == len({c.config.out for c in cells}) == 12
    assert {(c.config.data, c.config.labeled) for c in cells} == {(DATA, "4"), ("folder/b", "10%")}
    with pytest.raises(UserError, match="magic"):
        grid(base, [DATA], ["4"], named("magic"), [0])
    with pytest.raises(UserError, match="2 labelled sizes for 1 data sets"):
        grid(base, [DATA], ["4", "8"], named("mc"), [0])


def test_cells_are_trained_once_and_one_that_fails_says_why_and_stops_no_other(base):
    cells = grid(base, ["nowhere", DATA], ["4", "4"], named("supervised"), [0])
    failures = run_grid(cells, workers=2)
    assert len(failures) == 1 and "nowhere" in failures[0] and "Traceback" not in failures[0]
    scores = json.loads(cells[1].scores.read_text())
    out = cells[1].config.out
    dice = {row["step"]: row["dice"]["U-Net"] for row in read_log(out) if row["kind"] == "val"}
    assert scores["best"]["step"] == load_run(out, which="best").step == max(dice, key=lambda s: dice[s])
    assert scores["last"]["step"] == load_run(out).step == max(dice)
    assert scores["last"]["ids"] == scores["best"]["ids"] and len(scores["last"]["ids"]) == 8
    assert all(scores["cost"][name] > 0 for name in ("seconds_per_step", "peak_memory_bytes", "parameters"))
    start = next(row for row in read_log(out) if row["kind"] == "start")
    assert start["threads"] == 1 and start["instructions"] != "AVX512"  # the same digits on more processors
    pixels = sum(scores["confidence"]["pixels"])
    assert pixels == 8 * 32**2 and 0 <= read_entry("supervised", [cells[1]]).calibration <= 1
    stamp = cells[1].scores.stat().st_mtime_ns
    assert run_grid([cells[1]], workers=1) == []
    assert cells[1].scores.stat().st_mtime_ns == stamp


def fake(cell: Cell, dice: np.ndarray, view: str, seconds: float = 0.1) -> None:
    cell.config.out.mkdir(parents=True)
    cases = [{"dice": [float(d)], "iou": [0.5], "hd95": [3.0], "asd": [1.0]} for d in dice]
    block = {"data": "spots <b>", "ids": [str(i) for i in range(len(dice))], "cases": {view: cases}}
    block |= {"prediction": view, "case": "image", "unit": "pixels"}
    cost = {"seconds_per_step": seconds, "peak_memory_bytes": 2**30, "parameters": 2_000_000}
    cell.scores.write_text(json.dumps({"val": 5, "cost": cost, "last": block, "best": block}))


@pytest.fixture
def faked(base):
    cells = grid(base, [DATA], ["4"], named("supervised_pair", "mc", "knowsam"), [0, 1, 2, 3])
    rng = np.random.default_rng(0)
    for cell in cells:
        if cell.config.seed == 3:
            continue  # not done yet
        own = np.random.default_rng(cell.config.seed).uniform(0.4, 0.6, 40)
        gain = {"supervised_pair": 0.0, "mc": rng.normal(0, 0.05, 40), "knowsam": 0.2}[cell.config.method]
        fake(cell, own + gain, "fused")
    return cells


def test_the_table_counts_only_whole_seeds_and_names_ties(faked):
    [block] = read_blocks(faked)
    assert block.seeds == [0, 1, 2] and block.waiting == 3 and block.images == 40
    pair = block.entries["supervised_pair"].last
    assert pair.shape == (3, 40)
    text = markdown([block], ["supervised_pair", "knowsam"])
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert "4 labels, 40 test images, seeds 0, 1, 2; 3 runs are not done" in text
    assert re.search(r"\+0\.200 \[\+0\.200, \+0\.200\] 3/3 d \S+ better", rows["knowsam"])
    assert re.search(r"-0\.200 \[-0\.200, -0\.200\] 0/3 d \S+ worse", rows["supervised_pair"])
    assert re.search(r"/3 d \S+ tie \|", rows["mc"])
    assert f"{pair.mean():.3f} +- {pair.mean(axis=1).std(ddof=1):.3f}" in rows["supervised_pair"]


def test_the_heading_says_what_is_labelled(faked):
    [block] = read_blocks(faked)
    assert heading(block).startswith("4 labels, 40 test images, seeds 0, 1, 2; 3 runs")
    of_volumes = replace(block, labeled="3groups", case="volume")
    assert heading(of_volumes).startswith("3 labelled groups, 40 test volumes")


def test_distance_and_cost_stand_beside_dice_as_multiples_of_the_first_row(base):
    cells = grid(base, [DATA], ["4"], named("mc", "knowsam"), [0])
    for cell, seconds in zip(cells, (0.2, 0.5), strict=True):
        fake(cell, np.full(4, 0.5), "fused", seconds)
    first, second = rows(*read_blocks(cells), ["mc"])
    assert first["median HD95, pixels"] == second["median HD95, pixels"] == "3.0"
    assert (first["s a step"], second["s a step"]) == ("0.20 (x1.0)", "0.50 (x2.5)")


def test_a_claim_has_to_hold_for_its_whole_column(base):
    """One of twenty variants of pure noise leaves out 0 alone, and is a tie among its like."""
    names = [name for name in METHODS if "+" not in name][:20]
    cells = grid(base, [DATA], ["4"], named(*names), [0, 1, 2])
    rng = np.random.default_rng(0)
    for cell in cells:
        fake(cell, rng.uniform(0.4, 0.6, 40), "fused")
    [block] = read_blocks(cells)
    said = differences(block, names[0])
    assert set(said) == set(names[1:])
    assert any(text.endswith("tie (Holm)") for text in said.values())
    assert not any(text.endswith(("better", "worse")) for text in said.values())


def test_a_method_with_sam_is_compared_with_itself_without(base):
    cells = grid(base, [DATA], ["4"], named("bcp", "bcp+skd", "cps+skd", "mc"), [0, 1, 2])
    for cell in cells:
        fake(cell, np.linspace(0.5, 0.6, 40) + 0.1 * (cell.variant == "bcp+skd"), "U-Net")
    table = {row["method"]: row for row in rows(*read_blocks(cells), [])}
    said = {name: row["against itself without SAM"] for name, row in table.items()}
    assert said.pop("bcp+skd").startswith("+0.100 [+0.100, +0.100] 3/3") and set(said.values()) == {""}
    alone = rows(*read_blocks([cell for cell in cells if cell.variant != "bcp"]), [])
    assert "against itself without SAM" not in alone[0]


def test_of_two_seeds_nothing_is_called_better(base):
    cells = grid(base, [DATA], ["4"], named("mc", "knowsam"), [0, 1])
    for cell, dice in zip(cells, (0.5, 0.9) * 2, strict=True):
        fake(cell, np.linspace(dice - 0.01, dice, 40), "fused")
    [block] = read_blocks(cells)
    assert differences(block, "mc")["knowsam"].endswith("no verdict")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ids": list("abcd")}, "scored on other test images"),
        ({"unit": "mm"}, "scored in other units"),
        ({"labeled": ["p2"]}, r"learned from other labelled images \(seed 1\)"),
    ],
)
def test_cells_that_cannot_be_compared_are_refused(base, changes, says):
    cells = grid(base, [DATA], ["4"], named("mc", "knowsam"), [0, 1])
    for cell in cells:
        fake(cell, np.full(4, 0.5), "fused")
        change(cell, labeled=[f"p{cell.config.seed}"])
    assert len(read_blocks(cells)) == 1  # other seeds have other labels
    change(cells[-1], **changes)
    with pytest.raises(UserError, match=says):
        read_blocks(cells)


def change(cell: Cell, **changes: object) -> None:
    scores = json.loads(cell.scores.read_text())
    scores["last"] |= changes
    cell.scores.write_text(json.dumps(scores))


def test_a_grid_without_test_images_ends_before_it_trains(tmp_path, capsys):
    root = make_folder(tmp_path / "d", val=2, test=0)
    words = ["--methods", "supervised", "--baselines", "supervised", "--seeds", "1", "--budget", "ci"]
    words += ["--labeled", "4", "--out", str(tmp_path / "out")]
    assert main(["compare", "--data", str(root), *words]) == 2
    assert "found no test images" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("last.pt"))


def test_equal_minutes_are_counted_in_the_steps_of_the_first_baseline(base, tmp_path):
    cells = grid(base, [DATA], ["4"], named("supervised_pair", "mc", "knowsam"), [0, 1])
    seconds = {"supervised_pair": (0.5, 0.3), "mc": (0.3, 0.4), "knowsam": (1.2, 0.9)}
    save_grid(cells, ["supervised_pair"], tmp_path)
    for cell in cells:
        fake(cell, np.full(4, 0.5), "fused", seconds[cell.variant][cell.config.seed])
    names = ["knowsam", "mc", "supervised_pair"]
    assert steps_of_equal_time(tmp_path, names, "supervised_pair") == {
        "supervised_pair": 2,
        "mc": 2,
        "knowsam": 1,
    }
    other = grid(base, ["synthetic:dermoscopy:20"], ["4"], named("supervised_pair"), [0])
    fake(other[0], np.full(7, 0.5), "fused", 0.15)  # of another number of test images
    save_grid([*cells, *other], ["supervised_pair"], tmp_path)
    assert steps_of_equal_time(tmp_path, ["mc"], "supervised_pair") == {"mc": 1}
    with pytest.raises(UserError, match="no finished cell of cps"):
        steps_of_equal_time(tmp_path, ["cps"], "supervised_pair")


def test_images_of_one_patient_are_drawn_together(faked):
    """Ten patients of four images that are all alike say less than forty images."""
    groups = [str(i // 4) for i in range(40)]
    apart = read_blocks(faked)[0]
    for cell in faked:
        if cell.scores.exists():
            scores = json.loads(cell.scores.read_text())
            cell.scores.write_text(json.dumps(scores | {"last": scores["last"] | {"groups": groups}}))
    together = read_blocks(faked)[0]
    d = crossed(together.entries["mc"].last - together.entries["supervised_pair"].last, groups)
    assert f"[{d.low:+.3f}, {d.high:+.3f}]" in differences(together, "supervised_pair")["mc"]
    assert differences(apart, "supervised_pair")["mc"] != differences(together, "supervised_pair")["mc"]


def test_fresh_seeds_begin_where_they_are_told_to(tmp_path):
    words = ["--methods", "mc", "--first-seed", "3", "--seeds", "2", "--workers", "0"]
    assert main(["compare", "--data", DATA, "--labeled", "4", *words, "--out", str(tmp_path)]) == 0
    assert [cell.config.seed for cell in load_grid(tmp_path)[0]] == [3, 4]


def test_published_augmentation_is_each_methods_own(tmp_path):
    wanted = ["--methods", "mean_teacher", "mean_teacher+skd", "knowsam_plus", "--augmentation", "published"]
    arguments = ["compare", "--data", DATA, "--labeled", "4", *wanted, "--seeds", "1", "--workers", "0"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    found = {cell.variant: cell.config.unlabeled_aug for cell in load_grid(tmp_path)[0]}
    assert found == {"mean_teacher": "weak", "mean_teacher+skd": "weak", "knowsam_plus": "strong"}


def test_csv_holds_the_numbers_of_every_seed_and_checkpoint(faked):
    blocks = read_blocks(faked)
    lines = list(csv.DictReader(csv_text(blocks).splitlines()))
    assert len(lines) == 3 * 3 * 2
    for line in lines:
        entry = blocks[0].entries[line["method"]]
        assert float(line["dice"]) == pytest.approx(entry.last[int(line["seed"])].mean(), abs=1e-5)
        assert float(line["hd95"]) == 3 and line["unit"] == "pixels"


class Outside(HTMLParser):
    """Collects what a page would fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [v for k, v in attrs if k in ("src", "href") and not str(v).startswith("data:")]


def test_the_page_is_whole_by_itself_and_escapes_names(faked):
    page = html(read_blocks(faked), ["supervised_pair"], {})
    parser = Outside()
    parser.feed(page)
    assert parser.fetched == [] and "b" not in parser.tags and "spots &lt;b&gt;" in page
    assert page.count("<tr>") == 4


@pytest.mark.slow
def test_compare_writes_table_page_numbers_and_pictures(tmp_path, capsys):
    wanted = ["--methods", "supervised,mean_teacher+skd", "--baselines", "supervised"]
    sizes = ["--steps", "2", "--seeds", "1", "--budget", "ci", "--workers", "1"]
    arguments = ["compare", "--data", DATA, "--labeled", "4", *wanted, *sizes, "--out", str(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "mean_teacher+skd" in out and "leaderboard.html" in out
    for name in (
        "results.csv",
        "table.md",
        "leaderboard.html",
        "curves_0.png",
        "failures_0.png",
        "predictions.png",
    ):
        assert (tmp_path / name).stat().st_size > 300
    assert main([*arguments, "--report"]) == 0
    table = (tmp_path / "table.md").read_text()
    for path in [*tmp_path.rglob("last.pt"), *tmp_path.glob("*.*")]:  # as where the scores alone were kept
        path.unlink()
    capsys.readouterr()
    assert main([*arguments, "--report"]) == 0 and "predictions" not in capsys.readouterr().out
    assert (tmp_path / "table.md").read_text() == table and not list(tmp_path.glob("*.png"))


def test_where_the_images_are_not_at_hand_the_tables_are_written(faked, tmp_path, capsys):
    gone = [replace(cell, config=replace(cell.config, data="/nowhere")) for cell in faked]
    for cell in gone:
        cell.config.out.mkdir(parents=True, exist_ok=True)
        (cell.config.out / "last.pt").touch()
        (cell.config.out / "config.json").write_text(cell.config.to_json())
        (cell.config.out / "log.jsonl").touch()
    written = write_leaderboard(read_blocks(gone), ["supervised_pair"], tmp_path)
    assert {path.name for path in written} >= {"results.csv", "table.md", "leaderboard.html"}
    assert "without pictures of predictions" in capsys.readouterr().err


def test_nothing_done_is_said(tmp_path, capsys):
    arguments = ["compare", "--data", DATA, "--labeled", "4", "--report", "--out", str(tmp_path)]
    assert main(arguments) == 0 and "nothing to report yet" in capsys.readouterr().out


def test_real_images_get_pretrained_students_and_a_mixture_must_be_told(tmp_path, capsys):
    def students(*data: str) -> str:
        return _budget(CompareOptions(data=data, labeled=("4",) * len(data))).students

    assert (students(DATA), students("photos", "scans")) == ("paper", "pretrained")
    grid = ["--labeled", "4", "4", "--report", "--out", str(tmp_path)]
    assert main(["compare", "--data", DATA, "photos", *grid]) == 2
    assert "expected a --budget for both" in capsys.readouterr().err


# ---------------------------------------------------------------- ablation


def rung(name: str) -> torch.nn.Module:
    config = replace(Config(), image_size=32, steps=300, **LADDER[name])
    nets = (small_net(2), small_net(2))
    kind = METHODS[config.method]
    return kind(config, 2, *nets, tiny_teacher(2)) if issubclass(kind, KnowSAM) else kind(config, 2, *nets)


@pytest.mark.parametrize("name", LADDER)
def test_each_rung_can_be_trained(name, tmp_path):
    """SAM's part of the losses has no gradient where nothing in SAM is trained."""
    method = rung(name)
    data = Synthetic("dermoscopy", n=30, size=32)
    trainer = Trainer(data, replace(method.config, labeled="4", device="cpu", out=tmp_path), method)
    before = [p.detach().clone() for p in method.parameters() if p.requires_grad]
    trainer.method.train()
    trainer.train_step(trainer.batches[0])
    after = [p for p in method.parameters() if p.requires_grad]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_each_rung_adds_what_it_says():
    terms, learning = {}, {}
    for name in LADDER:
        torch.manual_seed(0)
        method = rung(name).train()
        terms[name] = set(method.losses(two_stream_batch(2), 280))
        learning[name] = {n.split(".")[1] for n, p in method.named_parameters() if p.requires_grad}
        held = {id(p) for o in method.optimizers() for g in o.param_groups for p in g["params"]}
        assert held == {id(p) for p in method.parameters() if p.requires_grad}
    assert terms["+ HAM"] - terms["MC"] == {"fused/supervised"}
    skd = {"a/distillation", "b/distillation", "sam/supervised"}
    assert terms["+ SKD"] - terms["+ HAM"] == skd
    assert terms["+ SKD"] == terms["+ LPS"] == terms["+ adapter"]
    assert {name.split("/")[0] for name in terms["+ UGDA"] - terms["+ adapter"]} == {"mixed"}
    students = {"net_a", "net_b", "ham"}
    assert learning["MC"] == {"net_a", "net_b"}
    assert learning["+ SKD"] == learning["+ HAM"] == students
    assert learning["+ LPS"] == students | {"learnable_prompts"}
    sam = {"learnable_prompts", "image_encoder", "mask_decoder"}
    assert learning["+ adapter"] == learning["+ UGDA"] == students | sam


def test_mc_without_ham_predicts_the_mean_of_both_subnets():
    method = MultiViewMean(replace(Config(), image_size=32), 3, small_net(3), small_net(3)).eval()
    x = torch.rand(2, 3, 32, 32)
    z = method.students(x)
    mean = (z.logits_a.softmax(1) + z.logits_b.softmax(1)) / 2
    torch.testing.assert_close(method.predict(x).softmax(1), mean)


def test_leaderboard_needs_no_curve_where_nothing_was_validated(faked, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "knowsam_lite.compare.pictures.draw_sheet", lambda blocks, path: path.write_bytes(b"")
    )
    for cell in faked:
        if cell.scores.exists():
            (cell.config.out / "log.jsonl").write_text('{"kind": "train", "step": 1}\n')
            (cell.config.out / "last.pt").touch()
    paths = write_leaderboard(read_blocks(faked), ["mc"], tmp_path)
    assert all(path.exists() for path in paths)


def test_less_than_no_worker_is_refused(tmp_path, capsys):
    arguments = ["compare", "--data", DATA, "--labeled", "4", "--workers", "-1", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "found -1 workers" in capsys.readouterr().err
