"""Switches of a training that change nothing of what it learns: --deterministic, --compile, --logger."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.errors import UserError
from knowsam_lite.fast.training import same_bits
from knowsam_lite.training import Trainer

DATA = Synthetic("dermoscopy", n=20, size=32)
SHORT = Config(
    data="synthetic:dermoscopy:20",
    method="mc",
    labeled="4",
    image_size=32,
    steps=3,
    log_every=1,
    val_every=3,
    batch_labeled=2,
    batch_unlabeled=2,
    device="cpu",
)


def trained(out, on_row=None, **changes) -> Trainer:
    trainer = Trainer(DATA, replace(SHORT, out=out, **changes), on_row=on_row)
    trainer.start()
    assert trainer.fit(progress=False)
    return trainer


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> dict[str, torch.Tensor]:
    """The weights without any switch."""
    return trained(tmp_path_factory.mktemp("usual") / "run").method.state_dict()


def assert_same(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_deterministic_is_on_while_training_alone_and_changes_no_digit_on_a_cpu(usual, tmp_path):
    states = []
    trainer = trained(
        tmp_path / "run",
        lambda row: states.append(torch.are_deterministic_algorithms_enabled()),
        deterministic=True,
    )
    assert len(states) > 1 and all(states[1:]) and not torch.are_deterministic_algorithms_enabled()
    assert_same(trainer.method.state_dict(), usual)


def test_an_operation_without_a_fixed_order_is_named_in_a_line():
    with pytest.raises(UserError, match=r"put_ does not have.*leave out --deterministic"), same_bits(True):
        raise RuntimeError("put_ does not have a deterministic implementation, but you set ...")
    with pytest.raises(RuntimeError, match="out of memory"), same_bits(True):
        raise RuntimeError("out of memory")
    assert not torch.are_deterministic_algorithms_enabled()


def test_compile_reaches_every_net_that_learns_and_leaves_the_names(usual, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: compiled.append(type(part).__name__))
    trainer = trained(tmp_path / "run", compile=True)
    assert compiled == ["UNet", "VNet", "HybridAggregation"]
    assert_same(trainer.method.state_dict(), usual)


def test_compile_reaches_a_net_of_several_decoders(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda part: compiled.append(type(part).__name__))
    Trainer(DATA, replace(SHORT, out=tmp_path, method="mc_net_plus", compile=True))
    assert compiled == ["SharedEncoder"]


def test_a_logger_of_ones_own_gets_every_row_of_the_log(tmp_path):
    rows = []
    trainer = trained(tmp_path / "run", rows.append)
    assert rows == [json.loads(line) for line in (trainer.run / "log.jsonl").read_text().splitlines()]
    assert [row["kind"] for row in rows] == ["start", "train", "train", "train", "val", "saved"]


def test_tensorboard_holds_the_numbers_of_the_log(usual, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    trainer = trained(tmp_path / "run", logger="tensorboard")
    assert_same(trainer.method.state_dict(), usual)
    events = reader.EventAccumulator(str(trainer.run / "tensorboard"))
    events.Reload()
    rows = [json.loads(line) for line in (trainer.run / "log.jsonl").read_text().splitlines()]
    for name in ("total", "lr"):
        told = {event.step: event.value for event in events.Scalars(f"train/{name}")}
        assert told == pytest.approx({row["step"]: row[name] for row in rows if row["kind"] == "train"})
    [val] = [row for row in rows if row["kind"] == "val"]
    for view, dice in val["dice"].items():
        assert events.Scalars(f"val/dice/{view}")[0].value == pytest.approx(dice)


def test_without_tensorboard_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r"pip install 'knowsam-lite\[tensorboard\]'"):
        trained(tmp_path / "run", logger="tensorboard")
