"""SAM's image encoder (a ViT with windowed and global attention) with an adapter beside each frozen part.

The modules and tensor names are `segment_anything`'s; new are the adapters, attention through PyTorch's fused
kernel, and position tables that follow the image size.
"""

from collections.abc import Collection
from functools import partial

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import (
    Attention,
    Block,
    ImageEncoderViT,
    window_partition,
    window_unpartition,
)
from torch import Tensor, nn

from knowsam_lite.sam.adapter import Adapter


def resize_absolute(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize an absolute position table (1, h, w, D), bicubic, to (1, *grid, D) unless it fits."""
    if table.shape[1:3] == grid:
        return table
    resized = F.interpolate(table.permute(0, 3, 1, 2), grid, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)  # (1, D, h, w) -> (1, h, w, D)


def resize_relative(table: Tensor, size: int) -> Tensor:
    """Resize a relative position table (2 s - 1, d), linear, to (2 `size` - 1, d) unless it fits."""
    length = 2 * size - 1
    if table.shape[0] == length:
        return table
    return F.interpolate(table.T.unsqueeze(0), length, mode="linear")[0].T  # (1, d, L) -> (L, d)


def relative_positions(table: Tensor, size: int) -> Tensor:
    """Look up the vector for each pair of positions along one axis: (2 s - 1, d) -> (size, size, d)."""
    steps = torch.arange(size, device=table.device)
    return resize_relative(table, size)[steps[:, None] - steps[None, :] + size - 1]


class FusedAttention(Attention):
    """segment_anything's attention computed by one fused kernel, the relative positions as its bias.

    Tokens (N, H, W, D) -> (N, H, W, D).
    """

    def forward(self, x: Tensor) -> Tensor:
        n, h, w, _ = x.shape
        qkv = self.qkv(x).reshape(n, h * w, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)  # each (N, heads, HW, d)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q, h, w))
        return self.proj(out.transpose(1, 2).reshape(n, h, w, -1))  # (N, heads, HW, d) -> (N, H, W, D)

    def bias(self, q: Tensor, h: int, w: int) -> Tensor | None:
        """What the relative positions add to each pair's score: queries (N, heads, HW, d) -> (N, heads, HW,
        HW).
        """
        if not self.use_rel_pos:
            return None
        q = q.unflatten(2, (h, w))
        rows = torch.einsum("nahwd,hkd->nahwk", q, relative_positions(self.rel_pos_h, h))
        columns = torch.einsum("nahwd,wkd->nahwk", q, relative_positions(self.rel_pos_w, w))
        return (rows.unsqueeze(-1) + columns.unsqueeze(-2)).flatten(4).flatten(2, 3)


class AdapterBlock(Block):
    """One transformer block of SAM with an adapter after its attention and one beside its MLP.

    Tokens (N, H, W, D) -> (N, H, W, D).
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, input_size: tuple[int, int], use_rel_pos: bool
    ):
        norm = partial(nn.LayerNorm, eps=1e-6)
        super().__init__(dim, num_heads, norm_layer=norm, window_size=window_size)
        span = (window_size, window_size) if window_size else input_size
        self.attn = FusedAttention(dim, num_heads, use_rel_pos=use_rel_pos, input_size=span)
        self.space_adapter = Adapter(dim, skip=True)
        self.mlp_adapter = Adapter(dim, skip=False)

    def attend(self, x: Tensor) -> Tensor:
        """Normalize and attend, inside windows if the block has any (the last ones padded with zeros)."""
        x = self.norm1(x)
        if not self.window_size:
            return self.attn(x)
        size = (x.shape[1], x.shape[2])
        windows, padded = window_partition(x, self.window_size)
        return window_unpartition(self.attn(windows), self.window_size, padded, size)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.space_adapter(self.attend(x))
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.mlp_adapter(normed)


class AdapterEncoder(ImageEncoderViT):
    """SAM's image encoder with adapters: normalized image (N, 3, S, S) -> embedding (N, D, g, g).

    g = S / patch. Built for `image_size`; another size is served by resizing the position tables on the fly.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        out_chans: int,
        window_size: int,
        global_attn_indexes: Collection[int],
        use_rel_pos: bool = True,
    ):
        super().__init__(
            img_size=image_size, patch_size=patch_size, embed_dim=embed_dim, depth=0, out_chans=out_chans
        )
        grid = (image_size // patch_size,) * 2
        self.blocks = nn.ModuleList(
            AdapterBlock(
                embed_dim, num_heads, 0 if i in global_attn_indexes else window_size, grid, use_rel_pos
            )
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # (N, 3, S, S) -> (N, g, g, D)
        x = x + resize_absolute(self.pos_embed, (x.shape[1], x.shape[2]))
        for block in self.blocks:
            x = block(x)
        return self.neck(x.permute(0, 3, 1, 2))  # (N, g, g, D) -> (N, D', g, g)
