"""Frozen linear layers by oneDNN: values and gradients as in PyTorch; what learns is left alone."""

import copy

import pytest
import torch
from torch import nn

from knowsam_lite.fast.frozen_linear import HIDDEN, frozen_linear, multiply_with_onednn
from knowsam_lite.sam.modeling import MLPBlock

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="this PyTorch has no such kernel"
)


def pair(bias):
    usual = nn.Sequential(nn.Linear(24, 40, bias=bias), nn.GELU(), nn.Linear(40, 7, bias=bias))
    usual.requires_grad_(False)
    other = copy.deepcopy(usual)
    multiply_with_onednn(other)
    return usual, other


@pytest.mark.parametrize("vectors", ["AVX512", "AVX2"])  # oneDNN, or MKL, in the backward pass
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 4, 24)])
def test_values_and_gradients_are_those_of_pytorch(bias, shape, vectors, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    usual, other = pair(bias)
    assert all(layer.forward.__wrapped__ is frozen_linear for layer in (other[0], other[2]))
    x = torch.randn(shape)
    found = []
    for net in (usual, other):
        leaf = x.clone().requires_grad_()
        z = net(leaf)
        (z**2).sum().backward()
        found.append((z.detach(), leaf.grad))
    torch.testing.assert_close(found[1], found[0], rtol=1e-5, atol=1e-5)


def kept(net, x):
    """Values and dL/dx, and how many numbers other than weights were kept for the backward pass."""
    numbers = 0
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def count(tensor):
        nonlocal numbers
        numbers += 0 if tensor.untyped_storage().data_ptr() in weights else tensor.numel()
        return tensor

    leaf = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        z = net(leaf)
    (z**2).sum().backward()
    return z.detach(), leaf.grad, numbers


@pytest.mark.parametrize("vectors", ["AVX512", "AVX2"])
@pytest.mark.parametrize("large", [True, False])
def test_a_large_frozen_mlp_keeps_its_input_alone_and_a_small_one_its_hidden_layer(
    large, vectors, monkeypatch
):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    usual = MLPBlock(32, 128).requires_grad_(False)
    other = copy.deepcopy(usual)
    multiply_with_onednn(other)
    x = torch.randn(2, HIDDEN // 256 if large else 8, 32)
    *expected, numbers = kept(usual, x)
    *found, fewer = kept(other, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert numbers == 4 * x.numel() and fewer == (x.numel() if large else 4 * x.numel())


def test_an_mlp_that_learns_or_is_watched_computes_as_ever():
    x = torch.randn(2, HIDDEN // 256, 32)
    learning, watched, other = (MLPBlock(32, 128).requires_grad_(False) for _ in range(3))
    learning.lin2.bias.requires_grad_(True)
    seen = []
    watched.act.register_forward_hook(lambda *_: seen.append(1))
    for net in (learning, watched, other):
        multiply_with_onednn(net)
        net(x)
    learning(x).sum().backward()
    assert learning.lin2.bias.grad is not None and seen == [1]
    with torch.autocast("cpu", torch.bfloat16):
        assert other(x).dtype == torch.bfloat16


def test_other_types_and_bf16_stay_with_pytorch():
    usual, other = pair(True)
    x = torch.randn(3, 24)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(other(x), usual(x)) and other(x).dtype == torch.bfloat16
    assert torch.equal(other.double()(x.double()), usual.double()(x.double()))


def test_a_layer_that_begins_to_learn_does():
    _, other = pair(True)
    other.requires_grad_(True)
    other(torch.randn(2, 24)).sum().backward()
    assert all(p.grad is not None for p in other.parameters())


def test_a_second_derivative_is_an_error_and_not_zero():
    _, other = pair(True)
    x = torch.randn(2, 24, requires_grad=True)
    (slope,) = torch.autograd.grad(other(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_a_layer_that_learns_is_left_alone():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net[0].weight.requires_grad_(False)  # its bias still learns
    multiply_with_onednn(net)
    assert not any("forward" in layer.__dict__ for layer in net)
    net(torch.randn(2, 4)).sum().backward()
    assert net[0].bias.grad is not None
