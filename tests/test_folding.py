"""A method made ready for prediction answers as it did, and the method that trains is none the worse."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers.base import small_net, tiny_teacher
from torch import nn

from knowsam_lite.aggregation import HybridAggregation
from knowsam_lite.config import Config
from knowsam_lite.data import Synthetic
from knowsam_lite.fast.folding import (
    MergedAggregation,
    NarrowConv,
    channels_last,
    fold_batchnorm,
    for_inference,
    side_by_side,
)
from knowsam_lite.fast.frozen_linear import learns
from knowsam_lite.fast.patching import replaced
from knowsam_lite.methods import METHODS, SupervisedPair
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.students import Students
from knowsam_lite.subnets import ConvBlock
from knowsam_lite.training import Trainer

CPU = torch.device("cpu")


def with_statistics(module):
    """Random BatchNorm statistics and weights, as after a training; in evaluation mode."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.weight, part.bias, part.running_mean):
                nn.init.normal_(tensor, 0.2, 0.5)
            nn.init.uniform_(part.running_var, 0.3, 3)
    return module.eval()


def same(a, b):
    """Equal within 1e-5 of the largest value."""
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.detach().abs().max())))


def norms(module):
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]


@pytest.mark.parametrize("kind", [Students, OfficialStudents])
@pytest.mark.parametrize("classes", [2, 4, 9])
def test_students_answer_as_before(kind, classes):
    students = with_statistics(kind(classes))
    holder = nn.Sequential(students)  # a HAM is merged where it is a part of something
    ready = for_inference(holder, CPU)[0]
    assert norms(students) and not norms(ready) and isinstance(ready.ham, MergedAggregation)
    x = torch.rand(2, 3, 48, 32)
    with torch.inference_mode():
        for a, b in zip(ready(x), students(x), strict=True):
            same(a, b)
            assert not a.requires_grad


def test_the_method_that_trains_is_untouched():
    method = METHODS["knowsam"](replace(Config(), image_size=32), 2, teacher=tiny_teacher(2)).train()
    before = copy.deepcopy(method.state_dict())
    strides = {name: p.stride() for name, p in method.named_parameters()}
    modes = [m.training for m in method.modules()]
    kinds = [type(m) for m in method.modules()]
    with torch.inference_mode():
        for_inference(method, CPU).views(torch.rand(2, 3, 32, 32))
    assert [m.training for m in method.modules()] == modes and [type(m) for m in method.modules()] == kinds
    assert {name: p.stride() for name, p in method.named_parameters()} == strides
    assert all(p.requires_grad for p in method.students.parameters())
    for name, tensor in method.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_is_not_folded_is_shared_and_not_copied():
    method = METHODS["knowsam"](replace(Config(), image_size=32), 2, teacher=tiny_teacher(2))
    ready = for_inference(method, CPU)
    for a, b in zip(
        method.teacher.image_encoder.parameters(), ready.teacher.image_encoder.parameters(), strict=True
    ):
        assert a is b


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_view_of_every_method_is_the_same(name):
    config = replace(Config(), image_size=32)
    torch.manual_seed(0)
    method = with_statistics(METHODS[name].with_random_weights(config, 3))
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        for view, z in for_inference(method, CPU).views(x).items():
            torch.testing.assert_close(z, method.views(x)[view], rtol=1e-4, atol=1e-4)


