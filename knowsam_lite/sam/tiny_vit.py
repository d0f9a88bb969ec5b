"""TinyViT (Wu et al., ECCV 2022) as the image encoder of a SAM, with adapters.

Convolutions first, then windowed attention on coarser and coarser tokens. Tensor names are those of the
published checkpoints. Like every frozen part, its BatchNorms never use batch statistics.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowsam_lite.sam.adapter import Adapter
from knowsam_lite.sam.modeling import LayerNorm2d, window_partition, window_unpartition


class ConvNorm(nn.Module):
    """A convolution without bias and a BatchNorm: (N, D, H, W) -> (N, D', H/stride, W/stride).

    The BatchNorm uses its stored statistics in train mode too. So it is a scale and a shift, which are folded
    into the convolution, saving one pass over the image.
    """

    def __init__(self, dim_in: int, dim_out: int, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.c = nn.Conv2d(dim_in, dim_out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(dim_out)

    def forward(self, x: Tensor) -> Tensor:
        c, bn = self.c, self.bn
        mean, variance = bn.get_buffer("running_mean"), bn.get_buffer("running_var")
        scale = bn.weight / (variance + bn.eps).sqrt()
        weight = c.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, bn.bias - mean * scale, c.stride, c.padding, groups=c.groups)


class PatchEmbed(nn.Module):
    """Two convolutions, `kernel` wide, with stride s: image (N, 3, S, S) -> (N, D, S/s^2, S/s^2)."""

    def __init__(self, dim: int, kernel: int, stride: int):
        super().__init__()
        self.seq = nn.Sequential(
            ConvNorm(3, dim // 2, kernel, stride), nn.GELU(), ConvNorm(dim // 2, dim, kernel, stride)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class Expanded(nn.Module):
    """Pointwise, depthwise 3 x 3, pointwise: (N, D, H, W) -> (N, D', H/stride, W/stride)."""

    def __init__(self, dim_in: int, hidden: int, dim_out: int, stride: int = 1):
        super().__init__()
        self.conv1 = ConvNorm(dim_in, hidden)
        self.conv2 = ConvNorm(hidden, hidden, 3, stride, groups=hidden)
        self.conv3 = ConvNorm(hidden, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class MBConv(Expanded):
    """The inverted bottleneck with residual (Sandler et al., 2018): (N, D, H, W) -> (N, D, H, W)."""

    def __init__(self, dim: int):
        super().__init__(dim, 4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + super().forward(x))


class WindowAttention(nn.Module):
    """Attention within windows, with one bias per distance: (M, w, w, D) -> (M, w, w, D).

    The bias depends on |rows apart| and |columns apart|, `window`^2 values per head. The norm is applied
    here, so that zero padding becomes the norm's bias.
    """

    index: Tensor

    def __init__(self, dim: int, num_heads: int, window: int):
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window**2))
        steps = torch.arange(window)
        apart = (steps[:, None] - steps).abs()
        index = window * apart[:, None, :, None] + apart[None, :, None, :]  # (row, column, row', column')
        self.register_buffer("index", index.reshape(window**2, window**2), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        m, h, w, _ = x.shape
        qkv = self.qkv(self.norm(x)).reshape(m, h * w, self.num_heads, 3, -1).permute(3, 0, 2, 1, 4)
        q, k, v = qkv.unbind(0)  # each (M, heads, ww, d)
        bias = self.attention_biases[:, self.index]  # (heads, ww, ww); the fast kernel wants four dimensions
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.unsqueeze(0))
        return self.proj(out.transpose(1, 2).reshape(x.shape))  # (M, heads, ww, d) -> (M, w, w, D)


class Mlp(nn.Module):
    """The transformer's MLP: normalized tokens (..., D) -> (..., D). Its norm is applied by the block."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class AdapterTinyBlock(nn.Module):
    """Windowed attention, depthwise convolution, MLP; adapters after the attention and parallel to the MLP.

    (N, D, H, W) -> (N, D, H, W).
    """

    def __init__(self, dim: int, num_heads: int, window: int):
        super().__init__()
        self.window = window
        self.attn = WindowAttention(dim, num_heads, window)
        self.local_conv = ConvNorm(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim)
        self.space_adapter = Adapter(dim, skip=True)
        self.mlp_adapter = Adapter(dim, skip=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)  # (N, D, H, W) -> (N, H, W, D)
        windows, padded = window_partition(x, self.window)
        seen = window_unpartition(self.attn(windows), self.window, padded, (x.shape[1], x.shape[2]))
        x = x + self.space_adapter(seen)
        x = self.local_conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        normed = self.mlp.norm(x)
        x = x + self.mlp(normed) + 0.5 * self.mlp_adapter(normed)
        return x.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one width, then a change of width and size: (N, D, H, W) -> (N, D', H/stride, W/stride)."""

    def __init__(self, blocks: Iterable[nn.Module], downsample: nn.Module):
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        return self.downsample(self.blocks(x))


class AdapterTinyVit(nn.Module):
    """Normalized image (N, 3, S, S) -> embedding (N, `out_chans`, g, g); g = S/4 over the stem's stride^2.

    `dims`, `depths`, `num_heads`, `windows`: width, blocks, heads and window size (tokens a side) of each
    stage. The first stage is convolutional, at full size; two of the three transitions halve the size.
    """

    def __init__(
        self,
        dims: tuple[int, int, int, int],
        depths: tuple[int, int, int, int],
        num_heads: tuple[int, int, int, int],
        windows: tuple[int, int, int, int],
        out_chans: int,
        stem: tuple[int, int],
    ):
        super().__init__()
        self.patch_embed = PatchEmbed(dims[0], *stem)
        changes = [Expanded(dims[i], dims[i + 1], dims[i + 1], (2, 2, 1)[i]) for i in range(3)]
        stages = [Stage((MBConv(dims[0]) for _ in range(depths[0])), changes[0])]
        for i in range(1, 4):
            blocks = (AdapterTinyBlock(dims[i], num_heads[i], windows[i]) for _ in range(depths[i]))
            stages.append(Stage(blocks, changes[i] if i < 3 else nn.Identity()))
        self.layers = nn.Sequential(*stages)
        self.neck = nn.Sequential(
            nn.Conv2d(dims[3], out_chans, 1, bias=False),
            LayerNorm2d(out_chans),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            LayerNorm2d(out_chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)  # as tokens are; faster convolutions on a CPU
        return self.neck(self.layers(self.patch_embed(x)))
