"""report.html: whole, safe, self-contained, and with the numbers that were measured."""

import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
import torch
from helpers.base import small_net
from helpers.volume_folders import make_nifti
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite.config import Config
from knowsam_lite.data import Record, Synthetic, open_dataset
from knowsam_lite.data.records import cases_of, records_of
from knowsam_lite.data.sampler import load_case
from knowsam_lite.errors import UserError
from knowsam_lite.evaluation import case_dice, score_split
from knowsam_lite.methods import SupervisedPair
from knowsam_lite.report.about import duration, session_seconds
from knowsam_lite.report.chart import Axis, Chart, log_axis
from knowsam_lite.report.gather import BINS, SHOWN, Gatherer
from knowsam_lite.report.history import history
from knowsam_lite.report.tiles import ADDED, CONFUSED, MISSED, SIDE, _errors, _rgb
from knowsam_lite.report.write import write_report
from knowsam_lite.training import Trainer

CPU = torch.device("cpu")
HOSTILE = "<img src=x onerror=alert(1)>\"'&</style><script>"
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Reads a page and objects to tags that do not nest; keeps tags, texts by tag and table rows."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.texts: list[tuple[str, str]] = []
        self.tables: list[list[list[str]]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attributes):  # as SVG has them
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, data):
        if self.open:
            self.texts.append((self.open[-1], data))
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    def scores(self) -> list[list[list[str]]]:
        return [table for table in self.tables if table[0][:2] == ["map", "Dice"]]


class Renamed:
    """A data set whose name, classes and ids are what a stranger may have thought of."""

    def __init__(self, data):
        self.data, self.num_classes, self.spacing_mm = data, data.num_classes, data.spacing_mm
        self.name, self.classes = HOSTILE, tuple(f"{HOSTILE}{i}" for i in range(data.num_classes))
        self.original = {f"{HOSTILE}{r.id}": r for r in data.records}
        self.records = [replace(r, id=f"{HOSTILE}{r.id}") for r in data.records]

    def split(self, name):
        return records_of(self.records, name)

    def image(self, record):
        return self.data.image(self.original[record.id])

    def mask(self, record):
        return self.data.mask(self.original[record.id])


def trained(tmp_path, data, method_class=SupervisedPair, **changes):
    few = {"image_size": 32, "steps": 4, "labeled": "4", "batch_labeled": 2, "batch_unlabeled": 2}
    config = replace(Config(), log_every=1, val_every=2, out=tmp_path / "run", **few | changes)
    torch.manual_seed(0)
    nets = small_net(data.num_classes), small_net(data.num_classes)
    trainer = Trainer(data, config, method_class(config, data.num_classes, *nets))
    trainer.start()
    trainer.fit(progress=False)
    return trainer.result()


def report(run, **options):
    with pytest.MonkeyPatch.context() as patch:  # predictions.png costs more than the page
        patch.setattr("knowsam_lite.figures.prediction_sheet", lambda *_, **__: None)
        write_report(run, **options)
    text = (run.path / "report.html").read_text(encoding="utf-8")
    return text, json.loads((run.path / "metrics.json").read_text()), Page(text)


@pytest.fixture(scope="module", params=["dermoscopy", "cardiac"])
def reported(request, tmp_path_factory):
    """A run with 2 classes and one with 4, and what was written about each."""
    run = trained(tmp_path_factory.mktemp("page"), Synthetic(request.param, n=40, size=32))
    return run, *report(run)


