"""Weight gradients as products: those of PyTorch, for every layout of the strips; nothing else changes."""

import copy

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

import knowsam_lite.fast.weight_gradient
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.fast.checkpointing import checkpoint_activations
from knowsam_lite.fast.folding import channels_last
from knowsam_lite.fast.patching import replaced, restore_forward
from knowsam_lite.fast.weight_gradient import convolution, gradients_by_products, weight_gradient
from knowsam_lite.students import Students
from knowsam_lite.training import Trainer


def innermost(*shape):
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def close(found, expected, largest):
    """Equal within a hundred thousandth of the largest."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * largest)


def gradients(conv, x, grad):
    """Output and gradients of the input and of the parameters."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    z = conv(x)
    z.backward(grad)
    return [z.detach(), x.grad, *(p.grad for p in conv.parameters())]


@pytest.mark.parametrize(
    "strip", [1, 14000, 2**19]
)  # rows one by one; two by two, one is left over; all at once
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_in_double_precision(strip, bias, monkeypatch):
    monkeypatch.setattr(knowsam_lite.fast.weight_gradient, "STRIP", strip)
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 32, 3, padding=1, bias=bias)
    x, grad = innermost(2, 32, 9, 12), innermost(2, 32, 9, 12)
    expected = gradients(copy.deepcopy(conv).double(), x.double(), grad.double())
    gradients_by_products(conv)
    assert conv.forward.__wrapped__ is convolution
    for found, exact in zip(gradients(conv, x, grad), expected, strict=True):
        close(found.double(), exact, float(exact.abs().max()))


def test_a_gradient_in_another_layout_is_understood():
    torch.manual_seed(0)
    x, grad = innermost(1, 32, 5, 7), torch.randn(1, 16, 5, 7)
    torch.testing.assert_close(
        weight_gradient(x, grad), torch.nn.grad.conv2d_weight(x, (16, 32, 3, 3), grad, padding=1)
    )


@pytest.mark.parametrize(
    "change", ["bf16", "double", "usual layout", "no gradient", "frozen weight", "input without gradient"]
)
def test_elsewhere_the_convolution_is_pytorchs_to_the_bit(change, monkeypatch):
    usual = nn.Conv2d(32, 32, 3, padding=1)
    x = innermost(1, 32, 6, 6).requires_grad_(change != "input without gradient")
    if change == "frozen weight":
        usual.weight.requires_grad_(False)
    if change == "double":
        usual, x = usual.double(), x.double()
    if change == "usual layout":
        x = x.contiguous()
    other = copy.deepcopy(usual)
    gradients_by_products(other)
    monkeypatch.setattr(knowsam_lite.fast.weight_gradient.Convolution, "apply", None)  # must not be called
    with (
        torch.autocast("cpu", torch.bfloat16, enabled=change == "bf16"),
        torch.set_grad_enabled(change != "no gradient"),
    ):
        assert torch.equal(other(x), usual(x))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 64, 3, padding=1),
        nn.Conv2d(64, 2, 3, padding=1),
        nn.Conv2d(64, 64, 1),
        nn.Conv2d(64, 64, 3),
        nn.Conv2d(64, 64, 3, padding=1, stride=2),
        nn.Conv2d(64, 64, 3, padding=1, groups=2),
        nn.Conv2d(64, 64, 3, padding=1, padding_mode="reflect"),
    ],
)
def test_narrow_and_other_convolutions_are_left_alone(conv):
    gradients_by_products(conv)
    assert not replaced(conv)


def test_students_learn_the_same_and_only_small_convolutions_run_twice():
    torch.manual_seed(0)
    usual = Students(2)
    channels_last(usual)
    other = copy.deepcopy(usual)
    checkpoint_activations(other)
    gradients_by_products(other)
    x, counts = torch.rand(2, 3, 32, 48), []
    for students in (usual, other):
        torch.manual_seed(1)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            sum((z**2).mean() for z in students(x)).backward()
        counts.append({row.key: row.count for row in seen.key_averages()}["aten::_convolution"])
    assert counts[1] - counts[0] == 11  # all in HAM, see `test_recompute`
    slopes = [(p.grad, q.grad) for p, q in zip(usual.parameters(), other.parameters(), strict=True)]
    largest = max(float(p.abs().max()) for p, _ in slopes)
    for p, q in slopes:  # those of a bias before BatchNorm are 0 but for rounding
        close(q, p, largest)
    restore_forward(other)
    assert not any(replaced(part) for part in other.modules())


@pytest.mark.parametrize(
    ("vectors", "size", "replaced_there"), [("AVX2", 128, True), ("AVX512", 128, False), ("AVX2", 64, False)]
)
def test_a_run_of_large_images_does_so_without_avx_512(vectors, size, replaced_there, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    run = Config(method="mc", out=tmp_path, image_size=size, device="cpu", labeled="4", batch_labeled=2)
    method = Trainer(Synthetic("dermoscopy", n=16, size=32), run).method
    assert any(type(p) is nn.Conv2d and replaced(p) for p in method.modules()) == replaced_there
