"""The adapted SAM against segment_anything itself, and what is frozen, prompted and learned."""

import pytest
import torch
import torch.nn.functional as F
from helpers.base import tiny_teacher
from safetensors.torch import save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from knowsam_lite.errors import UserError
from knowsam_lite.sam import BACKBONES, PromptedSam, SamTeacher, VitBackbone, load_pretrained
from knowsam_lite.sam.prompts import LearnablePrompts, add_noise, mask_prompts, roughen
from knowsam_lite.sam.weights import pretrained_names

TINY = VitBackbone(
    embed_dim=32, depth=4, num_heads=2, global_blocks=(1, 3), patch_size=16, prompt_dim=32, mlp_dim=64
)


def oracle(backbone: VitBackbone) -> Sam:
    """segment_anything's own model of these sizes, every tensor random, positions too."""
    grid = backbone.pretrained_size // backbone.patch_size
    encoder = ImageEncoderViT(
        img_size=backbone.pretrained_size,
        patch_size=backbone.patch_size,
        embed_dim=backbone.embed_dim,
        depth=backbone.depth,
        num_heads=backbone.num_heads,
        out_chans=backbone.prompt_dim,
        norm_layer=lambda d: torch.nn.LayerNorm(d, eps=1e-6),
        use_rel_pos=True,
        window_size=backbone.window_size,
        global_attn_indexes=backbone.global_blocks,
    )
    prompts = PromptEncoder(backbone.prompt_dim, (grid, grid), (backbone.pretrained_size,) * 2, 16)
    transformer = TwoWayTransformer(2, backbone.prompt_dim, 8, backbone.mlp_dim)
    sam = Sam(encoder, prompts, MaskDecoder(transformer_dim=backbone.prompt_dim, transformer=transformer))
    generator = torch.Generator().manual_seed(0)
    for parameter in sam.parameters():
        scale = 1 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.1
        with torch.no_grad():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return sam.eval()


def loaded(backbone: VitBackbone, sam: Sam, image_size: int, tmp_path, classes: int = 2) -> SamTeacher:
    path = tmp_path / "sam.pth"
    torch.save(sam.state_dict(), path)
    teacher = SamTeacher(backbone, classes, image_size)
    load_pretrained(teacher, path)
    return teacher.eval()


def plain_loop(encoder: ImageEncoderViT, x: torch.Tensor) -> torch.Tensor:
    """segment_anything's modules one after another, the absolute positions resized to the image."""
    x = encoder.patch_embed(x)
    table = F.interpolate(
        encoder.pos_embed.permute(0, 3, 1, 2), x.shape[1:3], mode="bicubic", align_corners=False
    )
    x = x + table.permute(0, 2, 3, 1)
    for block in encoder.blocks:
        x = block(x)  # its get_rel_pos resizes the relative positions
    return encoder.neck(x.permute(0, 3, 1, 2))