def assert_self_contained(text, page):
    assert not {"script", "link", "iframe", "object", "base", "a"} & {name for name, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") or name in ("href", "srcset") for name in attributes)
        assert attributes.get("src", "data:image/").startswith("data:image/")
    rest = re.sub(r'src="data:[^"]*"', "", text)
    assert "http" not in rest and "url(" not in rest and "@import" not in rest


def test_the_page_stands_alone_and_fits_a_phone(reported):
    _, text, _, page = reported
    assert_self_contained(text, page)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert "prefers-color-scheme: dark" in text and len(text) < 1_500_000
    assert len(re.findall(r'<div class="scroll"', text)) == len(page.all("table"))


def test_every_picture_has_an_alternative_and_a_sentence(reported):
    _, _, metrics, page = reported
    tiles = 4 * min(2 * SHOWN, len(metrics["ids"]))
    assert len(page.all("img")) == tiles
    assert all(len(image["alt"]) > 10 for image in page.all("img"))
    charts = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    assert len(charts) == 5 and all(len(svg["aria-label"]) > 20 for svg in charts)
    captions = [says for name, says in page.texts if name == "figcaption"]
    assert len(captions) == len(page.all("figure")) == tiles + 5
    assert all(says.rstrip().endswith(".") for says in captions)


def test_the_tables_hold_the_numbers_of_metrics_json(reported):
    run, _, metrics, page = reported
    names = list(run.dataset.classes[1:])
    expected = names if len(names) == 1 else ["mean", *names]
    assert len(page.scores()) == len(expected)
    for name, rows in zip(expected, page.scores(), strict=True):
        assert [row[0] for row in rows[1:]] == ["U-Net", "V-Net", "fused"]
        for view, *cells in rows[1:]:
            values = metrics["summary"][view][name]
            wanted = []
            for metric, d in (("dice", 3), ("iou", 3), ("hd95", 1), ("asd", 1)):
                v = {key: f"{value:.{d}f}" for key, value in values[metric].items()}
                wanted.append(f"{v['mean']} ± {v['std']}{v['low']}–{v['high']}")
            assert cells == wanted


def test_the_calibration_error_is_that_of_the_bins(reported):
    _, text, metrics, _ = reported
    bins = [metrics["uncertainty"][name] for name in ("pixels", "wrong", "expected")]
    gap = sum(n * abs(w / n - e / n) for n, w, e in zip(*bins, strict=True) if n) / sum(bins[0])
    said = re.search(r"error rates are (\d\.\d{3}) apart", text)
    assert said and float(said.group(1)) == pytest.approx(gap, abs=6e-4)


def test_configuration_labelled_ids_cost_and_versions_are_on_the_page(reported):
    run, _, _, page = reported
    cells = {row[0]: row[1:] for table in page.tables for row in table}
    assert cells["image_size"] == ["32"] and cells["learning_rate"] == ["0.001"]
    assert set(json.loads(run.config.to_json())) <= set(cells)
    listed = [says for name, says in page.texts if name == "li"]
    assert set(run.labeled_ids) <= set(listed)
    trained_ = sum(p.numel() for p in run.method.parameters())
    assert cells["trained parameters"] == [f"{trained_:,}"] and cells["frozen parameters"] == ["0"]
    assert cells["threads"] == [str(torch.get_num_threads())] and "GiB" in cells["peak memory"][0]
    assert cells["vector instructions"] == [torch.backends.cpu.get_cpu_capability()]
    assert cells["torch"] == [torch.__version__]
    train = run.dataset.split("train")
    groups = len({record.group for record in train})
    assert cells["train"] == [f"{len(train)} images" + f" in {groups} groups" * (groups < len(train))]


def test_names_and_ids_are_text_whatever_they_hold(tmp_path):
    data = Renamed(Synthetic("dermoscopy", n=32, size=32))
    data.root = tmp_path
    (tmp_path / "dataset.json").write_text(json.dumps({"source": f"{HOSTILE} source", "licence": [HOSTILE]}))
    run = trained(tmp_path, data)
    text, metrics, page = report(run)
    assert_self_contained(text, page)
    assert HOSTILE not in text and "<script" not in text
    said = "".join(says for _, says in page.texts)
    worst = metrics["ids"][int(np.argmin(case_dice(metrics["cases"]["fused"])))]
    assert worst.startswith(HOSTILE) and worst in said and f"{HOSTILE} source" in said
    assert all(name in said for name in run.labeled_ids) and f"{HOSTILE}1" in said
    assert len(page.all("img")) == 4 * len(re.findall('<article class="case">', text))


def test_the_note_of_a_method_stands_before_all_numbers(tmp_path):
    class Noted(SupervisedPair):
        note = "these images may be <b>known</b> to it"

    run = trained(tmp_path, Synthetic("dermoscopy", n=32, size=32), Noted)
    text, _, page = report(run)
    assert ("p", "Note: these images may be <b>known</b> to it.") in page.texts
    assert text.index('class="note"') < text.index('class="facts"') < text.index("<table")
    assert text.count('class="note"') == 1
    plain, _, _ = report(replace(run, method=plain_method(run)))
    assert 'class="note"' not in plain


def plain_method(run):
    nets = small_net(2), small_net(2)
    return SupervisedPair(run.config, 2, *nets)


def test_a_run_of_before_the_log_held_its_cost(tmp_path):
    run = trained(tmp_path, Synthetic("dermoscopy", n=32, size=32))
    log = run.path / "log.jsonl"
    rows = [row for row in log.read_text().splitlines() if json.loads(row)["kind"] in ("train", "val")]
    log.write_text("\n".join(rows))
    _, _, page = report(run, split="val", which="best")
    cells = {row[0]: row[1:] for table in page.tables for row in table}
    assert cells["peak memory"] == cells["threads"] == ["not recorded"]
    assert any("val images, best checkpoint" in says for _, says in page.texts)


def test_one_row_and_a_half_without_val_make_a_page_and_no_row_one_clear_line(tmp_path):
    """A run of a single step, its log cut by a kill in the midst of a row."""
    data = Synthetic("dermoscopy", n=32, size=32)
    data.records = [record for record in data.records if record.split != "val"]
    run = trained(tmp_path, data, steps=1)
    log = run.path / "log.jsonl"
    start, row = log.read_text().splitlines()[:2]
    log.write_text(f'{start}\n{row}\n{{"kind": "saved", "st')
    _, _, page = report(run)
    assert any("Not validated" in says for _, says in page.texts)
    (run.path / "metrics.json").unlink()
    for text, says in ((start, "no training row"), (f"{row[:9]}\n{row}", "line 1 of .* damaged")):
        log.write_text(text)
        with pytest.raises(UserError, match=says):
            write_report(run)
    log.unlink()
    with pytest.raises(UserError, match=r"found no .*log\.jsonl"):
        write_report(run)
    assert not (run.path / "metrics.json").exists()  # each was found before the long part


def test_a_stopped_and_resumed_run_counts_its_sessions(tmp_path):
    data = Synthetic("dermoscopy", n=32, size=32)
    run = trained(tmp_path, data)
    again = Trainer(data, run.config, run.method)
    again.resume()
    again.fit(progress=False)
    _, _, page = report(again.result())
    assert ["sessions", "2"] in [row for table in page.tables for row in table]


def test_a_volume_is_a_case_with_its_worst_slice(tmp_path):
    data = open_dataset(make_nifti(tmp_path / "d", ("train",) * 3 + ("val", "test", "test")))
    run = trained(tmp_path, data, labeled="4")
    gathered = Gatherer("fused")
    score_split(run.method, data, "test", 32, CPU, watcher=gathered)
    assert len(gathered.dice) == len(gathered.uncertainty) == 2
    by_confidence = gathered.reliability()
    assert sum(by_confidence["pixels"]) == gathered.pixels.sum()
    assert sum(by_confidence["right"]) == gathered.pixels.sum() - gathered.wrong.sum()
    assert by_confidence["pixels"][:3] == [0, 0, 0], "of three classes the likeliest has a third at least"
    for shown in (*gathered.worst, *gathered.best):
        slices = cases_of(data.split("test"))[shown.record.case]
        wrong = {}
        for record in slices:
            alone = Gatherer("fused")
            one = OneRecord(data, record)
            score_split(run.method, one, "test", 32, CPU, watcher=alone)
            wrong[record.id] = int(alone.wrong.sum())
        assert shown.wrong == max(wrong.values()) == wrong[shown.record.id]
    text, metrics, page = report(run)
    assert metrics["case"] == "volume" and any("2 test volumes" in says for _, says in page.texts)
    assert ("span", "labelled training slices") in page.texts
    assert text.count("The slice of this volume with the most wrong pixels") == 2
    assert any("8 slices of 2 volumes" in cell for table in page.tables for row in table for cell in row)


class OneRecord:
    """A data set of one slice, as an image of its own."""

    def __init__(self, data, record: Record):
        self.data, self.record = data, replace(record, volume="")
        self.name, self.classes, self.num_classes = "one", data.classes, data.num_classes
        self.spacing_mm = None
        self.records = [self.record]

    def split(self, name):
        return self.records

    def image(self, record):
        return self.data.image(record)

    def mask(self, record):
        return self.data.mask(record)


class Guess(torch.nn.Module):
    """Random but fixed logits of wide range, so that every bin of uncertainty is met."""

    def __init__(self, classes: int):
        super().__init__()
        torch.manual_seed(3)
        self.net = torch.nn.Conv2d(3, classes, 3, padding=1)

    def views(self, x):
        scale = torch.linspace(0.5, 30, x.shape[3])
        return {"own": self.net(x) * scale, "other": -self.net(x)}


@pytest.mark.parametrize("kind", ["dermoscopy", "cardiac"])
def test_bins_of_uncertainty_against_pixel_by_pixel(kind):
    data = Synthetic(kind, n=30, size=32)
    method, gathered = Guess(data.num_classes), Gatherer("own")
    scores = score_split(method, data, "test", 32, CPU, watcher=gathered)
    pixels, wrong, expected, means = [0] * BINS, [0] * BINS, [0.0] * BINS, []
    for record in data.split("test"):
        x, truth = load_case(data, record, 32)
        z = method.views(x[None])["own"][0].double().detach().numpy()
        p = np.exp(z - z.max(axis=0)) / np.exp(z - z.max(axis=0)).sum(axis=0)
        total = 0.0
        for row, column in np.ndindex(truth.shape):
            q = p[:, row, column]
            h = -sum(v * np.log(v) for v in q if v > 0) / np.log(len(q))
            total += h
            at = min(int(h * BINS), BINS - 1)
            pixels[at] += 1
            wrong[at] += int(q.argmax() != truth[row, column])
            expected[at] += 1 - q.max()
        means.append(total / truth.size)
    assert min(pixels) > 0 and gathered.pixels.tolist() == pixels and gathered.wrong.tolist() == wrong
    assert gathered.expected == pytest.approx(expected, rel=1e-4)
    assert gathered.uncertainty == pytest.approx(means, rel=1e-4)
    assert gathered.dice == case_dice(scores["own"]).tolist()
    assert scores == score_split(method, data, "test", 32, CPU)  # watching changes nothing


@given(st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.9, 1.0]), min_size=1, max_size=14))
def test_best_and_worst_cases_are_the_ends_of_the_sorted_list(dices):
    gathered = Gatherer("own")
    plane = np.zeros((2, 2), np.uint8)
    for i, dice in enumerate(dices):
        record = Record(str(i), None, None, "", "test")
        gathered.plane(record, plane, {"own": plane}, {"own": torch.zeros(2, 2, 2)})
        gathered.case({"own": {"dice": [dice]}, "other": {"dice": [1 - dice]}})
    worst, best = gathered.extremes()
    assert [s.dice for s in worst] == sorted(dices)[: len(worst)]
    assert [s.dice for s in best] == sorted(dices, reverse=True)[: len(best)]
    assert len(worst) == min(SHOWN, max(len(dices) // 2, 1))
    assert len(best) == min(SHOWN, len(dices) - len(worst))
    shown = {s.record.id: s.dice for s in (*worst, *best)}
    assert len(shown) == len(worst) + len(best)
    assert all(dices[int(name)] == dice for name, dice in shown.items())
    assert len(gathered.worst) + len(gathered.best) <= 2 * SHOWN  # whatever the length of the split


def test_the_error_map_tells_missed_from_added_from_confused():
    truth = np.array([[0, 0, 1, 1, 2]], np.uint8)
    found = np.array([[0, 1, 0, 1, 1]], np.uint8)
    image = np.full((1, 5, 3), 100, np.uint8)
    drawn = _errors(image, truth, found)[0]
    assert [tuple(pixel) for pixel in drawn[[1, 2, 4]]] == [_rgb(c) for c in (ADDED, MISSED, CONFUSED)]
    assert len(set(drawn[0])) == len(set(drawn[3])) == 1 and drawn[3][0] > drawn[0][0]


def test_charts_break_where_nothing_can_be_drawn():
    chart = Chart(Axis("x", 0, 4), log_axis("y", [0.02, 30.0, 0.0, float("nan")]))
    assert (chart.y.low, chart.y.high) == (0.01, 100) and chart.y.ticks() == pytest.approx(
        [0.01, 0.1, 1, 10, 100]
    )
    chart.line([0, 1, 2, 3, 4], [1.0, 1.0, 0.0, float("nan"), 1.0], "#332288")
    svg = chart.svg("<alt>")
    assert svg.count("<polyline") == 2 and "nan" not in svg and 'aria-label="&lt;alt&gt;"' in svg
    assert log_axis("y", [0.2, 0.7]).ticks() == pytest.approx([0.1, 0.2, 0.5, 1])
    assert Axis("x", 0, 0.42).ticks() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4))
