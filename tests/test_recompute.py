"""Maps computed twice: the same gradients, statistics and random numbers, and no convolution runs again."""

import copy
import pickle

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from knowsam_lite.forwards import replaced, restore_forward
from knowsam_lite.inference import for_inference
from knowsam_lite.official.students import OfficialStudents
from knowsam_lite.recompute import compute_twice
from knowsam_lite.students import Students


def twice(students):
    """A copy of `students` that computes maps twice."""
    other = copy.deepcopy(students)
    compute_twice(other)
    return other


def two_passes(students, x):
    """Gradients after two forward passes and one backward: UGDA's way to use BatchNorm."""
    torch.manual_seed(1)
    students.zero_grad()
    sum((z**2).mean() for _ in range(2) for z in students(x)).backward()
    return {name: p.grad for name, p in students.named_parameters()}


@pytest.mark.parametrize("kind", [Students, OfficialStudents])
def test_gradients_statistics_and_dropout_are_the_same_to_the_bit(kind):
    torch.manual_seed(0)
    usual = kind(3)
    other, x = twice(usual), torch.rand(2, 3, 32, 48)
    expected, found = two_passes(usual, x), two_passes(other, x)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    state = other.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in usual.state_dict().items())
    assert state["net_a.encoder.0.1.num_batches_tracked"] == 2


def test_what_is_computed_twice_is_not_a_convolution():
    def kernels(students):
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            sum(z.mean() for z in students(torch.rand(1, 3, 32, 32))).backward()
        counts = {row.key: row.count for row in seen.key_averages()}
        return counts["aten::_convolution"], counts["aten::native_batch_norm"]

    usual = Students(2)
    convolutions, norms = kernels(usual)
    again, more_norms = kernels(twice(usual))
    assert again == convolutions
    assert more_norms == norms + 9 + 3 + 3 + 1  # U-Net's blocks, HAM's hidden maps, its three ends, its last


def test_copies_compute_with_their_own_weights_and_predict_as_ever():
    usual = Students(2).eval()
    other = twice(usual)
    moved = copy.deepcopy(other)
    with torch.no_grad():
        for p in moved.parameters():
            p.mul_(0.5)
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(other(x), usual(x), rtol=0, atol=0)
    assert not torch.allclose(moved(x).logits_f, usual(x).logits_f)
    ready = for_inference(other, torch.device("cpu"))
    with torch.inference_mode():
        torch.testing.assert_close(ready(x).logits_f, usual(x).logits_f, rtol=1e-5, atol=1e-5)
    assert not any("forward" in module.__dict__ for module in ready.modules())


def test_changed_blocks_hooks_and_own_forwards_are_left_alone():
    students = Students(2)
    students.net_a.encoder[0][1] = torch.nn.Identity()
    students.net_a.encoder[1][4].register_forward_hook(lambda *_: None)
    students.net_a.encoder[2].forward = mine = lambda x: x
    students.ham.certainty = torch.nn.Sequential(students.ham.certainty, torch.nn.Identity())
    compute_twice(students)
    assert [replaced(block) for block in students.net_a.encoder] == [False, False, False, True, True]
    assert students.net_a.encoder[2].forward is mine and not replaced(students.ham)


def test_all_is_as_before_when_training_is_over():
    students = twice(Students(2))
    assert replaced(students.ham)
    restore_forward(students)
    assert not any("forward" in vars(module) for module in students.modules())
    pickle.loads(pickle.dumps(students))
