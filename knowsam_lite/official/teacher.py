"""The authors' SAM: no mean/std, no relative positions, randomly initialized adapters, a changed decoder."""

from collections.abc import Mapping
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.errors import UserError
from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.backbones import BACKBONES, Backbone, VitBackbone
from knowsam_lite.sam.decoder import AdapterTwoWay, AdapterTwoWayBlock, PromptDecoder
from knowsam_lite.sam.encoder import AdapterBlock, AdapterEncoder
from knowsam_lite.sam.modeling import window_partition, window_unpartition
from knowsam_lite.sam.prompts import ClassPrompt
from knowsam_lite.sam.teacher import SamTeacher
from knowsam_lite.sam.weights import misfits, pretrained_names


class OfficialBlock(AdapterBlock):
    """An encoder block that normalizes the padded windows, so that padding becomes norm1's bias, not zero."""

    def __init__(self, dim: int, num_heads: int, window_size: int, input_size: tuple[int, int]):
        super().__init__(dim, num_heads, window_size, input_size, use_rel_pos=False)
        self.depth_adapter = Adapter(dim, skip=True)  # never used: it is for volumes
        self.computes_padding = False  # see `compute_padding`

    def padding(self) -> Tensor:
        """The normalized zero, norm1's bias (D,)."""
        return self.norm1.bias

    def attend(self, x: Tensor) -> Tensor:
        """Normalize and attend within windows: tokens (N, H, W, D) -> (N, H, W, D)."""
        if not (self.window_size and self.computes_padding):
            return super().attend(x)
        windows, padded = window_partition(x, self.window_size)
        attended = self.attn(self.norm1(windows))
        return window_unpartition(attended, self.window_size, padded, (x.shape[1], x.shape[2]))


class OfficialEncoder(AdapterEncoder):
    """The encoder without relative positions; the absolute table is resized in every forward."""

    def __init__(self, backbone: VitBackbone):
        size, patch = backbone.pretrained_size, backbone.patch_size
        super().__init__(size, patch, backbone.embed_dim, 0, backbone.num_heads, backbone.prompt_dim, 0, ())
        self.blocks = nn.ModuleList(
            OfficialBlock(
                backbone.embed_dim,
                backbone.num_heads,
                0 if i in backbone.global_blocks else backbone.window_size,
                (size // patch,) * 2,
            )
            for i in range(backbone.depth)
        )


class OfficialTwoWayBlock(AdapterTwoWayBlock):
    """A decoder layer with a residual in its self-attention and positions added to values and residual."""

    def look_at_itself(self, queries: Tensor, query_pe: Tensor) -> Tensor:
        """Self-attention of the tokens (M, T, D): positions are added, and kept, from layer 1 on."""
        if not self.skip_first_layer_pe:
            queries = queries + query_pe
        return queries + self.space_adapter(self.self_attn(q=queries, k=queries, v=queries))


class OfficialTwoWay(AdapterTwoWay):
    """The decoder's transformer, whose space adapter is applied once more to the final tokens."""

    def __init__(self, depth: int, dim: int, num_heads: int, mlp_dim: int):
        super().__init__(0, dim, num_heads, mlp_dim)
        self.layers = nn.ModuleList(
            OfficialTwoWayBlock(dim, num_heads, mlp_dim, i == 0) for i in range(depth)
        )
        self.mlp_adapter = Adapter(dim, skip=False)  # never used

    def forward(
        self, image_embedding: Tensor, image_pe: Tensor, point_embedding: Tensor
    ) -> tuple[Tensor, Tensor]:
        queries, keys = super().forward(image_embedding, image_pe, point_embedding)
        return self.space_adapter(queries), keys


class OfficialDecoder(PromptDecoder):
    """SAM's mask decoder around the authors' transformer."""

    def __init__(self, dim: int, mlp_dim: int, depth: int = 2, num_heads: int = 8):
        super().__init__(dim, mlp_dim, depth=0, num_heads=num_heads)
        self.transformer = OfficialTwoWay(depth, dim, num_heads, mlp_dim)


class OfficialTeacher(SamTeacher):
    """The authors' adapted SAM: image x (N, 3, H, W) in [0, 1] and fused logits z_f -> TeacherOutput.

    Trainable are the adapters (the unused ones too) and the learnable prompts.
    """

    def __init__(self, num_classes: int, image_size: int = 256, backbone: Backbone = BACKBONES["sam_vit_b"]):
        if not isinstance(backbone, VitBackbone):
            raise UserError(
                f"found teacher {backbone.name}, expected a ViT: the official method changes ViT's blocks; "
                "use sam_vit_b or another method"
            )
        unnormalized = replace(
            backbone, pixel_mean=(0.0,) * 3, pixel_std=(255.0,) * 3
        )  # x - 0 over 255 / 255
        super().__init__(unnormalized, num_classes, image_size)
        self.image_encoder = OfficialEncoder(backbone)
        self.mask_decoder = OfficialDecoder(backbone.prompt_dim, backbone.mlp_dim)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("adapter" in name or "learnable_prompts" in name)
        for module in self.modules():
            if isinstance(module, Adapter):
                module.up.reset_parameters()  # a random start disturbs the pretrained SAM from step 0
            if isinstance(module, ClassPrompt):
                module.last.reset_parameters()

    def mask_prompts(self, z_f: Tensor) -> Tensor:
        """The raw channel of each class as mask prompt: (N, C, H, W) -> (N, C, 4g, 4g), without gradient."""
        size = (4 * self.grid[0], 4 * self.grid[1])
        return F.interpolate(z_f.detach(), size, mode="bilinear", align_corners=False)


def compute_padding(teacher: OfficialTeacher) -> OfficialTeacher:
    """Make a teacher compute its windows' padding as the authors' does: the same values, summed in their
    order.

    Adam takes a full step on a gradient that is only rounding error, and two or three such steps flip
    pseudo-labels that are nearly tied: a recorded training is only reproduced with the same rounding.
    """
    for module in teacher.image_encoder.modules():
        if isinstance(module, OfficialBlock):
            module.computes_padding = True
    return teacher


def never_loaded(name: str) -> bool:
    """Whether the authors drop this tensor of SAM's checkpoint: relative positions and the decoder's MLPs."""
    return "rel_pos" in name or (name.startswith("mask_decoder.transformer.layers.") and ".mlp." in name)


def load_sam(teacher: OfficialTeacher, tensors: Mapping[str, Tensor]) -> None:
    """Load a plain SAM's tensors as the authors do, in place: 32 of ViT-B's 314 are dropped.

    So the decoder's MLPs stay frozen at random values. Raises UserError if any other tensor is missing,
    unexpected or of another shape.
    """
    kept = {name: t for name, t in tensors.items() if not never_loaded(name)}
    own = teacher.state_dict()
    wanted = {name: own[name] for name in pretrained_names(teacher) if not never_loaded(name)}
    faults = misfits(kept, wanted)
    if faults:
        raise UserError(
            f"found a checkpoint that does not fit the official teacher ({faults}), "
            "expected exactly its tensors: choose the teacher that belongs to the checkpoint"
        )
    teacher.load_state_dict({**own, **kept})
