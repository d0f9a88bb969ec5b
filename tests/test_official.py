"""The official variant has the authors' defects, each of them, and the taught code knows nothing of it."""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import knowsam_lite
from knowsam_lite import losses as taught
from knowsam_lite.data.sampler import Batch
from knowsam_lite.errors import UserError
from knowsam_lite.methods.base import merged
from knowsam_lite.official import losses
from knowsam_lite.official.method import OfficialKnowSAM
from knowsam_lite.official.metrics import official_hd95
from knowsam_lite.official.students import OfficialHybridAggregation
from knowsam_lite.official.teacher import (
    OfficialBlock,
    OfficialTeacher,
    OfficialTwoWayBlock,
    load_sam,
    never_loaded,
)
from knowsam_lite.sam import PromptedSam, VitBackbone
from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.decoder import AdapterTwoWayBlock
from knowsam_lite.sam.encoder import AdapterBlock
from knowsam_lite.uncertainty import entropy_map

PACKAGE = Path(knowsam_lite.__file__).parent
TINY = VitBackbone(
    embed_dim=32,
    depth=2,
    num_heads=2,
    global_blocks=(1,),
    window_size=3,
    prompt_dim=32,
    mlp_dim=64,
    pretrained_size=128,
)


def logits(seed: int, classes: int = 2, size: int = 16) -> torch.Tensor:
    return 2 * torch.randn(2, classes, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def teacher() -> OfficialTeacher:
    torch.manual_seed(0)
    return OfficialTeacher(2, 64, TINY).eval()


def test_b_gets_no_gradient_from_a_and_a_gets_one_from_b():
    z_a, z_b = logits(0).requires_grad_(), logits(1).requires_grad_()
    from_b, from_a = losses.consistency_a_from_b(z_a, z_b), losses.consistency_b_from_a(z_b, z_a)
    assert from_a.item() == from_b.item()
    assert not from_a.requires_grad
    from_b.backward()
    assert z_a.grad is not None and z_a.grad.abs().sum() > 0
    assert z_b.grad is None


def test_consistency_sees_the_last_class_only():
    z_a, z_b = logits(0, 4), logits(1, 4)
    shuffled = z_a[:, [2, 0, 1, 3]]  # the last channel keeps its probability
    assert torch.allclose(losses.consistency_a_from_b(z_a, z_b), losses.consistency_a_from_b(shuffled, z_b))
    assert not torch.allclose(taught.consistency_loss(z_a, z_b), taught.consistency_loss(shuffled, z_b))


def test_distillation_takes_rows_of_two_whatever_the_classes():
    z, z_s = logits(0, 4), logits(1, 4)
    halves = [losses.distillation_loss(z[:, i : i + 2], z_s[:, i : i + 2]) for i in (0, 2)]
    assert torch.allclose(losses.distillation_loss(z, z_s), torch.stack(halves).mean())
    assert not torch.allclose(losses.distillation_loss(z, z_s), taught.distillation_loss(z, z_s), rtol=0.1)
    assert torch.allclose(
        losses.distillation_loss(logits(0), logits(1)),
        taught.distillation_loss(logits(0), logits(1)),
        rtol=1e-4,
    )


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_entropy_is_divided_by_log_2_whatever_the_classes(classes: int):
    loss = losses.entropy_loss(torch.zeros(1, classes, 8, 8))
    assert loss.item() == pytest.approx(math.log(classes) / math.log(2), abs=1e-4)
    assert taught.entropy_loss(torch.zeros(1, classes, 8, 8)).item() == pytest.approx(1)


def test_ham_takes_natural_entropies():
    z = logits(0, 4)
    assert torch.allclose(OfficialHybridAggregation.entropy(z), entropy_map(z) * math.log(4), atol=1e-4)


def test_mixing_chooses_the_most_certain_cells():
    z = torch.zeros(1, 2, 16, 16)
    certain = [9, 3, 14, 0, 6]  # by rising entropy
    for rank, cell in enumerate(certain):
        row, column = divmod(cell, 4)
        z[0, 1, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 9 - rank
    cells = losses.certain_cells(z)
    assert cells.tolist() == [certain]
    assert losses.as_regions(cells).flatten().nonzero().flatten().tolist() == sorted(certain)


def test_hd95_is_no_percentile_and_rewards_an_empty_prediction():
    true = np.zeros((40, 40), dtype=bool)
    true[:10, :10] = True
    stray = true.copy()
    stray[9, 39] = True
    assert official_hd95(stray, true) == pytest.approx(0.95 * 30)
    assert official_hd95(np.zeros_like(true), true) == 0


def test_the_ramp_ends_at_one():
    assert losses.consistency_weight(0, 50_000) == pytest.approx(math.exp(-5))
    assert losses.consistency_weight(25_000, 50_000) == pytest.approx(math.exp(-1.25))
    assert losses.consistency_weight(50_000, 50_000) == 1
    assert losses.consistency_weight(250, 300) == 1


def test_padding_becomes_a_bias_only_in_the_official_block():
    torch.manual_seed(0)
    x = torch.randn(1, 4, 4, 32)
    for window, alike in ((2, True), (3, False)):
        ours, theirs = AdapterBlock(32, 2, window, (4, 4), False), OfficialBlock(32, 2, window, (4, 4))
        nn.init.normal_(ours.norm1.bias)
        theirs.load_state_dict(ours.state_dict(), strict=False)
        assert torch.allclose(ours.attend(x), theirs.attend(x), atol=1e-6) == alike


def test_self_attention_of_the_decoder_has_other_residuals():
    tokens, positions = torch.randn(2, 3, 32), torch.randn(2, 3, 32)
    for first, taught_gives, official_gives in (
        (True, torch.zeros_like(tokens), tokens),
        (False, tokens, tokens + positions),
    ):
        for kind, expected in ((AdapterTwoWayBlock, taught_gives), (OfficialTwoWayBlock, official_gives)):
            block = kind(32, 2, 64, first)
            nn.init.zeros_(block.self_attn.out_proj.weight)
            nn.init.zeros_(block.self_attn.out_proj.bias)
            assert torch.equal(block.look_at_itself(tokens, positions), expected)


def test_teacher_ignores_mean_std_and_relative_positions(teacher: OfficialTeacher):
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(teacher.encode(x), teacher.image_encoder(x))
    assert not [name for name in teacher.state_dict() if "rel_pos" in name]
    assert teacher.image_encoder.pos_embed.shape[1] == 8  # SAM's own size, though the grid here is 4 x 4


def test_teacher_hands_over_the_raw_channel(teacher: OfficialTeacher):
    z_f = torch.randn(1, 2, 16, 16).requires_grad_()
    assert torch.equal(teacher.mask_prompts(z_f), z_f)
    assert not teacher.mask_prompts(z_f).requires_grad


def test_adapters_disturb_sam_from_the_start(teacher: OfficialTeacher):
    adapters = [m for m in teacher.modules() if isinstance(m, Adapter)]
    assert len(adapters) == 3 * 2 + 2 * 2 + 2
    assert all(adapter.up.weight.abs().sum() > 0 for adapter in adapters)


def test_what_trains_and_that_gradients_pass_the_prompts(teacher: OfficialTeacher):
    trained = {n for n, p in teacher.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in teacher.named_parameters() if "adapter" in n or "learnable_prompts" in n}
    teacher.learnable_prompts(teacher.encode(torch.rand(2, 3, 64, 64))).sum().backward()
    assert teacher.image_encoder.blocks[0].space_adapter.down.weight.grad.abs().sum() > 0
    assert teacher.image_encoder.blocks[0].depth_adapter.down.weight.grad is None


def test_32_of_314_pretrained_tensors_are_dropped():
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        names = [n for n in sam_model_registry["vit_b"]().state_dict() if "pixel" not in n]
    assert len(names) == 314
    assert sum(map(never_loaded, names)) == 32


def test_decoder_mlps_stay_random_when_sam_is_loaded(teacher: OfficialTeacher):
    plain = {n: t for n, t in PromptedSam(TINY, 128).state_dict().items() if "adapter" not in n}
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    load_sam(teacher, plain)
    for name, tensor in teacher.state_dict().items():
        loaded = name in plain and not never_loaded(name)
        assert torch.equal(tensor, plain[name] if loaded else before[name]), name
    plain.pop("image_encoder.pos_embed")
    with pytest.raises(UserError, match=r"pos_embed"):
        load_sam(teacher, plain)


@pytest.fixture(scope="module")
def step_batch() -> tuple[OfficialKnowSAM, Batch]:
    torch.manual_seed(0)
    y = torch.full((4, 64, 64), -1)
    y[:2] = (torch.rand(2, 64, 64) > 0.5).long()
    return OfficialKnowSAM(2, 64, backbone=TINY), Batch(torch.rand(4, 3, 64, 64), y, 2, [])


def test_mixing_starts_after_step_12000(step_batch: tuple[OfficialKnowSAM, Batch]):
    method, batch = step_batch
    usual = {"sam", "subnet_a", "subnet_b", "fusion"}
    assert merged(method.parts(batch, 12_000)).keys() == usual
    assert merged(method.parts(batch, 12_001)).keys() == usual | {"mixed"}


def test_students_and_sam_do_not_share_gradients(step_batch: tuple[OfficialKnowSAM, Batch]):
    method, batch = step_batch
    terms = merged(method.parts(batch, 40_000))
    method.zero_grad()
    terms["sam"].backward(retain_graph=True)
    assert all(p.grad is None for p in method.students.parameters())
    method.zero_grad()
    sum(terms[name] for name in terms if name != "sam").backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    method.zero_grad()


def test_learning_rates_fall_linearly_one_step_late(step_batch: tuple[OfficialKnowSAM, Batch]):
    method, _ = step_batch
    sgd, adam = method.optimizers()
    for step, factor in ((0, 1.0), (40_000, 0.2)):
        method.after_step(step)
        assert sgd.param_groups[0]["lr"] == pytest.approx(0.01 * factor)
        assert adam.param_groups[0]["lr"] == pytest.approx(1e-4 * factor)


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, spelled out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_two_modules_import_official():
    allowed = {PACKAGE / "commands" / "parity.py", PACKAGE / "methods" / "official.py"}
    importers = {
        path
        for path in PACKAGE.rglob("*.py")
        if any(name.startswith("knowsam_lite.official") for name in imports_of(path))
    }
    outside = {path for path in importers if PACKAGE / "official" not in path.parents}
    assert outside == allowed


def test_no_taught_module_has_a_switch_for_official():
    blocks = ("uncertainty", "subnets", "aggregation", "students", "losses", "mixing")
    for path in [*(PACKAGE / f"{name}.py" for name in blocks), *(PACKAGE / "sam").glob("*.py")]:
        tree = ast.parse(path.read_text())
        docstrings = {
            ast.get_docstring(node, clean=False)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        }
        for node in ast.walk(tree):
            for word in (getattr(node, field, None) for field in ("id", "attr", "arg", "name", "value")):
                if isinstance(word, str) and word not in docstrings:
                    assert "official" not in word.lower(), f"{path}: {word}"