@pytest.mark.parametrize("size", [1024, 256])
@torch.inference_mode()
def test_encoder_with_identity_adapters_is_segment_anythings(size, tmp_path):
    sam = oracle(TINY)
    teacher = loaded(TINY, sam, size, tmp_path)
    x = torch.rand(1, 3, size, size)
    normalized = (255 * x - sam.pixel_mean) / sam.pixel_std
    expected = sam.image_encoder(normalized) if size == 1024 else plain_loop(sam.image_encoder, normalized)
    torch.testing.assert_close(teacher.encode(x), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
@torch.inference_mode()
def test_vit_b_encoder_at_256_is_segment_anythings(tmp_path):
    sam = oracle(BACKBONES["sam_vit_b"])
    teacher = loaded(BACKBONES["sam_vit_b"], sam, 256, tmp_path)
    x = torch.rand(1, 3, 256, 256)
    expected = plain_loop(sam.image_encoder, (255 * x - sam.pixel_mean) / sam.pixel_std)
    torch.testing.assert_close(teacher.encode(x), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_decoder_answers_all_prompts_of_all_images_as_segment_anything_one_by_one(tmp_path):
    sam = oracle(TINY)
    teacher = loaded(TINY, sam, 256, tmp_path)
    embedding = torch.randn(2, 32, 16, 16)
    points = (256 * torch.rand(2, 3, 2, 2), torch.ones(2, 3, 2))
    masks = torch.randn(2, 3, 64, 64)
    together = teacher.segment(embedding, points=points, masks=masks)
    sam.prompt_encoder.image_embedding_size = (16, 16)
    sam.prompt_encoder.input_image_size = (256, 256)
    for n in range(2):
        sparse, dense = sam.prompt_encoder((points[0][n], points[1][n]), None, masks[n].unsqueeze(1))
        low_res, _ = sam.mask_decoder(
            embedding[n : n + 1], sam.prompt_encoder.get_dense_pe(), sparse, dense, False
        )
        torch.testing.assert_close(together[n], low_res[:, 0], atol=1e-4, rtol=0)


def test_every_published_tensor_has_its_place():
    """The 314 tensors of the ViT-B checkpoint, by segment_anything's own registry."""
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        teacher = SamTeacher("sam_vit_b", 2, 1024)
        published = sam_model_registry["vit_b"]().state_dict()
    own = teacher.state_dict()
    assert pretrained_names(teacher) == set(published) and len(published) == 314
    assert {name: own[name].shape for name in published} == {name: t.shape for name, t in published.items()}


@pytest.mark.parametrize("name", ["sam_vit_l", "sam_vit_h"])
def test_larger_backbones_have_segment_anythings_shapes(name):
    from segment_anything import sam_model_registry

    with torch.device("meta"):
        own = SamTeacher(name, 2, 1024).state_dict()
        published = sam_model_registry[name.removeprefix("sam_")]().state_dict()
    assert {k: own[k].shape for k in published} == {k: t.shape for k, t in published.items()}


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "garbage"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(fault, tmp_path):
    tensors = {k: v.contiguous() for k, v in oracle(TINY).state_dict().items()}
    if fault == "missing":
        del tensors["mask_decoder.iou_token.weight"]
    if fault == "unexpected":
        tensors["surprise"] = torch.zeros(1)
    if fault == "shape":
        tensors["mask_decoder.iou_token.weight"] = torch.zeros(1, 5)
    path = tmp_path / "sam.safetensors"
    save_file(tensors, path)
    if fault == "garbage":
        path.write_bytes(path.read_bytes()[:1000])
    words = {
        "missing": "missing mask_decoder.iou_token.weight",
        "unexpected": "unexpected surprise",
        "shape": r"iou_token.weight has shape \(1, 5\) instead of \(1, 32\)",
        "garbage": "unreadable checkpoint",
    }
    with pytest.raises(UserError, match=words[fault]):
        load_pretrained(SamTeacher(TINY, 2, 256), path)


def test_no_checkpoint_says_where_to_get_one():
    with pytest.raises(UserError, match=r"this teacher.*--checkpoint"):
        load_pretrained(SamTeacher(TINY, 2, 256))


def test_only_adapters_and_prompts_learn_even_in_train_mode():
    teacher = SamTeacher(TINY, 3, 64).train()
    frozen = pretrained_names(teacher)
    trainable = {name for name, p in teacher.named_parameters() if p.requires_grad}
    assert trainable.isdisjoint(frozen)
    assert all("adapter" in name or name.startswith("learnable_prompts") for name in trainable)
    z_f = torch.randn(2, 3, 64, 64, requires_grad=True)
    out = teacher(torch.rand(2, 3, 64, 64), z_f)
    assert out.logits.shape == (2, 3, 64, 64) and out.low_res.shape == (2, 3, 16, 16)
    assert out.tokens.shape == (2, 3, 2, 32) and out.embedding.shape == (2, 32, 4, 4)
    out.logits.square().sum().backward()
    assert z_f.grad is None  # the students are not taught through the prompt
    learned = {name for name, p in teacher.named_parameters() if p.grad is not None}
    assert learned == trainable


def test_images_of_another_size_and_grey_ones_are_served():
    teacher = SamTeacher(TINY, 2, 64).eval()
    assert teacher(torch.rand(1, 1, 96, 48), torch.randn(1, 2, 96, 48)).logits.shape == (1, 2, 96, 48)


def test_an_image_size_without_whole_patches_names_the_next():
    with pytest.raises(UserError, match=r"image size 100.*use 112"):
        SamTeacher(TINY, 2, 100)


@pytest.mark.parametrize("grid", [4, 7, 16])
def test_learnable_prompts_take_any_grid(grid):
    tokens = LearnablePrompts(3, dim=16)(torch.randn(2, 16, grid, grid))
    assert tokens.shape == (2, 3, 2, 16)


def test_mask_prompts_are_log_odds():
    z = torch.randn(2, 4, 8, 8, requires_grad=True)
    prompts = mask_prompts(z, (8, 8))
    torch.testing.assert_close(prompts, torch.logit(z.softmax(1).detach()), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(prompts, mask_prompts(z + 7, (8, 8)), atol=1e-5, rtol=1e-4)
    assert not prompts.requires_grad


def test_roughening_is_smooth_noise_without_bias_or_gradient():
    z = (3 * torch.randn(64, 2, 64, 64)).requires_grad_()
    rough = roughen(z)
    noise = rough - z.detach()
    assert not rough.requires_grad and rough.shape == z.shape
    assert abs(noise.mean().item()) < 0.2 and 0.5 < noise.std().item() < 6
    step = (noise[..., 1:] - noise[..., :-1]).std() / noise.std()
    assert step < 0.5  # neighbours share their noise; of white noise this would be 1.4
    spread = noise.flatten(1).std(dim=1)
    assert spread.min() < 0.3 * spread.max()  # from nearly clean to rough


def test_a_sam_without_prompt_is_an_error():
    with pytest.raises(UserError, match="found no prompt"):
        PromptedSam(TINY, 64).segment(torch.zeros(1, 32, 4, 4))


def test_noise_of_given_grids_is_added_up_and_scaled():
    z = torch.randn(2, 3, 8, 8, requires_grad=True)
    flat = [torch.full((2, 3, 1, 1), 1.0), torch.full((2, 3, 2, 2), 0.5)]  # stretched: 1 and 0.5 everywhere
    strength = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    rough = add_noise(z, flat, strength)
    torch.testing.assert_close(rough - z.detach(), (strength * z.std() * 1.5).detach().expand_as(z))
    assert not rough.requires_grad


def test_positions_keep_their_precision_where_all_else_is_bf16(monkeypatch):
    sam = tiny_teacher(2)
    seen = []
    monkeypatch.setattr(sam.mask_decoder, "forward", lambda *given: seen.append(given[1]))
    embedding = torch.zeros(1, 8, 4, 4)
    sam.decode(embedding, embedding, embedding)
    with torch.autocast("cpu", torch.bfloat16):
        sam.decode(embedding, embedding, embedding)
    assert seen[1].dtype == torch.float32 and torch.equal(*seen)
