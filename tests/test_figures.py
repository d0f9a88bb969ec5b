"""Figures: what they plot, that they are written whole, and that bad input is named."""

import itertools
import math

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from knowsam_lite import figures
from knowsam_lite.errors import UserError
from knowsam_lite.figures.training import by_kind, spread, term_looks

VIEWS = ["U-Net", "V-Net", "fused", "SAM"]


def log_rows(steps: int = 60) -> list[dict]:
    rows: list[dict] = [{"kind": "start", "seed": 0}]
    for step in range(steps):
        losses = {"supervised": math.exp(-step / 30), "mixing": 0.3 if step > 20 else 0.0}
        if step > 30:
            losses["late"] = 0.05
        total = sum(losses.values())
        rows.append(
            {"kind": "train", "step": step, "losses": losses, "total": total, "lr": 1e-3, "seconds": 1.0}
        )
        if step % 20 == 19:
            rows.append({"kind": "val", "step": step, "dice": {view: step / 100 for view in VIEWS}})
    return rows


def case(name: str = "case", shape: tuple[int, int] = (48, 64), classes: int = 2) -> dict:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows - shape[0] / 2, columns - shape[1] / 2) / min(shape)
    truth = sum((distance < 0.4 / label).astype(np.uint8) for label in range(1, classes))
    return {
        "id": name,
        "image": rng.integers(0, 255, (*shape, 3), dtype=np.uint8),
        "truth": truth,
        "maps": {view: np.roll(truth, 3 * i, axis=1) for i, view in enumerate(VIEWS)},
        "uncertainty": np.clip(1 - distance, 0, 1),
        "dice": dict.fromkeys(VIEWS, 0.8),
    }


def test_curves_plot_what_the_log_holds(tmp_path):
    plotted = figures.curves(log_rows(), tmp_path / "curves.png")
    assert list(plotted["losses"]) == ["supervised", "mixing", "late", "total"]
    steps, values = plotted["losses"]["supervised"]
    assert steps.tolist() == list(range(60))
    assert values == pytest.approx(np.exp(-np.arange(60) / 30))
    assert plotted["losses"]["late"][0].tolist() == list(range(31, 60))
    assert list(plotted["dice"]) == VIEWS
    assert plotted["dice"]["SAM"][1].tolist() == [0.19, 0.39, 0.59]
    with Image.open(tmp_path / "curves.png") as picture:
        assert min(picture.size) > 600
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_curves_of_a_run_that_has_just_begun(tmp_path):
    """One step, no validation, a term that is zero and one that is not finite: still a picture."""
    losses = {"supervised": 0.7, "mixing": 0.0, "broken": float("nan")}
    row = {"kind": "train", "step": 0, "losses": losses, "total": 0.7}
    plotted = figures.curves([row], tmp_path / "curves.svg")
    assert plotted["dice"] == {}
    text = (tmp_path / "curves.svg").read_text("utf8")
    assert "not validated yet" in text
    assert ">supervised<" in text
    assert ">mixing<" not in text


def test_too_many_terms_are_added_up_over_the_students(tmp_path):
    names = [f"{who}/{kind}" for kind in ("supervised", "consistency", "entropy") for who in "ab"]
    names += ["fused/supervised", "sam/supervised", *(f"mixed/{who}/pseudo" for who in "ab")]
    losses = {name: 1.0 for name in names}
    rows = [{"kind": "train", "step": step, "losses": losses, "total": 10.0} for step in range(4)]
    plotted = figures.curves(rows, tmp_path / "curves.svg")
    assert list(plotted["losses"]) == [*names, "total"]  # what is returned is the log's
    drawn = by_kind(plotted["losses"])
    assert list(drawn) == ["supervised", "consistency", "entropy", "sam/supervised", "mixed/pseudo", "total"]
    assert drawn["supervised"][1].tolist() == [3.0] * 4 and drawn["total"][1].tolist() == [10.0] * 4
    few = {name: plotted["losses"][name] for name in (*names[:2], "sam/supervised", "mixed/a/pseudo")}
    assert by_kind(few) is few  # one term of each network, and one on mixed images


def test_a_networks_term_has_its_color_and_a_mixed_one_is_dashed():
    looks = term_looks(
        ["a/supervised", "mixed/a/pseudo", "entropy", "mixed/entropy", "sam/supervised", "total"]
    )
    assert looks["a/supervised"] == (figures.COLORS["U-Net"], "-")
    assert looks["mixed/a/pseudo"] == (figures.COLORS["U-Net"], "--")
    assert looks["sam/supervised"][0] == figures.COLORS["SAM"]
    assert looks["entropy"][0] == looks["mixed/entropy"][0] not in figures.COLORS.values()
    assert looks["entropy"][1] + looks["mixed/entropy"][1] == "---"


