"""Windows whose padding is never computed give what segment_anything's padded windows give."""

import pytest
import torch
from segment_anything.modeling.image_encoder import Block, window_partition, window_unpartition

from knowsam_lite.official.teacher import OfficialBlock
from knowsam_lite.sam.encoder import AdapterBlock, parts

SIZES = [(7, 7), (14, 7), (5, 6), (9, 20), (8, 3)]  # whole windows; with rest below, beside, both; one part


def random_block(kind, **options):
    torch.manual_seed(0)
    block = kind(16, 2, window_size=7, **options).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return block


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rel_pos", [True, False])
def test_block_and_its_gradient_are_segment_anythings(size, rel_pos):
    theirs = random_block(Block, use_rel_pos=rel_pos, input_size=(7, 7), norm_layer=torch.nn.LayerNorm)
    ours = AdapterBlock(16, 2, 7, (7, 7), rel_pos).double()
    missing, unexpected = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert all("adapter" in name for name in missing) and not unexpected
    theirs.norm1.eps = theirs.norm2.eps = 1e-6
    x, y = (torch.randn(3, *size, 16, dtype=torch.double).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    a, b = ours(x), theirs(y)
    torch.testing.assert_close(a, b)
    weights = torch.randn_like(a)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)


@pytest.mark.parametrize("size", SIZES)
def test_official_windows_are_normalized_after_padding(size):
    block = random_block(OfficialBlock, input_size=(7, 7))
    x = torch.randn(2, *size, 16, dtype=torch.double)
    windows, padded = window_partition(x, 7)
    expected = window_unpartition(block.attn(block.norm1(windows)), 7, padded, size)
    torch.testing.assert_close(block.attend(x), expected)
    block.computes_padding = True
    torch.testing.assert_close(block.attend(x), expected)
    assert not torch.allclose(AdapterBlock.padding(block), block.padding())


def test_parts_cover_an_axis_without_padding():
    assert parts(16, 14) == [(0, 14, 14), (14, 16, 2)]
    assert parts(28, 14) == [(0, 28, 14)] and parts(8, 14) == [(0, 8, 8)]