def test_ticks_are_few_and_inside(low, width):
    axis = Axis("x", low, low + width)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    assert all(-1e-6 <= axis.fraction(tick) <= 1 + 1e-6 for tick in ticks)


def test_time_is_summed_over_sessions():
    """A killed and resumed run: the log keeps what the lost session had saved."""
    rows = [{"kind": "start"}, {"kind": "saved", "seconds": 5.0}, {"kind": "saved", "seconds": 9.0}]
    assert session_seconds([*rows, {"kind": "start"}, {"kind": "saved", "seconds": 2.0}]) == 11.0
    assert session_seconds([{"kind": "train"}]) is None
    assert [duration(s) for s in (0.25, 245, 12000)] == ["0.2 s", "4 min 5 s", "3 h 20 min"]


def test_pictures_keep_their_shape_and_are_small(reported):
    _, _, _, page = reported
    for image in page.all("img"):
        with Image.open(BytesIO(b64decode(image["src"].split(",", 1)[1]))) as picture:
            assert picture.size == (SIDE, SIDE)  # the synthetic images are square


def scored(labels: int, dice: float, **changes) -> dict:
    """What metrics.json of a round holds, as far as its history is concerned."""
    interval = {"mean": dice, "low": dice - 0.05, "high": dice + 0.05}
    result = {"method": "mc", "data": "photos", "split": "test", "prediction": "fused", "ids": ["a", "b"]}
    labeled = [f"i{i}" for i in range(labels)]
    return {**result, "labeled": labeled, "summary": {"fused": {"mean": {"dice": interval}}}, **changes}