def test_own_networks_are_served_as_they_are():
    class Own(nn.Module):
        """BatchNorm that is no neighbor in a Sequential, and a reshape that needs the usual layout."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.norm(self.conv(x))
            return x.view(len(x), -1).view(x.shape)

    x = torch.rand(2, 3, 16, 16)
    for net in (with_statistics(Own()), with_statistics(small_net(2))):
        method = METHODS["knowsam"](Config(), 4, net, with_statistics(Own()), tiny_teacher(4)).eval()
        same(for_inference(method, CPU).students.net_a(x), net(x))
    assert not norms(fold_batchnorm(small_net(2))) and norms(fold_batchnorm(Own()))


def hooked_block():
    block = ConvBlock(3, 4)
    block[0].register_forward_hook(lambda *_: None)
    block[4].register_forward_pre_hook(lambda *_: None)
    return block


def shared_conv():
    conv = nn.Conv2d(3, 3, 1)
    return nn.Sequential(conv, nn.BatchNorm2d(3), conv, nn.BatchNorm2d(3))


class OwnOrder(nn.Sequential):
    """A Sequential that is none: its layers run the other way round."""

    def forward(self, x):
        for layer in reversed(self):
            x = layer(x)
        return x


@pytest.mark.parametrize(
    "net",
    [
        hooked_block(),
        shared_conv(),
        OwnOrder(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)),
        nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1)), nn.BatchNorm2d(3)),
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.ReLU(), nn.BatchNorm2d(3)),
        nn.Linear(3, 3),
    ],
    ids=["hooks", "shared", "own order", "no statistics", "parametrized", "not behind", "none"],
)
def test_what_cannot_be_folded_is_left(net):
    count, x = len(norms(net)), torch.rand(2, 3, 8, 8) if norms(net) else torch.rand(2, 3)
    if all(n.running_mean is not None for n in norms(net)):
        with_statistics(net)
    net.eval()
    folded = fold_batchnorm(net)
    assert len(norms(folded)) == count
    same(folded(x), net(x))


def test_one_tensor_in_two_places_stays_one():
    block = ConvBlock(3, 3)
    net = with_statistics(nn.ModuleDict({"a": block, "b": block}))
    folded = fold_batchnorm(net)
    assert folded["a"] is folded["b"] is not block


def test_a_changed_aggregation_is_not_merged():
    for change in ("slope", "hook", "forward"):
        ham = HybridAggregation(2)
        if change == "slope":
            ham.logits[2].negative_slope = 0.5
        elif change == "hook":
            ham.certainty.register_forward_hook(lambda *_: None)
        else:
            ham = type("Own", (HybridAggregation,), {"forward": lambda self, a, b: a + b})(2)
        holder = with_statistics(nn.ModuleDict({"ham": ham}))
        ready = for_inference(holder, CPU)["ham"]
        assert not isinstance(ready, MergedAggregation)
        z = torch.randn(2, 2, 2, 16, 16)
        same(ready(*z), ham(*z))


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (16, 2)])
def test_narrow_convolution(size):
    conv = nn.Conv2d(6, 2, 3, padding=1)
    narrow = NarrowConv.instead_of(conv)
    assert isinstance(narrow, NarrowConv)
    x = torch.randn(3, 6, *size)
    same(narrow(x), conv(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert narrow(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 16, 3, padding=1),
        nn.Conv2d(6, 2, 3),
        nn.Conv2d(6, 2, 3, padding=1, stride=2),
        nn.Conv2d(6, 2, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(6, 2, 3, padding=1, bias=False),
    ],
)
def test_other_convolutions_stay(conv):
    assert NarrowConv.instead_of(conv) is conv


def test_convolutions_side_by_side():
    convs = [nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(1, 4, 3, padding=1)]
    x = torch.randn(2, 3, 8, 8)
    expected = torch.cat([convs[0](x[:, :2]), convs[1](x[:, 2:])], dim=1)
    same(side_by_side(convs)(x), expected)


def test_the_layout_changes_nothing_but_the_layout():
    students = with_statistics(Students(2))
    laid_out = copy.deepcopy(students)
    channels_last(laid_out)
    x = torch.rand(1, 3, 32, 32)
    z = laid_out(x)
    assert z.logits_a.is_contiguous(memory_format=torch.channels_last)
    same(z.logits_f, students(x).logits_f)
    assert all(p.requires_grad for p in laid_out.parameters())


@pytest.mark.parametrize("kind", [Students, OfficialStudents])
def test_the_layout_changes_no_gradient(kind):
    students = with_statistics(kind(2))  # dropout would draw its masks in the order of memory
    laid_out = copy.deepcopy(students)
    channels_last(laid_out)
    x = torch.rand(2, 3, 32, 32)
    for net in (students, laid_out):
        sum(z.square().mean() for z in net(x)).backward()
    largest = max(float(p.grad.abs().max()) for p in students.parameters())
    for a, b in zip(students.parameters(), laid_out.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-5 * largest)


@pytest.mark.parametrize(
    ("size", "precision", "innermost"), [(64, "auto", False), (128, "auto", True), (64, "bf16", True)]
)
def test_large_images_and_bf16_are_trained_on_with_channels_innermost(tmp_path, size, precision, innermost):
    config = replace(Config(), image_size=size, precision=precision, labeled="4", out=tmp_path, device="cpu")
    method = METHODS["knowsam"](config, 2, teacher=tiny_teacher(2))
    trainer = Trainer(Synthetic("dermoscopy", n=30, size=16), config, method)
    weight = method.students.net_a.encoder[0][4].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == innermost
    learned = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    assert id(weight) in learned
    frozen = next(m for m in method.teacher.modules() if isinstance(m, torch.nn.Linear) and not learns(m))
    assert replaced(method.students.ham) == replaced(frozen) == (size >= 128)


def test_a_copy_of_a_compiled_method_computes_by_itself():
    method = SupervisedPair(Config(image_size=32), 2, small_net(2), small_net(2)).train()
    for net in (method.students.net_a, method.students.net_b):
        net.compile(backend="eager")
    x = torch.rand(2, 3, 32, 32)
    ready = for_inference(method, torch.device("cpu"))
    with torch.inference_mode():
        for net in (ready.students.net_a, ready.students.net_b):
            assert torch.equal(net(x), net(x)) and "_compiled_call_impl" not in vars(net)
