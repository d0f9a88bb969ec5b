"""`bench` times what it says: the right step of the right method, and the same prediction twice."""

import json

import numpy as np
import pytest
import torch

from knowsam_lite import bench
from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.cli import main
from knowsam_lite.encoders import PretrainedNet
from knowsam_lite.errors import UserError
from knowsam_lite.predict import Predictor

FIELDS = {"peak_memory_bytes", "threads", "variant", "ugda", "classes", "batch", "image_size", "teacher"}


def line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("variant", ["knowsam", "official"])
def test_a_step_is_one_json_line(variant, capsys):
    words = f"bench step --variant {variant} --classes 3 --batch 4 --image-size 32 --rounds 1 --device cpu"
    assert main(words.split()) == 0
    row = line(capsys)
    assert row.keys() >= FIELDS | {"seconds_per_step"}
    assert row["seconds_per_step"] > 0 and row["peak_memory_bytes"] > 2**26
    assert (row["variant"], row["classes"], row["batch"], row["ugda"]) == (variant, 3, 4, False)


def test_the_precision_is_that_of_the_step_that_is_timed(capsys):
    assert bench.step_trainer(bench.Shape(image_size=32, precision="bf16"), "cpu")[0].bf16
    words = "bench step --variant mc --image-size 32 --rounds 1 --device cpu --precision fp32"
    assert main(words.split()) == 0 and line(capsys)["precision"] == "fp32"


def test_pretrained_students_and_a_teacher_of_its_own_size_are_what_is_timed(capsys):
    pytest.importorskip("timm")
    shape = bench.Shape("knowsam_plus", image_size=32, students="pretrained", teacher_size=64)
    method = bench.step_trainer(shape, "cpu")[0].method
    assert isinstance(method.students.net_a, PretrainedNet) and method.teacher.image_size == 64
    words = "bench predict --students pretrained --image-size 32 --rounds 1 --device cpu"
    assert main(words.split()) == 0
    assert line(capsys)["students"] == "pretrained"


@pytest.mark.parametrize("ugda", [False, True])
def test_with_ugda_the_students_see_mixed_images_too(ugda):
    trainer, batch = bench.step_trainer(bench.Shape(image_size=32, ugda=ugda), "cpu")
    seen = []
    trainer.method.students.ham.register_forward_hook(lambda _, __, z: seen.append(len(z)))
    before = [p.detach().clone() for p in trainer.method.parameters()]
    trainer.train_step(batch)
    assert len(seen) == 1 + ugda
    moved = [not torch.equal(a, b) for a, b in zip(before, trainer.method.parameters(), strict=True)]
    assert any(moved)  # a whole step: also the update is timed


def test_the_classes_of_the_noise_are_all_there():
    data = bench.Noise(4, 16, 6)
    assert {int(v) for r in data.split("train") for v in data.mask(r).ravel()} == {0, 1, 2, 3}


def test_prediction_is_compared_with_a_plain_loop(capsys):
    assert main(["bench", "predict", "--image-size", "32", "--rounds", "1", "--device", "cpu"]) == 0
    row = line(capsys)
    assert row["largest_difference"] <= 1e-5
    assert row["ratio"] == pytest.approx(row["images_per_second"] / row["images_per_second_one_by_one"])


def test_a_prediction_that_differs_is_not_timed(monkeypatch):
    honest = Predictor.native_logits
    monkeypatch.setattr(Predictor, "native_logits", lambda self, x: (z + 1e-3 for z in honest(self, x)))
    with pytest.raises(UserError, match="differ by"):
        bench.bench_predict(bench.Shape(image_size=32), rounds=1, device="cpu", images=2)


class AtOneHalf(torch.nn.Module):
    """Two subnets and HAM, of which the first is undecided at one pixel."""

    def __init__(self):
        super().__init__()
        self.ham = HybridAggregation(2)

    def predict(self, x):
        z_a, z_b = torch.zeros(1, 2, 16, 16), torch.ones(1, 2, 16, 16)
        z_a[:, 1], z_b[:, 1] = 1.0, 2.0
        z_a[:, :, 5, 9] = torch.tensor([1.0, 1.0 + 1e-7])
        return self.ham(z_a, z_b)


def test_where_a_threshold_is_within_rounding_nothing_is_compared():
    method = AtOneHalf().eval()
    [found] = bench.undecided(method, [np.zeros((16, 16, 3), np.uint8)], torch.device("cpu"))
    assert found.nonzero().amin(0).tolist() == [2, 6] and found.nonzero().amax(0).tolist() == [8, 12]
    assert found.sum() == 7 * 7
    assert not method.ham._forward_pre_hooks  # it does not watch longer than it needs


@pytest.mark.parametrize("data", [[], ["--data", "synthetic:polygons"]])
def test_data(data, capsys):
    code = main(["bench", "data", "--image-size", "32", "--workers", "0", *data])
    if data:  # no such kind: the usual line
        assert code == 2 and "polygons" in capsys.readouterr().err
    else:
        assert code == 0 and line(capsys)["images_per_second"] > 0


def test_a_profile_names_the_parts(capsys):
    assert main(["bench", "step", "--profile", "--image-size", "32", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    for part in ("students.net_a", "students.ham", "teacher.image_encoder", "forward, backward and update"):
        assert part in text


def test_a_table_has_a_row_a_change_and_shows_the_growth(monkeypatch, capsys):
    def run(words, **_):
        def value(name):
            return int(words[words.index(name) + 1])

        size, batch = value("--image-size"), value("--batch")
        row = {
            "batch": batch,
            "classes": value("--classes"),
            "image_size": size,
            "ugda": "--ugda" in words,
            "seconds_per_step": size * batch / 100,
            "peak_memory_bytes": 2**30,
        }
        return type("Done", (), {"returncode": 0, "stdout": f"noise\n{json.dumps(row)}\n"})

    monkeypatch.setattr("knowsam_lite.commands.bench.subprocess.run", run)
    assert main(["bench", "step", "--table", "--image-size", "32", "--batch", "4"]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0] == "| 4 | 2 | 32 |  | 1.280 | x1.00 | 1.00 GiB | x1.00 |"
    assert rows[1].startswith("| 8 | 2 | 32 |") and "x2.00" in rows[1]
    assert rows[4].startswith("| 4 | 2 | 32 | yes |") and len(rows) == 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--variant nothing", "found method 'nothing'"),
        ("--batch 1", "found batch 1"),
        ("--image-size 50", "found"),
        ("--teacher sam_vit_z", "sam_vit_z"),
    ],
)
def test_bad_input(words, message, capsys):
    assert main(["bench", "step", *words.split()]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--table", "--profile"])
def test_what_is_of_steps_alone(option, capsys):
    assert main(["bench", "predict", option]) == 2
    assert f"found {option} with predict" in capsys.readouterr().err
