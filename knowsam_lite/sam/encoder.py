"""SAM's image encoder (a ViT with windowed and global attention) with adapters in each frozen block.

The modules and tensor names are `segment_anything`'s; new are the adapters, attention by PyTorch's fused
kernel, and position tables that adapt to the image size.
"""

from collections.abc import Collection
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.attention import FusedAttention
from knowsam_lite.sam.modeling import Block, ImageEncoderViT


def resize_absolute(table: Tensor, grid: tuple[int, int]) -> Tensor:
    """Resize an absolute position table (1, h, w, D), bicubic, to (1, *grid, D) unless it fits."""
    if table.shape[1:3] == grid:
        return table
    resized = F.interpolate(table.permute(0, 3, 1, 2), grid, mode="bicubic", align_corners=False)
    return resized.permute(0, 2, 3, 1)  # (1, D, h, w) -> (1, h, w, D)


def parts(length: int, size: int) -> list[tuple[int, int, int]]:
    """Split an axis into whole windows and the rest: (start, stop, tokens per window) of each."""
    whole = length - length % size
    found = [(0, whole, size), (whole, length, length - whole)]
    return [(start, stop, tokens) for start, stop, tokens in found if stop > start]


class AdapterBlock(Block):
    """One transformer block of SAM with an adapter after its attention and one parallel to its MLP.

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

    def padding(self) -> Tensor:
        """The token (D,) that fills incomplete windows: zero, because SAM pads after the normalization."""
        return torch.zeros_like(self.norm1.bias)

    def attend(self, x: Tensor) -> Tensor:
        """Normalize and attend, within windows if the block has any; windows of one size are batched."""
        x, size = self.norm1(x), self.window_size
        if not size:
            return self.attn(x)
        rows = []
        for top, bottom, h in parts(x.shape[1], size):
            row = [
                self.attend_windows(x[:, top:bottom, left:right], h, w)
                for left, right, w in parts(x.shape[2], size)
            ]
            rows.append(torch.cat(row, dim=2))
        return torch.cat(rows, dim=1)

    def attend_windows(self, x: Tensor, h: int, w: int) -> Tensor:
        """Attend within windows of h x w tokens that fill x (N, H, W, D); each is padded to its full size."""
        n, height, width, dim = x.shape
        windows = x.reshape(n, height // h, h, width // w, w, dim).transpose(2, 3)  # (N, H/h, W/w, h, w, D)
        span = (self.window_size, self.window_size)
        out = self.attn(windows.reshape(-1, h, w, dim), span, self.padding())
        return out.view(windows.shape).transpose(2, 3).reshape(x.shape)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.space_adapter(self.attend(x))
        normed = self.norm2(x)
        return x + self.mlp(normed) + 0.5 * self.mlp_adapter(normed)


class AdapterEncoder(ImageEncoderViT):
    """SAM's image encoder with adapters: normalized image (N, 3, S, S) -> embedding (N, D, g, g).

    g = S / patch. Built for `image_size`; for another size the position tables are resized on the fly.
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
