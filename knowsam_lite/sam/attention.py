"""SAM's attention with one fused kernel, without computing positions that only pad a window.

A 256 px image has 16 x 16 tokens and SAM's windows are 14 x 14: padded to 28 x 28, two thirds of all tokens
are padding. Their outputs are discarded, and as keys they are all the same token, so they merge into one.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from knowsam_lite.sam.modeling import Attention


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
    """segment_anything's attention with the relative positions as the bias of one fused kernel."""

    def forward(
        self, x: Tensor, span: tuple[int, int] | None = None, padding: Tensor | None = None
    ) -> Tensor:
        """Attend within each of the N maps: tokens (N, H, W, D) -> (N, H, W, D).

        `span`: rows and columns of the window whose upper left the tokens fill; the rest of it counts as
        filled with the token `padding` (D,), to which the others attend.
        """
        n, h, w, _ = x.shape
        span = span or (h, w)
        q, k, v = self.split_heads(x.flatten(1, 2))
        if span != (h, w):
            assert padding is not None
            _, k_pad, v_pad = self.split_heads(padding.view(1, 1, -1))
            k, v = (torch.cat([b.expand(n, -1, -1, -1), a], 2) for a, b in ((k, k_pad), (v, v_pad)))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias(q, (h, w), span))
        return self.proj(out.transpose(1, 2).reshape(n, h, w, -1))  # (N, heads, HW, d) -> (N, H, W, D)

    def split_heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values: tokens (N, L, D) -> three of (N, heads, L, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        return q, k, v

    def bias(self, q: Tensor, size: tuple[int, int], span: tuple[int, int]) -> Tensor | None:
        """The bias of the scores: queries (N, heads, HW, d) -> (N or 1, heads or 1, HW or 1, keys).

        The first key is the merged one and stands for n equal keys: the softmax gives it their total weight
        if log n is added to its score or, with relative positions r that differ among them, log sum exp r.
        """
        (h, w), padded = size, span[0] * span[1] - size[0] * size[1]
        if not self.use_rel_pos:
            if not padded:
                return None
            return F.pad(q.new_zeros(h * w), (1, 0), value=math.log(padded)).view(1, 1, 1, -1)
        q = q.unflatten(2, size)
        rows = torch.einsum("nahwd,hkd->nahwk", q, relative_positions(self.rel_pos_h, span[0])[:h])
        columns = torch.einsum("nahwd,wkd->nahwk", q, relative_positions(self.rel_pos_w, span[1])[:w])
        inside = (rows[..., :h, None] + columns[..., None, :w]).flatten(4)  # (N, heads, H, W, HW)
        if padded:
            below = rows[..., h:].logsumexp(-1) + columns.logsumexp(-1)
            beside = rows[..., :h].logsumexp(-1) + columns[..., w:].logsumexp(-1)
            inside = torch.cat([torch.logaddexp(below, beside).unsqueeze(-1), inside], -1)
        return inside.flatten(2, 3).to(q.dtype)
