"""The lecture's figures are drawn, and show what their first line says."""

import pytest
from PIL import Image

from knowsam_lite.cli import main
from knowsam_lite.figures.gallery import GALLERY


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    return folder, {name: draw(folder / f"{name}.png") for name, draw in GALLERY.items()}


def test_there_are_twelve_each_with_a_sentence_that_says_what_to_see(drawn):
    folder, _ = drawn
    assert len(GALLERY) == 12
    for name, draw in GALLERY.items():
        with Image.open(folder / f"{name}.png") as picture:
            assert picture.width > 400 and len(set(picture.convert("L").tobytes())) > 20
        assert draw.__doc__ and "\n" not in draw.__doc__ and draw.__doc__.endswith(".")


def test_sam_learns_from_labels_alone_and_never_from_the_students(drawn):
    found = drawn[1]["who_learns"]
    assert {term for term, taught in found.items() if taught["SAM"]} == {"sam/supervised"}
    assert {term for term, taught in found.items() if taught["HAM"]} == {
        "fused/supervised",
        "mixed/fused/supervised",
    }
    assert all(taught["U-Net"] != taught["V-Net"] for name, taught in found.items() if name[1] == "/")


def test_metrics_have_their_traps(drawn):
    strays = drawn[1]["outliers"]
    assert strays["largest distance"][1] == strays["largest distance"][40] > 60
    assert strays["HD95"][10] == 0 and strays["HD95"][30] > 50
    overlap = drawn[1]["small_objects"]
    assert overlap["Dice"][0] < 0.5 and overlap["Dice"][-1] > 0.95
    assert all(d > i for d, i in zip(overlap["Dice"], overlap["IoU"], strict=True))


def test_ugda_begins_when_the_recipe_says_and_the_temperature_softens(drawn):
    begun = drawn[1]["ramps"]["UGDA"]
    assert begun.index(1.0) == 48  # 0.24 of 200
    softened = drawn[1]["temperature"]
    spread = [a - b for a, b in zip(softened["logit 4"], softened["logit 0"], strict=True)]
    assert spread == sorted(spread, reverse=True) and spread[-1] < 0.03


def test_the_v_net_looks_farther_than_the_u_net(drawn):
    seen = drawn[1]["receptive_field"]
    assert seen["V-Net"][0] > 2 * seen["U-Net"][0]


def test_ugda_takes_five_of_sixteen_cells(drawn):
    chosen = drawn[1]["regions"]["cells from the partner"]
    assert chosen == [5 / 16, 5 / 16]


def test_the_command_lists_draws_and_refuses(tmp_path, capsys):
    assert main(["figure"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(GALLERY)
    out = tmp_path / "ramps.svg"
    assert main(["figure", "ramps", "--out", str(out)]) == 0 and "<svg" in out.read_text()
    assert main(["figure", "mona_lisa"]) == 2
    assert "found figure 'mona_lisa', expected one of pipeline" in capsys.readouterr().err
