"""The grid of runs: it goes on where it stopped, one failure stops no other, and the table is arithmetic."""

import json
from dataclasses import replace

import numpy as np
import pytest

from knowsam_lite.compare import Cell, grid, run_cell, run_grid, seeds_by_images, table
from knowsam_lite.config import Config
from knowsam_lite.errors import UserError

DATA = "synthetic:dermoscopy:32"


@pytest.fixture
def base(tmp_path):
    few = {"image_size": 16, "steps": 2, "batch_labeled": 2, "batch_unlabeled": 2}
    return replace(Config(), out=tmp_path, log_every=1, val_every=1, **few)


def test_a_grid_has_every_cell_in_a_folder_of_its_own(base):
    cells = grid(base, [DATA, "folder/b"], ["4", "10%"], ["supervised", "mc"], [0, 1, 2])
    assert len(cells) == len({c.config.out for c in cells}) == 12
    assert {(c.config.data, c.config.labeled) for c in cells} == {(DATA, "4"), ("folder/b", "10%")}
    with pytest.raises(UserError, match="magic"):
        grid(base, [DATA], ["4"], ["magic"], [0])
    with pytest.raises(UserError, match="2 labelled sizes for 1 data sets"):
        grid(base, [DATA], ["4", "8"], ["mc"], [0])


def test_a_cell_is_trained_once_and_scored_last_and_best(base):
    [cell] = grid(base, [DATA], ["4"], ["supervised"], [0])
    assert run_cell(cell) is None
    scores = json.loads(cell.scores.read_text())
    assert scores["last"]["ids"] == scores["best"]["ids"] and len(scores["last"]["ids"]) == 8
    stamp = cell.scores.stat().st_mtime_ns
    assert run_grid([cell], workers=1) == []
    assert cell.scores.stat().st_mtime_ns == stamp


def test_a_cell_that_fails_says_why_and_stops_no_other(base):
    cells = grid(base, ["nowhere", DATA], ["4", "4"], ["supervised"], [0])
    failures = run_grid(cells, workers=1)
    assert len(failures) == 1 and "nowhere" in failures[0]
    assert cells[1].scores.exists()


def fake(cell: Cell, dice: np.ndarray, view: str) -> None:
    cell.config.out.mkdir(parents=True)
    cases = [{"dice": [float(d)]} for d in dice]
    block = {"data": "spots", "ids": [str(i) for i in range(len(dice))], "cases": {view: cases}}
    cell.scores.write_text(json.dumps({"val": 5, "last": block, "best": block}))


def test_the_table_counts_only_whole_seeds_and_names_ties(base):
    cells = grid(base, [DATA], ["4"], ["supervised_pair", "mc", "knowsam"], [0, 1, 2])
    rng = np.random.default_rng(0)
    for cell in cells:
        if cell.config.seed == 2:
            continue  # not done yet
        own = np.random.default_rng(cell.config.seed).uniform(0.4, 0.6, 40)
        gain = {"supervised_pair": 0.0, "mc": rng.normal(0, 0.05, 40), "knowsam": 0.2}[cell.config.method]
        fake(cell, own + gain, "fused")
    text = table(cells, "supervised_pair")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert "**spots**, 4 labels, 40 test images, seeds 0, 1" in text
    assert "+0.200 [+0.200, +0.200] better" in rows["knowsam"] and "tie" in rows["mc"]
    assert rows["supervised_pair"].endswith("|  |")
    done = [c for c in cells if c.config.method == "supervised_pair" and c.scores.exists()]
    pair = seeds_by_images(done, "last", "fused")
    assert pair.shape == (2, 40)
    assert f"{pair.mean():.3f} +-" in rows["supervised_pair"]
