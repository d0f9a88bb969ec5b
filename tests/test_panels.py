"""The figures of the notebooks: the map of the method, small multiples, lines."""

import numpy as np
import pytest
from PIL import Image

from knowsam_lite import figures
from knowsam_lite.errors import UserError
from knowsam_lite.figures.pipeline import ARROWS, BLOCKS


def test_the_pipeline_lights_the_named_blocks(tmp_path):
    drawn = figures.pipeline("SAM, LPS", tmp_path / "a.png")
    assert drawn["lit"] == ["SAM", "LPS"] and set(drawn["blocks"]) == set(BLOCKS)
    figures.pipeline("HAM", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 500
    with pytest.raises(UserError, match="found block 'CNN', expected one of images, U-Net"):
        figures.pipeline("CNN", tmp_path / "c.png")


def test_every_arrow_of_the_pipeline_joins_two_blocks():
    assert {name for start, end, *_ in ARROWS for name in (start, end)} <= set(BLOCKS)


def test_sams_parts_say_what_is_frozen_and_what_learns(tmp_path):
    weights = {"image encoder": (1_499_600, 99_900), "prompt encoder": (4700, 0), "mask decoder": (8000, 90)}
    drawn = figures.sam_parts(weights, tmp_path / "a.svg")
    assert drawn == {
        "image encoder": "frozen: 1,500 thousand, adapters: 100 thousand",
        "prompt encoder": "frozen: 5 thousand",
        "mask decoder": "frozen: 8 thousand, adapters: 0 thousand",
    }
    text = (tmp_path / "a.svg").read_text("utf8")
    assert text.count(">frozen: ") == 3 and text.count(">adapters: ") == 2
    assert text.count(figures.COLORS["SAM"].lower()) == 3
    with pytest.raises(UserError, match=r"found parts .*'neck'.*, expected image encoder, prompt encoder"):
        figures.sam_parts({"neck": (1, 0)}, tmp_path / "b.png")


def test_the_block_has_four_frozen_layers_and_two_adapters(tmp_path):
    drawn = figures.adapted_block(tmp_path / "a.svg")
    assert drawn["frozen"] == ["LN 1", "attention", "LN 2", "MLP"]
    text = (tmp_path / "a.svg").read_text("utf8")
    assert all(text.count(f">{layer}<") == 1 for layer in ("attention", "MLP"))
    assert text.count(">down<") == text.count(">up<") == len(drawn["trained"]) == 2


def test_panels_return_the_means_of_the_maps(tmp_path):
    image = np.zeros((8, 8, 3), np.uint8)
    rows = [{"image": image, "doubt": np.full((8, 8), mean)} for mean in (0.25, 0.5)]
    assert figures.panels(rows, tmp_path / "a.png") == {"doubt": [0.25, 0.5]}
    for wrong, says in (
        ([], "found rows titled"),
        ([{"a": image}, {"b": image}], "found rows titled"),
        ([{"a": np.zeros((2, 8, 8))}], "found shape"),
        ([{"a": np.full((8, 8), 2.0)}], "found values outside"),
    ):
        with pytest.raises(UserError, match=says):
            figures.panels(wrong, tmp_path / "b.png")


def test_a_scale_stands_only_under_maps(tmp_path):
    image, doubt = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8))
    assert figures.panels([{"image": image}], tmp_path / "a.svg") == {}
    figures.panels([{"doubt": doubt}], tmp_path / "b.svg", ends=("sure", "torn"))
    assert "torn" in (tmp_path / "b.svg").read_text("utf8")
    assert ">0<" not in (tmp_path / "a.svg").read_text("utf8")


def test_masks_and_classes_have_no_scale_and_rows_have_names(tmp_path):
    mask, labels = np.eye(8) > 0, np.arange(-1, 7)[None].repeat(8, axis=0)
    rows = [{"wrong": mask, "labels": labels}, {"wrong": ~mask, "labels": labels}]
    drawn = figures.panels(rows, tmp_path / "a.svg", names=("lesion 1", "lesion 2"), classes=["back", "ring"])
    assert drawn == {"wrong": [0.125, 0.875]}
    text = (tmp_path / "a.svg").read_text("utf8")
    assert [text.count(f">{word}<") for word in ("lesion 1", "lesion 2", "back", "ring", "unknown")] == [
        1
    ] * 5
    assert ">0<" not in text
    with pytest.raises(UserError, match="no name or one for each"):
        figures.panels(rows, tmp_path / "b.svg", names=("lesion 1",))


