"""The method `official` in the one loop: what is saved of it, and that it prefers the authors' own rates."""

from dataclasses import replace

import pytest
import torch
from helpers.base import TINY_SAM, check_parts, two_stream_batch
from safetensors.torch import save_file

from knowsam_lite.config import Config
from knowsam_lite.methods import METHODS, KnowSAM, Official
from knowsam_lite.methods.official import UNMENDED
from knowsam_lite.sam import BACKBONES, PromptedSam
from knowsam_lite.sam.weights import pretrained_names


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setitem(BACKBONES, "tiny", TINY_SAM)
    torch.manual_seed(3)
    sam = PromptedSam(TINY_SAM, TINY_SAM.pretrained_size)
    names = pretrained_names(sam)
    save_file({n: t for n, t in sam.state_dict().items() if n in names}, tmp_path / "tiny.safetensors")
    few = {"image_size": 32, "steps": 100, "teacher": "tiny", "checkpoint": tmp_path / "tiny.safetensors"}
    return replace(Config(), **few)


def test_trains_predicts_and_saves_the_decoders_random_mlps(config):
    method = Official(config, 3).train()
    batch = two_stream_batch(3, labeled=2, unlabeled=2)
    before, late = method.losses(batch, 24), method.losses(batch, 25)
    assert set(late) - set(before) == {"mixed"}  # the authors begin once the step exceeds 24 % of the run
    assert check_parts(method, batch, 24) == 2 and check_parts(method, batch, 25) == 3
    torch.stack(list(late.values())).sum().backward()
    students, teacher = method.optimizers()
    assert isinstance(students, torch.optim.SGD) and students.param_groups[0]["lr"] == 0.01
    assert isinstance(teacher, torch.optim.Adam) and teacher.param_groups[0]["lr"] == 1e-4
    views = method.eval().views(batch.x)
    assert set(views) == {"U-Net", "V-Net", "fused", "SAM"}
    torch.testing.assert_close(views["fused"], method.predict(batch.x))
    other = Official(config, 3).eval()
    other.load_state_dict({**other.state_dict(), **method.trained_state()}, strict=True)
    torch.testing.assert_close(other.views(batch.x)["SAM"], views["SAM"])
    saved = method.trained_state()
    assert any(".mlp.lin1" in name for name in saved) and not any("patch_embed" in name for name in saved)


@pytest.mark.parametrize("kind", UNMENDED, ids=lambda m: m.name)
def test_one_defect_back_differs_from_the_mended_method_where_it_should(kind):
    """Same weights, same batch, 4 classes: only the terms that the defect touches have another value."""
    config = replace(Config(), image_size=32, steps=10, mix_start=1.0)
    torch.manual_seed(0)
    mended = KnowSAM(config, 4).eval()
    torch.manual_seed(0)
    defect = kind(config, 4).eval()
    own = defect.state_dict()
    same = {name: t for name, t in mended.state_dict().items() if name in own and t.shape == own[name].shape}
    if kind.name != "unmended_sam":
        defect.load_state_dict({**own, **same})
    batch = two_stream_batch(4)
    terms = []
    for method in (mended, defect):
        torch.manual_seed(1)
        terms.append(method.losses(batch, 9))
    other = {name for name in terms[0] if not torch.allclose(terms[0][name], terms[1][name])}
    touched = {
        "unmended_consistency": {"a/consistency", "b/consistency"},
        "unmended_distillation": {"a/distillation", "b/distillation"},
        "unmended_aggregation": {"fused/supervised", "sam/supervised", "a/distillation", "b/distillation"},
    }
    if kind.name in touched:
        assert other == touched[kind.name]
    else:
        assert "sam/supervised" in other
    if kind.name == "unmended_consistency":
        assert not terms[1]["b/consistency"].requires_grad


def test_the_unmended_sam_saves_what_no_checkpoint_fills():
    config = replace(Config(), image_size=32)
    saved = METHODS["unmended_sam"](config, 2).trained_state()
    assert any(".mlp." in name and name.startswith("teacher.mask_decoder") for name in saved)
    assert not any(name.endswith("patch_embed.proj.weight") for name in saved)
