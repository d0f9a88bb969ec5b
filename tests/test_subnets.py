"""The two subnets: sizes, shapes, and the errors that save an hour."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from knowsam_lite.errors import UserError
from knowsam_lite.subnets import UNet, VNet, as_image, conv_stage, init_kaiming


@pytest.mark.parametrize(("net", "parameters"), [(UNet, 1_944_322), (VNet, 3_265_986)])
def test_parameters_are_the_papers(net, parameters):
    assert sum(p.numel() for p in net(2).parameters()) == parameters


@pytest.mark.parametrize("net", [UNet, VNet])
@settings(max_examples=8, deadline=None)
@given(
    classes=st.integers(2, 5),
    height=st.integers(1, 4),
    width=st.integers(1, 4),
    channels=st.sampled_from([1, 3]),
)
def test_any_class_count_any_multiple_of_16(net, classes, height, width, channels):
    x = torch.rand(2, channels, 16 * height, 16 * width)
    assert net(classes, widths=(2, 4, 4, 8, 8)).eval()(x).shape == (2, classes, 16 * height, 16 * width)


def test_grey_is_repeated():
    grey = torch.rand(1, 1, 32, 32)
    net = UNet(2).eval()
    torch.testing.assert_close(net(grey), net(grey.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("net", [UNet, VNet])
def test_an_odd_size_names_the_next_valid_one(net):
    with pytest.raises(UserError, match=r"found images of 100 x 40, expected multiples of 16.* 112 x 48"):
        net(2)(torch.rand(1, 3, 100, 40))


def test_wrong_channels_are_named():
    with pytest.raises(UserError, match=r"shape \(1, 4, 32, 32\).*1 or 3"):
        as_image(torch.rand(1, 4, 32, 32))


def test_vnet_skips_what_enters_a_stage():
    """With the stage at half size silenced, the tensor that enters it still comes through by the skip."""
    torch.manual_seed(0)
    net = VNet(2, widths=(2, 4, 4, 8, 8)).eval()
    torch.nn.init.zeros_(net.down[1][0].weight)  # nothing goes deeper than half size
    torch.nn.init.zeros_(net.down[1][0].bias)
    x = torch.rand(1, 3, 32, 32)
    torch.nn.init.zeros_(net.encoder[1][-2].weight)  # and the stage at half size gives nothing
    torch.nn.init.zeros_(net.encoder[1][-2].bias)
    before = net(x)
    torch.nn.init.zeros_(net.down[0][0].weight)  # now nothing enters it either
    torch.nn.init.zeros_(net.down[0][0].bias)
    assert not torch.allclose(before, net(x))


def test_a_stage_has_as_many_convolutions_as_it_is_deep():
    for depth, entering in ((1, None), (3, None), (2, 3)):
        weights = [p.shape for p in conv_stage(4, depth, entering).parameters() if p.ndim == 4]
        assert weights == [(4, entering or 4, 3, 3)] + [(4, 4, 3, 3)] * (depth - 1)


def test_the_start_keeps_the_size_of_a_signal_and_the_biases():
    torch.manual_seed(0)
    stack, x = conv_stage(32, 10), torch.randn(4, 32, 32, 32)
    biases = [p.clone() for p in stack.parameters() if p.ndim == 1]
    with torch.no_grad():
        assert stack(x).square().mean() < 0.01
        init_kaiming(stack)
        assert 0.1 < stack(x).square().mean() < 1
    assert all(map(torch.equal, biases, [p for p in stack.parameters() if p.ndim == 1]))
    up = torch.nn.ConvTranspose2d(64, 32, 2)
    init_kaiming(up)
    assert abs(up.weight.var() * 128 - 2) < 0.1


def test_bn_in_one_view_only():
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in UNet().modules())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in VNet().modules())
