"""MobileSAM: its weights fill the teacher, and its answers are segment_anything's at its own image size."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import shared
from safetensors.torch import load_file, save_file
from segment_anything.modeling import MaskDecoder, PromptEncoder, TwoWayTransformer

from knowsam_lite.config import Config
from knowsam_lite.errors import UserError
from knowsam_lite.methods import KnowSAM
from knowsam_lite.sam import BACKBONES, PromptedSam, SamTeacher, TinyVitBackbone, card, load_pretrained

TINY = TinyVitBackbone(
    prompt_dim=32, mlp_dim=64, dims=(8, 16, 16, 32), depths=(1, 1, 2, 1), num_heads=(1, 2, 2, 4)
)


@pytest.fixture(scope="module")
def weights() -> Path:
    path = shared("KNOWSAM_LITE_TEST_WEIGHTS", "../shared/weights") / "mobile_sam_vit_t.safetensors"
    if not path.is_file():
        pytest.skip(f"no {path}: set KNOWSAM_LITE_TEST_WEIGHTS to run this test")
    return path


@pytest.fixture(scope="module")
def sam(weights) -> PromptedSam:
    sam = PromptedSam(BACKBONES["mobile_sam"], 256).eval()
    load_pretrained(sam, weights)
    return sam


def test_the_grid_is_a_sixteenth_of_the_image():
    sam = PromptedSam(TINY, 128).eval()
    with torch.inference_mode():
        assert sam.encode(torch.rand(1, 3, 96, 80)).shape == (1, 32, 8, 8)
    assert TINY.patch_size == 16


def test_names_that_no_sam_uses_are_left_out_and_others_refused(tmp_path):
    backbone = replace(TINY, unused=("image_encoder.head.",))
    names = {n: t for n, t in SamTeacher(backbone, 2, 64).state_dict().items() if "adapter" not in n}
    names = {n: t.contiguous() for n, t in names.items() if not n.startswith("learnable_prompts")}
    save_file({**names, "image_encoder.head.weight": torch.zeros(2)}, tmp_path / "official.safetensors")
    load_pretrained(SamTeacher(backbone, 2, 64), tmp_path / "official.safetensors")
    save_file({**names, "image_encoder.tail.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"unexpected image_encoder\.tail\.weight"):
        load_pretrained(SamTeacher(backbone, 2, 64), tmp_path / "other.safetensors")


def test_the_teacher_looks_at_its_own_size_whatever_the_students_is():
    config = Config(image_size=32, teacher_size=64, teacher="sam_mini")
    method = KnowSAM.with_random_weights(config, 2)
    assert method.teacher.image_size == 64
    with torch.inference_mode():
        views = method.eval().views(torch.rand(1, 3, 32, 32))
    assert views["SAM"].shape == (1, 2, 32, 32)
    assert KnowSAM.with_random_weights(replace(config, teacher_size=None), 2).teacher.image_size == 32


def test_every_tensor_has_its_place(sam, weights):
    given, own = load_file(weights), sam.state_dict()
    assert len(given) == 435
    for name, tensor in given.items():
        torch.testing.assert_close(own[name], tensor, rtol=0, atol=0)


def test_box_and_mask_prompts_are_answered_as_by_segment_anything(sam, weights):
    tensors = load_file(weights)
    prompts = PromptEncoder(256, (16, 16), (256, 256), 16)
    transformer = TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8)
    decoder = MaskDecoder(transformer_dim=256, transformer=transformer).eval()
    for module, part in ((prompts, "prompt_encoder."), (decoder, "mask_decoder.")):
        module.load_state_dict({n.removeprefix(part): t for n, t in tensors.items() if n.startswith(part)})
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 256, 256, generator=generator)
    boxes = torch.tensor([[[30.0, 40.0, 200.0, 180.0], [5.0, 6.0, 70.0, 240.0]]])
    masks = 4 * torch.randn(1, 2, 64, 64, generator=generator)
    with torch.inference_mode():
        embedding = sam.encode(x)
        for given in ({"boxes": boxes}, {"boxes": boxes, "masks": masks}):
            found = sam.segment(embedding, **given)
            sparse, dense = prompts(
                points=None,
                boxes=boxes[0],
                masks=masks[0].unsqueeze(1) if "masks" in given else None,
            )
            expected, _ = decoder(embedding, prompts.get_dense_pe(), sparse, dense, multimask_output=False)
            torch.testing.assert_close(found[0], expected[:, 0], rtol=1e-4, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("kvasir_seg", 0.80), ("isic2018", 0.80), ("busi", 0.75)])
def test_boxes_on_real_images_are_filled(sam, real_data, name, least):
    scores = card.score(sam, card.dataset_cases(str(real_data / name), 12, 256), 0.7, 0)
    assert scores["box prompt"] > least
