"""Maps computed twice: the same gradients, statistics and random numbers, and no convolution runs again."""

import copy
import pickle
from types import MethodType

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from knowsam_lite.fast.checkpointing import checkpoint_activations
from knowsam_lite.fast.folding import for_inference
from knowsam_lite.fast.patching import replaced, restore_forward
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.students import Students
from knowsam_lite.subnets import ConvBlock, UNet


def twice(students):
    """A copy of `students` that computes maps twice."""
    other = copy.deepcopy(students)
    checkpoint_activations(other)
    return other


def two_passes(net, x):
    """Gradients after two forward passes and one backward, UGDA's way to use BatchNorm; then the state."""
    torch.manual_seed(1)
    net.zero_grad()
    maps = [z for _ in range(2) for z in (net(x) if isinstance(net, Students) else [net(x)])]
    sum((z**2).mean() for z in maps).backward()
    return {name: p.grad for name, p in net.named_parameters()}, net.state_dict()


def test_gradients_statistics_and_dropout_of_the_u_net_are_the_same_to_the_bit():
    torch.manual_seed(0)
    usual = UNet(3)
    other, x = twice(usual), torch.rand(2, 3, 32, 48)
    assert replaced(other)
    torch.testing.assert_close(two_passes(other, x), two_passes(usual, x), rtol=0, atol=0)
    assert other.encoder[0][1].num_batches_tracked == 2


def test_dropout_is_drawn_once_and_not_in_evaluation():
    def draws(net):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            net(torch.rand(1, 3, 32, 32)).mean().backward()
        return {row.key: row.count for row in seen.key_averages()}.get("aten::bernoulli_", 0)

    net = twice(UNet(2))
    assert draws(net) == 5 and draws(net.eval()) == 0


@pytest.mark.parametrize("kind", [Students, OfficialStudents])
def test_those_of_all_students_are_the_same_within_rounding(kind):
    torch.manual_seed(0)
    usual = kind(3)
    other, x = twice(usual), torch.rand(2, 3, 32, 48)
    assert replaced(other.net_a) and replaced(other.ham)
    torch.testing.assert_close(two_passes(other, x), two_passes(usual, x), rtol=1e-4, atol=3e-7)
    assert other.ham.logits[4].num_batches_tracked == 2


def test_what_is_computed_twice_is_no_convolution_but_the_small_ones_of_ham():
    def kernels(net, *inputs):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            z = net(*inputs)
            z.mean().backward()
        counts = {row.key: row.count for row in seen.key_averages()}
        return counts["aten::_convolution"], counts["aten::native_batch_norm"]

    def more(net, *inputs):
        before, after = kernels(net, *inputs), kernels(twice(net), *inputs)
        return after[0] - before[0], after[1] - before[1]

    ups_and_head = 5
    assert more(UNet(2), torch.rand(1, 3, 32, 32)) == (0, 9 + ups_and_head)
    z_a, z_b = torch.rand(2, 1, 2, 32, 32, requires_grad=True)
    one_for_each_branch, again, once_more = 2, 3 + 3, 3
    assert more(Students(2).ham, z_a, z_b) == (one_for_each_branch + again + once_more, 3 + 3 + 3 + 1)


def test_the_wide_maps_of_ham_are_not_kept_but_one():
    def kept(ham):
        sizes = {}

        def note(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.numel() // (2 * 64 * 64)
            return tensor

        z_a, z_b = torch.rand(2, 2, 2, 64, 64).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            z = ham(z_a, z_b)
        z.mean().backward()
        return sorted(n for n in sizes.values() if n >= 16)  # channels

    ham = Students(2).ham
    assert kept(twice(ham)) == [64] and sum(kept(ham)) > 400


def test_copies_compute_with_their_own_weights_and_predict_as_ever():
    usual = Students(2).eval()
    other = twice(usual)
    moved = copy.deepcopy(other)
    with torch.no_grad():
        for p in moved.parameters():
            p.mul_(0.5)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(other(x), usual(x))
    assert not torch.allclose(moved(x).logits_f, usual(x).logits_f)
    ready = for_inference(other, torch.device("cpu"))
    with torch.inference_mode():
        torch.testing.assert_close(ready(x).logits_f, usual(x).logits_f, rtol=1e-5, atol=1e-5)
    assert not any("forward" in module.__dict__ for module in ready.modules())


def test_changed_blocks_and_own_forwards_are_left_alone():
    students = Students(2)
    students.net_a.encoder[0][1] = torch.nn.Identity()
    students.net_a.encoder[2].forward = mine = lambda x: x
    students.ham.certainty = torch.nn.Sequential(students.ham.certainty, torch.nn.Identity())
    checkpoint_activations(students)
    assert not replaced(students.net_a) and not replaced(students.ham)
    assert [replaced(block) for block in students.net_a.encoder] == [False, True, False, True, True]
    assert students.net_a.encoder[2].forward is mine


class Residual(ConvBlock):
    def forward(self, x):
        return x + super().forward(x)


def with_residual(net):
    net.encoder[1] = Residual(16, 16)


def with_sequence(net):
    net.decoder[-1] = torch.nn.Sequential(*net.decoder[-1])


def with_norm_above(net):
    net.up[0] = torch.nn.Sequential(net.up[0], torch.nn.InstanceNorm2d(16, track_running_stats=True))


def with_own_features(net):
    net.features = MethodType(lambda self, x: [2 * f for f in UNet.features(self, x)], net)


@pytest.mark.parametrize("change", [with_residual, with_sequence, with_norm_above, with_own_features])
def test_a_u_net_with_parts_of_its_own_computes_as_it_says(change):
    torch.manual_seed(0)
    usual = UNet(2, widths=(16,) * 5)
    change(usual)
    other, x = copy.deepcopy(usual), torch.rand(2, 3, 32, 32)
    checkpoint_activations(other)
    assert not replaced(other)
    torch.testing.assert_close(two_passes(other, x), two_passes(usual, x), rtol=0, atol=0)


def test_hooks_that_come_later_see_what_they_would_and_once():
    for name in ("net_a.encoder.2", "net_a.encoder.2.0", "net_a.head", "ham.fuse.0", "ham.fuse.3"):
        seen = []
        students = twice(Students(2))
        part = students.get_submodule(name)
        handles = [part.register_forward_hook(lambda *_, seen=seen: seen.append("forward"))]
        handles.append(part.register_full_backward_hook(lambda *_, seen=seen: seen.append("backward")))
        x = torch.rand(2, 3, 32, 32)
        sum(z.mean() for z in students(x)).backward()
        assert seen == ["forward", "backward"]
        for handle in handles:
            handle.remove()
        students(x)
        assert len(seen) == 2


def test_a_second_backward_pass_gives_the_same_gradients():
    torch.manual_seed(0)
    usual = Students(2)
    other, x = twice(usual), torch.rand(2, 3, 32, 32)

    def doubled(students):
        torch.manual_seed(1)
        z = sum((z**2).mean() for z in students(x))
        z.backward(retain_graph=True)
        z.backward()
        return {name: p.grad for name, p in students.named_parameters()}

    torch.testing.assert_close(doubled(other), doubled(usual), rtol=1e-4, atol=6e-7)


def test_all_is_as_before_when_training_is_over():
    students = twice(Students(2))
    assert replaced(students.ham)
    restore_forward(students)
    assert not any("forward" in vars(module) for module in students.modules())
    pickle.loads(pickle.dumps(students))