def test_the_history_shows_rounds_scored_on_the_same_images(tmp_path):
    rounds = {
        "round1": scored(10, 0.5),
        "again": scored(10, 0.6),
        HOSTILE.replace("/", "_"): scored(20, 0.7),
        "elsewhere": scored(15, 0.9, ids=["a", "c"]),
        "other method": scored(15, 0.9, method="bcp"),
    }
    for name, result in rounds.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(result))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged/metrics.json").write_text("{")
    (tmp_path / "a file").touch()
    own = tmp_path / "round3"
    text = history(own, scored(30, 0.8))
    page = Page(text)
    [[head, *rows]] = page.tables
    assert [row[1:3] for row in rows] == [["10", "0.600"], ["10", "0.500"], ["20", "0.700"], ["30", "0.800"]]
    assert head[1] == "labelled images" and rows[-1][0] == "round3" and rows[0][3] == "0.550–0.650"
    assert "scored on other images: 1 run." in text
    [chart] = page.all("svg")
    assert "0.550 with 10 labelled images, 0.700 with 20" in chart["aria-label"]
    assert len(page.all("circle")) == 4 and not page.all("script")


def test_rounds_scored_on_val_are_found_where_they_are_kept(tmp_path):
    (tmp_path / "round1/val_best").mkdir(parents=True)
    (tmp_path / "round1/val_best/metrics.json").write_text(json.dumps(scored(10, 0.5, split="val")))
    own = tmp_path / "round2", scored(20, 0.6, split="val")
    assert "0.500" in history(*own, "best") and history(*own, "last") == ""


def test_a_single_number_of_labels_has_no_history(tmp_path):
    (tmp_path / "seed1").mkdir()
    (tmp_path / "seed1/metrics.json").write_text(json.dumps(scored(10, 0.5)))
    assert history(tmp_path / "seed0", scored(10, 0.6)) == ""