def test_a_reference_is_grey_and_a_curve_has_its_networks_color(tmp_path):
    line = ([0, 1, 2], [0.1, 0.2, 0.3])
    drawn = {"early": line, "by chance": line}
    figures.trends(drawn, tmp_path / "a.svg", "Dice", "step", of={"early": "SAM"}, references=("by chance",))
    text = (tmp_path / "a.svg").read_text("utf8").lower()
    assert figures.COLORS["SAM"].lower() in text and "stroke-dasharray" in text


def test_the_ladder_names_every_shape(tmp_path):
    down = [(4, 32, 48), (8, 16, 24), (16, 8, 12)]
    drawn = figures.ladder(down, down[1::-1], tmp_path / "a.svg")
    assert drawn["down"] == ["4 channels, 32 × 48", "8 channels, 16 × 24", "16 channels, 8 × 12"]
    assert drawn["up"] == drawn["down"][1::-1]
    text = (tmp_path / "a.svg").read_text("utf8")
    assert [text.count(f">{label}<") for label in drawn["down"]] == [2, 2, 1]
    for wrong in (down, down[:1]):
        with pytest.raises(UserError, match="expected one less up than down"):
            figures.ladder(down, wrong, tmp_path / "b.svg")


def test_lines_return_their_values(tmp_path):
    x = np.linspace(0, 1, 5)
    drawn = figures.lines(x, {"square": x**2}, tmp_path / "a.png", title="Square", xlabel="x")
    assert drawn["square"] == pytest.approx([0, 1 / 16, 1 / 4, 9 / 16, 1])
    with pytest.raises(UserError, match="found no curve or one of another length"):
        figures.lines(x, {"short": x[:2]}, tmp_path / "b.png", title="", xlabel="")


def test_trends_return_their_values_and_name_every_curve(tmp_path):
    x = np.array([1.0, 10.0, 100.0])
    curves = {"square": (x, x**2), "short": (x[:2], [1, 1])}
    drawn = figures.trends(curves, tmp_path / "a.svg", title="Powers", xlabel="x", log="xy")
    assert drawn == {"square": [1, 100, 10000], "short": [1, 1]}
    text = (tmp_path / "a.svg").read_text("utf8")
    assert all(f">{word}<" in text for word in ("square", "short", "Powers"))
    figures.trends(
        {"falls": (range(1, 4), [1, 1e-3, 1e-6])}, tmp_path / "y.svg", title="", xlabel="", log="y"
    )
    assert all(f">{word}<" in (tmp_path / "y.svg").read_text("utf8") for word in ("3", "0.001", "falls"))
    for wrong, log, says in (
        ({}, "", "found no curve"),
        ({"a": (x, x[:2])}, "", "one y per x"),
        ({"a": ([], [])}, "", "one y per x"),
        ({"a": (x, [1, np.nan, 2])}, "", "found other y in 'a', expected finite"),
        ({"a": (x - 1, x)}, "x", "found other x in 'a', expected numbers above 0"),
    ):
        with pytest.raises(UserError, match=says):
            figures.trends(wrong, tmp_path / "b.png", title="", xlabel="", log=log)


def test_a_forest_says_which_rows_hold_the_line(tmp_path):
    rows = {"up": ([0.1, 0.2], 0.05, 0.3), "both": ([-0.1, 0.2], -0.2, 0.3), "down": ([-0.2], -0.3, -0.1)}
    drawn = figures.forest(rows, tmp_path / "a.png", "Gain", "Dice", zero=0.0)
    assert drawn == {"up": "better", "both": "tie", "down": "worse"}
    assert set(figures.forest(rows, tmp_path / "b.png", "Dice", "Dice").values()) == {""}
    with Image.open(tmp_path / "a.png") as picture:
        assert min(picture.size) > 300
    for wrong in ({}, {"a": ([], 0.0, 1.0)}, {"a": ([0.5], float("nan"), 1.0)}):
        with pytest.raises(UserError, match="found no row or rows without finite numbers"):
            figures.forest(wrong, tmp_path / "c.png", "", "")


def test_trends_have_room_for_long_names(tmp_path):
    figures.trends({"knowsam_mutual_at_once": ([1, 2], [0.3, 0.4])}, tmp_path / "a.png", "Dice", "step")
    with Image.open(tmp_path / "a.png") as picture:
        edge = np.asarray(picture.convert("L"))[:, -5:]
    assert (edge == 255).all()
