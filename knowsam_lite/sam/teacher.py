"""The teacher: a frozen SAM with adapters, prompted by the students."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.backbones import Backbone, backbone_named
from knowsam_lite.sam.decoder import PromptDecoder
from knowsam_lite.sam.modeling import PromptEncoder
from knowsam_lite.sam.prompts import LearnablePrompts, mask_prompts
from knowsam_lite.subnets import as_image


class TeacherOutput(NamedTuple):
    """`logits` z_s (N, C, H, W) at the image's size; `low_res` (N, C, 4g, 4g), `tokens` (N, C, 2, D),
    `embedding` (N, D, g, g).
    """

    logits: Tensor
    low_res: Tensor
    tokens: Tensor
    embedding: Tensor


def pad_to_square(x: Tensor, side: int) -> Tensor:
    """Pad with zeros at the right and the bottom: (..., H, W) -> (..., side, side)."""
    return F.pad(x, (0, side - x.shape[-1], 0, side - x.shape[-2]))


class PromptedSam(nn.Module):
    """A SAM with adapters, promptable with points, boxes and masks: encoder, prompt encoder and mask decoder.

    `image_size`: pixels a side of the encoder's input, a multiple of the backbone's patch. Images of
    another size or shape are fitted into that square by the backbone's preprocessing. Weights are
    random until `knowsam_lite.sam.weights.load_pretrained`.
    """

    def __init__(self, backbone: Backbone, image_size: int):
        super().__init__()
        self.backbone = backbone
        self.image_encoder = backbone.encoder(image_size)
        self.preprocessing = backbone.preprocessing()
        self.prompt_encoder = PromptEncoder(backbone.prompt_dim, (0, 0), (0, 0), mask_in_chans=16)
        self.mask_decoder = PromptDecoder(backbone.prompt_dim, backbone.mlp_dim)
        self.set_image_size(image_size)

    def set_image_size(self, image_size: int) -> None:
        """Use `image_size` pixels a side for the encoder. Raises UserError if whole patches do not fit."""
        patch = self.backbone.patch_size
        if image_size % patch or image_size < 4 * patch:
            fit = max(-(-image_size // patch), 4) * patch
            wanted = f"a multiple of {patch} from {4 * patch} for SAM"
            raise UserError(f"found image size {image_size}, expected {wanted}: use {fit}")
        self.image_size = image_size
        self.grid = (image_size // patch,) * 2
        self.prompt_encoder.image_embedding_size = self.grid
        self.prompt_encoder.input_image_size = (image_size, image_size)

    def encode(self, x: Tensor) -> Tensor:
        """Image (N, 1 or 3, H, W) in [0, 1] -> embedding (N, D, g, g)."""
        x = as_image(x)
        height, width = self.preprocessing.inside(x.shape[-2], x.shape[-1], self.image_size)
        if x.shape[-2:] != (height, width):
            x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False)
        return self.image_encoder(pad_to_square(self.preprocessing(x), self.image_size))

    def embed_masks(self, masks: Tensor) -> Tensor:
        """Mask logits (N, K, 4g, 4g) -> dense prompts (N, K, D, g, g)."""
        n, k = masks.shape[:2]
        return self.prompt_encoder.mask_downscaling(masks.flatten(0, 1).unsqueeze(1)).unflatten(0, (n, k))

    def decode(self, embedding: Tensor, sparse: Tensor, dense: Tensor) -> Tensor:
        """Embedding (N, D, g, g), prompts (N, K, T, D) and (N, K, D, g, g) -> mask logits (N, K, 4g, 4g)."""
        with torch.autocast(embedding.device.type, enabled=False):  # sines of large products
            image_pe = self.prompt_encoder.get_dense_pe()
        return self.mask_decoder(embedding, image_pe, sparse, dense)

    def segment(
        self,
        embedding: Tensor,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Tensor:
        """Answer K prompts on each image as SAM would: embedding (N, D, g, g) -> mask logits (N, K, 4g, 4g).

        `points`: coordinates (N, K, P, 2) as x, y in pixels of `image_size`, and labels (N, K, P), 1 inside,
        0 outside. `boxes`: (N, K, 4) as x0, y0, x1, y1. `masks`: logits (N, K, 4g, 4g). Raises UserError
        without any prompt.
        """
        given = [prompt for prompt in (points[0] if points else None, boxes, masks) if prompt is not None]
        if not given:
            raise UserError("found no prompt, expected points, boxes or masks: give at least one")
        n, k = given[0].shape[:2]
        sparse, dense = self.prompt_encoder(
            points=None if points is None else (points[0].flatten(0, 1), points[1].flatten(0, 1)),
            boxes=None if boxes is None else boxes.flatten(0, 1),
            masks=None if masks is None else masks.flatten(0, 1).unsqueeze(1),
        )
        return self.decode(embedding, sparse.unflatten(0, (n, k)), dense.unflatten(0, (n, k)))


class SamTeacher(PromptedSam):
    """The adapted SAM of KnowSAM: image x and fused logits z_f -> SAM's answer z_s for all classes at once.

    Trainable are the adapters and the learnable prompts; everything pretrained is frozen, without gradient,
    and random until `knowsam_lite.sam.load_pretrained(teacher)`.
    `backbone`: a name in BACKBONES or a Backbone.
    """

    def __init__(self, backbone: str | Backbone, num_classes: int, image_size: int):
        backbone = backbone_named(backbone) if isinstance(backbone, str) else backbone
        super().__init__(backbone, image_size)
        self.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, Adapter):
                module.requires_grad_(True)
        self.learnable_prompts = LearnablePrompts(num_classes, backbone.prompt_dim)

    def learning_parts(self) -> dict[str, nn.ModuleList]:
        """The trainable parts: "adapters" and "prompts"."""
        adapters = nn.ModuleList(m for m in self.modules() if isinstance(m, Adapter))
        return {"adapters": adapters, "prompts": nn.ModuleList([self.learnable_prompts])}

    def mask_prompts(self, z_f: Tensor) -> Tensor:
        """The students' map as SAM's mask prompt: (N, C, H, W) -> (N, C, 4g, 4g), without gradient.

        Where the square extends beyond the image the prompt is 0, undecided.
        """
        side = 4 * self.grid[0]
        size = self.preprocessing.inside(z_f.shape[-2], z_f.shape[-1], side)
        return pad_to_square(mask_prompts(z_f, size), side)

    def forward(self, x: Tensor, z_f: Tensor) -> TeacherOutput:
        embedding = self.encode(x)
        tokens = self.learnable_prompts(embedding)
        low_res = self.decode(embedding, tokens, self.embed_masks(self.mask_prompts(z_f)))
        height, width = self.preprocessing.inside(x.shape[-2], x.shape[-1], low_res.shape[-1])
        logits = F.interpolate(
            low_res[..., :height, :width], x.shape[-2:], mode="bilinear", align_corners=False
        )
        return TeacherOutput(logits, low_res, tokens, embedding)