def test_curves_name_views_in_their_networks_colour_and_last_value(tmp_path):
    figures.curves(log_rows(), tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text("utf8")
    for view in VIEWS:
        assert f"{view}  0.59" in text
        assert figures.COLORS[view].lower() in text.lower()


@pytest.mark.parametrize(("classes", "shape"), [(2, (48, 64)), (4, (64, 40)), (2, (30, 300))])
def test_sheet_has_a_row_per_case_and_a_column_per_map(tmp_path, classes, shape):
    cases = [case("first", shape, classes), case("second", shape, classes)]
    drawn = figures.prediction_sheet(cases, tmp_path / "sheet.png")
    assert drawn["columns"] == ["image", "truth", *VIEWS, "uncertainty"]
    assert drawn["rows"] == ["first", "second"]
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.size[0] > 1500
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_sheet_prints_dice_ids_and_class_names(tmp_path):
    long = "patient101_frame14_slice_003_of_ten"
    names = ["background", "right ventricle", "myocardium"]
    figures.prediction_sheet([case(long, classes=4)], tmp_path / "sheet.svg", classes=names)
    text = (tmp_path / "sheet.svg").read_text("utf8")
    assert text.count(">0.80<") == len(VIEWS)
    for name in ("right ventricle", "myocardium", "class 3"):
        assert f">{name}<" in text
    assert long not in text  # shortened in the middle, so that it does not leave its row
    assert ">patient1" in text


@pytest.mark.parametrize(
    ("classes", "options", "dice", "says"),
    [
        (
            2,
            {},
            True,
            "Colour: the prediction.  White line: outline of the truth.  Number: Dice of the case.",
        ),
        (
            4,
            {"number": "Dice of class 3"},
            True,
            "Colour: the class.  White line: outline of the truth.  Number: Dice of class 3.",
        ),
        (4, {}, False, "Colour: the class.  White line: outline of the truth."),
    ],
)
def test_the_caption_says_what_is_drawn(tmp_path, classes, options, dice, says):
    drawn = case(classes=classes)
    if not dice:
        del drawn["dice"]
    figures.prediction_sheet([drawn], tmp_path / "sheet.svg", **options)
    assert f">{says}<" in (tmp_path / "sheet.svg").read_text("utf8")


def test_sheet_takes_the_columns_it_is_given(tmp_path):
    bare = case()
    bare["maps"] = {"U-Net": bare["maps"]["U-Net"], "teacher": np.zeros_like(bare["truth"])}
    del bare["uncertainty"], bare["dice"]
    drawn = figures.prediction_sheet([bare], tmp_path / "sheet.png")
    assert drawn["columns"] == ["image", "truth", "U-Net", "teacher"]


def changed(**fields) -> dict:
    return {**case("odd"), **fields}


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "found no case"),
        ([case(), changed(maps={"U-Net": case()["truth"]})], "in case odd, expected"),
        ([changed(truth=np.zeros((5, 5), np.uint8))], "found shape (5, 5) for truth of case odd"),
        ([changed(uncertainty=np.zeros((5, 5)))], "found shape (5, 5) for uncertainty of case odd"),
    ],
)
def test_bad_cases_are_named(tmp_path, cases, words):
    with pytest.raises(UserError) as caught:
        figures.prediction_sheet(cases, tmp_path / "sheet.png")
    assert words in str(caught.value)


def test_bad_logs_and_paths_are_named(tmp_path):
    with pytest.raises(UserError, match="no training row"):
        figures.curves([{"kind": "val", "step": 1, "dice": {}}], tmp_path / "curves.png")
    for path in (tmp_path / "nowhere" / "curves.png", tmp_path / "curves.docx"):
        with pytest.raises(UserError, match=r"not writable|ending \.docx"):
            figures.curves(log_rows(), path)
    assert list(tmp_path.iterdir()) == []


def test_networks_keep_their_colour_and_others_get_one():
    assert [figures.color(view, 3) for view in VIEWS] == [figures.COLORS[view] for view in VIEWS]
    assert len({figures.color(view) for view in VIEWS}) == len(VIEWS)
    assert figures.color("teacher", 0) != figures.color("teacher", 1)


def test_style_is_asked_for_and_plots_do_not_leak_it(tmp_path):
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        figures.curves(log_rows(), tmp_path / "curves.png")
        assert dict(matplotlib.rcParams) == before
        chosen = figures.style()
        assert matplotlib.rcParams["font.size"] == chosen["font.size"] == 8


@given(st.lists(st.floats(0, 1), max_size=25).map(sorted), st.floats(0.001, 0.2))
def test_spread_labels_are_apart_inside_and_in_order(heights, gap):
    placed = spread(heights, gap)
    room = min(gap, 1 / max(len(heights) - 1, 1))
    assert all(high - low >= room - 1e-9 for low, high in itertools.pairwise(placed))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)
    if all(high - low >= gap for low, high in itertools.pairwise(heights)):
        assert placed == pytest.approx(heights)
